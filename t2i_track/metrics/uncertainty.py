"""How sure a score is: the delete-a-group jackknife for distances, Student's t for means, and differences of runs.

Numbers only: numpy, and scipy's distributions where they are asked for. Which method is used where, and the coverage
that each was measured to have, is in ``docs/metrics.md``; ``benchmarks/coverage.py`` measures it again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from t2i_track.metrics.prompts import GROUPS
from t2i_track.metrics.rows import Groups, Vector

MIN_GROUPS = 8
"""With fewer groups, or prompts, their spread says too little about the spread of the score."""

IMAGES_PER_DIMENSION = 4
"""Below this number of images to an effective dimension a Fréchet distance has no sound interval."""

Replicates = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its confidence interval; ``low`` to ``p_value`` are None where no sound one exists."""

    estimate: float
    low: float | None
    high: float | None
    standard_error: float | None
    p_value: float | None
    """Two-sided, against 0: small where the estimate is surely not 0."""


def without_interval(estimate: float) -> Interval:
    return Interval(estimate, None, None, None, None)


def jackknife(value: float, replicates: Replicates, level: float = 0.95, *, correct_bias: bool = False) -> Interval:
    """Delete-a-group jackknife (Kott 2001; Efron & Tibshirani 1993, ch. 11) with Student's t on G - 1 degrees.

    Args:
        value: the score of all images.
        replicates: the score without group g, None where group g has no image.
        level: of the interval, in (0, 1).
        correct_bias: move the estimate by the jackknife's bias, ``(G - 1) (mean(replicates) - value)`` (Quenouille).
            It removes a bias in 1/N, as FID and a V-statistic have.

    Returns:
        The interval; without bounds where fewer than ``MIN_GROUPS`` groups have images.
    """
    left_out = np.array([r for r in replicates if r is not None], dtype=np.float64)
    groups = len(left_out)
    if groups < MIN_GROUPS:
        return without_interval(value)
    mean = float(left_out.mean())
    error = math.sqrt((groups - 1) / groups * float(((left_out - mean) ** 2).sum()))
    estimate = value - (groups - 1) * (mean - value) if correct_bias else value
    return student(estimate, error, groups - 1, level)


def distance_interval(
    value: float, replicates: Replicates, n: int, dimension: float, level: float = 0.95
) -> tuple[Interval, str | None]:
    """Interval of a Fréchet distance at infinitely many images, and the reason where there is none.

    The distance of n images is biased upward by more than its spread, so the interval lies below the value: it is that
    of the jackknife's bias-corrected estimate, cut at 0. With fewer than ``IMAGES_PER_DIMENSION`` images to a
    dimension the bias is no longer of the form 1/n that the jackknife removes.

    Args:
        dimension: effective dimension of the features, see ``fid.effective_dimension``.
    """
    needed = math.ceil(IMAGES_PER_DIMENSION * dimension)
    if n < needed:
        reason = (
            f"no interval: the bias of {n} images cannot be removed, {needed} are needed ({dimension:.0f} dimensions)"
        )
        return without_interval(value), reason
    found = jackknife(value, replicates, level, correct_bias=True)
    return within(found, 0.0, math.inf), None if found.low is None else "interval of the value without its bias"


def student(estimate: float, standard_error: float, freedom: float, level: float = 0.95) -> Interval:
    """``estimate`` plus and minus Student's quantile times its standard error."""
    if standard_error == 0.0:
        return Interval(estimate, estimate, estimate, 0.0, 1.0 if estimate == 0.0 else 0.0)
    from scipy.special import stdtr, stdtrit

    reach = float(stdtrit(freedom, 0.5 + level / 2)) * standard_error
    p_value = 2.0 * float(stdtr(freedom, -abs(estimate) / standard_error))
    return Interval(estimate, estimate - reach, estimate + reach, standard_error, min(p_value, 1.0))


def paired_difference(
    a_value: float, a_replicates: Replicates, b_value: float, b_replicates: Replicates, level: float = 0.95
) -> Interval:
    """``a - b`` for two runs over the same prompts and seeds.

    The groups hold the same prompts in both runs, so what the runs share (the prompts, the reference, most of the
    bias) cancels in each difference of replicates. Groups that are empty in either run are left out.

    Returns:
        The interval of the difference; without bounds where fewer than ``MIN_GROUPS`` groups remain.

    Raises:
        ValueError: the replicates are not of the same number of groups.
    """
    pairs = list(zip(a_replicates, b_replicates, strict=True))
    differences = [None if a is None or b is None else a - b for a, b in pairs]
    return jackknife(a_value - b_value, differences, level)


def mean_interval(scores: Vector, clusters: Groups, level: float = 0.95) -> Interval:
    """Mean of per-image scores with Student's t on one degree less than there are prompts.

    Images of one prompt are alike, so the spread is that of prompts, and where prompts have unequal numbers of images
    the mean is a ratio of two means over prompts (Cochran 1977, section 6.3).

    Args:
        scores: one per image, finite.
        clusters: the number of each image's prompt.

    Returns:
        The interval; without bounds where fewer than ``MIN_GROUPS`` prompts have images.
    """
    sums, counts = _by_cluster(scores, clusters)
    size, total = len(sums), float(counts.sum())
    estimate = float(sums.sum()) / total
    if size < MIN_GROUPS:
        return without_interval(estimate)
    rest = sums - estimate * counts
    # What is left of equal scores is rounding.
    rest[np.abs(rest) <= 1e-12 * np.abs(sums)] = 0.0
    error = math.sqrt(size / (size - 1) * float(rest @ rest)) / total
    return student(estimate, error, size - 1, level)


def _by_cluster(scores: Vector, clusters: Groups) -> tuple[Vector, Vector]:
    """Sum and number of the images of each prompt that has any."""
    _, cluster = np.unique(clusters, return_inverse=True)
    return np.bincount(cluster, weights=scores).astype(np.float64), np.bincount(cluster).astype(np.float64)


def share_interval(scores: Vector, clusters: Groups, level: float = 0.95) -> Interval:
    """Mean p of scores in [0, 1]: Clopper and Pearson's interval (1934) at an effective number of images.

    That number is ``p (1 - p) / SE²`` with the standard error over prompts (Korn & Graubard 1998), less where there
    are fewer prompts than it; of all 0 or all 1, which have no spread, it is the number of prompts.

    Scores all but a few of which are 1 say no more than scores that are all 1, so the interval reaches at least as low
    as theirs, and from all 0 likewise: it moves with every score that does.
    """
    from scipy.special import betaincinv, stdtrit

    found = mean_interval(scores, clusters, level)
    if found.standard_error is None:
        return found
    prompts, tail, p = len(np.unique(clusters)), (1 - level) / 2, found.estimate
    surely = tail ** (1 / prompts)
    if (scores == 1.0).all():
        return replace(found, low=surely, high=1.0)
    if (scores == 0.0).all():
        return replace(found, low=0.0, high=1.0 - surely)
    effective = float(prompts)
    if found.standard_error:
        effective = p * (1 - p) / found.standard_error**2
        shorter = float(stdtrit(max(effective - 1, 1.0), 1 - tail) / stdtrit(prompts - 1, 1 - tail))
        effective *= min(1.0, shorter) ** 2
    successes = p * effective
    low = float(betaincinv(successes, effective - successes + 1, tail))
    high = float(betaincinv(successes + 1, effective - successes, 1 - tail))
    return replace(found, low=min(low, surely), high=max(high, 1.0 - surely))


def within(interval: Interval, least: float = 0.0, most: float = 1.0) -> Interval:
    """The interval without what the score cannot be."""
    if interval.low is None or interval.high is None:
        return interval
    low, high = (min(max(bound, least), most) for bound in (interval.low, interval.high))
    return replace(interval, low=low, high=high)


def leave_out_means(scores: Vector, groups: Groups) -> list[float | None]:
    """The mean of the scores without each group: None where the group, or everything but the group, is empty."""
    sums = np.bincount(groups, weights=scores, minlength=GROUPS)
    counts = np.bincount(groups, minlength=GROUPS)
    total, size = sums.sum(), counts.sum()
    return [float((total - s) / (size - c)) if 0 < c < size else None for s, c in zip(sums, counts, strict=True)]
