"""Student's t without scipy, which alone would take half a second to import."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def student_two_sided(t: Matrix | float, freedom: int) -> Matrix:
    """P(|T| > |t|) for Student's T with a whole number of degrees of freedom (Abramowitz & Stegun 26.7.3, 26.7.4)."""
    inside = _inside(np.abs(np.atleast_1d(t)) / math.sqrt(freedom), freedom, np.sqrt, np.arctan)
    return np.asarray(np.maximum(1.0 - inside, 0.0)).reshape(np.shape(t))


def _inside(
    tangent: Any, freedom: int, root: Callable[[Any], Any] = math.sqrt, arctan: Callable[[Any], Any] = math.atan
) -> Any:
    """P(|T| < tangent √freedom), of one number or, by numpy's functions, of an array."""
    squared = 1.0 / (1.0 + tangent * tangent)
    cosine = root(squared)
    # The series, from its last term inwards (Horner) and in place: it is evaluated for every pair of a thousand runs.
    series = squared * 0.0 + min(freedom - 1, 1)
    for k in range(freedom - 2, 1, -2):
        series *= squared
        series *= (k - 1) / k
        series += 1.0
    series *= tangent * cosine  # the sine
    return 2 / math.pi * (arctan(tangent) + series * cosine) if freedom % 2 else series


@lru_cache(maxsize=64)
def student_quantile(level: float, freedom: int) -> float:
    """The t that |T| exceeds with probability ``1 - level``, by bisection."""
    scale = math.sqrt(freedom)
    low, high = 0.0, 1.0
    while 1.0 - _inside(high / scale, freedom) > 1 - level:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if 1.0 - _inside(middle / scale, freedom) > 1 - level else (low, middle)
    return high


def bonferroni(runs: int, freedom: int, level: float) -> tuple[float, float]:
    """How many standard errors wide limits of differences between runs must be to hold all their truths at once.

    One-sided, between each of ``runs`` and the best; two-sided, between all pairs. The chance of an error is divided by
    their number.
    """
    alpha, others = 1 - level, max(runs - 1, 1)
    return student_quantile(1 - 2 * alpha / others, freedom), student_quantile(1 - 2 * alpha / (runs * others), freedom)
