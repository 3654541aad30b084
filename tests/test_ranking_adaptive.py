"""What is decided after each round, on scores that are made up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from t2i_track.ranking.adaptive import Course, Rule, decisions, images_made, more_prompts, replay
from t2i_track.ranking.evidence import Distances, Means, doubling, enough
from t2i_track.ranking.search import Search, generations, middle
from t2i_track.ranking.sequential import LEAST

LOOKS = doubling(32, 1024, 32)
MARGIN = 0.1


def scores(means: list[float], n: int = 1024, seed: int = 1, spread: float = 0.3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.asarray(rng.normal(size=n) + spread * rng.normal(size=(len(means), n)) + np.array(means)[:, None])


def rule(settings: int, looks: tuple[int, ...] = LOOKS) -> Rule:
    return Rule(MARGIN, looks, (1 / settings,) * settings)


def run(columns: np.ndarray, have: list[int] | None = None, **more: object) -> Course:
    held = columns.copy()
    for k, looks in enumerate(have or []):
        held[k, LOOKS[looks - 1] if looks else 0 :] = np.nan
    settings = len(columns)
    return replay(Means(held, MARGIN, LOOKS), rule(settings), have or [len(LOOKS)] * settings, range(settings), **more)  # type: ignore[arg-type]


def test_the_worse_leave_and_the_equal_stay() -> None:
    course = run(scores([0.0, 0.0, -0.3, -2.0]))
    assert course.states == ("as good", "as good", "out", "out")
    assert course.ended == "decided"
    done = [LOOKS[looks - 1] for looks in course.done]
    assert done[3] == 32  # plainly worse: after the first look
    assert done[3] < done[2] < done[0] < 1024


def test_nothing_is_read_that_was_not_made_when_it_was_decided() -> None:
    """A decision is a function of the first prompts alone: what comes later, or of whom has left, changes none."""
    columns = scores([0.0, 0.0, -0.3, -2.0])
    whole = run(columns)
    held = columns.copy()
    for k, looks in enumerate(whole.done):
        held[k, LOOKS[looks - 1] :] = np.nan
    again = replay(Means(held, MARGIN, LOOKS), rule(4), [len(LOOKS)] * 4, range(4))
    assert [look.states for look in again.looks] == [look.states for look in whole.looks]
    assert again.done == whole.done


def test_a_sweep_that_is_stopped_after_every_round_decides_the_same() -> None:
    columns, have, rounds = scores([0.0, -0.05, -0.3, -2.0]), [0, 0, 0, 0], 0
    while (course := run(columns, have)).ended == "open":
        rounds += 1
        for k in course.wanted:
            have[k] += 1
            assert LOOKS[have[k] - 1] == course.prompts
    whole = run(columns)
    assert [look.states for look in course.looks] == [look.states for look in whole.looks]
    assert course.done == whole.done == tuple(have)
    assert rounds > 3


def test_a_budget_ends_it_with_what_is_undecided() -> None:
    columns = scores([0.0, 0.0, -2.0])

    def affordable(done: object, wanted: object, look: int) -> bool:
        return look < 2

    course = run(columns, affordable=affordable)
    assert course.ended == "budget"
    assert course.states == ("undecided", "undecided", "out")
    assert images_made(course, [2 * n for n in LOOKS]).tolist() == [128, 128, 64]
    more = more_prompts(Means(columns, MARGIN, LOOKS), rule(3), course, 0)
    assert more is not None
    assert 100 < more < 2048


def test_all_images_end_it_too() -> None:
    course = run(scores([0.0, -MARGIN]))
    assert course.ended == "all images"
    assert course.states[1] == "undecided"


def test_shown_limits_are_those_that_decided() -> None:
    columns = scores([0.0, 0.0, -0.3, -2.0])
    evidence, course = Means(columns, MARGIN, LOOKS), run(columns)
    for look in course.looks:
        for one in decisions(evidence, rule(4), course, look):
            assert one.state == look.states[one.setting]
            assert (one.gap.low >= MARGIN) == (one.state == "out")
            assert (one.gap.high <= MARGIN) == (one.state == "as good")
            assert one.gap.low <= one.gap.high


def test_the_last_one_left_is_as_good() -> None:
    course = run(scores([0.0, -2.0, -2.0]))
    assert course.states == ("as good", "out", "out")


def test_shares_are_not_as_good_before_they_can_be() -> None:
    """Two settings that are right in each of 256 prompts may differ in 2 % of all others: no spread shows nothing."""
    looks = doubling(32, 1024, 32)
    course = replay(
        Means(np.ones((2, 1024)), 0.02, looks, span=1.0), Rule(0.02, looks, (0.5, 0.5)), [len(looks)] * 2, range(2)
    )
    assert course.states == ("as good", "as good")
    assert 192 < looks[course.done[0] - 1] < 384


@pytest.mark.parametrize("room", [0.5, 0.3, 0.2, 0.1, 0.01])
def test_the_prompts_that_would_decide_are_found_however_few_they_are(room: float) -> None:
    found = enough(lambda prompts: 1.3 / prompts**0.5, room)
    exact = (1.3 / room) ** 2
    assert max(exact, LEAST) <= found <= max(exact, LEAST) * 1.01 + 2


def test_distances_are_looked_at_when_planned_and_not_before_they_have_values() -> None:
    rng, looks = np.random.default_rng(0), (64, 128, 256)
    columns = rng.normal(size=(3, 2, 32)) * 0.1
    columns[:, 1] -= 5.0
    columns[0] = np.nan  # below FID's gate
    course = replay(Distances(columns, 0.5, looks), Rule(0.5, looks, (0.5, 0.5)), [3, 3], range(2))
    assert [look.states for look in course.looks] == [("undecided", "undecided"), ("as good", "out")]


def test_allowances_add_up_to_what_may_be_spent() -> None:
    own = Rule(MARGIN, LOOKS, (0.25,) * 4)
    none = np.zeros(4, dtype=bool)
    out = own.out(none)
    assert out[~np.eye(4, dtype=bool)].sum() == pytest.approx(0.025)
    assert own.good(none)[0, 1:].sum() == pytest.approx(0.025)  # one of them is the best
    gone = np.array([True, False, False, False])
    assert own.out(gone)[0, 1] == pytest.approx(out[0, 1] * 4 / 3)


def test_bisection_keeps_to_the_resolution() -> None:
    assert middle(1, 2, 0.5) == 1.5
    assert middle(5, 7.5, 0.5) == 6
    assert middle(1, 1.5, 0.5) is None
    assert generations([8, 15, 30], 5) == {8: 0, 15: 0, 30: 0, 10: 1, 20: 1, 25: 2}


def test_what_a_search_may_add_shares_no_more_than_there_is() -> None:
    grid = tuple(((value,), 0) for value in (1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 12.0, 20.0))
    search = Search((0.5,), grid)
    every = [((value,), 0) for value in generations([point[0] for point, _ in grid], 0.5)]
    assert search.size == len(every) == 39
    assert 0.9 < sum(search.weight(key) for key in every) <= 1
    assert search.beside(((3.0,), 0), dict.fromkeys(grid)) == [((2.5,), 0), ((4.0,), 0)]
    assert search.beside(((20.0,), 0), dict.fromkeys(grid)) == [((16.0,), 0)]


POINTS = [1.0, 3.0, 5.0, 2.0, 4.0]
SEARCH = Search((1.0,), tuple(((value,), 0) for value in POINTS[:3]))


def searched(means: list[float], have: list[int] | None = None, dead: tuple[int, ...] = ()) -> Course:
    """The first three points are the grid; the others are there if they are asked for."""
    keys = [((value,), 0) for value in POINTS]

    def refine(states: Sequence[object], best: int) -> list[int | None]:
        there = {keys[k]: None for k, state in enumerate(states) if state is not None}
        return [keys.index(key) for key in SEARCH.beside(keys[best], there)]

    own = Rule(MARGIN, LOOKS, tuple(SEARCH.weight(key) for key in keys), growing=True)
    columns = scores(means)
    return replay(Means(columns, MARGIN, LOOKS), own, have or [len(LOOKS)] * 5, range(3), refine=refine, dead=dead)


def test_a_search_adds_beside_the_best_until_there_is_nothing_between() -> None:
    """The best of 1, 3, 5 is 3; what is truly best, 4, is found between."""
    course = searched([-abs(value - 3.9) for value in POINTS])
    assert course.ended == "decided"
    assert course.states == ("out", "out", "out", "out", "as good")


def test_one_that_cannot_be_decided_holds_up_no_search() -> None:
    """5 is worse than 3 by exactly the margin."""
    course = searched([-2.0, 0.0, -MARGIN, -2.0, 0.5])
    assert course.states == ("out", "out", "out", "out", "as good")
    first = searched([-2.0, 0.0, -MARGIN, -2.0, -2.0])
    assert first.ended == "all images"
    assert first.states == ("out", "as good", "undecided", "out", "out")


def test_a_setting_that_failed_is_not_asked_for_again() -> None:
    course = searched([-abs(value - 3.9) for value in POINTS], have=[len(LOOKS)] * 4 + [0], dead=(4,))
    assert course.ended == "decided"
    assert course.states == ("out", "as good", "out", "out", None)
