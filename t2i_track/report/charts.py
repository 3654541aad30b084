"""The report's charts, as plain Plotly figures; the page gives them the colours of its scheme.

Every chart comes with a description in words and its numbers as a table, for those who do not see it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from t2i_track.metrics.registry import diverse, of_role, rankable, score_info
from t2i_track.ranking import Comparison, RunRow, Score
from t2i_track.ranking.effects import Axis
from t2i_track.ranking.frontier import measured, quality_metric
from t2i_track.ranking.protocols import otherwise
from t2i_track.ranking.ranking import Ranked, eligible
from t2i_track.ranking.rows import direction, varied
from t2i_track.ranking.words import number
from t2i_track.settings import UNKNOWN

# Dark enough on white and light enough on near-black (3:1 or more on both), and far apart for colour-blind eyes.
COLOURS = ("#2f7ed8", "#d9730d", "#1f9e77", "#c2479b", "#8d7a00", "#6f6fe0", "#cf4a3c", "#4b8f9e")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "hexagon")
LABELS = ("top right", "bottom left", "top left", "bottom right")
MOST_ROWS = 60
MOST_LINES = 24
Trace = dict[str, Any]


@dataclass(frozen=True)
class Chart:
    """``metric`` and ``axis`` are set where the page lets the reader choose the metric."""

    id: str
    title: str
    description: str
    data: list[Trace]
    layout: dict[str, Any]
    columns: list[str]
    cells: list[list[str]]
    metric: str | None = None
    axis: str | None = None


def arrow(metric: str) -> str:
    return f"{metric} ({direction(metric)} is better)"


def _meaning(metric: str) -> str:
    """What a metric says, for those who do not know its name."""
    info = score_info(metric)
    return f" {metric}: {info.words}." if info else ""


def labels(rows: Sequence[RunRow]) -> dict[str, str]:
    """A short name for each run: the settings that vary, or else its name; made unique by the run's id."""
    axes = varied(rows)
    texts = {
        row.run: ", ".join(f"{_short(axis)} {_shown(row.told(axis))}" for axis in axes) or row.name for row in rows
    }
    seen: dict[str, int] = defaultdict(int)
    for text in texts.values():
        seen[text] += 1
    return {run: text if seen[text] == 1 else f"{text} · {run[:6]}" for run, text in texts.items()}


def plain(text: str) -> str:
    """Plotly reads some tags and entities in its texts; a name is none of its business."""
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _short(axis: str) -> str:
    return axis.replace("_", " ")


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value) or "none"


def _known_first(value: Any) -> tuple[bool, bool, Any]:
    """What numbers, texts and what is unknown or none are sorted by, together."""
    return (value is None, isinstance(value, str), 0 if value is None else value)


def charts(comparison: Comparison) -> list[Chart]:
    found: list[Chart | None] = [ranking_chart(comparison), *tradeoff_charts(comparison)]
    rows = [entry.row for entry in comparison.ranking]
    for metric in metrics(rows, comparison.by):
        axes: tuple[Axis, ...] = ("steps", "guidance")
        found += [curve_chart(rows, metric, axis) for axis in axes]
    return [chart for chart in found if chart]


def metrics(rows: Sequence[RunRow], by: str) -> list[str]:
    """What there are curves of: the ranked metric first, then all others that two runs or more have."""
    named = [name for name in rankable(parts=True) if sum(row.score(name) is not None for row in rows) > 1]
    return list(dict.fromkeys([by, *named]))


def ranking_chart(comparison: Comparison) -> Chart:
    """A dot with its interval for each run, the best on top, a colour for each tier."""
    entries = comparison.ranking[:MOST_ROWS]
    names = labels([entry.row for entry in comparison.ranking])
    tiers: dict[int | None, list[Ranked]] = defaultdict(list)
    for entry in entries:
        tiers[entry.tier].append(entry)
    data = []
    for place, (tier, members) in enumerate(tiers.items()):
        trace = {
            "type": "scatter",
            "mode": "markers",
            "name": f"tier {tier}" if tier else "no tier",
            "x": [entry.score.value for entry in members],
            "y": [plain(names[entry.row.run]) for entry in members],
            "marker": {"size": 9, "color": COLOURS[place % 8], "symbol": SYMBOLS[place % 8]},
            "hovertemplate": "%{y}: %{x:.4g}<extra></extra>",
        }
        data += _with_bars(trace, [entry.score for entry in members], "x", thickness=1.5, width=4)
    order = [plain(names[entry.row.run]) for entry in reversed(entries)]
    layout = {
        "height": 120 + 26 * len(entries),
        "xaxis": {"title": {"text": arrow(comparison.by)}},
        "yaxis": {"categoryorder": "array", "categoryarray": order, "automargin": True, "type": "category"},
        "showlegend": len(tiers) > 1,
    }
    best = comparison.ranking[0]
    description = (
        f"{comparison.by} of {len(comparison.ranking)} runs with {comparison.level:.0%} intervals, best first. "
        f"The best is {names[best.row.run]} with {number(best.score.value)}. Runs of one colour and sign share a tier."
        f"{_meaning(comparison.by)}{_beside([entry.score for entry in entries])}"
    )
    if len(entries) < len(comparison.ranking):
        description += f" The first {MOST_ROWS} are drawn; the table has all."
    return Chart("ranking", "Ranking", description, data, layout, [], [])


def tradeoff_charts(comparison: Comparison) -> list[Chart]:
    """Quality and diversity against alignment; against each other where no alignment is measured."""
    rows = [entry.row for entry in comparison.ranking]
    names = measured(rows, of_role("alignment")), measured(rows, diverse()), quality_metric(rows, comparison.by)
    of = {_role(name): name for name in names if name}
    pairs = [("quality", "alignment"), ("diversity", "alignment")] if "alignment" in of else [("quality", "diversity")]
    drawn = [_tradeoff_chart(comparison, of[x], of[y]) for y, x in pairs if x in of and y in of]
    return [chart for chart in drawn if chart]


def _tradeoff_chart(comparison: Comparison, x: str, y: str) -> Chart | None:
    """One score against another, with the runs that no other beats in both and the guidance at each point."""
    rows = [entry.row for entry in comparison.ranking]
    kept = eligible(eligible(rows, y)[0], x)[0]
    if len(kept) < 2:
        return None
    on_frontier = set(comparison.frontier.runs) if comparison.frontier else set()
    data = [
        trace
        for place, steps in enumerate(sorted({row.steps for row in rows}, key=_known_first))
        for trace in _points(kept, steps, place, x, y, on_frontier)
    ]
    front = sorted((_value(row, x), _value(row, y)) for row in kept if _undominated(row, kept, x, y))
    line = {
        "type": "scatter", "mode": "lines", "name": "frontier of these two", "hoverinfo": "skip",
        "x": [value for value, _ in front], "y": [value for _, value in front],
        "line": {"dash": "dot", "width": 1.5, "color": "#8a8f98"},
    }  # fmt: skip
    layout = {
        "height": 480,
        "xaxis": {"title": {"text": arrow(x)}},
        "yaxis": {"title": {"text": arrow(y)}},
        "showlegend": True,
    }
    names, cells = labels(rows), []
    for row in kept:
        seconds = "" if row.seconds_per_image is None else f"{row.seconds_per_image:.3g}"
        told = "yes" if row.run in on_frontier else "no"
        cells.append([names[row.run], number(_value(row, y)), number(_value(row, x)), seconds, told])
    up, along = _role(y), _role(x)
    columns = ["run", y, x, "s/image", "on the frontier"]
    description = _tradeoff_words(comparison, kept, x, y)
    return Chart(
        f"tradeoff-{up}", f"{up.capitalize()} against {along}", description, [line, *data], layout, columns, cells
    )


def _tradeoff_words(comparison: Comparison, kept: Sequence[RunRow], x: str, y: str) -> str:
    rows = [entry.row for entry in comparison.ranking]
    ring = f" A ring marks the frontier of {', '.join(comparison.frontier.objectives)}." if comparison.frontier else ""
    look = " Look at the pictures too: broken ones also differ." if "diversity" in (_role(x), _role(y)) else ""
    beside = _beside([score for row in kept if (score := row.score(y))])
    return (
        f"{y} against {x} for {len(kept)} runs; the number at each point is its guidance, colour and sign its steps. "
        f"The dotted line joins the runs that no other beats in both.{ring}{_meaning(y)}{_meaning(x)}{look}{beside}"
        f"{_left_out(rows, y)}{_left_out(rows, x)}"
    )


def _role(metric: str) -> str:
    info = score_info(metric)
    return info.role if info else metric


def _points(
    kept: Sequence[RunRow], steps: int | None, place: int, x: str, y: str, on_frontier: set[str]
) -> list[Trace]:
    rows = [row for row in kept if row.steps == steps]
    names, levels = labels(kept), sorted({row.guidance for row in kept}, key=_known_first)
    trace = {
        "type": "scatter",
        "mode": "markers+text" if len(kept) <= MOST_ROWS else "markers",
        "name": f"{UNKNOWN if steps is None else steps} steps",
        "x": [_value(row, x) for row in rows],
        "y": [_value(row, y) for row in rows],
        "text": [row.short("guidance") for row in rows],
        "customdata": [plain(names[row.run]) for row in rows],
        # Neighbours in guidance or in steps often lie close: their numbers stand on different sides.
        "textposition": [LABELS[(place + levels.index(row.guidance)) % 4] for row in rows],
        "error_x": _errors([row.scores[x] for row in rows], thickness=0.8, width=0),
        "marker": {
            "size": [13 if row.run in on_frontier else 9 for row in rows],
            "color": COLOURS[place % 8],
            "symbol": SYMBOLS[place % 8],
            "opacity": 1,
            "line": {"width": [3 if row.run in on_frontier else 0 for row in rows]},
        },
        "hovertemplate": "%{customdata}<br>%{x:.4g}, %{y:.4g}<extra></extra>",
    }
    return _with_bars(trace, [s for row in rows if (s := row.score(y))], "y", thickness=0.8, width=0)


def curve_chart(rows: Sequence[RunRow], metric: str, axis: Axis) -> Chart | None:
    """A metric over one axis, a line for each setting of the rest; None where no line would have two points."""
    kept = [row for row in eligible(rows, metric)[0] if getattr(row, axis) is not None]
    others = [name for name in varied(kept) if name != axis]
    lines: dict[tuple[Any, ...], list[RunRow]] = defaultdict(list)
    for row in kept:
        lines[tuple(getattr(row, name) for name in others)].append(row)
    drawn = {
        key: sorted(line, key=lambda row: float(getattr(row, axis))) for key, line in lines.items() if len(line) > 1
    }
    drawn = {key: line for key, line in drawn.items() if len({getattr(row, axis) for row in line}) > 1}
    if not drawn:
        return None
    ordered = sorted(drawn.items(), key=lambda item: tuple(map(_known_first, item[0])))
    data, cells = [], []
    for place, (_, line) in enumerate(ordered[:MOST_LINES]):
        name = ", ".join(f"{_short(other)} {_shown(line[0].told(other))}" for other in others) or metric
        scores = [score for row in line if (score := row.score(metric))]
        trace = {
            "type": "scatter",
            "mode": "lines+markers",
            "name": plain(name),
            "x": [getattr(row, axis) for row in line],
            "y": [score.value for score in scores],
            "marker": {"size": 8, "symbol": SYMBOLS[place % 8], "color": COLOURS[place % 8]},
            "line": {"width": 2, "color": COLOURS[place % 8]},
            "hovertemplate": f"{axis} %{{x}}: %{{y:.4g}}<extra>%{{fullData.name}}</extra>",
        }
        data += _with_bars(trace, scores, "y", thickness=1, width=3)
        cells += [[name, row.short(axis), number(score.value)] for row, score in zip(line, scores, strict=True)]
    levels = sorted({getattr(row, axis) for line in drawn.values() for row in line})
    layout = {
        "height": 380,
        "xaxis": {"title": {"text": axis}, "tickvals": levels if len(levels) < 12 else None},
        "yaxis": {"title": {"text": arrow(metric)}},
        "showlegend": True,
    }
    description = (
        f"{metric} over {axis}, from {levels[0]:g} to {levels[-1]:g}, a line for each of {len(ordered[:MOST_LINES])} "
        f"settings of the rest, with intervals.{_meaning(metric)}"
        f"{_beside([s for row in kept if (s := row.score(metric))])}{_left_out(rows, metric)}"
    )
    return Chart(
        f"curve-{axis}-{metric}",
        f"Over {axis}",
        description,
        data,
        layout,
        ["setting", axis, metric],
        cells,
        metric,
        axis,
    )


def _value(row: RunRow, metric: str) -> float:
    score = row.score(metric)
    assert score is not None
    return score.value


def _undominated(row: RunRow, rows: Sequence[RunRow], *objectives: str) -> bool:
    def cost(of: RunRow) -> list[float]:
        return [_value(of, name) * (1 if direction(name) == "lower" else -1) for name in objectives]

    mine = cost(row)
    return not any(
        all(a <= b for a, b in zip(theirs, mine, strict=True)) and theirs != mine for theirs in map(cost, rows)
    )


def _with_bars(trace: Trace, scores: Sequence[Score], axis: str, **style: float) -> list[Trace]:
    """The trace with stored intervals as error bars along an axis.

    Intervals that lie beside their values (see ``Score.holds_value``) are drawn where they are, by a trace of their
    own without points.
    """
    if all(score.holds_value for score in scores):
        return [{**trace, f"error_{axis}": _errors(scores, **style)}]
    known = [(n, s.ci_low, s.ci_high) for n, s in enumerate(scores) if s.ci_low is not None and s.ci_high is not None]
    other = "y" if axis == "x" else "x"
    bars = {
        "type": "scatter",
        "mode": "markers",
        "name": f"{trace['name']}, interval",
        "showlegend": False,
        "hoverinfo": "skip",
        axis: [(low + high) / 2 for _, low, high in known],
        other: [trace[other][n] for n, _, _ in known],
        "marker": {"opacity": 0, "color": trace["marker"]["color"]},
        f"error_{axis}": {"type": "data", "array": [(high - low) / 2 for _, low, high in known], **style},
    }
    return [trace, bars]


def _beside(scores: Sequence[Score]) -> str:
    """What a reader of such bars must know."""
    if all(score.holds_value for score in scores):
        return ""
    return " A bar beside its point is the interval of the value without the bias of this number of images."


def _left_out(rows: Sequence[RunRow], metric: str) -> str:
    """How many runs are not drawn since their value cannot stand beside the others'."""
    count = len(otherwise(rows, metric))
    if not count:
        return ""
    runs, are = ("run", "is") if count == 1 else ("runs", "are")
    return f" {count} {runs} whose {metric} was measured under another protocol {are} not drawn."


def _errors(scores: Sequence[Score], **style: float) -> Trace:
    """Plotly's error bars from stored intervals; no bar where there is none."""
    above = [0.0 if score.ci_high is None else max(score.ci_high - score.value, 0.0) for score in scores]
    below = [0.0 if score.ci_low is None else max(score.value - score.ci_low, 0.0) for score in scores]
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, **style}
