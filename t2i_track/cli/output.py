"""Results on stdout: a table for people, JSON and CSV for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click


def print_rows(rows: Sequence[Mapping[str, Any]], fmt: str, *, columns: Sequence[str] | None = None) -> None:
    """Rows of one shape, as ``table``, ``csv``, ``json`` or ``markdown``; without rows, headers alone."""
    names = list(columns or (rows[0] if rows else ()))
    if fmt == "json":
        click.echo(json_text([{name: row[name] for name in names} for row in rows]))
    elif fmt == "csv":
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([[_cell(row[name]) for name in names] for row in rows])
        click.echo(buffer.getvalue(), nl=False)
    else:
        from tabulate import tabulate

        cells = [[_shown(row[name]) for name in names] for row in rows]
        style = "github" if fmt == "markdown" else "simple"
        click.echo(tabulate(cells, headers=names, tablefmt=style, disable_numparse=True, colalign=_align(rows, names)))


def print_record(record: Mapping[str, Any], fmt: str) -> None:
    """One record, a line for each field."""
    if fmt == "json":
        click.echo(json_text(record))
        return
    width = max(map(len, record), default=0)
    for key, value in record.items():
        text = json_text(value, indent=None) if isinstance(value, dict | list | tuple) else _shown(value)
        click.echo(f"{key:<{width}}  {text}")


def json_text(value: Any, indent: int | None = 2) -> str:
    return json.dumps(value, indent=indent, ensure_ascii=False, default=_jsonable)


def _jsonable(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} in a result")


def _cell(value: Any) -> Any:
    return json_text(value, None) if isinstance(value, dict | list) else "" if value is None else value


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e5 else f"{value:.0f}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return str(value)


def _align(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[str] | None:
    if not rows:
        return None
    return ["right" if isinstance(rows[0][name], int | float) else "left" for name in names]
