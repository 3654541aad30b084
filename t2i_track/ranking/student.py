"""Student's t without scipy, which alone would take half a second to import."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


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


def bonferroni(runs: int, freedom: int, level: float) -> tuple[float, float]:
    """How many standard errors wide limits of differences between runs must be to hold all their truths at once.

    One-sided, between each of ``runs`` and the best; two-sided, between all pairs. The chance of an error is divided by
    their number.
    """
    alpha, others = 1 - level, max(runs - 1, 1)
    return student_quantile(1 - 2 * alpha / others, freedom), student_quantile(1 - 2 * alpha / (runs * others), freedom)
