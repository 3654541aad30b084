"""Results on stdout: for a terminal fitted to its width, plain where piped, JSON and CSV for programs."""

from __future__ import annotations

import csv
import io
import json
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from t2i_track.cli.tables import Column, aligned, clean, draw, draw_names, heading, paragraph, terminal

if TYPE_CHECKING:
    from rich.console import Console

STATUSES = {
    "finished": "green", "ok": "green", "note": "yellow", "running": "yellow", "interrupted": "yellow",
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
        click.echo(json_text([{name: row[name] for name in names} for row in rows]))
    elif fmt == "csv":
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([[_cell(row[name]) for name in names] for row in rows])
        click.echo(buffer.getvalue(), nl=False)
    elif fmt == "table" and (console := terminal()) is not None:
        draw_rows(console, rows, names, drop)
    else:
        from tabulate import tabulate

        cells = [[clean(shown(row[name])) for name in names] for row in rows]
        style = "github" if fmt == "markdown" else "simple"
        titles = [clean(name) for name in names]
        click.echo(tabulate(cells, headers=titles, tablefmt=style, disable_numparse=True, colalign=_align(rows, names)))


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
        click.echo(json_text(record))
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


def json_text(value: Any, indent: int | None = 2) -> str:
    return json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False, default=_jsonable)


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: as words, which is what PostgreSQL and protobuf write."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, list | tuple) else value


def _jsonable(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"{type(value).__name__} in a result")


def _held(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that hold something; 0 and no are something."""
    return {name: value for name, value in fields.items() if value not in (None, "", (), [], {})}


def _cell(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    return json_text(value, None) if isinstance(value, dict | list) else "" if value is None else value


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
