"use strict";
// Plotly figures in the colours of the page, each with a description and its numbers as a table.

const plots = [];
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function themed(layout) {
  const title = (given) => (given ? { ...given, font: { size: 13, color: colour("--quiet") } } : given);
  const axis = { gridcolor: colour("--line"), zerolinecolor: colour("--line"), linecolor: colour("--line") };
  return {
    ...layout,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: colour("--ink") },
    margin: { l: 64, r: 16, t: 16, b: 52 },
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
    hoverlabel: { bgcolor: colour("--card"), bordercolor: colour("--line"), font: { color: colour("--ink") } },
    xaxis: { ...axis, ...layout.xaxis, title: title(layout.xaxis?.title) },
    yaxis: { ...axis, ...layout.yaxis, title: title(layout.yaxis?.title) },
  };
}

function ringed(trace) {
  return trace.marker?.line ? { ...trace, marker: { ...trace.marker, line: { ...trace.marker.line, color: colour("--ink") } } } : trace;
}

// All figures have their place, and so their width, before the first is drawn: Plotly does not follow a narrower one.
function drawChartsInto(place, charts, titled) {
  for (const draw of charts.map((chart) => placeChart(place, chart, titled))) draw();
}

function placeChart(place, chart, titled) {
  const plot = el("div", { role: "img", "aria-label": `${chart.title}: ${chart.description}` });
  const figure = el("figure", {}, titled ? el("h3", {}, chart.title) : null, el("figcaption", {}, chart.description), plot);
  if (chart.columns.length) {
    figure.append(el("details", {}, el("summary", {}, "The numbers as a table"), el("div", { class: "scroll" }, tableOf(chart.columns, chart.cells, chart.description))));
  }
  place.append(figure);
  return () => {
    Plotly.newPlot(plot, chart.data.map(ringed), themed(chart.layout), { responsive: true, displayModeBar: false });
    plots.push({ plot, chart });
  };
}

function drawCharts() {
  const named = (id) => DATA.charts.find((chart) => chart.id === id);
  drawChartsInto(byId("ranking-chart"), [named("ranking")], false);
  const tradeoffs = DATA.charts.filter((chart) => chart.id.startsWith("tradeoff"));
  if (tradeoffs.length) drawChartsInto(byId("tradeoff-charts"), tradeoffs, true);
  else byId("tradeoff-charts").append(el("p", { class: "quiet" }, "Needs two of quality, alignment and diversity for two runs or more: t2i evaluate RUN --metrics fid,alignment,clip,vendi"));
  const curves = DATA.charts.filter((chart) => chart.metric);
  const metrics = [...new Set(curves.map((chart) => chart.metric))];
  if (!metrics.length) {
    byId("curve-charts").append(el("p", { class: "quiet" }, "Needs runs that differ in guidance or in steps only."));
    return;
  }
  const draw = (metric) => {
    for (const { plot } of plots.filter(({ plot }) => byId("curve-charts").contains(plot))) Plotly.purge(plot);
    byId("curve-charts").replaceChildren();
    drawChartsInto(byId("curve-charts"), curves.filter((chart) => chart.metric === metric), true);
  };
  byId("curve-controls").append(choice("Score", metrics.map((metric) => ({ value: metric, text: metric })), metrics[0], draw));
  draw(metrics[0]);
}

dark.addEventListener("change", () => {
  for (const { plot, chart } of plots) if (plot.isConnected) Plotly.react(plot, chart.data.map(ringed), themed(chart.layout));
});
