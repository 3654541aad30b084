"""All pairs at once: never more false separations than promised, and more true ones than Holm's method finds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from t2i_track.metrics.scores import fid
from t2i_track.metrics.uncertainty import GROUPS, distance_interval, paired_difference
from t2i_track.ranking.differences import _paired_p_values, difference, holm_pairs, told_apart
from t2i_track.ranking.rows import Score
from t2i_track.ranking.separation import DRAWS, SEED, draws_for, separations, simultaneous_reach, tiers


def world(kind: str, runs: int, prompts: int, seed: int) -> NDArray[np.float64]:
    """Runs of equal means over shared prompts."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_t(3, size=(runs, prompts)) if kind == "heavy tails" else rng.normal(size=(runs, prompts))
    spread = np.linspace(0.3, 1.2, runs)[:, None] if kind == "unequal spreads" else 0.5
    return np.asarray(rng.normal(size=prompts) + spread * noise)


@pytest.mark.parametrize("kind", ["equal", "unequal spreads", "heavy tails"])
def test_equal_runs_are_rarely_separated(kind: str) -> None:
    """The benchmark has more worlds and trials."""
    trials = 150
    found = [separations(world(kind, 9, 64, seed)) for seed in range(trials)]
    false = np.mean([p is not None and np.nanmin(p) <= 0.05 for p in found])
    assert false <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / trials)


def test_more_worse_runs_are_found_than_by_holm_over_groups() -> None:
    """Eight equal runs worse than one: a number a prompt and sign flips, against 32 groups and Holm."""
    new = old = 0
    for seed in range(60):
        columns = world("equal", 9, 128, seed)
        columns[1:] -= 0.13
        p = separations(columns)
        assert p is not None
        new += int((p[0, 1:] <= 0.05).sum())
        grouped = np.stack([columns[:, np.arange(128) % GROUPS == g].mean(axis=1) for g in range(GROUPS)], axis=1)
        old += int((holm_pairs(_paired_p_values(grouped))[0, 1:] <= 0.05).sum())
    assert new >= 1.3 * old


def studentised(columns: NDArray[np.float64], signs: NDArray[np.float64]) -> NDArray[np.float64]:
    """|t| of each row under each draw of signs, by its definition (draws, rows)."""
    flipped = columns[None, :, :] * signs[:, None, :]
    error = flipped.std(axis=2, ddof=1) / np.sqrt(columns.shape[1])
    with np.errstate(divide="ignore"):
        return np.asarray(np.abs(flipped.mean(axis=2)) / error)


@pytest.mark.parametrize("kind", ["equal", "unequal spreads", "heavy tails"])
@pytest.mark.parametrize("prompts", [8, 33])
def test_p_values_and_reach_are_those_of_studentised_differences(kind: str, prompts: int) -> None:
    """The formulas order the draws by a simpler number that grows with |t|; here each draw is studentised itself."""
    columns = world(kind, 5, prompts, prompts)
    signs = np.random.default_rng(SEED).integers(0, 2, (DRAWS, prompts)) * 2.0 - 1.0
    low, high = np.triu_indices(5, 1)
    gaps = columns[high] - columns[low]
    observed = studentised(gaps, np.ones((1, prompts)))[0]
    drawn, p, largest = studentised(gaps, signs), np.ones(len(low)), 0.0
    order = np.argsort(-observed)
    for place, pair in enumerate(order):
        below = drawn[:, order[place:]].max(axis=1)
        largest = max(largest, float((1 + (below >= observed[pair] * (1 - 1e-9)).sum()) / (DRAWS + 1)))
        p[pair] = largest
    found = separations(columns)
    assert found is not None
    assert found[low, high] == pytest.approx(p)
    centred = columns - columns.mean(axis=1, keepdims=True)
    most = np.sort(studentised(centred, signs).max(axis=1))
    assert simultaneous_reach(columns, 0.95) == pytest.approx(most[int(np.ceil(0.95 * (DRAWS + 1))) - 1])


def test_a_tier_is_the_first_of_which_no_member_can_be_told() -> None:
    rng = np.random.default_rng(0)
    for trial in range(100):
        runs = int(rng.integers(2, 20))
        p = np.triu(rng.random((runs, runs)) ** 3, 1)
        p += p.T
        p[np.arange(runs), np.arange(runs)] = np.nan
        if trial % 3 == 0:  # a run of which nothing is known
            p[0] = p[:, 0] = np.nan
        found: list[int | None] = []
        for run in range(runs):
            told = {found[other] for other in range(run) if p[run, other] <= 0.05}
            open_tiers = (tier for tier in range(1, runs + 1) if tier not in told)
            found.append(None if np.isnan(p[run]).all() else next(open_tiers))
        assert tiers(p, 0.05) == found


def test_p_values_are_never_zero_and_symmetric() -> None:
    columns = world("equal", 4, 64, 1)
    columns[3] += 100
    p = separations(columns)
    assert p is not None
    assert np.nanmin(p) == pytest.approx(1 / (DRAWS + 1))
    assert np.array_equal(p, p.T, equal_nan=True)
    assert np.isnan(np.diagonal(p)).all()


def test_no_pair_is_told_apart_whose_own_interval_holds_0() -> None:
    for seed in range(40):
        columns = world("equal", 3, 24, seed)
        columns[0] += 0.3
        single = _paired_p_values(columns)
        assert np.nanmin(told_apart(columns) - single) >= 0


def test_a_constant_difference_is_sure() -> None:
    column = world("equal", 1, 64, 1)[0]
    p = separations(np.stack([column, column + 1.0]))
    assert p is not None
    assert p[0, 1] <= 0.001


def test_too_many_runs_are_left_to_others() -> None:
    assert draws_for(2) == draws_for(9) == DRAWS
    assert draws_for(1000) == 0
    assert separations(np.zeros((1000, 8))) is None


def test_no_two_runs_of_a_tier_can_be_told_apart() -> None:
    p = np.array(
        [[np.nan, 0.5, 0.5, 0.01], [0.5, np.nan, 0.02, 0.5], [0.5, 0.02, np.nan, 0.5], [0.01, 0.5, 0.5, np.nan]]
    )
    assert tiers(p, 0.05) == [1, 1, 2, 2]
    assert tiers(np.full((2, 2), np.nan), 0.05) == [None, None]
    assert tiers(np.full((1, 1), np.nan), 0.05) == [1]


def test_the_best_of_nine_is_held_by_the_wider_interval() -> None:
    naive = wide = 0
    for seed in range(300):
        columns = world("equal", 9, 64, seed)
        best = int(columns.mean(axis=1).argmax())
        error = columns[best].std(ddof=1) / 8.0
        naive += abs(columns[best].mean()) <= 2.0 * error
        wide += abs(columns[best].mean()) <= simultaneous_reach(columns, 0.95) * error
    assert wide / 300 >= 0.92
    assert wide >= naive
    assert simultaneous_reach(world("equal", 9, 64, 1), 0.95) <= 1.6 * 2.0


def score(features: NDArray[np.float64], reference: Any) -> Score:
    groups = np.arange(len(features)) % GROUPS
    value, replicates = fid.fid(features, groups, reference)
    interval, note = distance_interval(value, replicates, len(features), fid.effective_dimension(reference))
    return Score("fid", value, interval.low, interval.high, len(features), replicates=tuple(replicates), note=note)


@pytest.mark.parametrize(("true_b", "number"), [(8.0, 256), (10.0, 64)])
def test_less_diverse_pictures_win_nothing_by_their_bias(true_b: float, number: int) -> None:
    """B's pictures have 0.7 of A's spread, and A's true FID is 8.

    Plain paired differences call B better where the two are equal, and even where B is worse.
    """
    size, trials = 64, 16
    reference = fid.gaussian(np.zeros(size), np.eye(size))
    plain = corrected = 0
    for seed in range(trials):
        rng = np.random.default_rng(seed)
        prompts = rng.normal(size=(number, size))
        pair = []
        for scale, true in ((1.0, 8.0), (0.7, true_b)):
            pictures = scale * (0.7**0.5 * prompts + 0.3**0.5 * rng.normal(size=(number, size)))
            pictures[:, 0] += np.sqrt(true - size * (1 - scale) ** 2)
            pair.append(score(pictures, reference))
        a, b = pair
        assert a.replicates is not None
        assert b.replicates is not None
        old, new = paired_difference(b.value, b.replicates, a.value, a.replicates), difference(b, a, 0.95)
        plain += old.high is not None and old.high < 0
        corrected += new.high is not None and new.low is not None and (new.high < 0 or new.low > 0)
        if number < 4 * size:
            assert new.low is None
    assert plain >= 0.8 * trials
    assert corrected <= 0.2 * trials
