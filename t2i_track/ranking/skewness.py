"""Whether runs' scores are skewed, and what their largest difference by chance is where they are.

Sign flips take a difference for symmetric. Of skewed scores of unequal spread it is not, and too many runs are told
apart. There the prompts are drawn again, with replacement, which keeps the skewness: a bootstrap-t (Hall 1988), whose
critical values go up where those of sign flips are too low.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from t2i_track.ranking.student import student_quantile

Matrix = NDArray[np.float64]

NORMAL_SPREAD = math.sqrt(math.pi / 2 - 1)
"""Standard deviation of √n (mean - median) / s of normal numbers, for large n (Cabilio & Masaro 1996)."""
LEVEL = 0.95
"""Of each of the two looks at it; mistaken for skewed, scores lose a little power and nothing else."""
PART = 1_000_000
"""Numbers of draws, runs and prompts held at once."""


def skewed(columns: Matrix) -> bool:
    """Whether mean and median part, of what is each run's own: in all runs together, or in one of them.

    The two are told apart by rank, unlike a third moment, so that heavy tails are not taken for skewness.

    Args:
        columns: a run a row (m, n), finite.
    """
    own = columns - columns.mean(axis=0)
    spreads = own.std(axis=1, ddof=1)
    own, spreads = own[spreads > 0], spreads[spreads > 0]
    runs, size = own.shape
    if not runs:
        return False
    lean = (own.mean(axis=1) - medians(own)) / spreads * math.sqrt(size) / NORMAL_SPREAD
    in_one = float(np.abs(lean).max()) > student_quantile(1 - (1 - LEVEL) / runs, size - 1)
    return in_one or abs(float(lean.sum())) / math.sqrt(runs) > student_quantile(LEVEL, size - 1)


def medians(rows: Matrix) -> Matrix:
    """The median of each row; numpy's own imports masked arrays, which takes as long as it takes to compare runs."""
    ordered, middle = np.sort(rows, axis=1), rows.shape[1] // 2
    return np.asarray((ordered[:, ~middle] + ordered[:, middle]) / 2)


def resampled(columns: Matrix, draws: int, seed: int) -> Iterator[tuple[Matrix, Matrix]]:
    """Differences of runs that are equal, over prompts that were drawn again: of some draws at once, the means of the
    rows less their own (draws, m), and the mean squares of the differences of all pairs of rows (draws, m, m).
    """
    runs, size = columns.shape
    own = columns - columns.mean(axis=0)
    own -= own.mean(axis=1, keepdims=True)
    rng, each = np.random.default_rng(seed), max(1, PART // (runs * max(runs, size)))
    for start in range(0, draws, each):
        counts = rng.multinomial(size, np.full(size, 1 / size), min(each, draws - start)) / size
        weighted = counts[:, None, :] * own
        squares = weighted @ own.T
        alone = np.einsum("dii->di", squares).copy()
        squares *= -2
        squares += alone[:, :, None]
        squares += alone[:, None, :]
        yield counts @ own.T, squares
