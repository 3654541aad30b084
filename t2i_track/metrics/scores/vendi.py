"""Vendi score: Friedman & Dieng 2023, arXiv:2210.02410, section 3.

exp(-Σ λ log λ) over the eigenvalues λ of K / n, where K are the cosines of the images' features: the number of images,
all unlike each other, that would be as diverse. With X the features scaled to length 1, K / n = X Xᵀ / n has the same
eigenvalues as Xᵀ X / n but for zeros, so the smaller of the two is taken, and no more than d images are held at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from t2i_track.errors import MetricError
from t2i_track.metrics.intervals import with_interval
from t2i_track.metrics.metric import Metric, Parameters, ScoreInfo
from t2i_track.metrics.prompts import GROUPS
from t2i_track.metrics.rows import BLOCK, Groups, Matrix, Rows, Score
from t2i_track.metrics.uncertainty import jackknife, within

if TYPE_CHECKING:
    from t2i_track.metrics.measurement import Measurement


def vendi(rows: Rows, groups: Groups) -> tuple[float, list[float | None]]:
    """The score of features (n, d), in [1, min(n, d)], and its leave-one-group-out replicates.

    Args:
        rows: features of the images.
        groups: the group of each image, in [0, GROUPS).

    Raises:
        MetricError: no images, or features that are all 0 and so have no direction.
    """
    if not len(rows):
        raise MetricError("vendi needs at least 1 picture, not 0; add pictures")
    members = [np.flatnonzero(groups == g) for g in range(GROUPS)]
    by = _by_gram if len(rows) <= rows[:1].shape[1] else _by_scatter
    scores = by(rows, members)
    return next(scores), [next(scores) if 0 < len(g) < len(rows) else None for g in members]


def _by_gram(rows: Rows, members: list[Groups]) -> Iterator[float]:
    """Of all rows, then of all but each group, by (n, n) cosines: no more rows than dimensions."""
    x = _unit(rows, np.concatenate(members))
    cosines = x @ x.T
    yield _effective_number(cosines / len(x))
    group_of_row = np.repeat(np.arange(GROUPS), [len(g) for g in members])
    for group, left_out in enumerate(members):
        if 0 < len(left_out) < len(x):
            kept = np.flatnonzero(group_of_row != group)
            yield _effective_number(cosines[np.ix_(kept, kept)] / len(kept))


def _by_scatter(rows: Rows, members: list[Groups]) -> Iterator[float]:
    """The same by (d, d) sums of xᵀx, those of a group taken from the whole: memory flat in the rows."""
    # A group's sum is made twice, since 32 of them would not fit where d is 2048.
    whole = sum(_scatter(rows, group) for group in members)
    yield _effective_number(np.asarray(whole) / len(rows))
    for group in members:
        if 0 < len(group) < len(rows):
            yield _effective_number((whole - _scatter(rows, group)) / (len(rows) - len(group)))


def _scatter(rows: Rows, chosen: Groups) -> Matrix:
    dimension = rows[:1].shape[1]
    found = np.zeros((dimension, dimension))
    for start in range(0, len(chosen), BLOCK):
        x = _unit(rows, chosen[start : start + BLOCK])
        found += x.T @ x
    return found


def _unit(rows: Rows, chosen: Groups) -> Matrix:
    x = np.asarray(rows[chosen], dtype=np.float64)
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    if not lengths.all():
        raise MetricError(
            "vendi needs features that have a direction, and a picture's are all 0; use another extractor"
        )
    return np.asarray(x / lengths)


def _effective_number(density: Matrix) -> float:
    """exp of the von Neumann entropy of a matrix of trace 1."""
    values = np.linalg.eigvalsh(density)
    values = values[values > 0.0]
    return float(np.exp(-(values * np.log(values)).sum()))


def _compute(m: Measurement, _: Parameters) -> dict[str, Score]:
    value, replicates = vendi(m.rows("features"), m.groups)
    interval = within(jackknife(value, replicates), 1.0, float(len(m.images)))
    return {"vendi": with_interval(value, interval, replicates)}


METRIC = Metric(
    word="vendi",
    order=80,
    scores=(
        ScoreInfo(
            "vendi",
            "higher",
            "diversity",
            "number of images, all unlike each other, that would be as diverse as these",
            "jackknife, no bias removed: about its expectation at this n",
            depends_on_n=True,
            margin="2%",
        ),
    ),
    layers=("features",),
    formula="exp(-Σ λ log λ) over the eigenvalues λ of K/n, K the cosines of the images' features",
    source="Friedman & Dieng 2023, arXiv:2210.02410, section 3",
    compute=_compute,
    parameters={"kernel": "cosine", "version": 1},
)
