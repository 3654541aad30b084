"""Which of many runs can be told apart: all pairs at once, two-sided, step-down, by sign flips.

Runs are columns of numbers over the same prompts (of a mean: one number a prompt) or over the same groups of prompts
(of a distance: jackknife pseudo-values), so a pair's difference is a column too, and its mean is the pair's estimate.
Where two runs are equal, a prompt's difference is as likely to be negative as positive; flipping the signs of whole
prompts, the same ones in all pairs, then gives the distribution of the largest of all studentised differences, with
whatever correlation the pairs have (Fisher 1935; step-down, Romano & Wolf 2005; studentised in each draw, Janssen
1997). The chance of any false separation among all pairs is then at most ``1 - level``; docs/compare.md has the
simulations, and where it is more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from t2i_track.ranking.skewness import resampled, skewed
from t2i_track.ranking.student import bonferroni, student_quantile

Matrix = NDArray[np.float64]

DRAWS = 1999
FEWEST_DRAWS = 199
"""p-values of fewer draws are too coarse to adjust by."""
BUDGET = 3e7
"""Pairs times draws, a third of a second; more runs get fewer draws, and above 550 runs ``separations`` gives None."""
PART = 2_000_000
"""Numbers of prompts and draws held at once."""
CACHED = 65_536
"""Numbers of pairs and draws held at once, which are gone through several times: what a processor's cache holds."""
LEAST = 16
"""Draws held at once all the same: fewer cost more than they save."""
TIE = 1e-6
"""Differences below this share of the values are rounding: such runs are equal."""
NEAR = 1e-6
"""Sums of squares below this share of the runs' own are taken from the differences themselves."""
SEED = 2005


def draws_for(runs: int) -> int:
    """How many draws so many runs get; 0 where there would be too few."""
    pairs = max(runs * (runs - 1) // 2, 1)
    draws = min(DRAWS, int(BUDGET / pairs))
    return draws if draws >= FEWEST_DRAWS else 0


def separations(columns: Matrix, *, share: bool = False) -> Matrix | None:
    """Adjusted p-values of all pairs of rows (m, m), symmetric, NaN on the diagonal; None for too many runs.

    Where scores are skewed, by the larger of the counts of sign flips and of the bootstrap-t (``skewness``).

    Args:
        columns: a run a row (m, n), n prompts or groups of prompts, finite.
        share: of what is right or wrong. Differences are then of few values, as often of either sign where runs are
            equal, and resampling, which may draw none that differs, says nothing.
    """
    runs = len(columns)
    draws = draws_for(runs)
    if not draws:
        return None
    low, high = np.triu_indices(runs, 1)
    found = np.full((runs, runs), np.nan)
    if len(low):
        p = _step_down(columns, low, high, draws, not share and skewed(columns))
        found[low, high] = found[high, low] = p
    return found


def _step_down(
    columns: Matrix, low: NDArray[np.intp], high: NDArray[np.intp], draws: int, again: bool = False
) -> Matrix:
    size = columns.shape[1]
    centred, squares, gaps, tied = _pairs(columns, low, high)
    p = np.ones(len(low))
    kept = np.flatnonzero(~tied)
    # Flips change no square, so |t| grows with the mean over the root of the mean square, and either orders the draws.
    roots = np.sqrt(squares[kept] / size)
    statistic = np.abs(gaps[kept]) / roots
    rising = np.argsort(statistic, kind="stable")
    order, roots, ordered = kept[rising], roots[rising], statistic[rising] * (1 - 1e-12)
    left, right = low[order], high[order]
    counts = np.ones(len(order))  # the observed signs are one of the draws
    for flipped in _flipped(centred, draws, len(order)):
        drawn = flipped[:, right]
        drawn -= flipped[:, left]
        np.abs(drawn, out=drawn)
        drawn /= roots
        counts += _exceeding(drawn, ordered)
    if again:
        others = np.ones(len(order))
        for means, mean_squares in resampled(columns, draws, SEED):
            roots = np.sqrt(np.maximum(mean_squares[:, left, right], 0.0))
            gaps = np.abs(means[:, right] - means[:, left])
            others += _exceeding(np.divide(gaps, roots, out=np.zeros_like(gaps), where=roots > 0.0), ordered)
        np.maximum(counts, others, out=counts)
    p[order] = np.minimum(np.maximum.accumulate(counts[::-1])[::-1] / (draws + 1), 1.0)
    return p


def _exceeding(drawn: Matrix, ordered: Matrix) -> NDArray[np.intp]:
    """In how many draws the largest of a pair and of those below it is as large as that pair's own."""
    np.maximum.accumulate(drawn, axis=1, out=drawn)
    return np.asarray((drawn >= ordered).sum(axis=0))


def pair_statistics(columns: Matrix) -> Iterator[tuple[int, Matrix, NDArray[np.bool_]]]:
    """|t| of the pairs of rows, and whether the two are equal but for rounding, some rows at once.

    Yields:
        The first of some rows, and of them with all rows from the first on (some, m - first) |t| and the ties.
    """
    runs, size = columns.shape
    centred, own, means, sizes = _rows(columns)
    each = max(1, CACHED // runs)
    for start in range(0, runs, each):
        some, rest = slice(start, start + each), slice(start, None)
        squares = centred[some] @ centred[rest].T
        squares *= -2.0
        both = own[some, None] + own[rest]
        squares += both
        low, high = np.nonzero(squares <= NEAR * both)
        squares[low, high] = _exactly(centred, low + start, high + start)
        tied = np.sqrt(squares / size) <= TIE * np.maximum(sizes[some, None], sizes[rest])
        yield start, _studentised(means[rest] - means[some, None], squares, size), tied


def _pairs(
    columns: Matrix, low: NDArray[np.intp], high: NDArray[np.intp]
) -> tuple[Matrix, Matrix, Matrix, NDArray[np.bool_]]:
    """The centred rows, and of each pair the sum of squares, the mean difference and whether it is a tie."""
    centred, own, means, sizes = _rows(columns)
    squares = _squares(centred, own, low, high)
    tied = np.sqrt(squares / columns.shape[1]) <= TIE * np.maximum(sizes[low], sizes[high])
    return centred, squares, means[high] - means[low], tied


def _rows(columns: Matrix) -> tuple[Matrix, Matrix, Matrix, Matrix]:
    """The rows less what all have in common, their sums of squares and means; and how large the means were.

    Taking the same number from all runs changes no difference, and leaves less to cancel.
    """
    centred = columns - columns.mean(axis=0)
    return centred, np.einsum("ij,ij->i", centred, centred), centred.mean(axis=1), np.abs(columns.mean(axis=1))


def _squares(centred: Matrix, own: Matrix, low: NDArray[np.intp], high: NDArray[np.intp]) -> Matrix:
    """The sum of squares of each pair's differences."""
    products = (centred @ centred.T).ravel().take(low * len(centred) + high)
    both = own[low] + own[high]
    found = both - 2.0 * products
    near = np.flatnonzero(found <= NEAR * both)
    found[near] = _exactly(centred, low[near], high[near])
    return np.asarray(found)


def _exactly(centred: Matrix, low: NDArray[np.intp], high: NDArray[np.intp]) -> Matrix:
    """Sums of squares from the differences themselves, for nearly equal runs, of which a product leaves rounding."""
    found = np.empty(len(low))
    for start in range(0, len(low), 1024):
        some = slice(start, start + 1024)
        found[some] = ((centred[high[some]] - centred[low[some]]) ** 2).sum(axis=1)
    return found


def _studentised(gaps: Matrix, squares: Matrix, size: int) -> Matrix:
    """|mean| over its standard error; flips change no square, so the sum of squares is that of the data."""
    variance = np.maximum(squares / size - gaps * gaps, 0.0) / (size - 1)
    varies = variance > 0.0
    return np.asarray(np.where(varies, np.abs(gaps) / np.sqrt(np.where(varies, variance, 1.0)), np.inf))


def _flipped(columns: Matrix, draws: int, pairs: int) -> Iterator[Matrix]:
    """The means of the rows under each draw of signs (draws, m), so many draws at once as fit with so many pairs."""
    size = columns.shape[1]
    signs, some, each = _signs(size)[:draws], max(1, PART // size), max(LEAST, CACHED // max(pairs, 1))
    means = np.concatenate([signs[start : start + some] @ columns.T for start in range(0, draws, some)]) / size
    return (means[start : start + each] for start in range(0, draws, each))


@lru_cache(maxsize=4)
def _signs(size: int) -> NDArray[np.int8]:
    """The same for every set of runs of this size, so drawn once: a comparison asks for them up to five times."""
    return (np.random.default_rng(SEED).integers(0, 2, (DRAWS, size)) * 2 - 1).astype(np.int8)


def tiers(adjusted: Matrix, alpha: float) -> list[int | None]:
    """A tier for each run of a matrix in rank order: the first of which no member can be told from it.

    So no two runs of one tier can be told apart, and a run that is not in the first can be told from one above it. None
    for a run of which nothing is known, unless it is alone.
    """
    unknown = np.isnan(adjusted).sum(axis=1) == max(len(adjusted), 2)  # never of a run alone
    apart = adjusted <= alpha
    found: list[int | None] = []
    closed: list[NDArray[np.bool_]] = []  # of each tier, the runs that can be told from one of its members
    for run in range(len(adjusted)):
        if unknown[run]:
            found.append(None)
            continue
        place = next((place for place, told in enumerate(closed) if not told[run]), len(closed))
        if place == len(closed):
            closed.append(np.zeros(len(adjusted), dtype=bool))
        closed[place] |= apart[run]
        found.append(place + 1)
    return found


def reaches(columns: Matrix, level: float) -> tuple[Matrix, float]:
    """How many standard errors wide limits of differences must be to hold all their truths at once.

    Args:
        columns: a run a row (m, n), finite.

    Returns:
        For each run, taken as the best: of the upper limits of how much better it is than the others, one-sided (m,)
        (Dunnett 1955; Hsu 1984). And of the intervals of all pairs, two-sided. Neither is below Student's of one pair.
        By sign flips; of too many runs by Bonferroni's inequality.
    """
    runs, size = columns.shape
    alone = student_quantile(2 * level - 1, size - 1), student_quantile(level, size - 1)
    if runs * runs * DRAWS > BUDGET / 3:
        one, both = bonferroni(runs, size - 1, level)
        return np.full(runs, one), both
    centred, own, _, _ = _rows(columns)
    low, high = (index.ravel() for index in np.indices((runs, runs)))
    roots = np.sqrt(_squares(centred, own, low, high) / size).reshape(runs, runs)
    scale = np.divide(1.0, roots, out=np.zeros_like(roots), where=roots > 0.0)
    found = []
    for flipped in _flipped(centred, DRAWS, runs * runs):
        gaps = flipped[:, None, :] - flipped[:, :, None]
        gaps *= scale
        found.append(gaps.max(axis=1))  # at least the diagonal's 0
    # |t| grows with the mean over the root of the mean square, so only the largest of a draw are studentised.
    best = _studentised(np.concatenate(found), np.full(runs, float(size)), size)
    place = min(math.ceil(level * (DRAWS + 1)), DRAWS) - 1
    one_sided, widest = np.sort(best, axis=0)[place], np.sort(best.max(axis=1))[place]
    return np.maximum(one_sided, alone[0]), max(float(widest), alone[1])


def simultaneous_reach(columns: Matrix, level: float) -> float:
    """How many standard errors wide intervals of all rows' means must be to hold all their truths at once.

    For the interval of the best of several runs: that it was chosen for its value is then allowed for. By sign flips of
    the centred columns, the largest studentised mean of all rows.
    """
    size = columns.shape[1]
    centred = columns - columns.mean(axis=1, keepdims=True)
    squares = np.einsum("ij,ij->i", centred, centred)
    varies = np.flatnonzero(squares > 0)
    if not len(varies):
        return 0.0
    # |t| grows with the mean over the root of the mean square, so only the largest of a draw is studentised.
    scaled = centred[varies] * np.sqrt(size / squares[varies])[:, None]
    largest = []
    for flipped in _flipped(scaled, DRAWS, len(varies)):
        largest.append(np.maximum(flipped.max(axis=1), -flipped.min(axis=1)))
    found = np.sort(_studentised(np.concatenate(largest), np.full(DRAWS, float(size)), size))
    return float(found[min(math.ceil(level * (len(found) + 1)), len(found)) - 1])
