"use strict";

if (DATA.decided) {
  drawDecided();
} else {
  drawSummary();
  drawRanking();
  drawEquivalence();
  drawCharts();
}
drawViewerControls();
if (DATA.runs.length) {
  drawGridControls();
  drawGrid();
  addEventListener("beforeprint", drawWholeGrid);
  drawChangeControls();
  drawChanges();
} else {
  byId("grid-count").textContent = "No pictures were given to this report.";
  byId("changes").hidden = true;
}
