"use strict";
// The paired grid: prompts as rows, one setting as columns, the same seed across.

const CHUNK = 30;
const grid = { axis: null, fixed: {}, filter: "", order: "prompt", size: null, rows: [], drawn: 0 };

function matches(run, settings) {
  return Object.entries(settings).every(([name, value]) => run.settings[name] === value);
}

// The columns: for each value of the axis the best ranked run that has the other settings as chosen.
function columns() {
  if (grid.axis === "run") return DATA.runs.map((run) => ({ title: run.label, run }));
  const fixed = Object.fromEntries(Object.entries(grid.fixed).filter(([name]) => name !== grid.axis));
  return DATA.axes.find((axis) => axis.name === grid.axis).values.map((value) => ({
    title: `${words(grid.axis)} ${shown(value)}`,
    run: DATA.runs.find((run) => matches(run, { ...fixed, [grid.axis]: value })) ?? null,
  }));
}

function spread(place, metric, runs) {
  const values = runs.map((run) => imageOf(run, place)?.scores[metric]).filter((value) => value !== undefined);
  return values.length ? Math.max(...values) - Math.min(...values) : -1;
}

function lowest(place, metric, runs) {
  return Math.min(...runs.map((run) => imageOf(run, place)?.scores[metric] ?? Infinity));
}

function chooseRows() {
  const wanted = grid.filter.toLowerCase().split(/\s+/).filter(Boolean);
  const runs = columns().map((column) => column.run).filter(Boolean);
  const rows = DATA.prompts
    .map((prompt, place) => ({ prompt, place }))
    .filter(({ prompt }) => wanted.every((word) => prompt.text.toLowerCase().includes(word)))
    .filter(({ place }) => runs.some((run) => imageOf(run, place)));
  const [kind, metric] = grid.order.split(":");
  if (kind === "spread") rows.sort((a, b) => spread(b.place, metric, runs) - spread(a.place, metric, runs));
  if (kind === "lowest") rows.sort((a, b) => lowest(a.place, metric, runs) - lowest(b.place, metric, runs));
  return rows;
}

function drawGrid() {
  const shownColumns = columns();
  grid.rows = chooseRows();
  grid.drawn = 0;
  const head = shownColumns.map(({ title, run }) =>
    el("th", { scope: "col" }, title, run ? el("small", {}, run.value === null ? "not scored" : `${(DATA.decided ?? DATA.comparison).by} ${format(run.value)}${run.mark}`) : el("small", {}, "no such run")));
  const body = el("tbody", {});
  const end = el("div", {});
  byId("grid").replaceChildren(
    el("table", { class: grid.size },
      el("caption", { class: "hidden" }, `Pictures by prompt, columns by ${words(grid.axis)}`),
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "prompt"), ...head)), body),
    end);
  const more = () => {
    for (const row of grid.rows.slice(grid.drawn, grid.drawn + CHUNK)) body.append(gridRow(row, shownColumns));
    grid.drawn = Math.min(grid.drawn + CHUNK, grid.rows.length);
  };
  grid.more = more;
  more();
  const first = body.querySelector("button");
  if (first) first.tabIndex = 0;
  grid.watcher?.disconnect();
  grid.watcher = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    more();
    // Watched anew, so that it fires again when the added rows did not push the end off the screen.
    grid.watcher.unobserve(end);
    if (grid.drawn < grid.rows.length) grid.watcher.observe(end);
  }, { rootMargin: "1200px", scrollMargin: "1200px" });
  grid.watcher.observe(end);
  byId("grid-count").textContent = `${grid.rows.length} of ${DATA.prompts.length} prompts`;
}

function gridRow({ prompt, place }, shownColumns) {
  const seeds = new Set(shownColumns.map(({ run }) => run && imageOf(run, place)?.seed).filter((seed) => seed !== null && seed !== undefined));
  const about = `#${prompt.index}${prompt.replicate ? `, picture ${prompt.replicate + 1}` : ""}, ${seeds.size === 1 ? `seed ${[...seeds][0]}` : "seeds differ"}`;
  const metric = DATA.image_metrics[0];
  return el("tr", {}, el("th", { scope: "row" }, prompt.text, el("small", {}, about)),
    ...shownColumns.map(({ run }) => {
      const image = run && imageOf(run, place);
      const cell = thumbnail(run, image, () => openViewer(place, run, rival(run, shownColumns)));
      if (cell.tagName === "BUTTON") cell.tabIndex = -1;
      const score = metric && image?.scores[metric];
      return el("td", {}, cell, score !== undefined && score !== null ? el("div", { class: "score" }, `${metric} ${format(score)}`) : null);
    }));
}

// What to put beside a picture: the recommended run, or else the next column.
function rival(run, shownColumns) {
  const runs = shownColumns.map((column) => column.run).filter(Boolean);
  if (CHOSEN && CHOSEN !== run && runs.includes(CHOSEN)) return CHOSEN;
  return runs[(runs.indexOf(run) + 1) % runs.length];
}

function drawWholeGrid() {
  while (grid.drawn < grid.rows.length) grid.more();
  loadForPrint(byId("grid"));
}

// A browser that prints does not always wait for files that are asked for then; this does, and prints.
async function printWhole() {
  drawWholeGrid();
  await Promise.allSettled([...byId("grid").querySelectorAll("img")].map((picture) => picture.decode()));
  print();
}

function moveFocus(event) {
  const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  const cell = event.target.closest("td");
  if (!cell || !(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  const [down, right] = steps[event.key];
  let line = cell.parentElement, column = cell.cellIndex;
  for (;;) {
    line = down > 0 ? line.nextElementSibling : down < 0 ? line.previousElementSibling : line;
    column += right;
    const next = line?.cells[column];
    if (!next || column < 1) return;
    const button = next.querySelector("button");
    if (!button) continue;
    event.target.tabIndex = -1;
    button.tabIndex = 0;
    button.focus();
    button.scrollIntoView({ block: "nearest", inline: "nearest" });
    return;
  }
}

function drawGridControls() {
  const place = byId("grid-controls");
  const names = [...DATA.axes.map((axis) => axis.name), "run"];
  const start = CHOSEN ?? DATA.runs[0];
  grid.axis ??= names.includes("guidance") ? "guidance" : names[0];
  for (const axis of DATA.axes) grid.fixed[axis.name] ??= start.settings[axis.name];
  grid.size ??= columns().length < 5 ? "large" : columns().length < 8 ? "medium" : "small";
  const redraw = () => {
    place.replaceChildren();
    place.append(choice("Columns", names.map((name) => ({ value: name, text: name === "run" ? "all runs" : words(name) })), grid.axis, (value) => {
      grid.axis = value;
      redraw();
      drawGrid();
      place.querySelector("select").focus();
    }));
    for (const axis of grid.axis === "run" ? [] : DATA.axes.filter((axis) => axis.name !== grid.axis)) {
      place.append(choice(words(axis.name), axis.values.map((value) => ({ value, text: shown(value) })), grid.fixed[axis.name], (value) => {
        grid.fixed[axis.name] = value;
        drawGrid();
      }));
    }
    const search = el("input", { type: "search", placeholder: "words of a prompt", oninput: (event) => { grid.filter = event.target.value; drawGrid(); } });
    search.value = grid.filter;
    const orders = [{ value: "prompt", text: "as in the manifest" }, ...DATA.image_metrics.flatMap((metric) => [
      { value: `spread:${metric}`, text: `largest spread of ${metric}` }, { value: `lowest:${metric}`, text: `lowest ${metric} first` }])];
    place.append(labelled("Filter prompts", search),
      choice("Order", orders, grid.order, (value) => { grid.order = value; drawGrid(); }),
      choice("Size", ["small", "medium", "large"].map((size) => ({ value: size, text: size })), grid.size, (value) => { grid.size = value; drawGrid(); }),
      el("button", { type: "button", onclick: printWhole }, "Print with all pictures"));
  };
  redraw();
  byId("grid").addEventListener("keydown", moveFocus);
}
