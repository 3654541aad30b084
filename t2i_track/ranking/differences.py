"""Paired differences of many runs at once, corrected for how many were looked at.

The same numbers as ``t2i_track.metrics.uncertainty.paired_difference`` (a test holds them equal), but for all pairs
of a thousand runs in a fraction of a second and without importing scipy, which alone takes half a second.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from t2i_track.metrics.registry import score_info
from t2i_track.metrics.uncertainty import MIN_GROUPS, Interval, unpaired_difference, without_interval
from t2i_track.ranking.rows import Score

Matrix = NDArray[np.float64]

PART = 8192
"""Numbers that a processor's cache holds, with what is computed from them."""


def student_two_sided(t: Matrix | float, freedom: int) -> Matrix:
    """P(|T| > |t|) for Student's T with a whole number of degrees of freedom (Abramowitz & Stegun 26.7.3, 26.7.4)."""
    tangent = np.atleast_1d(np.abs(t) / math.sqrt(freedom))
    squared = 1.0 / (1.0 + tangent * tangent)
    cosine = np.sqrt(squared)
    odd = freedom % 2
    # The series, from its last term inwards (Horner) and in place: it is evaluated for every pair of a thousand runs.
    series = np.ones_like(squared) if freedom > 1 else np.zeros_like(squared)
    for k in range(freedom - 2, 1, -2):
        series *= squared
        series *= (k - 1) / k
        series += 1.0
    series *= tangent * cosine  # the sine
    inside = 2 / np.pi * (np.arctan(tangent) + series * cosine) if odd else series
    return np.asarray(np.maximum(1.0 - inside, 0.0)).reshape(np.shape(t))


@lru_cache(maxsize=64)
def student_quantile(level: float, freedom: int) -> float:
    """The t that |T| exceeds with probability ``1 - level``, by bisection."""
    low, high = 0.0, 1.0
    while student_two_sided(high, freedom) > 1 - level:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if student_two_sided(middle, freedom) > 1 - level else (low, middle)
    return high


def difference(a: Score, b: Score, level: float, paired: bool = True) -> Interval:
    """``a - b``, by the delete-a-group jackknife; without bounds where a score has no replicates."""
    estimate = a.value - b.value
    if a.replicates is None or b.replicates is None or len(a.replicates) != len(b.replicates):
        return without_interval(estimate)
    if not paired:
        return unpaired_difference(a.value, a.replicates, b.value, b.replicates, level)
    error, groups = _errors(_matrix([a]), _matrix([b])[0])
    if groups[0] < MIN_GROUPS:
        return without_interval(estimate)
    reach = _reach(estimate, float(error[0]), int(groups[0]), b, level)
    p_value = float(_two_sided(np.array([estimate]), error, groups)[0])
    return Interval(estimate, estimate - reach, estimate + reach, float(error[0]), p_value)


def differences(scores: Sequence[Score], other: Score, level: float) -> list[Interval]:
    """``difference`` of each score to one other over the same prompts, in one go."""
    replicates = _matrix([other, *scores])
    if np.isnan(replicates[0]).all():
        return [without_interval(score.value - other.value) for score in scores]
    errors, groups = _errors(replicates[1:], replicates[0])
    estimates = np.array([score.value - other.value for score in scores])
    found = zip(
        estimates.tolist(), errors.tolist(), groups.tolist(), _two_sided(estimates, errors, groups), strict=True
    )
    return [
        without_interval(estimate)
        if known < MIN_GROUPS
        else Interval(
            estimate,
            estimate - (reach := _reach(estimate, error, known, other, level)),
            estimate + reach,
            error,
            float(p),
        )
        for estimate, error, known, p in found
    ]


def _reach(estimate: float, error: float, groups: int, other: Score, level: float) -> float:
    """Half the width of the interval of a difference to ``other``.

    Shares of equal pictures, such as alignment, are often equal image by image. That no image of ``n`` differs says
    that at most ``1 - ((1 - level) / 2) ** (1 / n)`` of all do (Clopper & Pearson 1934), and none by more than 1.
    """
    info = score_info(other.name)
    if estimate == 0.0 and error == 0.0 and info is not None and info.share and other.n:
        return float(1.0 - ((1.0 - level) / 2.0) ** (1.0 / other.n))
    return student_quantile(level, groups - 1) * error


def paired_p_values(a: Sequence[Score], b: Sequence[Score]) -> Matrix:
    """Two-sided p-values of ``a[i] - b[i]`` over the same prompts (m,); NaN where they cannot be known."""
    replicates, values = _matrix([*a, *b]), np.array([score.value for score in (*a, *b)])
    error, groups = _errors(replicates[: len(a)], replicates[len(a) :])
    found = _two_sided(values[: len(a)] - values[len(a) :], error, groups)
    return np.where(groups >= MIN_GROUPS, found, np.nan)


def p_values(scores: Sequence[Score], manifests: Sequence[str]) -> Matrix:
    """Two-sided p-values of all pairs (m x m, symmetric): NaN where they cannot be known, and on the diagonal.

    Runs over the same manifest are compared prompt group by prompt group, others as independent samples.
    """
    replicates, values = _matrix(scores), np.array([score.value for score in scores])
    names = np.unique(np.asarray(manifests), return_inverse=True)[1]
    result = np.full((len(scores), len(scores)), np.nan)
    if len(scores) > 1:
        error, groups = _pairwise_errors(replicates)
        low, high = np.triu_indices(len(scores), 1)
        known = (groups >= MIN_GROUPS) & (names[low] == names[high])
        p = np.where(known, _two_sided(values[high] - values[low], error, groups), np.nan)
        result[low, high] = result[high, low] = p
    if len(set(manifests)) > 1:
        _fill_unpaired(result, scores, names)
    return result


def _fill_unpaired(result: Matrix, scores: Sequence[Score], names: NDArray[np.intp]) -> None:
    for i, j in zip(*np.nonzero(np.triu(names[:, None] != names[None, :])), strict=True):
        p = difference(scores[i], scores[j], 0.95, paired=False).p_value
        result[i, j] = result[j, i] = np.nan if p is None else p


def _matrix(scores: Sequence[Score]) -> Matrix:
    """Replicates as m x G, NaN for an empty group, and for all groups of a score that has none or another number."""
    groups = max((len(score.replicates) for score in scores if score.replicates), default=1)
    rows = [score.replicates if score.replicates and len(score.replicates) == groups else () for score in scores]
    return np.array([[np.nan if r is None else r for r in row] or [np.nan] * groups for row in rows], dtype=np.float64)


def _errors(replicates: Matrix, other: Matrix) -> tuple[Matrix, NDArray[np.intp]]:
    """Jackknife standard errors of the differences of each row to ``other``, and how many groups both have."""
    gaps = replicates - other
    known = np.isfinite(gaps)
    if known.all():  # the usual case, in fewer passes over what are many numbers for many runs
        size = gaps.shape[1]
        gaps -= gaps.mean(axis=1, keepdims=True)
        return np.sqrt((size - 1) / size * np.einsum("ij,ij->i", gaps, gaps)), np.full(len(gaps), size)
    groups = known.sum(axis=1)
    gaps = np.where(known, gaps, 0.0)
    many = np.maximum(groups, 1)
    centred = np.where(known, gaps - (gaps.sum(axis=1) / many)[:, None], 0.0)
    return np.sqrt((groups - 1).clip(0) / many * (centred**2).sum(axis=1)), groups


def _pairwise_errors(replicates: Matrix) -> tuple[Matrix, NDArray[np.intp]]:
    """`_errors` of every pair, in the order of ``np.triu_indices(m, 1)``."""
    if not np.isfinite(replicates).all():
        found = [_errors(replicates[i + 1 :], replicates[i]) for i in range(len(replicates) - 1)]
        error, groups = (np.concatenate(part) for part in zip(*found, strict=True))
        return error, groups
    # |x - y|^2 for all pairs from one matrix product. Centred first, so that what cancels is no larger than the
    # replicates' own spread.
    size = replicates.shape[1]
    centred = replicates - replicates.mean(axis=1, keepdims=True)
    products = centred @ centred.T
    low, high = np.triu_indices(len(replicates), 1)
    own = products.diagonal()
    squares = own[low] + own[high] - 2.0 * products[low, high]
    # What rounding leaves of nothing is nothing: replicates that move together exactly have no error.
    squares[squares <= 1e-14 * (own[low] + own[high])] = 0.0
    return np.sqrt((size - 1) / size * squares), np.full(len(squares), size)


def _two_sided(estimates: Matrix, errors: Matrix, groups: NDArray[np.intp]) -> Matrix:
    p = np.where(estimates == 0.0, 1.0, 0.0)
    if len(groups) and groups[0] > 1 and (groups == groups[0]).all() and (errors > 0.0).all():
        t, freedom = estimates / errors, int(groups[0]) - 1
        parts = [student_two_sided(t[start : start + PART], freedom) for start in range(0, len(t), PART)]
        return np.concatenate(parts)
    for count in np.unique(groups[groups > 1]):
        at = (groups == count) & (errors > 0.0)
        p[at] = student_two_sided(estimates[at] / errors[at], int(count) - 1)
    return p


def holm(p: Sequence[float | None] | Matrix) -> Matrix:
    """Holm's step-down adjusted p-values (Holm 1979): at most ``alpha`` chance of any false claim at ``<= alpha``.

    Unknown values (NaN or None) stay unknown and are not counted.
    """
    values = np.array(p, dtype=np.float64)
    # Zeros come first and stay zero, so they need no sorting: among many runs they are the most.
    rest = np.flatnonzero(values > 0.0)
    order = rest[np.argsort(values[rest])]
    factors = len(order) - np.arange(len(order))
    values[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1.0)
    return values


def holm_pairs(p: Matrix) -> Matrix:
    """``holm`` over a symmetric matrix of pairs, each pair counted once."""
    low, high = np.triu_indices(len(p), 1)
    adjusted = np.full_like(p, np.nan)
    adjusted[low, high] = adjusted[high, low] = holm(p[low, high])
    return adjusted


def mean(scores: Sequence[Score]) -> Score:
    """The average over runs of one metric; its replicates are the averages of theirs, so pairing is kept."""
    if len(scores) == 1:
        return scores[0]
    kept = [score.replicates for score in scores if score.replicates is not None]
    replicates = None
    if len(kept) == len(scores) and len({len(r) for r in kept}) == 1:
        averages = np.array(kept, dtype=np.float64).mean(axis=0)  # a None is a NaN here, and makes its average one
        replicates = tuple(None if math.isnan(r) else r for r in averages.tolist())
    first = scores[0]
    value = math.fsum(score.value for score in scores) / len(scores)
    return Score(
        first.name,
        value,
        n=first.n,
        protocol=first.protocol,
        protocol_label=first.protocol_label,
        replicates=replicates,
    )


def interval_of(score: Score, level: float) -> Interval:
    """The jackknife interval of a score itself."""
    if score.replicates is None:
        return without_interval(score.value)
    nothing = Score(score.name, 0.0, replicates=(0.0,) * len(score.replicates))
    return difference(score, nothing, level)
