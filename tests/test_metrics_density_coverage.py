"""Density and coverage on plain arrays, against the definition over all pairs."""

from __future__ import annotations

import tracemalloc
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from t2i_track.errors import MetricError
from t2i_track.metrics.neighbours import radii
from t2i_track.metrics.prompts import GROUPS, Prompts
from t2i_track.metrics.scores.density_coverage import METRIC, NEIGHBOURS, density_coverage


def features(n: int, d: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(n, d)) * scale).astype(np.float32)


def groups(n: int) -> np.ndarray:
    return np.arange(n) % GROUPS


def measured(ours: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, float, list[float | None]]:
    return density_coverage(ours, theirs, groups(len(ours)), radii(theirs, NEIGHBOURS))


def by_definition(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """All distances at once, as in the authors' code."""
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    among = np.linalg.norm(theirs[:, None] - theirs[None], axis=-1)
    radius = np.sort(among, axis=1)[:, NEIGHBOURS]
    across = np.linalg.norm(theirs[:, None] - ours[None], axis=-1)
    density = (across < radius[:, None]).sum(axis=0).mean() / NEIGHBOURS
    return float(density), float((across.min(axis=1) < radius).mean())


@pytest.mark.parametrize(("n", "m"), [(60, 50), (1100, 300)], ids=["one block", "several blocks"])
def test_it_is_the_definition_over_all_pairs(n: int, m: int) -> None:
    ours, theirs = features(n, 5, 1, 0.8), features(m, 5, 2)
    densities, coverage, _ = measured(ours, theirs)
    assert (densities.mean(), coverage) == pytest.approx(by_definition(ours, theirs), rel=1e-12)


def test_replicates_are_those_of_the_rest() -> None:
    ours, theirs = features(70, 5, 1, 0.8), features(50, 5, 2)
    _, _, replicates = measured(ours, theirs)
    for group in range(GROUPS):
        assert replicates[group] == by_definition(ours[groups(70) != group], theirs)[1]


def test_the_reference_itself_is_all_covered() -> None:
    densities, coverage, _ = measured(features(200, 5), features(200, 5))
    assert coverage == 1.0
    assert densities.min() > 0


def test_images_of_one_kind_are_dense_but_cover_one_kind() -> None:
    theirs = np.concatenate([features(100, 3, 1), features(100, 3, 2) + 50])
    densities, coverage, _ = measured(features(300, 3, 3), theirs)
    assert densities.mean() == pytest.approx(1.0, abs=0.15)
    assert coverage == pytest.approx(0.5, abs=0.02)


def test_equal_distributions_have_a_density_of_1() -> None:
    densities, _, _ = measured(features(2000, 4, 1), features(500, 4, 2))
    assert densities.mean() == pytest.approx(1.0, abs=0.05)


def test_far_images_have_none() -> None:
    densities, coverage, replicates = measured(features(40, 4) + 100, features(50, 4))
    assert (densities.max(), coverage, set(replicates)) == (0.0, 0.0, {0.0})


def test_empty_groups_have_no_replicate() -> None:
    _, _, replicates = measured(features(10, 4), features(20, 4))
    assert [replicate is None for replicate in replicates] == [group >= 10 for group in range(GROUPS)]


def test_too_few_pictures() -> None:
    with pytest.raises(MetricError, match="more than 5 pictures, not 5"):
        measured(features(5, 4), features(5, 4))
    with pytest.raises(MetricError, match="at least 1 picture, not 0"):
        measured(features(0, 4), features(9, 4))


def test_what_it_declares() -> None:
    assert [(score.name, score.role) for score in METRIC.scores] == [("density", "quality"), ("coverage", "diversity")]
    assert METRIC.parameters == {"neighbours": 5, "version": 1}


@pytest.mark.parametrize(("prompts", "sound"), [(95, False), (96, True)])
def test_intervals_where_they_are_sound(prompts: int, sound: bool) -> None:
    ours, theirs = features(2 * prompts, 5, 1), features(50, 5, 2)
    indices = [i // 2 for i in range(2 * prompts)]
    m: Any = SimpleNamespace(
        images=ours,
        prompts=Prompts.of(list(map(str, indices))),
        groups=np.array(indices) % GROUPS,
        rows=lambda kind: ours,
        reference_rows=lambda kind: theirs,
        kept=lambda kind, name, compute, **key: compute(),
    )
    found = METRIC.compute(m, METRIC.parameters)
    density, coverage = found["density"], found["coverage"]
    assert (density.value, coverage.value) == pytest.approx(by_definition(ours, theirs))
    assert (density.ci_low is not None) is sound
    assert density.note == (None if sound else "no interval: 95 prompts are too few, 96 are needed")
    assert (coverage.ci_low, (coverage.note or "").split(":")[0]) == (None, "no interval")
    assert coverage.replicates is not None


def peak(number: int) -> int:
    theirs = features(300, 16)
    rows, reference_radii, mine = features(number, 16, 1), radii(theirs, NEIGHBOURS), groups(number)
    tracemalloc.start()
    try:
        density_coverage(rows, theirs, mine, reference_radii)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_is_flat_but_for_a_number_an_image() -> None:
    assert peak(16384) - peak(8192) < 8192 * 8 * 3
