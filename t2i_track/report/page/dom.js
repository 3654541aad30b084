"use strict";
// Small building blocks. Text always becomes text nodes, so nothing in the data can become markup.

const DATA = JSON.parse(document.getElementById("data").textContent);
const RUNS = new Map(DATA.runs.map((run) => [run.run, run]));
const CHOSEN = RUNS.get((DATA.decided ?? DATA.comparison.recommendation)?.run);
const byId = (id) => document.getElementById(id);

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function format(value) {
  if (value === null || value === undefined) return "";
  if (typeof value !== "number" || Number.isInteger(value)) return String(value);
  return String(Number(value.toPrecision(4)));
}

// Places after the point that show an interval's half width with two digits.
function decimals(low, high) {
  const reach = (high - low) / 2;
  return reach > 0 ? Math.min(Math.max(1 - Math.floor(Math.log10(reach)), 0), 12) : 4;
}

const sign = (value) => (value > 0 ? "+" : value < 0 ? "−" : "");
const signed = (value) => sign(value) + format(Math.abs(value));
const bounds = (low, high) =>
  low === null || high === null ? "none" : `[${low.toFixed(decimals(low, high))}, ${high.toFixed(decimals(low, high))}]`;

function change({ estimate, low, high }) {
  if (low === null || high === null) return `${signed(estimate)}, no interval`;
  const exact = (value) => sign(value) + Math.abs(value).toFixed(decimals(low, high));
  return `${exact(estimate)} [${exact(low)}, ${exact(high)}]`;
}
const shown = (value) => (value === null || value === "" ? "none" : format(value));
const words = (name) => name.replaceAll("_", " ");

let fields = 0;

// A control with its label above it; apart, since a label around a list would be named after all its options.
function labelled(label, control) {
  control.id = `field-${(fields += 1)}`;
  return el("div", { class: "field" }, el("label", { for: control.id }, label), control);
}

function choice(label, options, value, onchange) {
  const list = el("select", { onchange: (event) => onchange(options[event.target.selectedIndex].value) });
  for (const option of options) list.append(el("option", { selected: option.value === value }, option.text));
  return labelled(label, list);
}

function tableOf(titles, rows, caption) {
  const numeric = titles.map((_, column) => rows.every((row) => row[column] === "" || !Number.isNaN(Number(row[column]))));
  const kind = (column) => (numeric[column] ? "number" : null);
  return el("table", {},
    caption ? el("caption", { class: "hidden" }, caption) : null,
    el("thead", {}, el("tr", {}, ...titles.map((title, i) => el("th", { scope: "col", class: kind(i) }, title)))),
    el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map((cell, i) => el("td", { class: kind(i) }, cell))))));
}

function announce(text) {
  byId("live").textContent = text;
}
