"""FID's closed forms, its agreement with torch-fidelity's formula, and its replicates."""

from __future__ import annotations

import numpy as np
import pytest

from t2i_track.errors import MetricError
from t2i_track.metrics.prompts import GROUPS
from t2i_track.metrics.scores import fid
from t2i_track.metrics.scores.fid_infinity import fid_infinity


def features(n: int, d: int, seed: int = 0, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + shift).astype(np.float32)


def by_torch_fidelity(a: np.ndarray, b: np.ndarray) -> float:
    import torch
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    one, two = (fid_features_to_statistics(torch.from_numpy(x.astype(np.float64))) for x in (a, b))
    return float(fid_statistics_to_metric(one, two, verbose=False)["frechet_inception_distance"])


def groups(n: int) -> np.ndarray:
    return np.arange(n) % GROUPS


def test_unit_covariances_in_2048_dimensions() -> None:
    d = 2048
    # The eigenvalues of a unit matrix take no work, of any other of this size seconds.
    assert fid.frechet_distance(np.zeros(d), np.eye(d), np.ones(d), np.eye(d)) == 2048.0


def test_equal_covariance_gives_the_squared_distance_of_means() -> None:
    rng = np.random.default_rng(0)
    sigma = np.cov(rng.normal(size=(50, 8)).T)
    mu, shift = rng.normal(size=8), rng.normal(size=8)
    assert fid.frechet_distance(mu, sigma, mu + shift, sigma) == pytest.approx(shift @ shift, rel=1e-12)


def test_diagonal_covariances() -> None:
    # |μ|² + Σ (√a - √b)²
    found = fid.frechet_distance(np.zeros(3), np.diag([1.0, 4.0, 9.0]), np.ones(3), np.diag([4.0, 4.0, 1.0]))
    assert found == pytest.approx(3 + 1 + 0 + 4, rel=1e-14)


def test_singular_covariances_of_four_draws_stay_finite() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(4, 4)) for _ in range(2))
    found = fid.frechet_distance(*fid.statistics(a), *fid.statistics(b))
    assert found == pytest.approx(by_torch_fidelity(a, b), rel=1e-6)
    assert np.isfinite(found)
    assert found > 0


@pytest.mark.parametrize(("n", "d"), [(64, 8), (40, 64)], ids=["full rank", "rank deficient"])
def test_distance_to_itself_is_0(n: int, d: int) -> None:
    x = features(n, d)
    value, _ = fid.fid(x, groups(n), fid.gaussian(*fid.statistics(x)))
    assert abs(value) < 1e-6 * np.trace(np.cov(x.T))


@pytest.mark.parametrize(("n", "m", "d"), [(200, 300, 16), (24, 300, 48), (300, 24, 48), (20, 24, 48)])
def test_agrees_with_torch_fidelity(n: int, m: int, d: int) -> None:
    a, b = features(n, d, 1), features(m, d, 2, shift=0.5)
    value, _ = fid.fid(a, groups(n), fid.gaussian(*fid.statistics(b)))
    assert value == pytest.approx(by_torch_fidelity(a, b), rel=1e-6)


@pytest.mark.parametrize(("n", "d"), [(96, 8), (70, 90), (40, 8)], ids=["scatter", "gram", "uneven groups"])
def test_replicates_are_the_distances_without_a_group(n: int, d: int) -> None:
    a, reference = features(n, d, 1), fid.gaussian(*fid.statistics(features(200, d, 2)))
    _, replicates = fid.fid(a, groups(n), reference)
    for g in (0, 7, 31):
        rest = a[groups(n) != g]
        assert replicates[g] == pytest.approx(fid.fid(rest, groups(n)[: len(rest)], reference)[0], rel=1e-9)


def test_an_empty_group_has_no_replicate() -> None:
    a, reference = features(20, 4), fid.gaussian(*fid.statistics(features(50, 4, 1)))
    _, replicates = fid.fid(a, groups(20), reference)
    assert [g for g, r in enumerate(replicates) if r is None] == list(range(20, 32))


def test_order_does_not_matter() -> None:
    a, reference = features(100, 12), fid.gaussian(*fid.statistics(features(90, 12, 1)))
    order = np.random.default_rng(3).permutation(100)
    value, replicates = fid.fid(a, groups(100), reference)
    other, others = fid.fid(a[order], groups(100)[order], reference)
    assert other == pytest.approx(value, rel=1e-9)
    assert others == pytest.approx(replicates, rel=1e-9)


@pytest.mark.parametrize(
    ("mu", "sigma", "message"),
    [
        (np.zeros(3), np.eye(2), "do not fit"),
        (np.array([np.nan, 0.0]), np.eye(2), "not finite"),
        (np.zeros(2), np.array([[1.0, 0.5], [0.0, 1.0]]), "not symmetric"),
    ],
)
def test_statistics_that_are_none(mu: np.ndarray, sigma: np.ndarray, message: str) -> None:
    with pytest.raises(MetricError, match=message):
        fid.gaussian(mu, sigma)


def test_one_picture_has_no_covariance() -> None:
    reference = fid.gaussian(np.zeros(4), np.eye(4))
    with pytest.raises(MetricError, match="at least 2 pictures, not 1"):
        fid.fid(features(1, 4), groups(1), reference)


def test_another_extractor_is_refused() -> None:
    with pytest.raises(MetricError, match=r"have 8 dimensions and the images. 4: give the --extractor"):
        fid.fid(features(9, 4), groups(9), fid.gaussian(np.zeros(8), np.eye(8)))


@pytest.mark.parametrize(("variances", "dimension"), [([1.0] * 8, 8.0), ([1.0, 0.0, 0.0], 1.0), ([4.0, 1.0], 1.8)])
def test_effective_dimension(variances: list[float], dimension: float) -> None:
    reference = fid.gaussian(np.zeros(len(variances)), np.diag(variances))
    assert fid.effective_dimension(reference) == pytest.approx(dimension)


def test_infinity_removes_the_bias() -> None:
    rng = np.random.default_rng(0)
    d, n = 16, 1024
    reference = fid.gaussian(np.zeros(d), np.eye(d))
    plain = [fid.fid_value(rng.normal(size=(n, d)) + 0.25, np.arange(n), reference) for _ in range(20)]
    found = [fid_infinity(rng.normal(size=(n, d)) + 0.25, reference)[0] for _ in range(20)]
    assert np.mean(plain) > 1.05  # truth: 16 · 0.25² = 1
    assert np.mean(found) == pytest.approx(1.0, abs=0.08)


def test_infinity_needs_images() -> None:
    with pytest.raises(MetricError, match="at least 128 pictures, not 100"):
        fid_infinity(features(100, 16), fid.gaussian(np.zeros(16), np.eye(16)))
