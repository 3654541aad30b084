"use strict";
// Runs that were held against a base: what was found of each, and the prompts that it does worst on, side by side.

function drawEquivalence() {
  const found = DATA.equivalence;
  if (!found) return;
  byId("equivalence").hidden = false;
  byId("equivalence-heads").append(...found.heads.map((line) => el("p", {}, line)));
  byId("equivalence-table").append(tableOf(found.titles, found.cells, "Runs against the base"));
  byId("equivalence-findings").append(el("ul", {}, ...found.findings.map((line) => el("li", {}, line))));
  byId("equivalence-worst").append(...found.runs.flatMap((one) => worstOf(found, one)));
}

function worstOf(found, { run, worst }) {
  const base = RUNS.get(found.base), other = RUNS.get(run);
  if (!base || !other || !worst.length) return [];
  return [
    el("h3", {}, `Worst prompts of ${other.label} by ${found.measure}`),
    el("ol", { class: "change-list" }, ...worst.map((item) => worstItem(found.measure, base, other, item))),
  ];
}

function worstItem(measure, base, other, item) {
  const place = DATA.prompts.findIndex((prompt) => prompt.index === item.index && prompt.text === item.prompt);
  const open = () => openViewer(place, base, other);
  const part = (name, run, score) => el("figure", {}, thumbnail(run, imageOf(run, place), open),
    el("figcaption", {}, `${name} · ${measure} ${format(score)}`));
  return el("li", {}, el("div", { class: "pair" }, part("base", base, item.a), part(other.label, other, item.b)),
    el("p", {}, el("span", { class: "delta" }, `${signed(item.change)} `), item.prompt));
}
