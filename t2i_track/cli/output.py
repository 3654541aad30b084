"""Results on stdout: for a terminal fitted to its width, plain where piped, JSON and CSV for programs."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from t2i_track.cli.tables import Column, aligned, draw, draw_names, heading, paragraph, terminal
from t2i_track.jsontext import json_text
from t2i_track.texts import cell, clean, harmless, harmless_json

if TYPE_CHECKING:
    from rich.console import Console

STATUSES = {
    "finished": "green", "enough": "green", "ok": "green",
    "note": "yellow", "running": "yellow", "interrupted": "yellow",
    "failed": "bold red", "broken": "bold red",
}  # fmt: skip
SHORT_BYTES = 32
"""Bytes of a value that people are shown, as hexadecimal digits; CSV and JSON have all."""


@dataclass(frozen=True)
class Section:
    """A part of a longer answer: fields, a table, lines, or several of these."""

    title: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    columns: Sequence[Column] = ()
    lines: Sequence[str] = ()


def print_rows(
    rows: Sequence[Mapping[str, Any]], fmt: str, *, columns: Sequence[str] | None = None, drop: Sequence[str] = ()
) -> None:
    """Rows of one shape, as ``table``, ``csv``, ``json`` or ``markdown``; without rows, headers alone.

    ``drop``: the columns that a narrow terminal goes without, the first of them first.
    """
    names = list(columns or (rows[0] if rows else ()))
    if fmt == "json":
        echo(json_text([{name: row[name] for name in names} for row in rows]) + "\n", fmt)
    elif fmt == "csv":
        echo(csv_text(names, rows), fmt)
    elif fmt == "table" and (console := terminal()) is not None:
        draw_rows(console, rows, names, drop)
    else:
        from tabulate import tabulate

        from t2i_track.ranking.describe import escaped

        within = escaped if fmt == "markdown" else str
        cells = [[within(clean(shown(row[name]))) for name in names] for row in rows]
        style = "github" if fmt == "markdown" else "simple"
        titles = [clean(name) for name in names]
        click.echo(tabulate(cells, headers=titles, tablefmt=style, disable_numparse=True, colalign=_align(rows, names)))


def echo(text: str, fmt: str) -> None:
    """Print a result that ends in a line feed, in whichever format, with nothing in it that a terminal would obey."""
    click.echo(harmless_json(text) if fmt == "json" else harmless(text, keep="\n\t"), nl=False)


def csv_text(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV for people and their spreadsheets; JSON is what holds every text as it is."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([cell(name) for name in names])
    writer.writerows([[_cell(row.get(name)) for name in names] for row in rows])
    return buffer.getvalue()


def draw_rows(
    console: Console, rows: Sequence[Mapping[str, Any]], names: Sequence[str], drop: Sequence[str] = ()
) -> None:
    """Rows on a terminal."""
    order = list(reversed(drop))
    columns = [
        Column(
            name,
            [shown(row[name]) for row in rows],
            drop=order.index(name) + 1 if name in order else 0,
            fold="words" if any(isinstance(row[name], str) for row in rows) and name not in order else "",
            styles=STATUSES if name == "status" else {},
        )
        for name in names
    ]
    draw(console, columns)


def print_record(record: Mapping[str, Any], fmt: str) -> None:
    """One record, a line for each field that holds something."""
    if fmt == "json":
        echo(json_text(record) + "\n", fmt)
    elif (console := terminal()) is not None:
        draw_fields(console, record)
    else:
        click.echo("\n".join(field_lines(record)))


def print_sections(sections: Sequence[Section]) -> None:
    """A longer answer for people; a section without content is left out."""
    console = terminal()
    filled = [one for one in sections if _held(one.fields) or one.columns or one.lines]
    for place, section in enumerate(filled):
        if console is not None:
            draw_section(console, section, first=place == 0)
        else:
            click.echo(("\n" if place else "") + "\n".join(_section_lines(section)))


def draw_section(console: Console, section: Section, *, first: bool = True) -> None:
    if not first:
        console.print()
    heading(console, clean(section.title))
    draw_fields(console, section.fields)
    if section.columns:
        draw(console, section.columns, indent=2)
    for line in section.lines:
        paragraph(console, line, indent=2)


def draw_fields(console: Console, fields: Mapping[str, Any]) -> None:
    """Names and values; a long value folds at its words, within its own column."""
    draw_names(console, {name: shown(value) for name, value in _held(fields).items()}, STATUSES)


def field_lines(fields: Mapping[str, Any]) -> list[str]:
    held = _held(fields)
    width = max(map(len, held), default=0)
    return [f"{name:<{width}}  {clean(shown(value))}" for name, value in held.items()]


def _section_lines(section: Section) -> list[str]:
    inside = field_lines(section.fields)
    if section.columns:
        lines = zip(*(column.cells for column in section.columns), strict=True)
        inside += aligned([column.title for column in section.columns], [list(line) for line in lines]).splitlines()
    inside += [clean(line) for line in section.lines]
    return [clean(section.title), *(textwrap.indent(line, "  ") for line in inside)]


def print_lines(lines: Sequence[str]) -> None:
    """Sentences, folded at the words where stdout is a terminal."""
    console = terminal()
    for line in lines:
        if console is not None:
            paragraph(console, line)
        else:
            click.echo(clean(line))


def footnotes(notes: Sequence[str | None]) -> tuple[list[str], list[str]]:
    """A mark such as ``[1]`` for each note, and the lines that the marks stand for; equal notes share one."""
    numbers = {note: number for number, note in enumerate(dict.fromkeys(filter(None, notes)), 1)}
    marks = ["" if not note else f"[{numbers[note]}]" for note in notes]
    return marks, [f"[{number}] {note}" for note, number in numbers.items()]


def _held(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that hold something; 0 and no are something."""
    return {name: value for name, value in fields.items() if value not in (None, "", (), [], {})}


def _cell(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict | list):
        return cell(json_text(value, None))
    return "" if value is None else cell(value) if isinstance(value, str) else value


def shown(value: Any) -> str:
    """A value as people read it: mappings as ``key value`` words, lists with commas, four digits."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e5 else f"{value:.0f}"
    if isinstance(value, bytes):
        return value.hex() if len(value) <= SHORT_BYTES else f"{value[:SHORT_BYTES].hex()}… ({len(value)} bytes)"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {shown(part)}" for name, part in _held(value).items())
    if isinstance(value, list | tuple):
        return ", ".join(shown(part) for part in value)
    return str(value)


def _align(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[str] | None:
    if not rows:
        return None
    return ["right" if isinstance(rows[0][name], int | float) else "left" for name in names]
