"use strict";
// The recommendation, the findings in words, the ranking table and what was left out.

function drawSummary() {
  const found = DATA.comparison;
  const images = DATA.runs.reduce((sum, run) => sum + run.images.length, 0);
  byId("subtitle").textContent =
    `${found.ranking.length} runs ranked by ${found.by} (${found.direction} is better), ${found.level * 100} % intervals; ${images} pictures of ${DATA.prompts.length} prompts and seeds`;
  if (found.recommendation) {
    byId("recommendation").append(el("p", { class: "callout" }, el("b", {}, "Recommended setting"), found.recommendation.sentence));
  }
  const notes = [...found.notes];
  if (DATA.missing) notes.push(`${DATA.missing} picture files were missing, unreadable or not the recorded ones when this report was made.`);
  const sentences = [found.tradeoff, found.knee, ...found.effects].map((one) => one?.sentence).filter(Boolean);
  sentences.unshift(...DATA.found_within);
  byId("findings").append(
    ...notes.map((note) => el("p", { class: "note" }, note)),
    el("ul", {}, ...sentences.map((sentence) => el("li", {}, sentence))));
}

// Of an adaptive sweep: what it decided, in the place of a ranking, which would test it again.
function drawDecided() {
  const found = DATA.decided;
  const images = DATA.runs.reduce((sum, run) => sum + run.images.length, 0);
  byId("subtitle").textContent =
    `${found.cells.length} settings decided by ${found.by} (${found.direction} is better); ${images} pictures of ${DATA.prompts.length} prompts and seeds`;
  byId("recommendation").append(...found.conclusion.map((line, place) =>
    el("p", { class: "callout" }, place ? "" : el("b", {}, "Decided"), line)));
  byId("findings").append(
    ...DATA.comparison.notes.map((note) => el("p", { class: "note" }, note)),
    tableOf(found.titles, found.cells, "What was decided"),
    el("ul", {}, ...found.left.map((line) => el("li", {}, line))));
  for (const name of ["ranking", "tradeoff", "curves"]) {
    byId(name).hidden = true;
    document.querySelector(`nav a[href="#${name}"]`).hidden = true;
  }
}

function drawRanking() {
  const found = DATA.comparison;
  const second = DATA.second;
  const axes = ["guidance", "steps", ...DATA.axes.map((axis) => axis.name).filter((name) => !["guidance", "steps"].includes(name))];
  const margin = found.ranking.some((row) => row.standing) ? [`within ${found.margin.text}`] : [];
  const titles = ["tier", ...axes.map(words), found.by, `${found.level * 100} % interval`, "from the best", ...margin, ...(second ? [second] : []), "run", "s/image", "images"];
  const rows = found.ranking.map((row) => [
    row.tier ?? "?", ...axes.map((axis) => shown(row[axis])), format(row.score.value), bounds(row.score.ci_low, row.score.ci_high),
    row.to_best ? change(row.to_best) : "the best",
    ...margin.map(() => row.standing?.verdict ?? "?"),
    ...(second ? [format(row.scores[second]?.value) + (DATA.marked[row.run] ?? "")] : []), row.name, format(row.seconds_per_image), format(row.images),
  ]);
  const table = tableOf(titles, rows, `Runs ranked by ${found.by}`);
  table.querySelectorAll("tbody tr").forEach((line, place) => {
    const tier = found.ranking[place].tier;
    line.firstChild.replaceChildren(el("span", { class: tier === 1 ? "tier first" : "tier" }, String(tier ?? "?")));
    if (found.ranking[place].run === found.recommendation?.run) line.classList.add("chosen");
  });
  byId("ranking-table").append(table);
  byId("ranking-table").after(el("p", { class: "quiet" },
    "Runs share a tier unless their paired difference separates them (corrected for all pairs, by sign flips). The recommended run is shaded."));
  drawFailures();
  if (found.excluded.length) {
    byId("excluded").append(el("h3", {}, "Not ranked"),
      tableOf(["run", "reason"], found.excluded.map((row) => [row.name, row.reason]), "Runs that are not ranked"));
  }
}

// How often the labelled pictures of each run fail in which way: a line a run.
function drawFailures() {
  const found = DATA.comparison;
  if (!found.failures.length) return;
  const failures = [...new Set(found.failures.map((rate) => rate.failure))];
  const named = new Map([...found.ranking, ...found.excluded].map((row) => [row.run, row.name]));
  const runs = [...named.keys()].filter((run) => found.failures.some((rate) => rate.run === run));
  const rows = runs.map((run) => {
    const rates = new Map(found.failures.filter((rate) => rate.run === run).map((rate) => [rate.failure, rate]));
    const { n, people } = rates.values().next().value;
    const cells = failures.map((failure) => {
      const { share, ci_low, ci_high } = rates.get(failure);
      return ci_low === null ? format(share) : `${share.toFixed(decimals(ci_low, ci_high))} ${bounds(ci_low, ci_high)}`;
    });
    return [named.get(run), ...cells, format(n), format(people)];
  });
  byId("failures").append(
    el("h3", {}, "Failures"),
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Failures table" },
      tableOf(["run", ...failures, "labelled", "by people"], rows, "Share of each run's labelled pictures that fail, by failure")),
    el("p", { class: "quiet" },
      `Shares of the labelled pictures with ${found.level * 100} % intervals. Pictures that no person labelled count with the label that was proposed from their scores.`));
}
