"""What costs less: work that is counted before time that is measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ranking_rows import constant, run

from t2i_track.ranking import RunRow, compare
from t2i_track.ranking.cost import SEVERAL, Cost, cheaper_than, cheapest, cost_of_each, same_as, saving


def cost(rows: list[RunRow], name: str) -> Cost:
    return cost_of_each(rows)[next(row.run for row in rows if row.name == name)]


def frontier(rows: list[RunRow]) -> set[str]:
    """Runs on the frontier of alignment and cost."""
    found = compare(rows, "alignment").frontier
    assert found is not None
    assert found.objectives == ("alignment", "cost")
    return {row.name for row in rows if row.run in found.runs}


def scored(name: str, alignment: float, **fields: Any) -> RunRow:
    return run(name, {"alignment": constant("alignment", alignment)}, **fields)


@pytest.mark.parametrize(
    ("settings", "passes"),
    [
        ({"scheduler": "ddim", "guidance": 1.0}, 30),
        ({"scheduler": "ddim"}, 60),
        ({"scheduler": "pndm"}, 62),
        ({"scheduler": "heun"}, 118),
        ({"scheduler": "heun", "guidance": 0.0, "steps": 1}, 1),
        ({"scheduler": "of another version"}, 60),
    ],
)
def test_passes_of_the_network(settings: dict[str, Any], passes: int) -> None:
    row = run("a", **settings)
    assert (row.passes, cost([row], "a").passes) == (passes, passes)


@pytest.mark.parametrize(
    "settings",
    [
        {"seed": 7},
        {"guidance": 12.0},
        {"negative_prompt": "blurred"},
        {"scheduler": "ddim", "steps": 31},  # pndm calls the network once more than its steps
        {"scheduler": "euler", "guidance": 1.0, "steps": 62},
        {"height": 64, "width": 16},
    ],
)
def test_equal_work_costs_the_same_whatever_a_clock_said(settings: dict[str, Any]) -> None:
    """The same setting took 0.06 s and 0.8 s an image in two sweeps."""
    rows = [scored("slow", 0.9, seconds_per_image=0.8), scored("fast", 0.8, seconds_per_image=0.06, **settings)]
    slow, fast = cost(rows, "slow"), cost(rows, "fast")
    assert slow.same(fast)
    assert not fast.cheaper(slow)
    assert saving(fast, slow) is None
    assert cheapest([slow, fast]) == [0, 1]
    assert frontier(rows) == {"slow"}


@pytest.mark.parametrize("settings", [{"steps": 31}, {"scheduler": "heun"}, {"height": 64}])
@pytest.mark.parametrize("timings", [1, SEVERAL])
def test_more_work_is_never_cheaper_by_noise(settings: dict[str, Any], timings: int) -> None:
    rows = [scored(f"less{n}", 0.8, seed=n, seconds_per_image=0.8) for n in range(timings)]
    rows += [scored(f"more{n}", 0.8, seed=n, seconds_per_image=0.06, **settings) for n in range(timings)]
    less, more = cost(rows, "less0"), cost(rows, "more0")
    assert less.cheaper(more)
    assert not more.cheaper(less)
    assert frontier(rows) == {f"less{n}" for n in range(timings)}


def kinds(first: list[float], second: list[float], **settings: Any) -> list[RunRow]:
    rows = [scored(f"a{n}", 0.8, seed=n, seconds_per_image=seconds) for n, seconds in enumerate(first)]
    return rows + [
        scored(f"b{n}", 0.8, seed=n, seconds_per_image=seconds, **settings) for n, seconds in enumerate(second)
    ]


OTHER = pytest.mark.parametrize(
    "settings", [{"dtype": "fp16"}, {"device": "cuda"}, {"batch_size": 32}, {"model": "b"}, {"lora": "x.safetensors"}]
)


@OTHER
def test_of_another_kind_several_timings_decide(settings: dict[str, Any]) -> None:
    rows = kinds([0.30, 0.33, 0.36, 0.31], [0.10, 0.12, 0.29, 0.11], **settings)
    slow, fast = cost(rows, "a0"), cost(rows, "b0")
    assert fast.cheaper(slow)
    assert not slow.cheaper(fast)
    assert frontier(rows) == {"b0", "b1", "b2", "b3"}


@OTHER
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([0.30], [0.01]),
        ([0.30, 0.31, 0.32], [0.01, 0.01, 0.01]),
        ([0.30, 0.31, 0.32, 0.33], [0.01]),
        ([0.30, 0.31, 0.32, 0.33], [0.01, 0.01, 0.01, 0.31]),
    ],
)
def test_few_or_noisy_timings_of_another_kind_decide_nothing(
    settings: dict[str, Any], first: list[float], second: list[float]
) -> None:
    rows = kinds(first, second, **settings)
    a, b = cost(rows, "a0"), cost(rows, "b0")
    assert (a.cheaper(b), b.cheaper(a), a.same(b)) == (False, False, False)
    assert frontier(rows) == {row.name for row in rows}


def test_timings_of_a_kind_are_brought_to_the_same_work() -> None:
    """Four runs of different steps time a pass; the other kind is faster in a pass and slower in its run."""
    rows = [scored(f"a{n}", 0.8, steps=n, scheduler="ddim", seconds_per_image=0.01 * n) for n in (10, 11, 12, 13)]
    rows += [
        scored(f"b{n}", 0.8, steps=n, scheduler="ddim", seconds_per_image=0.004 * n, dtype="fp16")
        for n in (20, 21, 22, 100)
    ]
    assert cost(rows, "b20").cheaper(cost(rows, "a10"))
    assert cost(rows, "a10").cheaper(cost(rows, "b100"))
    assert saving(cost(rows, "b20"), cost(rows, "a10")) == "at least 20% less time"


def test_the_spread_of_timings_is_told() -> None:
    rows = [
        run("a", seconds_per_image=0.8), run("b", seed=1, seconds_per_image=0.06), run("once", steps=9),
        run("untimed", steps=8, seconds_per_image=None),
    ]  # fmt: skip
    found = cost(rows, "a")
    assert (found.timings, found.seconds, found.low, found.high) == (2, pytest.approx(0.43), 0.06, 0.8)
    assert str(found) == "62 passes of the network (0.43 s an image, 0.06 to 0.8 in 2 timings)"
    assert str(cost(rows, "once")) == "20 passes of the network (0.3 s an image, timed once)"
    assert str(cost(rows, "untimed")) == "18 passes of the network"


def test_a_saving_in_words() -> None:
    rows = [run("a"), run("b", steps=15), run("small", steps=15, height=16)]
    assert saving(cost(rows, "b"), cost(rows, "a")) == "48% fewer passes of the network"
    assert saving(cost(rows, "small"), cost(rows, "a")) == "74% fewer passes times pixels"
    assert saving(cost(rows, "a"), cost(rows, "b")) is None


@pytest.mark.parametrize(("images", "seconds"), [(1, 0.1), (4, 0.4), (8, 0.8), (12, 0.6), (0, 0.8)])
def test_a_short_batch_is_timed_as_a_full_one(images: int, seconds: float) -> None:
    """It is padded, so a run of one image of eight a batch took eight times as long for it."""
    assert cost([run("a", images=images, batch_size=8, seconds_per_image=0.8)], "a").seconds == pytest.approx(seconds)


def test_an_untimed_run_has_a_cost() -> None:
    rows = [scored("a", 0.8, seconds_per_image=None), scored("b", 0.8, steps=15, seconds_per_image=None)]
    assert frontier(rows) == {"b"}


@given(
    st.lists(
        st.tuples(st.sampled_from(["x", "y", "z"]), st.integers(1, 4), st.floats(0.01, 10)), min_size=1, max_size=24
    )
)
def test_something_is_always_cheapest(drawn: list[tuple[str, int, float]]) -> None:
    """Counts and timings together make no circle, whatever a clock said."""
    rows = [
        run(f"r{n}", device=device, steps=steps, scheduler="ddim", seconds_per_image=seconds)
        for n, (device, steps, seconds) in enumerate(drawn)
    ]
    found = list(cost_of_each(rows).values())
    less, same = cheaper_than(found), same_as(found)
    assert cheapest(found)
    assert not (less & less.T).any()
    assert not (less & same).any()
    reach = np.linalg.matrix_power(less.astype(int) + np.eye(len(found), dtype=int), len(found)) > 0
    assert not (reach & less.T).any(), "no way back from what is cheaper"
