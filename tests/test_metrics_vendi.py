"""The Vendi score on plain arrays: closed forms, its definition, and its replicates."""

from __future__ import annotations

import tracemalloc
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from t2i_track.errors import MetricError
from t2i_track.metrics.prompts import GROUPS
from t2i_track.metrics.scores.vendi import METRIC, vendi


def features(n: int, d: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(n, d)) + 0.5).astype(np.float32)


def groups(n: int) -> np.ndarray:
    return np.arange(n) % GROUPS


def by_definition(x: np.ndarray) -> float:
    """Over all n eigenvalues of the n x n cosines."""
    cosines = (x @ x.T) / np.outer(np.linalg.norm(x, axis=1), np.linalg.norm(x, axis=1))
    values = np.clip(np.linalg.eigvalsh(cosines / len(x)), 1e-300, None)
    return float(np.exp(-(values * np.log(values)).sum()))


@pytest.mark.parametrize("copies", [1, 20], ids=["no more images than dimensions", "more"])
def test_unlike_images_count_and_copies_do_not(copies: int) -> None:
    unlike = np.tile(3.0 * np.eye(12), (copies, 1))
    assert vendi(unlike, groups(len(unlike)))[0] == pytest.approx(12.0, rel=1e-12)
    alike = np.tile(features(1, 12), (5 * copies, 1))
    assert vendi(alike, groups(len(alike)))[0] == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("dimension", [2, 100])
def test_two_kinds_of_images_are_the_entropy_of_their_shares(dimension: int) -> None:
    rows = np.eye(dimension)[[0] * 30 + [1] * 10]
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert vendi(rows, groups(40))[0] == pytest.approx(np.exp(entropy), rel=1e-12)


@pytest.mark.parametrize(("n", "d"), [(70, 5), (70, 70), (40, 90), (1100, 6)])
def test_it_is_its_definition(n: int, d: int) -> None:
    x = features(n, d)
    value, replicates = vendi(x, groups(n))
    wide = x.astype(np.float64)
    assert value == pytest.approx(by_definition(wide), rel=1e-9)
    for group in (0, 31):
        assert replicates[group] == pytest.approx(by_definition(wide[groups(n) != group]), rel=1e-9)


@pytest.mark.parametrize("d", [5, 90])
def test_only_directions_count(d: int) -> None:
    x = features(50, d)
    longer = x * np.random.default_rng(1).uniform(0.1, 9.0, (50, 1))
    assert vendi(longer, groups(50))[0] == pytest.approx(vendi(x, groups(50))[0], rel=1e-6)


def test_empty_groups_have_no_replicate() -> None:
    _, replicates = vendi(features(10, 4), groups(10))
    assert [replicate is None for replicate in replicates] == [group >= 10 for group in range(GROUPS)]
    assert vendi(features(4, 4), np.zeros(4, dtype=np.intp))[1] == [None] * GROUPS


@pytest.mark.parametrize(
    ("rows", "message"),
    [(np.zeros((0, 4)), "at least 1 picture, not 0"), (np.zeros((3, 4)), "features that have a direction")],
)
def test_what_has_no_score(rows: np.ndarray, message: str) -> None:
    with pytest.raises(MetricError, match=message):
        vendi(rows, groups(len(rows)))


def test_its_interval_holds_its_value() -> None:
    x = features(256, 16)
    score = METRIC.compute(SimpleNamespace(rows=lambda kind: x, groups=groups(256), images=x), {})["vendi"]  # type: ignore[arg-type]
    assert score.ci_low is not None
    assert score.ci_high is not None
    assert 1.0 <= score.ci_low < score.value < score.ci_high <= 256
    assert METRIC.parameters == {"kernel": "cosine", "version": 1}


class Endless:
    """Rows that exist only while they are looked at."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, rows: Any) -> np.ndarray:
        index = np.arange(self.number)[rows]
        return np.sin(np.outer(index + 1.0, np.arange(64) + 0.7)).astype(np.float32)


def peak(number: int) -> int:
    tracemalloc.start()
    try:
        vendi(Endless(number), groups(number))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_is_flat_in_the_number_of_images() -> None:
    assert peak(65536) - peak(32768) < 32768 * 64 * 8 / 4
