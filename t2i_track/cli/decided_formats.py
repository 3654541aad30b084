"""The decisions of an adaptive sweep on the screen: table, JSON, CSV, Markdown."""

from __future__ import annotations

from dataclasses import replace

from t2i_track.cli.output import csv_text, echo
from t2i_track.cli.tables import aligned, columns_of, draw, paragraph, terminal
from t2i_track.jsontext import json_text
from t2i_track.ranking.decided import Decided
from t2i_track.ranking.describe import escaped, pipes
from t2i_track.texts import clean

STATES = {"as good": "green", "out": "dim"}


def print_decided(decided: Decided, fmt: str) -> None:
    console = terminal() if fmt == "table" else None
    if console is None:
        echo(_FORMATS[fmt](decided), fmt)
        return
    draw(
        console,
        [replace(one, styles=STATES) if one.title == "decision" else one for one in columns_of(*decided.table())],
    )
    console.print()
    for line in decided.lines():
        paragraph(console, line, "bold" if line in decided.conclusion()[:1] else "")


def _table(decided: Decided) -> str:
    return aligned(*decided.table()) + "\n\n" + "\n".join(map(clean, decided.lines())) + "\n"


def _markdown(decided: Decided) -> str:
    return pipes(*decided.table()) + "\n\n" + "\n".join(f"- {escaped(line)}" for line in decided.lines()) + "\n"


def _csv(decided: Decided) -> str:
    rows = decided.rows()
    return csv_text(list(rows[0]), rows)


def _json(decided: Decided) -> str:
    return json_text(decided.to_dict()) + "\n"


_FORMATS = {"table": _table, "json": _json, "csv": _csv, "markdown": _markdown}
