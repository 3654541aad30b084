"""A comparison of two runs on the screen: table, JSON, CSV, Markdown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from t2i_track.cli.tables import aligned, columns_of, draw, heading, paragraph, terminal
from t2i_track.ranking.describe import Cells, escaped, pipes
from t2i_track.ranking.pair import PairComparison
from t2i_track.ranking.rows import RunRow
from t2i_track.ranking.words import change, number

if TYPE_CHECKING:
    from rich.console import Console

METRIC_TITLES = ["metric", "A", "B", "B - A", "verdict"]
PROMPT_TITLES = ["#", "A", "B", "B - A", "prompt"]
VERDICTS = {"A better": "green", "B better": "green"}


def print_pair(pair: PairComparison, fmt: str) -> None:
    console = terminal() if fmt == "table" else None
    if console is None:
        click.echo(PAIR_FORMATS[fmt](pair), nl=False)
    else:
        draw_pair(console, pair)


def draw_pair(console: Console, pair: PairComparison) -> None:
    """For a terminal: as `pair_table`, fitted to the width."""
    for line in _heads(pair):
        paragraph(console, line)
    console.print()
    metric, a, b, gap, verdict = columns_of(METRIC_TITLES, _metrics(pair))
    draw(console, [metric, a, b, replace(gap, fold="interval"), replace(verdict, fold="words", styles=VERDICTS)])
    if found := _findings(pair):
        console.print()
        for line in found:
            paragraph(console, line)
    if pair.changes:
        console.print()
        heading(console, f"Prompts with the largest change in {pair.by}")
        *numbers, prompt = columns_of(PROMPT_TITLES, _prompts(pair))
        draw(console, [*numbers, replace(prompt, fold="words")])


def pair_table(pair: PairComparison) -> str:
    parts = ["\n".join(_heads(pair)), aligned(METRIC_TITLES, _metrics(pair)), "\n".join(_findings(pair))]
    if pair.changes:
        parts.append(f"Prompts with the largest change in {pair.by}:\n" + aligned(PROMPT_TITLES, _prompts(pair)))
    return "\n\n".join(part for part in parts if part) + "\n"


def pair_markdown(pair: PairComparison) -> str:
    parts = ["\n".join(f"- {escaped(line)}" for line in _heads(pair)), pipes(METRIC_TITLES, _metrics(pair))]
    parts.append("\n".join(f"- {escaped(line)}" for line in _findings(pair)))
    if pair.changes:
        parts.append(f"Prompts with the largest change in {pair.by}:\n\n" + pipes(PROMPT_TITLES, _prompts(pair)))
    return "\n\n".join(part for part in parts if part) + "\n"


def pair_json(pair: PairComparison) -> str:
    """The documented JSON; ``null`` for what is not known, never NaN."""
    return json.dumps(pair.to_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def pair_csv(pair: PairComparison) -> str:
    """One line for each metric, with the whole precision."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["metric", "a", "b", "change", "change_low", "change_high", "p_adjusted", "verdict", "note"])
    for row in pair.metrics:
        gap: list[Any] = [row.change.estimate, row.change.low, row.change.high] if row.change else [None] * 3
        writer.writerow([row.metric, row.a, row.b, *gap, row.p_adjusted, row.verdict, row.note])
    return out.getvalue()


PAIR_FORMATS: dict[str, Callable[[PairComparison], str]] = {
    "table": pair_table,
    "json": pair_json,
    "csv": pair_csv,
    "markdown": pair_markdown,
}


def _heads(pair: PairComparison) -> list[str]:
    lines = [_head("A", pair.a), _head("B", pair.b)]
    changed = [f"{name} {_shown(a)} -> {_shown(b)}" for name, (a, b) in pair.differing.items()]
    return [*lines, f"differ in: {', '.join(changed) or 'nothing that decides the images'}"]


def _head(letter: str, row: RunRow) -> str:
    return f"{letter}: {row.name} ({row.run[:8]}), {row.setting}, {row.images} images"


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value) or "''"
    return text[:8] if len(text) == 64 else text


def _metrics(pair: PairComparison) -> Cells:
    return [
        [
            row.metric,
            "" if row.a is None else number(row.a),
            "" if row.b is None else number(row.b),
            change(row.change, row.p_adjusted, pair.level),
            row.verdict + (f" ({row.note})" if row.note else ""),
        ]
        for row in pair.metrics
    ]


def _prompts(pair: PairComparison) -> Cells:
    return [
        [str(item.prompt_index), number(item.a), number(item.b), f"{item.change:+.4g}", item.prompt]
        for item in pair.changes
    ]


def _findings(pair: PairComparison) -> list[str]:
    lines = [f"Note: {note}" for note in pair.notes]
    for counts in pair.prompts:
        lines.append(
            f"{counts.metric}, prompt by prompt: A better on {counts.a_wins}, B better on {counts.b_wins}, "
            f"equal on {counts.ties}."
        )
    return lines
