"""Runs that were held against a base, on the screen: table, JSON, CSV, Markdown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from t2i_track.cli.output import csv_text, echo
from t2i_track.cli.tables import Column, aligned, columns_of, draw, heading, paragraph, terminal
from t2i_track.jsontext import json_text
from t2i_track.ranking.describe import escaped, pipes
from t2i_track.ranking.describe_equivalence import WORST_TITLES, compared, findings, heads, worst, worst_title
from t2i_track.ranking.equivalence import COLUMNS, Equivalence
from t2i_track.texts import clean

if TYPE_CHECKING:
    from rich.console import Console

VERDICTS = {"equivalent within the margin": "green"}


def print_equivalence(found: Equivalence, fmt: str) -> None:
    console = terminal() if fmt == "table" else None
    if console is None:
        echo(FORMATS[fmt](found), fmt)
    else:
        draw_equivalence(console, found)


def draw_equivalence(console: Console, found: Equivalence) -> None:
    """For a terminal: as `table`, fitted to the width."""
    for line in heads(found):
        paragraph(console, line)
    console.print()
    draw(console, _columns(found))
    if cells := worst(found):
        console.print()
        heading(console, worst_title(found))
        *numbers, prompt = columns_of(WORST_TITLES, cells)
        draw(console, [*numbers, replace(prompt, fold="words")])
    console.print()
    for line in findings(found):
        paragraph(console, line)


def _columns(found: Equivalence) -> list[Column]:
    run, differs, value, gap, verdict, *costs = columns_of(*compared(found))
    words = [replace(one, fold="words") for one in (run, differs)]
    verdict = replace(verdict, fold="words", styles=VERDICTS)
    costs = [replace(one, fold="interval", drop=place) for place, one in enumerate(reversed(costs), 1)][::-1]
    return [*words, value, replace(gap, fold="interval"), verdict, *costs]


def table(found: Equivalence) -> str:
    """Plain text."""
    parts = ["\n".join(map(clean, heads(found))), aligned(*compared(found))]
    if cells := worst(found):
        parts.append(f"{worst_title(found)}:\n" + aligned(WORST_TITLES, cells))
    return "\n\n".join([*parts, "\n".join(map(clean, findings(found)))]) + "\n"


def markdown(found: Equivalence) -> str:
    parts = ["\n".join(f"- {escaped(line)}" for line in heads(found)), pipes(*compared(found))]
    if cells := worst(found):
        parts.append(f"{worst_title(found)}:\n\n" + pipes(WORST_TITLES, cells))
    return "\n\n".join([*parts, "\n".join(f"- {escaped(line)}" for line in findings(found))]) + "\n"


def as_json(found: Equivalence) -> str:
    """The documented JSON; ``null`` for what is not known, never NaN."""
    return json_text(found.to_dict()) + "\n"


def as_csv(found: Equivalence) -> str:
    """One line for each run, with the whole precision."""
    return csv_text(COLUMNS, found.rows())


FORMATS: dict[str, Callable[[Equivalence], str]] = {
    "table": table,
    "json": as_json,
    "csv": as_csv,
    "markdown": markdown,
}
