"""A comparison as text: table, JSON, CSV, Markdown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from typing import Any

from t2i_track.ranking.comparison import Comparison
from t2i_track.ranking.frontier import alignment_metric
from t2i_track.ranking.ranking import Ranked
from t2i_track.ranking.rows import varied
from t2i_track.ranking.words import bounds, change, number
from t2i_track.settings import AXES

Cells = list[list[str]]
MOST_POINTS = 16
"""Settings of the frontier that a table names; JSON has all."""


def table(comparison: Comparison) -> str:
    """For a terminal: the ranking, what was left out, and what follows from it."""
    titles, cells = _ranking(comparison)
    parts = [aligned(titles, cells)]
    if comparison.excluded:
        rows = [[entry.row.run[:8], entry.row.name, entry.reason] for entry in comparison.excluded]
        parts.append("Not ranked:\n" + aligned(["run", "name", "reason"], rows))
    parts.append("\n".join(_findings(comparison)))
    return "\n\n".join(parts) + "\n"


def markdown(comparison: Comparison) -> str:
    titles, cells = _ranking(comparison)
    parts = [pipes(titles, cells)]
    if comparison.excluded:
        rows = [[entry.row.run[:8], entry.row.name, entry.reason] for entry in comparison.excluded]
        parts.append("Not ranked:\n\n" + pipes(["run", "name", "reason"], rows))
    parts.append("\n".join(f"- {escaped(line)}" for line in _findings(comparison)))
    return "\n\n".join(parts) + "\n"


def note(comparison: Comparison, most: int = 24) -> str:
    """Markdown for the description of a sweep: what was found, then the best ``most`` runs."""
    titles, cells = _ranking(comparison)
    parts = ["\n".join(f"- {escaped(line)}" for line in reversed(_findings(comparison))), pipes(titles, cells[:most])]
    if len(cells) > most:
        parts.append(f"The best {most} of {len(cells)} runs.")
    return "\n\n".join(parts) + "\n"


def as_json(comparison: Comparison) -> str:
    """The documented JSON; ``null`` for what is not known, never NaN."""
    return json.dumps(comparison.to_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def as_csv(comparison: Comparison) -> str:
    """All ranked runs with all settings and all scores, then the runs left out with the reason."""
    metrics = sorted({name for entry in comparison.ranking for name in entry.row.scores})
    fixed = [
        "rank",
        "tier",
        "run",
        "name",
        "experiment",
        "sweep",
        "status",
        *AXES,
        "manifest",
        "images",
        "seconds_per_image",
    ]
    scores = [f"{name}{end}" for name in metrics for end in ("", "_ci_low", "_ci_high")]
    gap = ["to_best", "to_best_low", "to_best_high", "p_adjusted"]
    out = io.StringIO()
    writer = csv.DictWriter(out, [*fixed, *scores, *gap, "reason"], restval="", lineterminator="\n")
    writer.writeheader()
    for entry in comparison.ranking:
        record: dict[str, Any] = {name: getattr(entry.row, name) for name in fixed[2:]}
        record |= {"rank": entry.rank, "tier": entry.tier, "p_adjusted": entry.p_adjusted}
        for name, score in entry.row.scores.items():
            record |= {name: score.value, f"{name}_ci_low": score.ci_low, f"{name}_ci_high": score.ci_high}
        if entry.difference:
            found = entry.difference
            record |= {"to_best": found.estimate, "to_best_low": found.low, "to_best_high": found.high}
        writer.writerow(record)
    for left in comparison.excluded:
        writer.writerow({name: getattr(left.row, name) for name in fixed[2:]} | {"reason": left.reason})
    return out.getvalue()


FORMATS: dict[str, Callable[[Comparison], str]] = {
    "table": table,
    "json": as_json,
    "csv": as_csv,
    "markdown": markdown,
}


def _ranking(comparison: Comparison) -> tuple[list[str], Cells]:
    """Guidance and steps always; of the other settings those that vary; the alignment where there is one."""
    rows = [entry.row for entry in comparison.ranking]
    others = [axis for axis in varied(rows) if axis not in ("guidance", "steps")]
    second = alignment_metric(rows, but=comparison.by)
    arrow = "↓" if comparison.direction == "lower" else "↑"
    titles = ["tier", "guidance", "steps", *others, f"{comparison.by} {arrow}", f"{comparison.level:.0%} interval"]
    titles += ["from the best", *([second] if second else []), "images", "s/image", "run", "name"]
    return titles, [_cells(entry, others, second, comparison.level) for entry in comparison.ranking]


def _cells(entry: Ranked, others: Sequence[str], second: str | None, level: float) -> list[str]:
    row, score = entry.row, entry.score
    cells = ["?" if entry.tier is None else str(entry.tier), f"{row.guidance:g}", str(row.steps)]
    cells += [str(getattr(row, axis)) for axis in others]
    cells += [number(score.value), bounds(score.ci_low, score.ci_high) or "none"]
    cells.append(change(entry.difference, entry.p_adjusted, level))
    if second:
        cells.append(number(row.scores[second].value) if second in row.scores else "")
    seconds = "" if row.seconds_per_image is None else f"{row.seconds_per_image:.3g}"
    return [*cells, str(row.images), seconds, row.run[:8], row.name]


def _findings(comparison: Comparison) -> list[str]:
    lines = [f"Note: {note}" for note in comparison.notes]
    if comparison.frontier:
        names = {entry.row.run: entry.row for entry in comparison.ranking}
        points = list(dict.fromkeys(f"{names[run].guidance:g}/{names[run].steps}" for run in comparison.frontier.runs))
        more = f" and {len(points) - MOST_POINTS} more" if len(points) > MOST_POINTS else ""
        shown = ", ".join(points[:MOST_POINTS]) + more
        lines.append(f"Frontier of {', '.join(comparison.frontier.objectives)} (guidance/steps): {shown}.")
    lines += [effect.sentence for effect in comparison.effects]
    if comparison.knee:
        lines.append(comparison.knee.sentence)
    if comparison.recommendation and len(comparison.ranking) > 1:
        lines.append(f"Recommended: {comparison.recommendation.sentence}")
    return lines


def aligned(titles: Sequence[str], cells: Cells) -> str:
    """Columns two spaces apart; numbers to the right."""
    lines = [[_one_line(cell) for cell in line] for line in [list(titles), *cells]]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    right = [all(_numeric(cell) for cell in column[1:] if cell) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if numeric else cell.ljust(width)
            for cell, width, numeric in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def _numeric(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell == "?"
    return True


def pipes(titles: Sequence[str], cells: Cells) -> str:
    lines = [list(titles), ["---"] * len(titles), *cells]
    return "\n".join("| " + " | ".join(escaped(cell) for cell in line) + " |" for line in lines)


def _one_line(text: str) -> str:
    return " ".join(text.split()) if text else text


def escaped(text: str) -> str:
    return _one_line(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
