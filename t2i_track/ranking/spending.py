"""Limits of distances (FID, KID) at a few looks that were planned: group sequential tests by alpha spending.

A distance is of a set of pictures, so there is no bet on the next one. But its value at several numbers of prompts,
divided by its standard error, behaves as a Brownian motion that is looked at now and then (Jennison & Turnbull 2000,
chapter 11), for which boundaries can be computed: at each look as much of ``alpha`` is spent as the spending function
of O'Brien & Fleming's kind allows (Lan & DeMets 1983, "Discrete sequential boundaries for clinical trials", Biometrika
70, function alpha_1). Little is spent early, so that the last look is nearly a test of fixed size. The planned maximum
is fixed before the first look.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from t2i_track.ranking.sequential import as_student

Matrix = NDArray[np.float64]

POINTS = 1001
"""Of the grid on which the density of what has not crossed is kept."""
WIDE = 8.5
"""Standard deviations to which the grid reaches below: beyond them a normal number has a chance of 1e-17."""
HALVINGS = 60
NORMAL = NormalDist()


def spent(fraction: float, alpha: float) -> float:
    """How much of a one-sided ``alpha`` may be spent up to a share of the planned maximum: 2 - 2 Φ(z_{α/2} / √t)."""
    if fraction <= 0:
        return 0.0
    return min(2 * NORMAL.cdf(NORMAL.inv_cdf(alpha / 2) / math.sqrt(min(fraction, 1.0))), alpha)


@lru_cache(maxsize=256)
def boundaries(fractions: tuple[float, ...], alpha: float) -> tuple[float, ...]:
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
        step, root, wanted = math.sqrt(fraction - before), math.sqrt(fraction), spent(fraction, alpha)
        mass = density * weights
        high = _place(mass, places, step, wanted - used, WIDE * root)
        found.append(high / root)
        used, before = wanted, fraction
        grid = np.linspace(-WIDE * root, high, POINTS)
        density = (np.exp(-0.5 * ((grid[:, None] - places) / step) ** 2) / (step * math.sqrt(2 * math.pi))) @ mass
        places, weights = grid, _trapezoid(grid)
    return tuple(found)


def _place(mass: Matrix, places: Matrix, step: float, target: float, most: float) -> float:
    """Above which so much of the motion lies, a step after it was at these places with these chances."""
    from scipy.special import ndtr

    low, high = -most, most
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if float(mass @ ndtr((places - middle) / step)) > target else (low, middle)
    return high


def _trapezoid(grid: Matrix) -> Matrix:
    weights = np.full(len(grid), grid[1] - grid[0])
    weights[[0, -1]] /= 2
    return weights


def reach(look: int, looks: Sequence[int], most: int, alpha: float, freedom: int) -> float:
    """How many standard errors one-sided limits reach at a planned look, as Student's t of the boundary's probability.

    Args:
        look: its place among ``looks``, the numbers of prompts at which is looked.
        most: the planned maximum.
        freedom: of the standard error, one less than the groups of a jackknife.
    """
    found = boundaries(tuple(number / most for number in looks), alpha)[look]
    return as_student(found, freedom) if math.isfinite(found) else math.inf


def planned(first: int, most: int, looks: int, step: int = 1) -> tuple[int, ...]:
    """So many numbers of prompts to look at, from the first on evenly to the last, in multiples of ``step``."""
    if first >= most or looks < 2:
        return (most,)
    between = np.linspace(first, most, looks)
    numbers = {min(-(-round(float(number)) // step) * step, most) for number in between[:-1]}
    return tuple(sorted({*numbers, most}))
