"""Skewed scores of unequal spread, where sign flips alone tell too many equal runs apart."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from t2i_track.ranking.separation import separations
from t2i_track.ranking.skewness import medians, resampled, skewed
from t2i_track.ranking.student import student_quantile, student_two_sided

Columns = NDArray[np.float64]


def world(kind: str, runs: int, prompts: int, seed: int) -> Columns:
    """Runs of equal means over shared prompts, of unequal spread."""
    rng = np.random.default_rng(seed)
    own = {
        "normal": rng.normal,
        "heavy tails": lambda size: rng.standard_t(3, size=size),
        "skewed": lambda size: rng.exponential(size=size) - 1,
        "skewed the other way": lambda size: 1 - rng.exponential(size=size),
    }[kind](size=(runs, prompts))
    return np.asarray(rng.normal(size=prompts) + np.linspace(0.3, 1.2, runs)[:, None] * own)


@pytest.mark.parametrize("kind", ["skewed", "skewed the other way"])
def test_equal_runs_of_skewed_scores_are_rarely_separated(kind: str) -> None:
    trials = 40
    found = [separations(world(kind, 36, 32, seed)) for seed in range(trials)]
    false = np.mean([p is not None and np.nanmin(p) <= 0.05 for p in found])
    assert false <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / trials)


@pytest.mark.parametrize(
    ("kind", "least", "most"),
    [("normal", 0.0, 0.15), ("heavy tails", 0.0, 0.15), ("skewed", 0.9, 1.0), ("skewed the other way", 0.9, 1.0)],
)
@pytest.mark.parametrize(("runs", "prompts"), [(9, 32), (36, 128)])
def test_skewness_is_seen_and_heavy_tails_are_not_taken_for_it(
    kind: str, least: float, most: float, runs: int, prompts: int
) -> None:
    assert least <= np.mean([skewed(world(kind, runs, prompts, seed)) for seed in range(60)]) <= most


def test_one_skewed_run_of_two_is_seen() -> None:
    columns = world("normal", 2, 256, 0)
    columns[1] = np.random.default_rng(1).exponential(size=256) ** 2
    assert skewed(columns)


def test_runs_without_anything_of_their_own_are_not_skewed() -> None:
    assert not skewed(np.tile(np.arange(8.0), (3, 1)))


def test_resampling_is_that_of_prompts_with_replacement() -> None:
    columns, seed = world("skewed", 4, 12, 0), 7
    counts = np.random.default_rng(seed).multinomial(12, np.full(12, 1 / 12), 5)
    (means, squares), *rest = resampled(columns, 5, seed)
    assert not rest
    for draw, times in enumerate(counts):
        drawn = np.repeat(columns, times, axis=1) - columns.mean(axis=1, keepdims=True)
        for i in range(4):
            for j in range(4):
                gaps = drawn[i] - drawn[j]
                assert means[draw, i] - means[draw, j] == pytest.approx(gaps.mean())
                assert squares[draw, i, j] == pytest.approx((gaps**2).mean(), abs=1e-12)


def test_resampling_is_the_same_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = world("skewed", 4, 12, 0)
    ((whole, _),) = resampled(columns, 20, 3)
    monkeypatch.setattr("t2i_track.ranking.skewness.PART", 4 * 12 * 3)
    parts = [means for means, _ in resampled(columns, 20, 3)]
    assert len(parts) == 7
    assert np.concatenate(parts) == pytest.approx(whole)


def test_few_pictures_that_all_differ_one_way_are_still_told_apart() -> None:
    """Right or wrong: 10 of 128 prompts fail in B alone. Resampled, they say less than they do."""
    a = np.ones(128)
    b = a.copy()
    b[:10] = 0.0
    found = separations(np.stack([a, b]), share=True)
    assert found is not None
    assert found[0, 1] == pytest.approx(2 * 0.5**10, abs=0.003)


@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_medians_are_those_of_numpy(size: int) -> None:
    rows = np.random.default_rng(size).normal(size=(4, size))
    assert medians(rows).tolist() == np.median(rows, axis=1).tolist()


@pytest.mark.parametrize("freedom", [1, 2, 7, 31, 2047])
def test_a_quantile_of_student_is_undone_by_its_tail(freedom: int) -> None:
    assert float(student_two_sided(student_quantile(0.95, freedom), freedom)) == pytest.approx(0.05, abs=1e-12)
