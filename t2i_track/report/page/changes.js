"use strict";
// The prompts whose pictures differ most between two runs, by a score of the pictures or by their look.

const changes = { a: null, b: null, measure: "look" };
const MOST = 12;
const looks = new Map();

function lookOf(image) {
  if (!looks.has(image)) looks.set(image, Uint8Array.from(atob(image.look), (char) => char.charCodeAt(0)));
  return looks.get(image);
}

// Mean absolute difference of the pictures shrunk to 8 x 8, from 0 (alike) to 1 (black against white).
function lookDifference(a, b) {
  const left = lookOf(a), right = lookOf(b);
  return left.reduce((sum, value, place) => sum + Math.abs(value - right[place]), 0) / left.length / 255;
}

function changed() {
  const found = [];
  for (const a of changes.a.images) {
    const b = imageOf(changes.b, a.prompt);
    if (!b) continue;
    if (changes.measure === "look") {
      if (a.look && b.look) found.push({ a, b, change: lookDifference(a, b) });
    } else if (changes.measure in a.scores && changes.measure in b.scores) {
      found.push({ a, b, change: b.scores[changes.measure] - a.scores[changes.measure] });
    }
  }
  return found.sort((one, other) => Math.abs(other.change) - Math.abs(one.change));
}

function drawChanges() {
  const found = changed();
  const higher = found.filter((item) => item.change > 0).length, lower = found.filter((item) => item.change < 0).length;
  byId("change-count").textContent = changes.a === changes.b ? "Choose two different runs."
    : changes.measure === "look" ? `${lower + higher} of ${found.length} pictures differ in look.`
      : `${changes.measure} is higher in B for ${higher}, lower for ${lower} and equal for ${found.length - higher - lower} of ${found.length} pictures.`;
  byId("change-list").replaceChildren(...(changes.a === changes.b ? [] : found.slice(0, MOST)).map(changeItem));
}

function changeItem({ a, b, change }) {
  const open = () => openViewer(a.prompt, changes.a, changes.b);
  const scored = changes.measure !== "look";
  const part = (name, run, image) => el("figure", {}, thumbnail(run, image, open),
    el("figcaption", {}, `${name}${scored ? ` · ${changes.measure} ${format(image.scores[changes.measure])}` : ""}`));
  return el("li", {}, el("div", { class: "pair" }, part("A", changes.a, a), part("B", changes.b, b)),
    el("p", {}, el("span", { class: "delta" }, scored ? `${signed(change)} ` : `${format(Number((change * 100).toFixed(1)))} % `), DATA.prompts[a.prompt].text));
}

function drawChangeControls() {
  const ranked = DATA.runs.filter((run) => run.rank !== null);
  changes.a = ranked[ranked.length - 1] ?? DATA.runs[0];
  changes.b = CHOSEN ?? DATA.runs[0];
  if (changes.a === changes.b) changes.a = DATA.runs.find((run) => run !== changes.b) ?? changes.b;
  changes.measure = DATA.image_metrics[0] ?? "look";
  const options = DATA.runs.map((run) => ({ value: run, text: run.label }));
  const measures = [...DATA.image_metrics.map((metric) => ({ value: metric, text: metric })), { value: "look", text: "look (colours and layout)" }];
  const setter = (name) => (value) => { changes[name] = value; drawChanges(); };
  byId("change-controls").append(choice("A", options, changes.a, setter("a")), choice("B", options, changes.b, setter("b")),
    choice("Measured by", measures, changes.measure, setter("measure")));
}
