"""Confidence sequences: limits of a mean that hold at every number of prompts at once, so that anybody may look.

A fixed-size interval holds its truth in 95 % of sweeps at one number of prompts; looked at after every round it misses
in far more of them sooner or later. A confidence sequence misses *at any time* in at most ``alpha`` (Darling & Robbins
1967; Howard et al. 2021). Both kinds here are one-sided lower limits; an upper limit is that of the negated numbers.

Bounded numbers: the wealth of a gambler who bets that the mean is above ``m`` (Waudby-Smith & Ramdas 2024, "Estimating
means of bounded random variables by betting", section 4). With numbers brought to y in [0, 1] and a bet of a fixed
fraction c of the largest one that cannot ruin, one factor is ``1 + c / m (y - m) = 1 - c + c y / m``, never below 0 and
at most 1 in the mean where the mean is at most m: the product is a supermartingale, and exceeds ``1 / alpha`` at any
time with a chance of at most ``alpha`` (Ville 1939). The mean of the products over a grid of c is one too ("grid
Kelly", their appendix B), does not depend on the order of the numbers, and falls in m, so that what it does not refute
is an interval.

Numbers of whatever size: ``mean - s / sqrt(n) z_n`` with the boundary of a Gaussian mixture in place of a quantile
(Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2024, "Time-uniform central limit theory and asymptotic confidence
sequences", Annals of Statistics 52, theorem 2.2, one-sided in their appendix), which holds in the limit. For few
prompts z_n is turned into Student's t of the same probability. It says about how many prompts bets would want. Where
the looks are planned, alpha spending (``spending``) has narrower limits, and these decide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from t2i_track.ranking.student import student_quantile

Matrix = NDArray[np.float64]

BETS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.3, 0.5, 0.7, 0.85, 0.95)
"""Fractions of the largest bet. Against differences of 0.02 with a spread of 0.15 the best is near 0.9 of it, with a
spread of 0.5 near 0.08; a grid of ten costs at most a factor of ten in wealth, as much as 20 to 100 prompts then."""
HALVINGS = 40
"""Of the range of a mean, in search of its limit: beyond what is printed."""
MANY = 500
"""Degrees of freedom above which Student's t is a normal number: by then the two differ in one part of 200."""
LEAST = 16
"""Prompts below which unbounded numbers have no limits: their spread is not known yet."""


def wealth(
    values: Matrix,
    mean: float,
    low: float,
    high: float,
    bets: Sequence[float] = BETS,
    at: NDArray[np.intp] | slice = slice(None),
) -> Matrix:
    """Log of the evidence that the mean is above ``mean``, after each number, or after those ``at`` some places.

    Args:
        values: in [low, high], (..., n), in the order in which they were drawn; NaN where there is none.
        mean: above ``low``.

    Returns:
        (..., n): if the mean is at most ``mean``, any of it exceeds ``log(1 / alpha)`` with a chance of at most
        ``alpha``.
    """
    share = np.nan_to_num((values - mean) / (mean - low), nan=0.0)
    if share.size and not (share.min() >= -1 - 1e-9 and (high - mean) / (mean - low) >= share.max() - 1e-9):
        raise ValueError(f"numbers from {np.nanmin(values)} to {np.nanmax(values)} are not within [{low}, {high}]")
    found = np.full(share[..., at].shape, -np.inf)
    for bet in bets:
        np.logaddexp(found, np.cumsum(np.log1p(bet * share), axis=-1)[..., at], out=found)
    return found - math.log(len(bets))


def betting_limit(values: Matrix, alpha: float, low: float, high: float) -> float:
    """Lower limit of the mean of numbers in [low, high] (n,), at any number of them; ``low`` where nothing is known."""
    some = values[np.isfinite(values)]
    if not len(some):
        return low
    below, above, wanted = low, float(some.mean()), math.log(1 / alpha)
    for _ in range(HALVINGS):
        middle = (below + above) / 2
        refuted = middle > low and _last(some, middle, low) >= wanted
        below, above = (middle, above) if refuted else (below, middle)
    return below


def _last(values: Matrix, mean: float, low: float) -> float:
    """The last of ``wealth``."""
    share = (values - mean) / (mean - low)
    logs = [float(np.log1p(bet * share).sum()) for bet in BETS]
    most = max(logs)
    return most + math.log(sum(math.exp(one - most) for one in logs) / len(logs))


def asymptotic_reach(size: int, alpha: float, tuned: int) -> float:
    """How many standard errors below the mean of ``size`` numbers its limit lies; infinite below ``LEAST``.

    Args:
        tuned: the number of them at which it is to be tightest: fixed before the first look.
    """
    if size < LEAST:
        return math.inf
    rho = _spread(alpha, tuned)
    grown = size * rho + 1
    reach = math.sqrt(2 * grown / (size * rho) * math.log1p(math.sqrt(grown) / (2 * alpha)))
    return as_student(reach, size - 1)


@lru_cache(maxsize=256)
def _spread(alpha: float, tuned: int) -> float:
    """The mixture's variance by their rule for the tightest, with twice the chance, since one side is meant."""
    doubled = -2 * math.log(min(2 * alpha, 0.5))
    return (doubled + math.log(doubled + 1)) / tuned


@lru_cache(maxsize=4096)
def as_student(normal: float, freedom: int) -> float:
    """Student's t that is as improbable as a normal number above ``normal``."""
    if freedom > MANY:
        return normal
    beyond = math.erfc(normal / math.sqrt(2))
    return student_quantile(1 - beyond, freedom) if beyond > 1e-15 else math.inf


@dataclass(frozen=True)
class Running:
    """Of the finite numbers up to each place (..., n)."""

    mean: Matrix
    error: Matrix
    """Standard error of the mean; infinite where there are fewer than 2."""
    skewness: Matrix
    """Third central moment over the cube of the standard deviation."""
    number: NDArray[np.intp]


def running(values: Matrix) -> Running:
    """Moments of the first numbers, which do not depend on what comes later, not even by rounding."""
    known = np.isfinite(values)
    number = known.cumsum(axis=-1)
    # Taking off one of them leaves less to cancel; the first, so that nothing depends on what comes later.
    first = np.argmax(known, axis=-1)[..., None]
    centre = np.nan_to_num(np.take_along_axis(values, first, axis=-1))
    rest = np.where(known, values - centre, 0.0)
    n = np.maximum(number, 1)
    squares = rest * rest
    one, two, three = (numbers.cumsum(axis=-1) / n for numbers in (rest, squares, squares * rest))
    variance = np.maximum(two - one**2, 0.0)
    third = three - 3 * one * two + 2 * one**3
    spread = np.maximum(variance, 1e-12 * two) ** 1.5
    skewness = np.divide(third, spread, out=np.zeros_like(third), where=spread > 0)
    error = np.where(number > 1, np.sqrt(variance / np.maximum(number - 1, 1)), np.inf)
    return Running(np.where(number > 0, centre + one, 0.0), error, skewness, number)


def skewed_reach(reach: Matrix, skewness: Matrix, size: Matrix) -> Matrix:
    """A lower limit's reach where the numbers lean to the left, so that large t are more probable than they should be.

    Edgeworth's expansion of t to 1 / sqrt(n) (Hall 1992, "The Bootstrap and Edgeworth Expansion", section 2.6), taken
    only where it widens: (2 z² + 1) / (6 sqrt(n)) times the skewness.
    """
    return np.asarray(reach + np.maximum(-skewness, 0.0) * (2 * reach**2 + 1) / (6 * np.sqrt(np.maximum(size, 1))))
