"""A comparison of two runs on the screen: table, JSON, CSV, Markdown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from t2i_track.cli.output import csv_text, echo
from t2i_track.cli.ranking_formats import FAILURES
from t2i_track.cli.tables import aligned, columns_of, draw, heading, paragraph, terminal
from t2i_track.jsontext import json_text
from t2i_track.ranking.describe import Cells, escaped, heads, pair_failed, pair_findings, pipes
from t2i_track.ranking.pair import COLUMNS, PairComparison
from t2i_track.ranking.words import change, number
from t2i_track.texts import clean

if TYPE_CHECKING:
    from rich.console import Console

METRIC_TITLES = ["metric", "A", "B", "B - A", "verdict"]
FAILURE_TITLES = ["failure", "A", "B"]
PROMPT_TITLES = ["#", "A", "B", "B - A", "prompt"]
VERDICTS = {"A better": "green", "B better": "green"}


def print_pair(pair: PairComparison, fmt: str) -> None:
    console = terminal() if fmt == "table" else None
    if console is None:
        echo(PAIR_FORMATS[fmt](pair), fmt)
    else:
        draw_pair(console, pair)


def draw_pair(console: Console, pair: PairComparison) -> None:
    """For a terminal: as `pair_table`, fitted to the width."""
    for line in heads(pair):
        paragraph(console, line)
    console.print()
    metric, a, b, gap, verdict = columns_of(METRIC_TITLES, _metrics(pair))
    draw(console, [metric, a, b, replace(gap, fold="interval"), replace(verdict, fold="words", styles=VERDICTS)])
    if pair.failures:
        console.print()
        heading(console, FAILURES)
        draw(console, [replace(one, fold="interval") for one in columns_of(FAILURE_TITLES, pair_failed(pair))])
    if found := pair_findings(pair):
        console.print()
        for line in found:
            paragraph(console, line)
    if pair.changes:
        console.print()
        heading(console, f"Prompts with the largest change in {pair.by}")
        *numbers, prompt = columns_of(PROMPT_TITLES, _prompts(pair))
        draw(console, [*numbers, replace(prompt, fold="words")])


def pair_table(pair: PairComparison) -> str:
    texts = ["\n".join(map(clean, lines)) for lines in (heads(pair), pair_findings(pair))]
    failures = f"{FAILURES}:\n" + aligned(FAILURE_TITLES, pair_failed(pair)) if pair.failures else ""
    parts = [texts[0], aligned(METRIC_TITLES, _metrics(pair)), failures, texts[1]]
    if pair.changes:
        parts.append(f"Prompts with the largest change in {pair.by}:\n" + aligned(PROMPT_TITLES, _prompts(pair)))
    return "\n\n".join(part for part in parts if part) + "\n"


def pair_markdown(pair: PairComparison) -> str:
    parts = ["\n".join(f"- {escaped(line)}" for line in heads(pair)), pipes(METRIC_TITLES, _metrics(pair))]
    if pair.failures:
        parts.append(f"{FAILURES}:\n\n" + pipes(FAILURE_TITLES, pair_failed(pair)))
    parts.append("\n".join(f"- {escaped(line)}" for line in pair_findings(pair)))
    if pair.changes:
        parts.append(f"Prompts with the largest change in {pair.by}:\n\n" + pipes(PROMPT_TITLES, _prompts(pair)))
    return "\n\n".join(part for part in parts if part) + "\n"


def pair_json(pair: PairComparison) -> str:
    """The documented JSON; ``null`` for what is not known, never NaN."""
    return json_text(pair.to_dict()) + "\n"


def pair_csv(pair: PairComparison) -> str:
    """One line for each metric, with the whole precision."""
    return csv_text(COLUMNS, pair.rows())


PAIR_FORMATS: dict[str, Callable[[PairComparison], str]] = {
    "table": pair_table,
    "json": pair_json,
    "csv": pair_csv,
    "markdown": pair_markdown,
}


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
