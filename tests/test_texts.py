"""Nothing that is printed is obeyed: not by a terminal, not by the spreadsheet that opens a CSV."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ranking_rows import constant, run
from test_ranking_pair import A, B, images

from t2i_track.cli.output import csv_text, echo, print_record, print_rows
from t2i_track.cli.pair_formats import PAIR_FORMATS, print_pair
from t2i_track.cli.ranking_formats import FORMATS, print_comparison
from t2i_track.ranking import compare, compare_two
from t2i_track.texts import _CONTROL, MOST_COUNTED, beginning, cell, clean, harmless, harmless_json

HOSTILE = "a\x1b[31mred\x07\x9b2J\u202eb\u2028c\x00d\r\ud800e"
OBEYED = set("\x00\x07\x1b\x9b\r\u202e\u2028\ud800")
FORMATS_OF_ROWS = ("table", "csv", "json", "markdown")


@pytest.mark.parametrize(
    "text",
    [
        "=cmd|' /C calc'!A0",
        "=1+1",
        "+1+1",
        "-1+cmd",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        " =1",
        "＝1",
        '=HYPERLINK("http://x")',
        "-",
        "--x",
    ],
)
def test_cells_that_a_spreadsheet_would_run_are_text(text: str) -> None:
    assert cell(text).startswith("'")
    assert cell(text)[1:] == harmless(text, keep="\n\t")


@pytest.mark.parametrize(
    "text", ["", "a=b", "a red cat", "-5", "+1e3", "-0.25", "'x", 'a, "b"', "two\nlines", "猫", "#1", "-inf"]
)
def test_other_cells_are_what_they_are(text: str) -> None:
    assert cell(text) == text


@given(st.lists(st.lists(st.text() | st.integers() | st.floats(allow_nan=False), min_size=2, max_size=2), max_size=5))
def test_no_cell_of_a_csv_begins_a_formula(rows: list[list[Any]]) -> None:
    text = csv_text(["=a", "b"], [dict(zip(["=a", "b"], row, strict=True)) for row in rows])
    assert not OBEYED & set(text)
    for line, row in zip(csv.reader(io.StringIO(text)), [["'=a", "b"], *rows], strict=True):
        for found, value in zip(line, row, strict=True):
            assert found[:1] not in ("=", "@", "\t") or not isinstance(value, str)
            if not isinstance(value, str):
                assert type(value)(found) == value


@given(st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_says_the_same_without_a_control_character(value: Any) -> None:
    text = harmless_json(json.dumps(value, ensure_ascii=False, indent=1))
    assert json.loads(text) == value
    assert not OBEYED & set(text)


@pytest.mark.parametrize("bad", ["a\0b", "a\ud800", "\udcff"])
def test_what_cannot_be_stored_is_refused_wherever_it_is_typed(bad: str) -> None:
    from t2i_track.errors import ManifestError, SettingsError
    from t2i_track.prompts.manifest import from_prompts
    from t2i_track.runs.plan import Plan
    from t2i_track.settings import Settings

    manifest = from_prompts(["a"])
    with pytest.raises(ManifestError, match=r"prompt 1 of the command line: .* (NUL|is not a) character"):
        from_prompts([bad])
    for name in ("negative_prompt", "model", "lora"):
        with pytest.raises(SettingsError, match=rf"{name} '.*' cannot be stored \(.*character\): take that out"):
            Settings(**{name: bad})
    with pytest.raises(SettingsError, match=r"the run name '.*' cannot be stored \(.*character\): give another"):
        Plan(settings=Settings(), manifest=manifest, experiment="t2i", run_name=bad)
    with pytest.raises(SettingsError, match=r"the experiment '.*' cannot be stored"):
        Plan(settings=Settings(), manifest=manifest, experiment=bad)
    assert Plan(settings=Settings(negative_prompt="猫\x1b"), manifest=manifest, experiment="é").name


def test_what_python_calls_printable_has_nothing_to_write_otherwise() -> None:
    """By which ``harmless`` tells at once the texts that it has nothing to do with."""
    controls = [char for char in map(chr, range(0x110000)) if _CONTROL.match(char)]
    assert len(controls) > 2048
    assert not any(char.isprintable() for char in controls)


def test_harmless_keeps_lines_and_clean_makes_one() -> None:
    assert harmless("a\nb\x1bc\u202e") == "a\nb\\x1bc\\u202e"
    assert clean("a\n b\x1b") == "a b\\x1b"


@pytest.mark.parametrize("fmt", FORMATS_OF_ROWS)
def test_rows_of_every_format(fmt: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([{"prompt": HOSTILE, HOSTILE: "=1+1", "n": -2}], fmt)
    out = capsys.readouterr().out
    assert not OBEYED & set(out)
    assert ("'=1+1" in out) == (fmt == "csv")
    assert "-2" in out
    if fmt == "json":
        assert json.loads(out) == [{"prompt": HOSTILE, HOSTILE: "=1+1", "n": -2}]


def test_pipes_stay_within_their_cell_of_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([{"prompt": "a|b", "n": 1}], "markdown")
    assert capsys.readouterr().out.splitlines()[2] == "| a\\|b     |   1 |"


def test_records_of_every_format(capsys: pytest.CaptureFixture[str]) -> None:
    for fmt in ("table", "json"):
        print_record({"prompt": HOSTILE}, fmt)
        assert not OBEYED & set(capsys.readouterr().out)


@pytest.mark.parametrize("fmt", FORMATS)
def test_comparisons_of_every_format(fmt: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [run("=1+1", {"fid": constant("fid", 1.0)}, lora=HOSTILE), run("b", {"fid": constant("fid", 2.0)})]
    print_comparison(compare([*rows, run("c\nRecommended: c", status="failed")]), fmt)
    out = capsys.readouterr().out
    assert not OBEYED & set(out)
    assert ("'=1+1" in out) == (fmt == "csv")
    assert not any(line.startswith("Recommended: c") for line in out.splitlines()) or fmt == "csv"


@pytest.mark.parametrize("fmt", PAIR_FORMATS)
def test_pairs_of_every_format(fmt: str, capsys: pytest.CaptureFixture[str]) -> None:
    from dataclasses import replace

    changed = [replace(image, prompt=HOSTILE) for image in images("a", [0.1, 0.5])]
    other = [replace(image, prompt=HOSTILE) for image in images("b", [0.9, 0.4])]
    print_pair(compare_two(replace(A, name=HOSTILE), B, changed, other), fmt)
    assert not OBEYED & set(capsys.readouterr().out)


def test_a_wrong_command_line_prints_nothing_to_obey(cli: Any) -> None:
    done = cli("runs", "--limit", "\x1b[31m5")
    assert done.code == 2
    assert "\x1b" not in done.err
    assert "\\x1b[31m5" in done.err
    done = cli("\x1b[31mx")
    assert (done.code, "\x1b" in done.err) == (2, False)


def test_echo_ends_as_the_text_does(capsys: pytest.CaptureFixture[str]) -> None:
    echo("a\tb\n", "csv")
    assert capsys.readouterr().out == "a\tb\n"


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("", 0),
        ("a " * (MOST_COUNTED // 2), MOST_COUNTED),
        ("ab " * MOST_COUNTED, MOST_COUNTED - MOST_COUNTED % 3 - 1),
        ("x" * (MOST_COUNTED + 1), MOST_COUNTED),
        ("a\u3000" * MOST_COUNTED, MOST_COUNTED - 1),
    ],
)
def test_a_text_begins_with_its_beginning(text: str, length: int) -> None:
    assert text.startswith(beginning(text))
    assert len(beginning(text)) == length
