"""Kernel Inception Distance: Bińkowski et al. 2018, arXiv:1801.01401, section 4.

The unbiased MMD² with the kernel k(x, y) = (xᵀy / d + 1)³, averaged over random subsets of both sets. The value is
computed in the features' own precision, as torch-fidelity does, so that the two agree; its replicates in float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from t2i_track.errors import MetricError
from t2i_track.metrics.intervals import with_interval
from t2i_track.metrics.metric import Metric, Parameters, ScoreInfo
from t2i_track.metrics.mmd import kernel_sums, total
from t2i_track.metrics.prompts import GROUPS
from t2i_track.metrics.rows import Groups, Matrix, Rows, Score
from t2i_track.metrics.uncertainty import Interval, Replicates, jackknife, student, within

if TYPE_CHECKING:
    from t2i_track.metrics.inputs import ImageItem
    from t2i_track.metrics.measurement import Measurement

SUBSETS = 100
SUBSET_SIZE = 1000
SEED = 2020
"""torch-fidelity's numbers, so that its subsets are ours."""

NOT_FROM_0 = "not distinguishable from 0 at this N"

WHOLE = 4096
"""So many features are held in memory while subsets are drawn from them; of more, each subset is read anew."""


def polynomial(x: Matrix, y: Matrix) -> Matrix:
    """The kernel of rows (a, d) and (b, d), (a, b)."""
    base = x @ y.T / x.shape[1] + 1.0
    return np.asarray(base * base * base)  # numpy's power is twenty times slower


@dataclass(frozen=True)
class Subsets:
    """The same draws as torch-fidelity's: pictures of the run and of the reference, in turn, without repetition."""

    ours: list[Groups]
    theirs: list[Groups]


def draw_subsets(number: int, reference: int, subsets: int, size: int) -> Subsets:
    """Raises MetricError where a set is smaller than a subset."""
    if min(number, reference) < size:
        raise MetricError(
            f"kid over subsets of {size} needs as many pictures in both sets, not {number} and "
            f"{reference}; lower kid_subset_size"
        )
    if size < 2:
        raise MetricError(f"kid needs subsets of at least 2 pictures, not {size}; add pictures")
    rng = np.random.RandomState(SEED)
    pairs = [
        (rng.choice(number, size, replace=False), rng.choice(reference, size, replace=False)) for _ in range(subsets)
    ]
    return Subsets([ours for ours, _ in pairs], [theirs for _, theirs in pairs])


def within_subsets(rows: Rows, subsets: list[Groups]) -> NDArray[Any]:
    """Sum of k over the pairs of different pictures, of each subset, in the precision of the features."""
    rows = _held(rows)
    return np.array([_within(rows[subset]) for subset in subsets])


def _within(x: NDArray[Any]) -> Any:
    k = _kernel(x, x)
    return (k.sum(axis=1) - np.diagonal(k)).sum()


def _kernel(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """torch-fidelity's, operation by operation: in float32 another order would move the score by 1e-5 of it."""
    return np.asarray((np.matmul(x, y.T) * (1.0 / x.shape[1]) + 1) ** 3)


def _held(rows: Rows) -> Rows:
    return rows[:] if len(rows) <= WHOLE else rows


def kid(
    rows: Rows, reference: Rows, groups: Groups, subsets: Subsets, reference_within: NDArray[Any]
) -> tuple[float, float, list[float | None], float]:
    """Mean and standard deviation of the subsets' MMD², the mean without each group, and the sums of all pairs.

    Args:
        rows: features (n, d).
        reference: features (m, d).
        groups: the group of each image, in [0, GROUPS).
        subsets: from ``draw_subsets(n, m, …)``.
        reference_within: ``within_subsets(reference, subsets.theirs)``, the same for all runs of one size.

    Returns:
        Mean, standard deviation over subsets, and replicates. Subsets drawn anew would drown the effect of a group, so
        a replicate is the mean plus what leaving the group out does to the unbiased MMD² of all pairs. Last, that MMD²
        but for the reference's own pairs, which are ``reference_pairs``.
    """
    ours = within_subsets(rows, subsets.ours)
    across = _across_subsets(rows, reference, subsets)
    size = len(subsets.ours[0])
    values = ((ours + reference_within) / (size * (size - 1)) - 2 * across / (size * size)).astype(np.float64)
    value = float(values.mean())
    sums = kernel_sums(rows, reference, polynomial, groups)
    with np.errstate(divide="ignore", invalid="ignore"):
        # k(y, y') is the same in all of them, so it drops out.
        complete = sums.within(unbiased=True) - 2 * sums.across()
    empty = (sums.counts == 0) | (sums.counts.sum() - sums.counts < 2)
    shifts = complete[1:] - complete[0]
    replicates = [None if empty[g] else value + float(shifts[g]) for g in range(GROUPS)]
    return value, float(values.std()), replicates, float(complete[0])


def reference_pairs(reference: Rows) -> float:
    """Mean of k over all pairs of different reference pictures."""
    everything, diagonal = total(reference, polynomial)
    return (everything - diagonal) / (len(reference) * (len(reference) - 1))


def interval_of(mean: float, std: float, replicates: Replicates, subsets: int, complete: float) -> Interval:
    """Around the unbiased MMD² of all pairs, cut at 0, which a distance is not below.

    The subsets' mean is that estimate with noise of its own, ``std² / subsets``, which is added to the jackknife's
    variance, so that the interval is also one for the mean.
    """
    shifts = [None if r is None else r - mean for r in replicates]
    found = jackknife(complete, [None if s is None else complete + s for s in shifts])
    if found.standard_error is None:
        return found
    error = math.hypot(found.standard_error, std / math.sqrt(subsets))
    return within(student(complete, error, sum(s is not None for s in shifts) - 1), 0.0, math.inf)


def _across_subsets(rows: Rows, reference: Rows, subsets: Subsets) -> NDArray[Any]:
    rows, reference = _held(rows), _held(reference)
    pairs = zip(subsets.ours, subsets.theirs, strict=True)
    return np.array([_kernel(rows[ours], reference[theirs]).sum(axis=0).sum() for ours, theirs in pairs])


def _settle(parameters: Parameters, images: Sequence[ImageItem], reference_n: int | None) -> Parameters:
    """A subset is at most the smaller set."""
    smallest = min(len(images), reference_n or len(images))
    return {**parameters, "kid_subset_size": min(parameters["kid_subset_size"], smallest)}


def _compute(m: Measurement, parameters: Parameters) -> dict[str, Score]:
    rows, reference = m.rows("features"), m.reference_rows("features")
    number, size = parameters["kid_subsets"], parameters["kid_subset_size"]
    subsets = draw_subsets(len(rows), len(reference), number, size)
    theirs = m.kept(
        "features",
        "kid subsets",
        lambda: {"within": within_subsets(reference, subsets.theirs)},
        n=len(rows),
        subsets=number,
        size=size,
    )["within"]
    pairs = m.kept("features", "kid", lambda: {"pairs": np.array(reference_pairs(reference))})["pairs"]
    mean, std, means, ours = kid(rows, reference, m.groups, subsets, theirs)
    complete = ours + float(pairs)
    interval = interval_of(mean, std, means, number, complete)
    note = f"{number} subsets of {size}"
    unclear = f"; {NOT_FROM_0}" if interval.low == 0.0 else ""
    return {
        "kid_mean": with_interval(mean, interval, means, f"{note}; {complete:.4g} over all pairs{unclear}"),
        "kid_std": Score(std, note=f"over {note}"),
    }


METRIC = Metric(
    word="kid",
    order=20,
    scores=(
        ScoreInfo(
            "kid_mean",
            "lower",
            "quality",
            "distance of the images' features from the reference's by a kernel, without a bias of few images",
            "jackknife of the unbiased estimate over all pairs, the noise of the subsets added to its variance, cut at "
            "0; the note has the estimate",
            any_n=True,
            margin="25%",
        ),
        ScoreInfo("kid_std", None, "quality", "spread of the subsets' kernel distances", "none: a spread itself"),
    ),
    layers=("features",),
    formula="unbiased MMD² with k = (xᵀy/d + 1)³, mean and spread over 100 subsets of 1000 (of the smaller set, where "
    "that is smaller)",
    source="Bińkowski et al. 2018, arXiv:1801.01401, section 4",
    compute=_compute,
    reference="pictures",
    reference_least=lambda _: 2,
    parameters={"kid_subsets": SUBSETS, "kid_subset_size": SUBSET_SIZE},
    settable=("kid_subsets", "kid_subset_size"),
    settle=_settle,
)
