"""Inception Score: Salimans et al. 2016, arXiv:1606.03498, section 4.

exp(mean_x KL(p(y|x) || p(y))), over splits of the images; the mean and the spread of the splits' scores
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from t2i_track.errors import MetricError
from t2i_track.metrics.intervals import with_interval
from t2i_track.metrics.metric import Metric, Parameters, ScoreInfo
from t2i_track.metrics.prompts import GROUPS
from t2i_track.metrics.rows import Groups, Matrix, Rows, Score, Vector, spans
from t2i_track.metrics.uncertainty import jackknife, within

if TYPE_CHECKING:
    from t2i_track.metrics.measurement import Measurement

SPLITS = 10
SEED = 2020
"""Of the shuffle before splitting: torch-fidelity's, so that its splits are ours."""

MIN_SPLIT = 5
"""Images to a split. With fewer the score is near its ceiling, which is their number, whatever the images are."""


def inception_score(
    rows: Rows, groups: Groups, splits: int = SPLITS, *, shuffle: bool = True
) -> tuple[float, float, list[float | None], list[float | None]]:
    """Mean and standard deviation of the splits' scores, and both without each group.

    Args:
        rows: logits (n, classes).
        groups: the group of each image, in [0, GROUPS). Images keep their split when a group is left out.
        splits: parts of equal size, within one image.

    Returns:
        Mean and standard deviation (over splits, not of the mean), each in [1, classes] and at least 0, then the
        replicates of both: None where the group is empty or a split would be.

    Raises:
        MetricError: fewer images than splits.
    """
    number = len(rows)
    if number < splits:
        raise MetricError(f"inception score over {splits} splits needs at least {splits} pictures, not {number}")
    order = np.random.RandomState(SEED).permutation(number) if shuffle else np.arange(number)
    split = np.empty(number, dtype=np.intp)
    for i in range(splits):
        split[order[i * number // splits : (i + 1) * number // splits]] = i
    p, negative_entropy, counts = _sums(rows, split * GROUPS + groups, splits)
    scores = _scores(p.sum(axis=1), negative_entropy.sum(axis=1), counts.sum(axis=1))
    without: list[Vector | None] = []
    for group in range(GROUPS):
        kept = np.arange(GROUPS) != group
        left = counts[:, kept].sum(axis=1)
        if not counts[:, group].any() or not left.all():
            without.append(None)
        else:
            without.append(_scores(p[:, kept].sum(axis=1), negative_entropy[:, kept].sum(axis=1), left))
    return (
        float(scores.mean()),
        float(scores.std()),
        [None if s is None else float(s.mean()) for s in without],
        [None if s is None else float(s.std()) for s in without],
    )


def ceiling(number: int, classes: int, splits: int) -> float:
    """The most that the mean of the splits' scores can be: a split of m images cannot exceed m, nor the classes."""
    sizes = [(i + 1) * number // splits - i * number // splits for i in range(splits)]
    return sum(min(classes, size) for size in sizes) / splits


def _sums(rows: Rows, cells: Groups, splits: int) -> tuple[NDArray[np.float64], Matrix, Matrix]:
    """Sums of p (splits, GROUPS, classes) and of each image's sum of p log p, and the images, by split and group."""
    classes = rows[:1].shape[1]
    p = np.zeros((splits * GROUPS, classes))
    negative_entropy = np.zeros(splits * GROUPS)
    for span in spans(rows):
        logits = np.asarray(rows[span], dtype=np.float64)
        shifted = logits - logits.max(axis=1, keepdims=True)
        log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        np.add.at(p, cells[span], np.exp(log_p))
        np.add.at(negative_entropy, cells[span], (np.exp(log_p) * log_p).sum(axis=1))
    shape = (splits, GROUPS)
    counts = np.bincount(cells, minlength=splits * GROUPS).astype(np.float64)
    return p.reshape(*shape, classes), negative_entropy.reshape(shape), counts.reshape(shape)


def _scores(p: Matrix, negative_entropy: Vector, counts: Vector) -> Vector:
    """exp of the mean divergence of each split: mean(sum p log p) - sum q log q, with q the mean of p."""
    q = p / counts[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        cross = np.where(q > 0, q * np.log(q), 0.0).sum(axis=1)
    return np.asarray(np.exp(negative_entropy / counts - cross))


def _compute(m: Measurement, parameters: Parameters) -> dict[str, Score]:
    splits = parameters["isc_splits"]
    logits = m.rows("logits")
    mean, std, means, stds = inception_score(logits, m.groups, splits)
    most, note = ceiling(len(logits), logits[:1].shape[1], splits), f"{splits} splits"
    if len(logits) < MIN_SPLIT * splits:
        reason = (
            f"no interval: {len(logits)} images in {note} score at most {most:g}, {MIN_SPLIT} to a split are needed"
        )
        return {"inception_score_mean": Score(mean, note=reason), "inception_score_std": Score(std, note=reason)}
    interval = within(jackknife(mean, means), 1.0, most)
    return {
        "inception_score_mean": with_interval(mean, interval, means, f"{note}, of at most {most:g}"),
        "inception_score_std": Score(std, stds, note=f"over {note}"),
    }


METRIC = Metric(
    word="is",
    order=50,
    scores=(
        ScoreInfo(
            "inception_score_mean",
            "higher",
            "quality",
            "how sure the classifier is of each image, and how evenly the classes come up",
            "jackknife, no bias removed: about its expectation at this n, cut at what splits of so many images can "
            f"score at most; **none, and no replicates, below {MIN_SPLIT} images to a split**",
            depends_on_n=True,
        ),
        ScoreInfo(
            "inception_score_std",
            None,
            "quality",
            "spread of the splits' inception scores",
            "none: a spread itself",
            depends_on_n=True,
        ),
    ),
    layers=("logits",),
    formula="exp(E KL(p(y|x) ‖ p(y))) over 10 splits; mean and spread of the splits",
    source="Salimans et al. 2016, arXiv:1606.03498, section 4",
    compute=_compute,
    parameters={"isc_splits": SPLITS},
    settable=("isc_splits",),
)
