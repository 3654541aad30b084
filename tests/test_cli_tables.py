from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cli_console import drawn

from t2i_track.cli.output import draw_fields, draw_rows, field_lines, footnotes, shown
from t2i_track.cli.tables import Column, aligned, clean, draw, fit, paragraph

NUMBER = Column("number", ["1", "22"])
GAP = Column("gap", ["-0.1 [-0.20, -0.05]", ""], fold="interval")
NAME = Column("name", ["a-rather-long-name", "b"], drop=2)
NOTE = Column("note", ["words that take more than one line", ""], fold="words")
ROWS: list[dict[str, Any]] = [{"run": "abc", "seconds": 0.123456, "note": "one two three four five six"}]


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("plain", "plain"),
        ("a\n b\tc ", "a b c"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("\x9b31m\x07\x7f", "\\x9b31m\\x07\\x7f"),
        ("abc\u202egnp", "abc\\u202egnp"),
        ("\ud800", "\\ud800"),
        ("naïve 猫 👩\u200d🚀", "naïve 猫 👩\u200d🚀"),
    ],
)
def test_nothing_that_a_terminal_obeys_reaches_it(text: str, safe: str) -> None:
    assert clean(text) == safe
    assert safe in aligned(["prompt"], [[text]])
    assert drawn(80, draw, [Column(f"a {text}", [text])]) == [f"a {safe}", safe]
    assert drawn(80, draw_fields, {"prompt": text}) == [f"  prompt  {safe}"]
    assert field_lines({"prompt": text}) == [f"prompt  {safe}"]


@pytest.mark.parametrize(
    ("width", "titles", "gone"),
    [
        (100, ["number", "gap", "name", "note"], []),
        (62, ["number", "gap", "name", "note"], []),
        (55, ["number", "gap", "note"], ["name"]),
        (30, ["number", "gap", "note"], ["name"]),
    ],
)
def test_columns_fold_or_go_in_the_stated_order(width: int, titles: list[str], gone: list[str]) -> None:
    kept, left_out = fit([NUMBER, GAP, NAME, NOTE], width)
    assert ([one.title for one in kept], left_out) == (titles, gone)


def test_a_table_fits_a_narrow_terminal() -> None:
    assert drawn(48, draw, [NUMBER, GAP, replace(NAME, drop=1), NOTE]) == [
        "number  gap             note",
        "     1  -0.1            words that take more",
        "        [-0.20, -0.05]  than one line",
        "    22",
        "no room for name: a wider terminal or --format",
        "  json shows them",
    ]


def test_a_cell_is_no_markup() -> None:
    assert drawn(40, draw, [Column("name", ["[red]a[/red]"])])[1] == "[red]a[/red]"
    assert drawn(40, draw_fields, {"name": "[bold]:cat:"}) == ["  name  [bold]:cat:"]


def test_an_interval_is_not_torn() -> None:
    assert drawn(24, paragraph, "it falls by -0.1 [-0.2, +0.1]: worse") == [
        "it falls by -0.1",
        "  [-0.2, +0.1]: worse",
    ]


def test_rows_that_have_no_room_become_records() -> None:
    assert drawn(60, draw_rows, ROWS, ["run", "seconds", "note"]) == [
        "run  seconds  note",
        "abc   0.1235  one two three four five six",
    ]
    assert drawn(22, draw_rows, ROWS, ["run", "seconds", "note"]) == [
        "1 of 1",
        "  run      abc",
        "  seconds  0.1235",
        "  note     one two",
        "           three four",
        "           five six",
    ]


def test_empty_fields_are_left_out() -> None:
    record = {"a": 0, "b": None, "c": "", "d": [], "e": False, "f": {"x": 1.5, "y": None}, "g": ["p", 2]}
    assert field_lines(record) == ["a  0", "e  no", "f  x 1.5", "g  p, 2"]
    assert shown(123456.789) == "123457"


def test_a_hash_is_cut_where_it_has_no_room() -> None:
    digest = "0123456789abcdef" * 4
    assert drawn(40, draw_fields, {"sha256": digest}) == ["  sha256  " + digest[:29] + "…"]
    assert drawn(80, draw_fields, {"sha256": digest}) == ["  sha256  " + digest]


def test_equal_notes_share_a_mark() -> None:
    assert footnotes(["x", None, "y", "x", ""]) == (["[1]", "", "[2]", "[1]", ""], ["[1] x", "[2] y"])
