"""Comparisons as they are printed: piped, on a narrow and on a wide terminal."""

import json
from typing import Any

import pytest
from cli_console import drawn
from ranking_rows import constant, run, sweep
from test_ranking_pair import A, B, images

from t2i_track.cli.pair_formats import PAIR_FORMATS, draw_pair
from t2i_track.cli.ranking_formats import as_csv, draw_comparison, markdown, table
from t2i_track.ranking import RunRow, compare, compare_two


def test_the_table_shows_guidance_and_steps_and_what_varies() -> None:
    lines = table(compare([*sweep(seeds=(1, 2)), run("x", status="failed")])).splitlines()
    assert lines[0].split()[:6] == ["tier", "guidance", "steps", "seed", "fid", "↓"]
    assert lines[1].split()[:3] == ["1", "3", "20"]
    assert "Not ranked:" in lines
    assert lines[-1].startswith("Recommended: Use guidance 3 with 20 steps")


def test_markdown_escapes_names() -> None:
    rows = [run("a|b<c>", {"fid": constant("fid", 1.0)}), run("d", {"fid": constant("fid", 2.0)})]
    assert "| a\\|b&lt;c> |" in markdown(compare(rows))


def test_csv_holds_ranked_and_excluded_runs() -> None:
    lines = as_csv(compare([*sweep(), run("x", status="failed")])).splitlines()
    header = lines[0].split(",")
    first, last = (dict(zip(header, line.split(","), strict=True)) for line in (lines[1], lines[-1]))
    assert (first["rank"], first["tier"], first["guidance"], first["steps"]) == ("1", "1", "3.0", "20")
    assert float(first["alignment_ci_low"]) < float(first["alignment"]) < float(first["alignment_ci_high"])
    assert (last["rank"], last["name"], last["reason"]) == ("", "x", "failed; `t2i show x0000000` tells why")


def test_the_table_says_who_wins_and_where() -> None:
    text = PAIR_FORMATS["table"](compare_two(A, B, images("a", [0.1, 0.5]), images("b", [0.9, 0.4])))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[0] == "A: a (a0000000), guidance 7.5 with 30 steps, 128 images"
    assert lines[2] == "differ in: guidance 7.5 -> 12"
    assert lines[4] == "metric A B B - A verdict"
    assert lines[5].startswith("fid 20.0")
    assert lines[5].endswith("A better")
    assert "alignment, prompt by prompt: A better on 1, B better on 1, equal on 0." in lines
    assert lines[-2:] == ["0 0.1 0.9 +0.8 prompt 0", "1 0.5 0.4 -0.1 prompt 1"]


def test_the_other_formats() -> None:
    pair = compare_two(A, B)
    assert json.loads(PAIR_FORMATS["json"](pair)) == json.loads(json.dumps(pair.to_dict()))
    table = PAIR_FORMATS["csv"](pair).splitlines()
    assert table[0] == "metric,a,b,change,change_low,change_high,p_adjusted,margin,verdict,note"
    assert table[2] == "cmmd,,0.2,,,,,,unknown,A has no cmmd"
    assert "| cmmd |  | 0.2 |  | unknown (A has no cmmd) |" in PAIR_FORMATS["markdown"](pair)


def cell(name: str, fid: float, **fields: Any) -> RunRow:
    return run(name, {"fid": constant("fid", fid), "alignment": constant("alignment", 0.5)}, **fields)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (
            [cell("a", 1.0, steps=8), cell("b", 2.0, steps=4, seconds_per_image=0.1)],
            "Frontier of fid, alignment, cost (guidance/steps): 7.5/8, 7.5/4.",
        ),
        (
            [cell("a", 1.0, scheduler="unipc"), cell("b", 1.0, scheduler="ddim"), cell("c", 1.0, scheduler="ddim")],
            "Frontier of fid, alignment, cost (guidance/steps scheduler): 7.5/30 unipc, 7.5/30 ddim.",
        ),
        (
            [cell("a", 1.0, negative_prompt="blurry, dark"), cell("b", 1.0, lora="x.safetensors")],
            "Frontier of fid, alignment, cost (guidance/steps lora negative_prompt): 7.5/30 none"
            " 'blurry, dark', 7.5/30 x.safetensors ''.",
        ),
    ],
)
def test_the_frontier_names_every_axis_that_varies(rows: list[RunRow], sentence: str) -> None:
    assert sentence in table(compare(rows)).splitlines()


def test_the_table_of_a_terminal_of_80_columns() -> None:
    lines = drawn(80, draw_comparison, compare([*sweep(), run("x", status="failed")]))
    assert max(map(len, lines)) <= 80
    assert lines[0] == "tier  guidance  steps  fid ↓  from the best   within 5%              run"
    assert lines[1].split()[:4] == ["1", "3", "20", "20.25"]
    assert "no room for images, name, s/image, alignment, 95% interval: a wider terminal or" in lines
    assert lines[lines.index("Not ranked") + 2] == "x0000000  x     failed; `t2i show x0000000` tells why"


def test_the_table_of_a_wide_terminal_is_whole() -> None:
    comparison = compare(sweep())
    lines = drawn(200, draw_comparison, comparison)
    assert lines[:10] == table(comparison).splitlines()[:10]


def test_what_varies_stays_on_a_narrow_terminal() -> None:
    rows = [cell("a", 1.0, scheduler="dpm++2m-karras"), cell("b", 1.0, scheduler="euler-a", model="some/model")]
    lines = drawn(76, draw_comparison, compare(rows))
    assert lines[0].split()[:5] == ["tier", "guidance", "steps", "scheduler", "model"]
    assert max(map(len, lines)) <= 76


def test_where_the_settings_have_no_room_a_run_is_a_record() -> None:
    rows = [cell("a", 1.0, scheduler="dpm++2m-karras"), cell("b", 2.0, scheduler="euler-a", model="some/model")]
    lines = drawn(40, draw_comparison, compare(rows))
    assert [line for line in lines if "scheduler  " in line or " of 2" in line][:4] == [
        "1 of 2",
        "  scheduler      dpm++2m-karras",
        "2 of 2",
        "  scheduler      euler-a",
    ]


def test_a_pair_on_a_terminal() -> None:
    lines = drawn(76, draw_pair, compare_two(A, B, images("a", [0.1, 0.5]), images("b", [0.9, 0.4])))
    assert lines[0] == "A: a (a0000000), guidance 7.5 with 30 steps, 128 images"
    assert lines[4].split() == ["metric", "A", "B", "B", "-", "A", "verdict"]
    assert lines[-1].split() == ["1", "0.5", "0.4", "-0.1", "prompt", "1"]
    assert max(map(len, lines)) <= 76
