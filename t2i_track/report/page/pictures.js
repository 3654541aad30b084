"use strict";
// Pictures by run. A run's block of URLs is read when one of its pictures comes near the screen, not before.

const blocks = new Map();
const waiting = new WeakMap();

function urls(run, image) {
  if (!blocks.has(run)) {
    const block = byId(`pictures-${run}`);
    blocks.set(run, block ? JSON.parse(block.textContent) : {});
  }
  return blocks.get(run)[image.picture] ?? [];
}

const nearScreen = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) loadPicture(entry.target);
    }
  },
  { rootMargin: "500px", scrollMargin: "500px" },
);

function loadPicture(picture) {
  if (picture.src) return;
  const { run, image } = waiting.get(picture);
  picture.src = urls(run, image)[0];
  nearScreen.unobserve(picture);
}

// Nothing scrolls on paper, so nothing would come near the screen there; and paper does not wait for a decoder.
function loadForPrint(root) {
  for (const picture of root.querySelectorAll("img")) {
    picture.decoding = "sync";
    loadPicture(picture);
  }
}

function imageOf(run, promptPlace) {
  return run.byPrompt.get(promptPlace);
}

for (const run of DATA.runs) run.byPrompt = new Map(run.images.map((image) => [image.prompt, image]));

function describe(run, image) {
  return `${DATA.prompts[image.prompt].text} (${run.label}, seed ${image.seed})`;
}

function thumbnail(run, image, onclick) {
  if (!image || image.picture === null) {
    return el("div", { class: "thumb" }, el("span", { class: "gone" }, image ? image.lost : "no picture"));
  }
  const small = Math.max(image.width, image.height) <= 128;
  const picture = el("img", { alt: describe(run, image), width: image.width, height: image.height, decoding: "async", class: small ? "pixelated" : null });
  waiting.set(picture, { run: run.run, image });
  nearScreen.observe(picture);
  return el("button", { type: "button", class: "thumb", onclick }, picture);
}
