"""Rows of which settings are unknown, as of imported runs: ranked, drawn and told with the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from ranking_rows import PROMPTS, mean_score, noise, run, sweep
from report_images import images

from t2i_track.ranking import ImageRow, RunRow, compare, compare_two
from t2i_track.ranking.cost import cheaper_than, cost_of_each, same_as
from t2i_track.ranking.describe import findings, heads, ranked
from t2i_track.ranking.where import where
from t2i_track.report import write_report
from t2i_track.report.charts import charts

NULL = dict.fromkeys(("guidance", "steps", "scheduler", "seed", "dtype", "device", "batch_size", "seconds_per_image"))


def unknown(name: str, worse: float = 0.5) -> RunRow:
    hard = 5 * noise(0)
    fid = mean_score("fid", 20 + worse + hard + 0.5 * noise(7))
    alignment = mean_score("alignment", 0.8 + 0.05 * noise(1) + 0.01 * noise(8))
    return run(name, {"fid": fid, "alignment": alignment}, origin="a1111", **NULL)


@pytest.fixture(scope="module")
def rows() -> list[RunRow]:
    return [*sweep(), unknown("x"), unknown("y", 2.0)]


def test_they_are_ranked_with_the_others(rows: list[RunRow]) -> None:
    found = compare(rows, "fid")
    titles, cells = ranked(found)
    by_name = {line[titles.index("name")]: dict(zip(titles, line, strict=True)) for line in cells}
    assert len(by_name) == len(rows)
    shown = by_name["x"]
    assert [shown[name] for name in ("guidance", "steps", "scheduler", "s/image")] == ["unknown"] * 3 + [""]
    assert "None" not in "\n".join(findings(found))
    (entry,) = [one for one in found.to_dict()["ranking"] if one["name"] == "x"]
    assert entry["guidance"] is None


def test_they_say_nothing_of_what_an_axis_does(rows: list[RunRow]) -> None:
    known = compare(sweep(), "fid")
    found = compare(rows, "fid")
    assert [one.sentence for one in found.effects] == [one.sentence for one in known.effects]
    assert found.knee == known.knee


def test_an_unknown_cost_is_neither_less_nor_equal(rows: list[RunRow]) -> None:
    costs = [cost_of_each(rows)[row.run] for row in rows]
    assert [cost.passes for cost in costs[-2:]] == [None, None]
    assert str(costs[-1]) == "an unknown number of passes of the network"
    assert not cheaper_than(costs)[-2:].any()
    assert not cheaper_than(costs)[:, -2:].any()
    assert same_as(costs)[-2:].sum() == 2  # each with itself


def test_one_with_all_but_its_guidance_unknown_counts_no_passes() -> None:
    assert replace(unknown("x"), steps=20, scheduler="ddim").passes is None
    assert replace(unknown("x"), steps=20, scheduler="ddim", guidance=7.5).passes == 40


def test_the_report_draws_them(rows: list[RunRow], tmp_path: Path) -> None:
    found = compare(rows, "fid")
    drawn = {chart.id: chart for chart in charts(found)}
    names = [trace["name"] for trace in drawn["tradeoff-quality"].data]
    assert "unknown steps" in names
    assert all(line[1] != "None" for line in drawn["curve-steps-fid"].cells)
    page = write_report(
        tmp_path / "r.html",
        found,
        rows,
        [*images(tmp_path / "images", rows[:2], 2), *shots(rows[-1].run, {"cat": (1,)}, 1)],
    )
    assert '"guidance":"unknown"' in page.read_text(encoding="utf-8")


def test_they_can_be_asked_for(rows: list[RunRow]) -> None:
    assert [row.name for row in where(rows, "guidance is null and origin = 'a1111'")] == ["x", "y"]
    assert all(row.guidance is not None for row in where(rows, "guidance < 100 or guidance >= 100"))


def shots(name: str, prompts: Mapping[str, tuple[int, ...]], value: float) -> list[ImageRow]:
    return [
        ImageRow(name, place, number, prompt, seed, Path(f"{name}{place}.png"), scores={"clip_score": value + seed},
                 protocols={"clip_score": "p"})
        for place, (prompt, seeds) in enumerate(prompts.items())
        for number, seed in enumerate(seeds)
    ]  # fmt: skip


def test_two_of_them_pair_by_prompt_and_seed() -> None:
    a, b = replace(unknown("x"), manifest="a" * 64), replace(unknown("y"), manifest="b" * 64)
    ours = shots("x", {"cat": (1, 2), "dog": (3,), "": (5,)}, 10)
    theirs = shots("y", {"": (5,), "bird": (1,), "cat": (2, 9), "dog": (4,)}, 20)
    found = compare_two(a, b, ours, theirs)
    assert {change.prompt: (change.a, change.b) for change in found.changes} == {"cat": (12, 22), "dog": (13, 24)}
    assert found.notes[0] == "The runs are over different manifests; 2 prompts are in both."
    assert found.notes[1] == "Of 1 of 2 prompts that both have, the pictures are of other seeds."
    assert "guidance unknown with unknown steps" in heads(found)[0]
    assert len(ours) < PROMPTS


def test_what_differs_is_unknown_in_words() -> None:
    found = compare_two(unknown("x"), sweep()[0])
    assert "guidance unknown -> 1, steps unknown -> 10" in heads(found)[2]
