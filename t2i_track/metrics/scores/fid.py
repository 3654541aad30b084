"""Fréchet Inception Distance: Heusel et al. 2017, arXiv:1706.08500, eq. 6.

    d²((μ₁, Σ₁), (μ₂, Σ₂)) = |μ₁ - μ₂|² + tr(Σ₁ + Σ₂ - 2 (Σ₁ Σ₂)^½)

With Σ₂ = A Aᵀ, the eigenvalues of Σ₁ Σ₂ are those of the symmetric Aᵀ Σ₁ A, so the trace of the root is the sum of the
square roots of real eigenvalues, none below 0 but for rounding. Features are projected on A once; every replicate is
then one symmetric eigenvalue problem of the projected covariance, or, with fewer images than dimensions, of the
images' Gram matrix, which has the same eigenvalues.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from t2i_track.errors import MetricError
from t2i_track.metrics.intervals import with_interval
from t2i_track.metrics.metric import Metric, Parameters, ScoreInfo
from t2i_track.metrics.prompts import GROUPS
from t2i_track.metrics.rows import Groups, Matrix, Rows, Score, Vector, blocks, mean
from t2i_track.metrics.uncertainty import distance_interval

if TYPE_CHECKING:
    from t2i_track.metrics.measurement import Measurement


@dataclass(frozen=True)
class Gaussian:
    """Mean and covariance of a reference set; the covariance as its root, ``root @ root.T``."""

    mu: Vector
    root: Matrix
    trace: float


def gaussian(mu: Vector, sigma: Matrix) -> Gaussian:
    """From mean (d,) and covariance (d, d).

    Raises:
        MetricError: shapes that do not fit, values that are not finite, or a matrix that is no covariance.
    """
    if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)):
        raise MetricError(f"mu of shape {mu.shape} and sigma of shape {sigma.shape} do not fit; need (d,) and (d, d)")
    if not (np.isfinite(mu).all() and np.isfinite(sigma).all()):
        raise MetricError("mu or sigma has values that are not finite; compute the statistics again")
    if np.abs(sigma - sigma.T).max() > 1e-6 * max(1.0, float(np.abs(sigma).max())):
        raise MetricError("sigma is not symmetric, so it is no covariance; compute the statistics again")
    values, vectors = np.linalg.eigh(sigma)
    # Directions without variance are rounding: a root of 1e-16 would count as 1e-8.
    kept = values > values[-1] * len(mu) * np.finfo(np.float64).eps
    return Gaussian(mu, vectors[:, kept] * np.sqrt(values[kept]), float(np.trace(sigma)))


def effective_dimension(reference: Gaussian) -> float:
    """(sum of standard deviations)² / sum of variances, over the principal axes: d where all are equal, else less."""
    variances = (reference.root**2).sum(axis=0)
    return float(np.sqrt(variances).sum() ** 2 / variances.sum()) if variances.sum() else 0.0


def gaussian_of(rows: Rows) -> Gaussian:
    """Of pictures' features; with fewer pictures than dimensions, by their Gram matrix, which is the smaller one."""
    if len(rows) > rows[:1].shape[1] or len(rows) < 2:
        return gaussian(*statistics(rows))
    features = np.asarray(rows[:], dtype=np.float64)
    mu = features.mean(axis=0)
    centred = (features - mu) / np.sqrt(len(rows) - 1)
    values, vectors = np.linalg.eigh(centred @ centred.T)
    kept = values > values[-1] * len(mu) * np.finfo(np.float64).eps
    return Gaussian(mu, centred.T @ vectors[:, kept], float((centred**2).sum()))


def statistics(rows: Rows) -> tuple[Vector, Matrix]:
    """Mean (d,) and covariance (d, d; divided by n - 1) of the rows, in two passes and float64."""
    if len(rows) < 2:
        raise MetricError(f"a covariance needs at least 2 pictures, not {len(rows)}; add pictures")
    mu = mean(rows)
    scatter = sum((block - mu).T @ (block - mu) for block in blocks(rows))
    return mu, np.asarray(scatter / (len(rows) - 1))


def frechet_distance(mu_1: Vector, sigma_1: Matrix, mu_2: Vector, sigma_2: Matrix) -> float:
    """The distance of two Gaussians by their statistics."""
    reference = gaussian(mu_2, sigma_2)
    projected = reference.root.T @ sigma_1 @ reference.root
    return distance(mu_1, float(np.trace(sigma_1)), projected, reference, len(projected))


def fid(rows: Rows, groups: Groups, reference: Gaussian) -> tuple[float, list[float | None]]:
    """FID of the rows (n, d) against a reference, and its leave-one-group-out replicates.

    Args:
        rows: features of the images.
        groups: the group of each image, in [0, GROUPS).
        reference: of the same dimension.

    Returns:
        The distance, and per group the distance without it: None where it is empty or fewer than 2 images remain.
    """
    if len(rows) < 2:
        raise MetricError(f"fid needs at least 2 pictures, not {len(rows)}; add pictures")
    if (dimension := rows[:1].shape[1]) != len(reference.mu):
        raise MetricError(
            f"the reference's features have {len(reference.mu)} dimensions and the images' {dimension}: give the"
            " --extractor that its statistics were made with, or name statistics by this one"
        )
    members = [np.flatnonzero(groups == g) for g in range(GROUPS)]
    covariances = _by_gram if len(rows) <= reference.root.shape[1] else _by_scatter
    distances = covariances(rows, members, reference)
    return next(distances), [next(distances) if 0 < len(g) < len(rows) - 1 else None for g in members]


@dataclass(frozen=True)
class _Chosen:
    """Some of the rows, as rows."""

    rows: Rows
    chosen: Groups

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, which: Any) -> NDArray[Any]:
        return self.rows[self.chosen[which]]


def fid_value(rows: Rows, chosen: Groups, reference: Gaussian) -> float:
    """FID of some rows, without replicates."""
    some = _Chosen(rows, chosen)
    mu, freedom = mean(some), len(some) - 1
    if len(some) <= reference.root.shape[1]:
        centred = np.asarray(some[:], dtype=np.float64) - mu
        projected = centred @ reference.root
        return distance(mu, float((centred**2).sum()) / freedom, projected @ projected.T / freedom, reference, freedom)
    trace, scatter = 0.0, np.zeros((reference.root.shape[1],) * 2)
    for block in blocks(some):
        projected = (block - mu) @ reference.root
        trace += float(((block - mu) ** 2).sum())
        scatter += projected.T @ projected
    return distance(mu, trace / freedom, scatter / freedom, reference, freedom)


def _by_gram(rows: Rows, members: list[Groups], reference: Gaussian) -> Iterator[float]:
    """The distance of all rows, then of all but each group, by (n, n) Gram matrices: fewer rows than dimensions."""
    order = np.concatenate(members)
    features = np.asarray(rows[order], dtype=np.float64)
    projected = (features - features.mean(axis=0)) @ reference.root
    gram = projected @ projected.T
    group_of_row = np.repeat(np.arange(GROUPS), [len(g) for g in members])
    for left_out in (None, *(g for g in range(GROUPS) if len(members[g]))):
        kept = np.flatnonzero(group_of_row != left_out) if left_out is not None else np.arange(len(order))
        if len(kept) < 2:
            continue
        some = features[kept]
        mu = some.mean(axis=0)
        part = gram[np.ix_(kept, kept)]
        part = part - part.mean(axis=0) - part.mean(axis=1)[:, None] + part.mean()
        freedom = len(kept) - 1
        yield distance(mu, float(((some - mu) ** 2).sum()) / freedom, part / freedom, reference, freedom)


def _by_scatter(rows: Rows, members: list[Groups], reference: Gaussian) -> Iterator[float]:
    """The same by (d, d) scatter matrices, those of a group taken from the whole: memory flat in the rows."""
    centre = mean(rows)
    width = reference.root.shape[1]
    scatter, squares = np.zeros((width, width)), 0.0
    for group in members:
        _, projected, square = _group(rows, group, centre, reference)
        scatter += projected.T @ projected
        squares += square
    freedom = len(rows) - 1
    yield distance(centre, squares / freedom, scatter / freedom, reference, freedom)
    for group in members:
        kept = len(rows) - len(group)
        if not len(group) or kept < 2:
            continue
        shift, projected, square = _group(rows, group, centre, reference)
        # Rows are centred on the mean of all, so the sum of those kept is minus the sum of those left out.
        offset = projected.sum(axis=0)
        part = scatter - projected.T @ projected - np.outer(offset, offset) / kept
        trace = squares - square - float(shift @ shift) / kept
        yield distance(centre - shift / kept, trace / (kept - 1), part / (kept - 1), reference, kept - 1)


def _group(rows: Rows, group: Groups, centre: Vector, reference: Gaussian) -> tuple[Vector, Matrix, float]:
    """Sum, projection and sum of squares of a group's centred rows."""
    centred = np.asarray(rows[group], dtype=np.float64) - centre
    return centred.sum(axis=0), centred @ reference.root, float((centred**2).sum())


def distance(mu: Vector, trace: float, projected: Matrix, reference: Gaussian, rank: int) -> float:
    """Equation 6 from the mean, the trace of the covariance, and the covariance (or Gram matrix) on the root.

    ``rank`` is the most that the projected matrix can have: the eigenvalues beyond are 0, and the root of what
    rounding makes of a 0 would be 1e-8.
    """
    difference = mu - reference.mu
    values = np.linalg.eigvalsh(projected)[-rank:] if rank and projected.size else np.zeros(0)
    roots = np.sqrt(np.clip(values, 0.0, None)).sum()
    return float(difference @ difference + trace + reference.trace - 2.0 * roots)


def reference_gaussian(m: Measurement) -> Gaussian:
    """The reference's mean and root of covariance, from its pictures or its file of statistics."""

    def compute() -> dict[str, Any]:
        assert m.reference is not None
        given = m.reference.statistics
        found = gaussian(*given) if given else gaussian_of(m.reference_rows("features"))
        return {"mu": found.mu, "root": found.root, "trace": np.array(found.trace)}

    arrays = m.kept("features", "gaussian", compute)
    return Gaussian(arrays["mu"], arrays["root"], float(arrays["trace"]))


def _compute(m: Measurement, _: Parameters) -> dict[str, Score]:
    reference = reference_gaussian(m)
    value, replicates = fid(m.rows("features"), m.groups, reference)
    interval, note = distance_interval(value, replicates, len(m.images), effective_dimension(reference))
    return {"fid": with_interval(value, interval, replicates, note)}


METRIC = Metric(
    word="fid",
    order=10,
    scores=(
        ScoreInfo(
            "fid",
            "lower",
            "quality",
            "distance of the images' features from the reference's, both taken as Gaussians",
            "jackknife over 32 groups of prompts, its bias removed (Quenouille), Student's t with 31 degrees of "
            "freedom, cut at 0; **none below 4 images to an effective dimension**",
            depends_on_n=True,
            corrected=True,
        ),
    ),
    layers=("features",),
    formula="|μ₁ - μ₂|² + tr(Σ₁ + Σ₂ - 2(Σ₁Σ₂)^½), covariances divided by n - 1",
    source="Heusel et al. 2017, arXiv:1706.08500, eq. 6",
    compute=_compute,
    reference="statistics",
    reference_least=lambda _: 2,
)
