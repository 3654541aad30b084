"use strict";
// Two pictures of one prompt, enlarged side by side; zoom and position are shared.

const viewer = { place: 0, runs: [], scale: 1, x: 0, y: 0, onlyDifferences: false };

function openViewer(place, left, right) {
  Object.assign(viewer, { place, runs: [left, right ?? left], scale: 1, x: 0, y: 0 });
  drawViewer();
  byId("viewer").showModal();
}

function drawViewer() {
  const prompt = DATA.prompts[viewer.place];
  byId("viewer-title").textContent = prompt.text;
  byId("viewer-sides").replaceChildren(...viewer.runs.map(side));
  drawRecord();
  applyZoom();
}

function side(run, index) {
  const image = imageOf(run, viewer.place);
  const options = DATA.runs.map((other) => ({ value: other, text: other.label }));
  const choose = choice(index ? "Right" : "Left", options, run, (other) => {
    viewer.runs[index] = other;
    drawViewer();
    byId("viewer-sides").children[index].querySelector("select").focus();
  });
  const stage = el("div", { class: "stage", onwheel: wheel, onpointerdown: drag });
  if (image && image.picture !== null) {
    const links = urls(run.run, image);
    stage.append(el("img", { src: links[1] ?? links[0], alt: describe(run, image), draggable: "false", class: Math.max(image.width, image.height) <= 256 ? "pixelated" : null }));
  } else {
    stage.append(el("span", { class: "gone" }, image?.lost ?? "no picture"));
  }
  return el("div", { class: "side" }, choose, stage, image ? command(image) : null);
}

function command(image) {
  const safe = /^[\w./:@-]+$/.test(image.address);
  const text = `t2i reproduce ${safe ? image.address : `'${image.address.replaceAll("'", "'\\''")}'`}`;
  const code = el("code", {}, text);
  const copy = el("button", { type: "button", "aria-label": `Copy: ${text}`, onclick: async () => {
    try {
      await navigator.clipboard.writeText(text);
      announce("Copied");
      copy.textContent = "Copied";
    } catch {
      // Some browsers refuse the clipboard to pages from disk: select it, ready for the keyboard.
      window.getSelection().selectAllChildren(code);
      announce("Selected; copy it with the keyboard");
    }
  } }, "Copy");
  return el("div", { class: "command" }, code, copy);
}

function drawRecord() {
  const records = viewer.runs.map((run) => {
    const image = imageOf(run, viewer.place);
    if (!image) return {};
    return { run: run.name, ...run.said, ...run.settings, ...run.record, ...image.record, ...image.scores };
  });
  const keys = [...new Set(records.flatMap(Object.keys))];
  const lines = keys
    .map((key) => ({ key, values: records.map((record) => shown(record[key] ?? null)) }))
    .map((line) => ({ ...line, differs: line.values[0] !== line.values[1] }))
    .filter((line) => line.differs || !viewer.onlyDifferences);
  const table = tableOf(["field", "left", "right"], [], "Records of both pictures");
  table.querySelectorAll("th").forEach((title) => title.removeAttribute("class"));
  table.tBodies[0].append(...lines.map(({ key, values, differs }) =>
    el("tr", { class: differs ? "differs" : null },
      el("th", { scope: "row" }, words(key), differs ? el("span", { class: "hidden" }, " (differs)") : null),
      ...values.map((value) => el("td", {}, value)))));
  byId("viewer-record").replaceChildren(table);
}

function applyZoom() {
  const limit = (value) => Math.min(0, Math.max(1 - viewer.scale, value));
  viewer.x = limit(viewer.x);
  viewer.y = limit(viewer.y);
  for (const picture of byId("viewer-sides").querySelectorAll("img")) {
    const { clientWidth, clientHeight } = picture.parentElement;
    picture.style.transform = `translate(${viewer.x * clientWidth}px, ${viewer.y * clientHeight}px) scale(${viewer.scale})`;
  }
}

// Zoom by a factor about a point given in fractions of the stage, which stays where it is.
function zoom(factor, x = 0.5, y = 0.5) {
  const scale = Math.min(16, Math.max(1, viewer.scale * factor));
  viewer.x = x - ((x - viewer.x) * scale) / viewer.scale;
  viewer.y = y - ((y - viewer.y) * scale) / viewer.scale;
  viewer.scale = scale;
  applyZoom();
  announce(`Zoom ${Math.round(scale * 100)} percent`);
}

function wheel(event) {
  event.preventDefault();
  const box = event.currentTarget.getBoundingClientRect();
  zoom(event.deltaY < 0 ? 1.25 : 0.8, (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
}

function drag(event) {
  const stage = event.currentTarget;
  const box = stage.getBoundingClientRect();
  const move = (moved) => {
    viewer.x += moved.movementX / box.width;
    viewer.y += moved.movementY / box.height;
    applyZoom();
  };
  stage.setPointerCapture(event.pointerId);
  stage.addEventListener("pointermove", move);
  stage.addEventListener("pointerup", () => stage.removeEventListener("pointermove", move), { once: true });
}

function resetZoom() {
  Object.assign(viewer, { scale: 1, x: 0, y: 0 });
  applyZoom();
}

// The next prompt in the order of the grid.
function otherPrompt(by) {
  const places = grid.rows.map((row) => row.place);
  const at = places.indexOf(viewer.place);
  viewer.place = places.length ? places[(at + by + places.length) % places.length] : viewer.place;
  drawViewer();
  announce(DATA.prompts[viewer.place].text);
}

function viewerKey(event) {
  if (event.target.matches("select, input") || event.ctrlKey || event.metaKey || event.altKey) return;
  const pans = { ArrowLeft: [0.1, 0], ArrowRight: [-0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] };
  const act = {
    "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8), "0": resetZoom,
    ArrowLeft: () => otherPrompt(-1), ArrowRight: () => otherPrompt(1),
  };
  if (event.shiftKey && event.key in pans) {
    viewer.x += pans[event.key][0];
    viewer.y += pans[event.key][1];
    applyZoom();
  } else if (event.key in act) act[event.key]();
  else return;
  event.preventDefault();
}

function drawViewerControls() {
  const button = (text, label, onclick) => el("button", { type: "button", "aria-label": label, onclick }, text);
  const only = el("input", { type: "checkbox", onchange: (event) => { viewer.onlyDifferences = event.target.checked; drawRecord(); } });
  byId("viewer-controls").append(
    button("← Previous", "Previous prompt", () => otherPrompt(-1)), button("Next →", "Next prompt", () => otherPrompt(1)),
    button("−", "Zoom out", () => zoom(0.8)), button("+", "Zoom in", () => zoom(1.25)), button("Reset", "Reset zoom", resetZoom),
    el("label", { class: "check" }, only, "only fields that differ"),
    button("Close", "Close", () => byId("viewer").close()));
  byId("viewer").addEventListener("keydown", viewerKey);
}
