"""Time from the rates of stored runs, and what a dry run says of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import delete
from sqlalchemy.orm import Session
from stored_scores import store_run

from t2i_track.cli.ended import expected
from t2i_track.db import lineage
from t2i_track.db.models import Image, Run
from t2i_track.runs.rates import NEWEST, START, Range, Rates, Total
from t2i_track.settings import Settings

SIZE = {"height": 64, "width": 64, "dtype": "fp32", "device": "cpu"}
PASSES = 2 * (10 + 1)
"""Of the stored runs: guidance on, ten steps of pndm."""


def timed(session: Session, name: str, batches: Sequence[tuple[int, float]], **changes: Any) -> Run:
    """A run of such batches, each of so many images and seconds; batches of four."""
    run = store_run(session, name, batch_size=4, **changes)
    remove_images(session, run)
    sizes = [(images, seconds / images) for images, seconds in batches]
    shares = [share for images, share in sizes for _ in range(images)]
    records = [
        {
            "prompt": "a red circle", "prompt_index": place, "replicate": 0, "seed": place, "path": f"{name}-{place}",
            "sha256": "0" * 64, "pixels_sha256": "0" * 64, "width": 64, "height": 64, "tokens": 5, "truncated": False,
            "flagged": False, "seconds": share,
        }
        for place, share in enumerate(shares)
    ]  # fmt: skip
    lineage.add_images(session, run.id, lineage.store_prompts(session, ["a red circle"]), records)
    run.seconds_per_image = sum(shares) / len(shares)
    session.flush()
    return run


def remove_images(session: Session, run: Run) -> None:
    session.execute(delete(Image).where(Image.run_id == run.id))


def settings(**changes: Any) -> Settings:
    return Settings(**{"guidance": 3.0, "steps": 10, "scheduler": "pndm", "batch_size": 4, **changes})


def seconds(found: Range | None) -> tuple[float, float, float, int]:
    assert found is not None
    return found.low, found.mean, found.high, found.runs


def test_one_run_gives_the_range_of_its_batches(session: Session) -> None:
    """The images of a batch share its time, and the short last one costs as much as a full one."""
    timed(session, "a", [(4, 8.0), (4, 4.0), (1, 6.0)])
    assert seconds(Rates(session).image(settings())) == pytest.approx((1.0, 1.5, 2.0, 1))
    assert seconds(Rates(session).pictures(settings(), 9)) == pytest.approx((12.0, 18.0, 24.0, 1))


def test_several_runs_give_the_range_of_their_means(session: Session) -> None:
    timed(session, "fast", [(4, 4.0), (4, 4.4)])
    timed(session, "slow", [(4, 40.0), (2, 44.0)], guidance=12.0, base_seed=9)
    assert seconds(Rates(session).image(settings())) == pytest.approx((1.05, 5.775, 10.5, 2))


@pytest.mark.parametrize(
    ("changes", "passes"),
    [
        ({"steps": 20}, 2 * 21),
        ({"guidance": 1.0}, 11),
        ({"scheduler": "heun"}, 2 * 19),
        ({"scheduler": "euler-a", "steps": 22, "guidance": 0.0}, 22),
        ({"eta": 1.0, "scheduler": "ddim"}, 20),
    ],
)
def test_a_rate_is_scaled_by_the_passes_of_the_network(session: Session, changes: dict[str, Any], passes: int) -> None:
    timed(session, "a", [(4, 4.0)])
    _, mean, _, runs = seconds(Rates(session).image(settings(**changes)))
    assert (mean, runs) == (pytest.approx(passes / PASSES), 1)


@pytest.mark.parametrize(
    "changes",
    [{"height": 128}, {"dtype": "fp16"}, {"device": "cuda"}, {"batch_size": 8}, {"model": "other"}, {"lora": "a"}],
)
def test_of_other_work_nothing_is_known(session: Session, changes: dict[str, Any]) -> None:
    timed(session, "a", [(4, 4.0)])
    rates = Rates(session)
    assert rates.image(settings(**changes)) is None
    assert rates.image(settings(**SIZE)) is not None


def test_an_open_choice_is_as_the_newest_run_had_it(session: Session) -> None:
    timed(session, "old", [(4, 40.0)], device="cpu")
    timed(session, "new", [(4, 4.0)], device="cuda")
    rates = Rates(session)
    assert seconds(rates.image(settings())) == pytest.approx((1.0, 1.0, 1.0, 1))
    assert seconds(rates.image(settings(device="cpu"))) == pytest.approx((10.0, 10.0, 10.0, 1))


def test_only_the_newest_runs_count(session: Session) -> None:
    for number in range(NEWEST + 1):
        timed(session, f"run-{number}", [(4, 4.0 if number else 400.0)])
    assert seconds(Rates(session).image(settings())) == pytest.approx((1.0, 1.0, 1.0, NEWEST))


def test_a_run_whose_images_are_gone_has_its_mean(session: Session) -> None:
    run = timed(session, "a", [(4, 8.0), (4, 4.0)])
    remove_images(session, run)
    assert seconds(Rates(session).image(settings())) == pytest.approx((1.5, 1.5, 1.5, 1))


def test_a_run_that_was_never_timed_says_nothing(session: Session) -> None:
    run = timed(session, "a", [(4, 8.0)])
    run.seconds_per_image = None
    session.flush()
    assert Rates(session).image(settings()) is None


def test_a_total_counts_each_model_once(session: Session) -> None:
    timed(session, "a", [(4, 4.0)], config={"cost": {START: 7.0}})
    timed(session, "b", [(4, 4.0)], config={"cost": {START: 9.0}}, height=128)
    timed(session, "c", [(4, 4.0)])
    rates = Rates(session)
    assert seconds(rates.start(settings())) == (7.0, 8.0, 9.0, 2), "the size of the pictures does not change it"
    total = rates.total([(settings(height=64), 4), (settings(height=64, steps=21), 5), (settings(), 0)])
    assert seconds(total.pictures) == pytest.approx((20.0, 20.0, 20.0, 2))
    assert seconds(total.seconds) == pytest.approx((27.0, 28.0, 29.0, 2))
    assert total.unknown == 0


def test_a_total_says_of_what_nothing_is_known(session: Session) -> None:
    timed(session, "a", [(4, 4.0)])
    rates = Rates(session)
    total = rates.total([(settings(), 4), (settings(height=512), 4)])
    assert (seconds(total.pictures)[1], total.start, total.unknown) == (pytest.approx(4.0), None, 1)
    assert rates.total([(settings(height=512), 4)]) == Total(None, None, 1)
    assert rates.total([]).seconds is None


A = Range(12.04, 20.0, 64.0, 9)


@pytest.mark.parametrize(
    ("total", "text"),
    [
        (
            Total(A, Range(1.0, 2.0, 3.0, 2), 0),
            "13.0 s to 1 min 7 s with the start, as 9 runs were timed (the start: 2)",
        ),
        (
            Total(A, None, 0),
            "12.0 s to 1 min 4 s without the start, which has not been timed yet, as 9 runs were timed",
        ),
        (
            Total(Range(1.0, 1.0, 1.0, 1), Range(1.0, 1.0, 1.0, 1), 2),
            "about 2.0 s with the start, as 1 run was timed (the start: 1); not counting 2 of the cells: no run of this"
            " model, size and batch size has been timed here yet",
        ),
        (
            Total(None, None, 3),
            "no time estimate: no run of this model, size and batch size has been timed here yet",
        ),
    ],
)
def test_a_total_in_words(total: Total, text: str) -> None:
    assert expected(total) == text
