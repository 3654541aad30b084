"""How sure a score is: the delete-a-group jackknife for distances, the bootstrap for means, and differences of runs.

Numbers only: numpy, and scipy's t distribution where it is asked for. Which method is used where, and the coverage
that each was measured to have, is in ``docs/metrics.md``; ``benchmarks/coverage.py`` measures it again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

GROUPS = 32
"""Leave-one-group-out groups; an image belongs to ``prompt_index % GROUPS``, the same one in every run."""

MIN_GROUPS = 8
"""With fewer groups the spread of the replicates says too little about the spread of the score."""

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


def group_of(prompt_index: int) -> int:
    return prompt_index % GROUPS


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
        return without_interval(value), f"{reason}; differences of runs over the same prompts have one"
    found = jackknife(value, replicates, level, correct_bias=True)
    if found.low is None or found.high is None:
        return found, None
    return replace(found, low=max(found.low, 0.0), high=max(found.high, 0.0)), "interval of the value without its bias"


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


def unpaired_difference(
    a_value: float, a_replicates: Replicates, b_value: float, b_replicates: Replicates, level: float = 0.95
) -> Interval:
    """``a - b`` for two runs over different prompts: variances add, degrees of freedom by Welch and Satterthwaite."""
    a, b = jackknife(a_value, a_replicates, level), jackknife(b_value, b_replicates, level)
    difference = a_value - b_value
    if a.standard_error is None or b.standard_error is None:
        return without_interval(difference)
    a_variance, b_variance = a.standard_error**2, b.standard_error**2
    total = a_variance + b_variance
    if total == 0.0:
        return student(difference, 0.0, 1.0, level)
    a_freedom, b_freedom = (sum(r is not None for r in reps) - 1 for reps in (a_replicates, b_replicates))
    freedom = total**2 / (a_variance**2 / a_freedom + b_variance**2 / b_freedom)
    return student(difference, math.sqrt(total), freedom, level)


def bootstrap_mean(
    scores: NDArray[np.float64], clusters: Sequence[int], level: float = 0.95, *, draws: int = 2000, seed: int = 0
) -> Interval:
    """Mean of per-image scores, by a bootstrap over prompts.

    Images of one prompt are alike, so prompts are drawn, not images; with an image a prompt the two are the same.
    The draws depend on ``seed`` only, so the same scores give the same interval.

    Args:
        scores: one per image, finite.
        clusters: the prompt index of each image.
    """
    _, cluster = np.unique(np.asarray(clusters), return_inverse=True)
    sums, counts = np.bincount(cluster, weights=scores), np.bincount(cluster).astype(np.float64)
    size = len(sums)
    estimate = float(sums.sum() / counts.sum())
    if size < MIN_GROUPS:
        return without_interval(estimate)
    rng = np.random.default_rng(seed)
    means = np.empty(draws)
    for i in range(draws):
        drawn = rng.integers(size, size=size)
        means[i] = sums[drawn].sum() / counts[drawn].sum()
    # A bootstrap's spread is that of the plug-in variance, which is (n - 1) / n too small.
    means = estimate + (means - estimate) * math.sqrt(size / (size - 1))
    low, high = np.quantile(means, [0.5 - level / 2, 0.5 + level / 2])
    error = float(means.std())
    p_value = min(1.0, 2.0 * float(min((means <= 0).mean(), (means >= 0).mean())))
    return Interval(estimate, float(low), float(high), error, p_value)


def share_interval(scores: NDArray[np.float64], clusters: Sequence[int], level: float = 0.95) -> Interval:
    """Mean of scores in [0, 1], by ``bootstrap_mean``, kept inside [0, 1].

    Scores that are all 0 or all 1 have no spread to draw from, yet say little where they are few: their interval ends
    at the share that would still have given so many of a kind with probability ``(1 - level) / 2`` (Clopper & Pearson
    1934), counting prompts, since images of one prompt are alike.
    """
    found = bootstrap_mean(scores, clusters, level)
    if found.low is None or found.high is None:
        return found
    reach = ((1 - level) / 2) ** (1 / len(set(clusters)))
    if (scores == 1.0).all():
        return replace(found, low=reach, high=1.0)
    if (scores == 0.0).all():
        return replace(found, low=0.0, high=1.0 - reach)
    return within(found)


def within(interval: Interval, least: float = 0.0, most: float = 1.0) -> Interval:
    """The interval without what the score cannot be."""
    if interval.low is None or interval.high is None:
        return interval
    return replace(interval, low=max(interval.low, least), high=min(interval.high, most))


def leave_out_means(scores: NDArray[np.float64], groups: NDArray[np.intp]) -> list[float | None]:
    """The mean of the scores without each group: None where the group, or everything but the group, is empty."""
    sums = np.bincount(groups, weights=scores, minlength=GROUPS)
    counts = np.bincount(groups, minlength=GROUPS)
    total, size = sums.sum(), counts.sum()
    return [float((total - s) / (size - c)) if 0 < c < size else None for s, c in zip(sums, counts, strict=True)]
