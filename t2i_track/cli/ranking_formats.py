"""A comparison on the screen: table, JSON, CSV, Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from t2i_track.cli.output import csv_text, echo
from t2i_track.cli.tables import Column, aligned, columns_of, draw, heading, paragraph, terminal
from t2i_track.ranking.comparison import Comparison
from t2i_track.ranking.describe import as_json, escaped, failed, findings, pipes, ranked
from t2i_track.ranking.frontier import alignment_metric
from t2i_track.texts import clean

if TYPE_CHECKING:
    from rich.console import Console

LEFT_OUT = ["run", "name", "reason"]
FAILURES = "Failures, as shares of the labelled images"
TIERS = {"1": "bold green", "2": "cyan", "3": "yellow"}
"""The style of a tier; those further down have none."""
STANDINGS = {"as good": "green"}


def print_comparison(comparison: Comparison, fmt: str) -> None:
    console = terminal() if fmt == "table" else None
    if console is None:
        echo(FORMATS[fmt](comparison), fmt)
    else:
        draw_comparison(console, comparison)


def draw_comparison(console: Console, comparison: Comparison) -> None:
    """For a terminal: as `table`, fitted to the width."""
    titles, cells = ranked(comparison)
    draw(console, _ranked_columns(comparison, titles, cells))
    if comparison.failures:
        console.print()
        heading(console, FAILURES)
        draw(console, _failure_columns(comparison))
    if comparison.excluded:
        console.print()
        heading(console, "Not ranked")
        run, name, reason = columns_of(LEFT_OUT, _left_out(comparison))
        draw(console, [run, replace(name, drop=1), replace(reason, fold="words")])
    console.print()
    for line in findings(comparison):
        paragraph(console, line, "bold" if line.startswith("Recommended") else "")


def _ranked_columns(comparison: Comparison, titles: Sequence[str], cells: Sequence[Sequence[str]]) -> list[Column]:
    """The settings and the score always stay; the value's own interval goes before the difference does."""
    second = alignment_metric([entry.row for entry in comparison.ranking], but=comparison.by)
    interval = f"{comparison.level:.0%} interval"
    order = ["run", interval, second, "s/image", "name", "images"]  # the last goes first
    found = [
        replace(one, drop=order.index(one.title) + 1 if one.title in order else 0) for one in columns_of(titles, cells)
    ]
    return [
        replace(one, styles=TIERS) if one.title == "tier" else
        replace(one, fold="interval") if one.title == "from the best" else
        replace(one, fold="words", styles=STANDINGS) if one.title.startswith("within ") else one
        for one in found
    ]  # fmt: skip


def _failure_columns(comparison: Comparison) -> list[Column]:
    order = ["run", "name", "by people"]  # the last goes first
    return [
        replace(one, fold="interval", drop=order.index(one.title) + 1 if one.title in order else 0)
        for one in columns_of(*failed(comparison))
    ]


def table(comparison: Comparison) -> str:
    """Plain text: the ranking, what was left out, and what follows from it."""
    parts = [aligned(*ranked(comparison))]
    if comparison.failures:
        parts.append(f"{FAILURES}:\n" + aligned(*failed(comparison)))
    if comparison.excluded:
        parts.append("Not ranked:\n" + aligned(LEFT_OUT, _left_out(comparison)))
    parts.append("\n".join(map(clean, findings(comparison))))
    return "\n\n".join(parts) + "\n"


def markdown(comparison: Comparison) -> str:
    parts = [pipes(*ranked(comparison))]
    if comparison.failures:
        parts.append(f"{FAILURES}:\n\n" + pipes(*failed(comparison)))
    if comparison.excluded:
        parts.append("Not ranked:\n\n" + pipes(LEFT_OUT, _left_out(comparison)))
    parts.append("\n".join(f"- {escaped(line)}" for line in findings(comparison)))
    return "\n\n".join(parts) + "\n"


def _left_out(comparison: Comparison) -> list[list[str]]:
    return [[entry.row.run[:8], entry.row.name, entry.reason] for entry in comparison.excluded]


def as_csv(comparison: Comparison) -> str:
    """All ranked runs with all settings and all scores, then the runs left out with the reason."""
    rows = comparison.rows()
    return csv_text(list(rows[0]), rows)


FORMATS: dict[str, Callable[[Comparison], str]] = {
    "table": table,
    "json": as_json,
    "csv": as_csv,
    "markdown": markdown,
}
