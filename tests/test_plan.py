from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from ranking_rows import PROMPTS, constant, mean_score, noise, run

import t2i_track
from t2i_track.cli import cli
from t2i_track.errors import CompareError
from t2i_track.metrics.uncertainty import MIN_GROUPS
from t2i_track.ranking import RunRow, compare
from t2i_track.ranking.sample_size import Spread, difference_at, images_for, spread


def pilots(error: float = 0.3, number: int = 2) -> list[RunRow]:
    return [
        run(f"s{n}", {"clip_score": mean_score("clip_score", 20 + noise(0) + error * noise(1 + n))}, steps=10 * n)
        for n in range(1, number + 1)
    ]


def test_the_spread_is_that_of_paired_differences() -> None:
    found = spread(pilots(), "clip_score")
    assert found.paired
    assert found.pilots == 2
    assert found.variance == pytest.approx(2 * 0.3**2, rel=0.3)


def test_one_pilot_is_taken_to_have_nothing_in_common_with_others() -> None:
    found = spread(pilots()[:1], "clip_score")
    assert not found.paired
    assert found.variance == pytest.approx(2 * (1 + 0.3**2), rel=0.3)


def test_images_and_difference_are_each_others_answer() -> None:
    known = Spread(0.18, 2, PROMPTS, True)
    size = images_for("clip_score", 0.1, 9, known)
    assert difference_at("clip_score", size.images, 9, known).difference == pytest.approx(0.1, rel=0.06)
    assert images_for("clip_score", 0.05, 9, known).images == pytest.approx(4 * size.images, rel=0.06)
    assert images_for("clip_score", 0.1, 2, known).images < size.images


def test_so_many_images_find_the_difference_as_often_as_was_promised() -> None:
    known = spread(pilots(number=4), "clip_score")
    images = images_for("clip_score", 0.08, 2, known).images
    found = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        gaps = 0.08 + 0.3 * np.sqrt(2) * rng.normal(size=images)
        found += abs(gaps.mean()) > 1.96 * gaps.std(ddof=1) / np.sqrt(images)
    assert 0.68 <= found / 200 <= 0.92


def test_it_agrees_with_what_compare_says_of_the_same_runs() -> None:
    rows = pilots(number=2)
    said = compare(rows, "clip_score").detectable
    assert said is not None
    planned = difference_at("clip_score", PROMPTS, 2, spread(rows, "clip_score"))
    assert planned.difference == pytest.approx(said.difference, rel=0.1)


@pytest.mark.parametrize("wanted", [0.0, -1.0, float("nan"), float("inf")])
def test_what_is_no_difference_is_refused(wanted: float) -> None:
    with pytest.raises(CompareError, match=r"--detect .* is no difference: give a number above 0"):
        images_for("clip_score", wanted, 2, Spread(1.0, 2, 64, True))


def test_a_share_has_no_difference_of_1() -> None:
    with pytest.raises(CompareError, match="give a number between 0 and 1, in units of alignment"):
        images_for("alignment", 5.0, 2, Spread(1.0, 2, 64, True))


def test_too_small_a_difference_and_too_few_images() -> None:
    known = Spread(1.0, 2, 64, True)
    with pytest.raises(CompareError, match="takes more than 1,000,000 images a run"):
        images_for("clip_score", 1e-6, 2, known)
    with pytest.raises(CompareError, match=f"--num 3 is too few .*: give {MIN_GROUPS} or more"):
        difference_at("clip_score", 3, 2, known)
    assert images_for("clip_score", 1e6, 2, known).images == MIN_GROUPS


def test_what_cannot_be_planned_by_is_said() -> None:
    same = mean_score("clip_score", 20 + noise(0))
    cases = [
        ([run("a")], "no finished run has clip_score to plan by"),
        ([run("a", {"clip_score": same}), run("b", {"clip_score": same})], "the 2 pilot runs do not differ"),
        ([run("a", {"clip_score": constant("clip_score", 1.0, note="too few")})], r"\(too few\): make one of more"),
    ]
    for rows, message in cases:
        with pytest.raises(CompareError, match=message):
            spread(rows, "clip_score")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--detect", "0.1"], "make a first run with 't2i generate'"),
        ([], "give one of --detect (a difference) and --num (images a run)"),
        (["--detect", "0.1", "--num", "64"], "give one of --detect (a difference) and --num (images a run)"),
        (["--num", "64", "--settings", "1"], "--settings 1 is out of range: give 2 to 10,000"),
        (["--num", "64", "--price", "-1"], "--price -1 is out of range: give 0 or more"),
        (["--num", "64", "--watts", "nan"], "--watts nan is out of range: give 0 or more"),
    ],
)
def test_wrong_numbers_are_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(cli, ["plan", *arguments, "--home", str(tmp_path / "home")])
    assert done.exit_code == 1
    assert message in str(done.exception)


@pytest.mark.slow
def test_a_sweep_is_planned_by_a_pilot(tmp_path: Path, tracking_uri: str) -> None:
    home = tmp_path / "home"
    for guidance in (1.0, 3.0):
        made = t2i_track.generate(
            guidance=guidance, steps=4, num=16, evaluate=False, home=home, tracking_uri=tracking_uri
        )
        t2i_track.evaluate(made.summary.run, metrics="alignment", home=home, tracking_uri=tracking_uri)
    found = t2i_track.plan(detect=0.05, by="alignment", price=3.6, watts=100, home=home)
    (row,) = found.rows()
    assert (row["settings"], row["pilots"]) == (2, 2)
    assert row["images"] == 2 * row["images_a_run"]
    assert found.money is not None
    assert found.money[0] == pytest.approx(row["seconds_low"] / 1000)
    assert row["kwh_high"] == pytest.approx(row["seconds_high"] * 100 / 3.6e6)
    fewer = t2i_track.plan(num=int(row["images_a_run"]), by="alignment", home=home)
    assert fewer.rows()[0]["difference"] == pytest.approx(0.05, rel=0.1)
