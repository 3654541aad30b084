"""Differences of runs, paired by prompt, and which pairs of many can be told apart.

A score of a run is a column of numbers whose mean it is (``Score.columns``); two runs over the same prompts are
compared number by number. Everything here is numpy: scipy alone would take half a second to import.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from t2i_track.metrics.registry import score_info
from t2i_track.metrics.uncertainty import MIN_GROUPS, Interval, without_interval
from t2i_track.ranking.rows import Score
from t2i_track.ranking.separation import TIE, pair_statistics, separations
from t2i_track.ranking.student import student_quantile, student_two_sided

Matrix = NDArray[np.float64]

FEW = 16
"""So many pairs are not worth the arrays."""
SURE = 1e6
"""As t of a difference without spread, where the series of Student's tail would multiply 0 by infinity."""
PART = 8192
"""Numbers that a processor's cache holds, with what is computed from them."""


def difference(a: Score, b: Score, level: float, paired: bool = True) -> Interval:
    """``a - b`` with Student's t over prompts or groups of prompts; without bounds where it cannot be known.

    The estimate is that of the values, but for a score that is compared without its bias: there it is the difference of
    the corrected values.
    """
    ours, theirs = a.columns, b.columns
    if ours is None or theirs is None:
        return without_interval(a.value - b.value)
    if not paired:
        return _welch(a, b, level)
    if not a.pairs_with(b):
        return without_interval(a.value - b.value)
    gaps = ours - theirs
    gaps = gaps[np.isfinite(gaps)]
    if len(gaps) < MIN_GROUPS:
        return without_interval(a.value - b.value)
    estimate = float(gaps.mean()) if _corrected(a) else a.value - b.value
    error = float(gaps.std(ddof=1)) / math.sqrt(len(gaps))
    if np.sqrt(np.mean(gaps * gaps)) <= TIE * max(abs(a.value), abs(b.value)):
        error = 0.0  # what rounding leaves of nothing
        estimate = 0.0
    prompts = len(gaps) if a.parts is not None or not a.n else a.n  # older values say how many images only
    return _interval(estimate, error, len(gaps) - 1, _equal_reach(a, prompts, level), level)


def differences(pairs: Sequence[tuple[Score, Score]], level: float) -> list[Interval]:
    """``difference`` of each pair over the same prompts; of thousands in one go."""
    first = pairs[0][0] if pairs else None
    alike = first is not None and all(a.pairs_with(first) and b.pairs_with(first) for a, b in pairs)
    if not alike or len(pairs) < FEW:
        return [difference(a, b, level) for a, b in pairs]
    gaps = np.stack([np.asarray(a.columns) for a, _ in pairs]) - np.stack([np.asarray(b.columns) for _, b in pairs])
    size = gaps.shape[1]
    if not np.isfinite(gaps).all() or size < MIN_GROUPS:
        return [difference(a, b, level) for a, b in pairs]
    values = np.array([a.value - b.value for a, b in pairs])
    estimates = gaps.mean(axis=1) if _corrected(pairs[0][0]) else values
    errors = gaps.std(axis=1, ddof=1) / math.sqrt(size)
    scale = np.array([max(abs(a.value), abs(b.value)) for a, b in pairs])
    plain = (errors > 0.0) & (np.sqrt((gaps * gaps).mean(axis=1)) > TIE * scale)
    p = student_two_sided(np.where(plain, estimates, 0.0) / np.where(plain, errors, 1.0), size - 1)
    reach = student_quantile(level, size - 1) * errors
    rows = zip(estimates.tolist(), reach.tolist(), errors.tolist(), p.tolist(), plain.tolist(), pairs, strict=True)
    return [
        Interval(estimate, estimate - wide, estimate + wide, error, chance) if known else difference(a, b, level)
        for estimate, wide, error, chance, known, (a, b) in rows
    ]


def _interval(estimate: float, error: float, freedom: int, equal_reach: float, level: float) -> Interval:
    if error == 0.0:
        reach = equal_reach if estimate == 0.0 else 0.0
        return Interval(estimate, estimate - reach, estimate + reach, 0.0, 1.0 if estimate == 0.0 else 0.0)
    reach = student_quantile(level, freedom) * error
    p_value = float(student_two_sided(estimate / error, freedom))
    return Interval(estimate, estimate - reach, estimate + reach, error, p_value)


def _equal_reach(score: Score, prompts: int, level: float) -> float:
    """Half the width of the interval of a difference that is 0 for every prompt.

    Shares of equal pictures, such as alignment, are often equal image by image. That no prompt of ``n`` differs says
    that at most ``1 - ((1 - level) / 2) ** (1 / n)`` of all do (Clopper & Pearson 1934), and none by more than 1.
    """
    return float(1.0 - ((1.0 - level) / 2.0) ** (1.0 / prompts)) if _share(score) else 0.0


def _welch(a: Score, b: Score, level: float) -> Interval:
    """Of runs over different prompts: variances add, degrees of freedom by Welch and Satterthwaite."""
    assert a.columns is not None
    assert b.columns is not None
    columns = [score.columns[np.isfinite(score.columns)] for score in (a, b) if score.columns is not None]
    if min(map(len, columns)) < MIN_GROUPS:
        return without_interval(a.value - b.value)
    variances = [float(one.var(ddof=1)) / len(one) for one in columns]
    total = sum(variances)
    estimate = float(columns[0].mean() - columns[1].mean()) if _corrected(a) else a.value - b.value
    if total == 0.0:
        return _interval(estimate, 0.0, 1, 0.0, level)
    freedom = total**2 / sum(v * v / (len(one) - 1) for v, one in zip(variances, columns, strict=True))
    return _interval(estimate, math.sqrt(total), max(int(freedom), 1), 0.0, level)


def _corrected(score: Score) -> bool:
    info = score_info(score.name)
    return info is not None and info.corrected


def _share(score: Score) -> bool:
    info = score_info(score.name)
    return info is not None and info.share


def adjusted_p_values(scores: Sequence[Score], manifests: Sequence[str], level: float) -> Matrix:
    """Of all pairs (m, m), adjusted for how many they are: NaN where they cannot be known, and on the diagonal.

    By sign flips (``separation``) where all are over the same prompts; Holm's method over single p-values where they
    are not, or where they are too many.
    """
    result = np.full((len(scores), len(scores)), np.nan)
    known = [place for place, score in enumerate(scores) if _enough(score)]
    if len(known) < 2:
        return result
    first = scores[known[0]]
    together = all(scores[k].pairs_with(first) and manifests[k] == manifests[known[0]] for k in known)
    found = None
    if together:
        columns = np.stack([np.asarray(scores[k].columns) for k in known])
        columns = columns[:, np.isfinite(columns).all(axis=0)]
        if columns.shape[1] < MIN_GROUPS:
            return result
        found = told_apart(columns, share=_share(first))
    else:
        found = holm_pairs(_single_p_values([scores[k] for k in known], [manifests[k] for k in known], level))
    if len(known) == len(scores):
        return found
    result[np.ix_(known, known)] = found
    return result


def told_apart(columns: Matrix, *, share: bool = False) -> Matrix:
    """Adjusted p-values of all pairs of rows over the same prompts (m, m); ``share``: of what is right or wrong.

    A pair's is never below Student's of that pair alone, so that none is told apart whose printed interval holds 0.
    """
    single, flipped = _paired_p_values(columns), separations(columns, share=share)
    return holm_pairs(single) if flipped is None else np.fmax(flipped, single)


def _enough(score: Score) -> bool:
    return score.columns is not None and int(np.isfinite(score.columns).sum()) >= MIN_GROUPS


def _paired_p_values(columns: Matrix) -> Matrix:
    """Student's, of all pairs of rows over the same prompts."""
    freedom, found = columns.shape[1] - 1, np.empty((len(columns), len(columns)))
    for start, statistic, tied in pair_statistics(columns):
        p = student_two_sided(np.minimum(statistic, SURE), freedom)
        p[tied] = 1.0
        some, rest = slice(start, start + len(p)), slice(start + len(p), None)
        among, others = np.triu(p[:, : len(p)], 1), p[:, len(p) :]
        found[some, some] = among + among.T
        found[some, rest], found[rest, some] = others, others.T
    np.fill_diagonal(found, np.nan)
    return found


def _single_p_values(scores: Sequence[Score], manifests: Sequence[str], level: float) -> Matrix:
    """Pair by pair, those over different manifests as independent samples."""
    result = np.full((len(scores), len(scores)), np.nan)
    for i, a in enumerate(scores):
        for j, b in enumerate(scores[:i]):
            p = difference(a, b, level, paired=manifests[i] == manifests[j]).p_value
            result[i, j] = result[j, i] = np.nan if p is None else p
    return result


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
    low, high = np.nonzero(np.triu(p, 1) > 0.0)  # ``holm`` leaves the others as they are
    found = p.copy()
    found[low, high] = found[high, low] = holm(p[low, high])
    return found


def mean(scores: Sequence[Score]) -> Score:
    """The average over runs of one metric; its columns are the averages of theirs, so pairing is kept."""
    first = scores[0]
    if len(scores) == 1:
        return first
    kept = [score.columns for score in scores if score.columns is not None and score.pairs_with(first)]
    columns = np.mean(kept, axis=0) if len(kept) == len(scores) else None
    value = math.fsum(score.value for score in scores) / len(scores)
    return Score(
        first.name,
        value,
        n=first.n,
        protocol=first.protocol,
        protocol_label=first.protocol_label,
        grouping=first.grouping,
        prompts=first.prompts,
        parts=columns,
    )


def interval_of(score: Score, level: float) -> Interval:
    """The interval of a score itself, over its columns."""
    if score.columns is None:
        return without_interval(score.value)
    columns = score.columns[np.isfinite(score.columns)]
    if len(columns) < MIN_GROUPS:
        return without_interval(score.value)
    estimate = float(columns.mean()) if _corrected(score) else score.value
    return _interval(estimate, float(columns.std(ddof=1)) / math.sqrt(len(columns)), len(columns) - 1, 0.0, level)
