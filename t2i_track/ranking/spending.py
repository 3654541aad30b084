"""Limits at looks that were planned: group sequential tests by alpha spending.

A distance (FID, KID) is of a set of pictures, so there is no bet on the next one; nor is there one on numbers without
bounds. But the value at several numbers of prompts, divided by its standard error, behaves as a Brownian motion that is
looked at now and then (Jennison & Turnbull 2000, chapter 11), for which boundaries can be computed: at each look as
much of ``alpha`` is spent as a spending function allows (Lan & DeMets 1983, "Discrete sequential boundaries for
clinical trials", Biometrika 70). The planned maximum is fixed before the first look. Limits that hold at any number of
prompts (Waudby-Smith et al. 2024) are wider at each of thirty looks but the first few.

Of distances, whose first looks say little, the function is of O'Brien & Fleming's kind: little is spent early, so that
the last look is nearly a test of fixed size. Means spend by the square of the fraction (Kim & DeMets 1987, "Design and
analysis of group sequential tests based on the type I error spending rate function", Biometrika 74): what is plainly
worse shows after few prompts, where a normal tail is still a rough guess, so that not much may be spent there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from t2i_track.ranking.sequential import as_student

Matrix = NDArray[np.float64]

Spending = Callable[[float, float], float]
"""How much of a one-sided ``alpha`` (the second) may be spent up to a share of the planned maximum."""

POINTS = 128
"""Of the Gauss-Legendre grid on which the density of what has not crossed is kept: as many again move no boundary by
1e-6."""
WIDE = 8.5
"""Standard deviations to which the grid reaches below: beyond them a normal number has a chance of 1e-17."""
HALVINGS = 50
NORMAL = NormalDist()


def spent(fraction: float, alpha: float) -> float:
    """How much of a one-sided ``alpha`` may be spent up to a share of the planned maximum: 2 - 2 Φ(z_{α/2} / √t)."""
    if fraction <= 0:
        return 0.0
    return min(2 * NORMAL.cdf(NORMAL.inv_cdf(alpha / 2) / math.sqrt(min(fraction, 1.0))), alpha)


def squared(fraction: float, alpha: float) -> float:
    """Kim and DeMets' power family, with the power 2."""
    return alpha * min(max(fraction, 0.0), 1.0) ** 2


@lru_cache(maxsize=4096)
def boundaries(fractions: tuple[float, ...], alpha: float, spend: Spending = spent) -> tuple[float, ...]:
    """The normal quantile that each look's value over its standard error has to exceed, one-sided.

    The density of the Brownian motion that has not crossed yet is carried from look to look (Armitage, McPherson & Rowe
    1969), and each boundary is put where exactly what may be spent lies above it.

    Args:
        fractions: of the planned maximum, rising, the last at most 1.
    """
    found: list[float] = []
    places, density = np.zeros(1), np.ones(1)  # of the motion before the first look
    weights, before, used = np.ones(1), 0.0, 0.0
    for fraction in fractions:
        step, root, wanted = math.sqrt(fraction - before), math.sqrt(fraction), spend(fraction, alpha)
        mass = density * weights
        high = _place(mass, places, step, wanted - used, WIDE * root)
        found.append(high / root)
        used, before = wanted, fraction
        grid, weights = _grid(-WIDE * root, high)
        density = (np.exp(-0.5 * ((grid[:, None] - places) / step) ** 2) / (step * math.sqrt(2 * math.pi))) @ mass
        places = grid
    return tuple(found)


def _place(mass: Matrix, places: Matrix, step: float, target: float, most: float) -> float:
    """Above which so much of the motion lies, a step after it was at these places with these chances."""
    from scipy.special import ndtr

    low, high = -most, most
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if float(mass @ ndtr((places - middle) / step)) > target else (low, middle)
    return high


@lru_cache(maxsize=1)
def _nodes() -> tuple[Matrix, Matrix]:
    return np.polynomial.legendre.leggauss(POINTS)


def _grid(low: float, high: float) -> tuple[Matrix, Matrix]:
    """Places, and their weights in a sum that is an integral."""
    nodes, weights = _nodes()
    return low + (nodes + 1) * (high - low) / 2, weights * (high - low) / 2


def reach(look: int, looks: Sequence[int], most: int, alpha: float, freedom: int, spend: Spending = spent) -> float:
    """How many standard errors one-sided limits reach at a planned look, as Student's t of the boundary's probability.

    Args:
        look: its place among ``looks``, the numbers of prompts at which is looked.
        most: the planned maximum.
        freedom: of the standard error, one less than the groups of a jackknife, or than the prompts.
    """
    found = boundaries(tuple(number / most for number in looks), alpha, spend)[look]
    return as_student(found, freedom) if math.isfinite(found) else math.inf


def planned(first: int, most: int, looks: int, step: int = 1) -> tuple[int, ...]:
    """So many numbers of prompts to look at, from the first on evenly to the last, in multiples of ``step``."""
    if first >= most or looks < 2:
        return (most,)
    between = np.linspace(first, most, looks)
    numbers = {min(-(-round(float(number)) // step) * step, most) for number in between[:-1]}
    return tuple(sorted({*numbers, most}))
