"""What is known of the true mean of some numbers, from either side: one-sided tests, and the limits that go with them.

Of a score that each prompt has of its own, what hurts most is a failure so rare that these prompts do not show it, and
no spread that was seen tells of it. But how bad a picture can be is known. So the mean's limit is that of a Bayesian
bootstrap in which one further prompt is as bad as that (Gaffke 2005, Mathematical Methods of Statistics 14;
Learned-Miller & Thomas 2019, arXiv:1905.06208). Of n equal numbers it is Clopper and Pearson's limit, of many that
differ the usual one. Its level is proved in special cases only; docs/equivalence.md has simulations.

Of a distance there are at most 32 numbers, one a group of prompts, and no bound: there the limit is the wider of
Student's and a bootstrap-t's (Hall 1988).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from t2i_track.ranking.skewness import resampled
from t2i_track.ranking.student import student_quantile, student_two_sided

Matrix = NDArray[np.float64]

DRAWS = 9999
"""So many that a limit of one draw in two hundred, as Holm's method asks of ten runs, is known well."""
PART = 1_000_000
"""Numbers of draws and prompts held at once."""
SEED = 1987


class Known(Protocol):
    """What is known of a true mean."""

    @property
    def mean(self) -> float:
        """Of the numbers."""

    @property
    def error(self) -> float:
        """The standard error of that."""

    def above(self, value: float) -> float:
        """The p-value of the true mean being ``value`` or less: small where it is surely above."""

    def below(self, value: float) -> float:
        """The p-value of the true mean being ``value`` or more."""

    def limits(self, alpha: float) -> tuple[float, float]:
        """Limits of the true mean, each wrong with a chance of ``alpha``."""

    def reach(self, alpha: float, times: float) -> float:
        """About how far a limit would be from the mean, were there so many times the numbers."""


def known(numbers: Matrix, bounds: tuple[float, float] | None) -> Known:
    """What is known of the mean of these numbers, finite and at least two.

    Args:
        numbers: of independent prompts, or of groups of prompts.
        bounds: the least and the most that a further one has to be taken for; None where that cannot be known.
    """
    return Unbounded(numbers) if bounds is None else Bounded(numbers, *bounds)


@dataclass(frozen=True, eq=False)
class _Numbers:
    """Independent ones, of which the mean is wanted."""

    numbers: Matrix

    @property
    def mean(self) -> float:
        return float(self.numbers.mean())

    @property
    def error(self) -> float:
        return float(self.numbers.std(ddof=1)) / math.sqrt(len(self.numbers))


@dataclass(frozen=True, eq=False)
class Bounded(_Numbers):
    """By a Bayesian bootstrap with one further number: ``least`` for the lower limit, ``most`` for the upper one."""

    least: float
    most: float

    def above(self, value: float) -> float:
        return (1 + np.count_nonzero(self.drawn[0] <= value)) / (DRAWS + 1)

    def below(self, value: float) -> float:
        return (1 + np.count_nonzero(self.drawn[1] >= value)) / (DRAWS + 1)

    def limits(self, alpha: float) -> tuple[float, float]:
        place, (low, high) = _place(alpha, DRAWS), self.drawn
        return float(np.partition(low, place - 1)[place - 1]), float(np.partition(high, DRAWS - place)[DRAWS - place])

    def reach(self, alpha: float, times: float) -> float:
        # The further number has a share of the weight that is exponential, with a mean of one number's; the rest is
        # close to normal. Their spreads add as squares, which is right where either is alone.
        further = max(self.mean - self.least, self.most - self.mean, 0.0) / (len(self.numbers) * times)
        spread = student_quantile(1 - 2 * alpha, len(self.numbers) - 1) * self.error / math.sqrt(times)
        return further + math.hypot(spread, further * (-math.log(alpha) - 1))

    @cached_property
    def drawn(self) -> tuple[Matrix, Matrix]:
        """Draws of the mean with the further number, as it is for the lower and for the upper limit."""
        return drawn(self.numbers[None], np.array([[self.least, self.most]]))[0]


def drawn(rows: Matrix, bounds: Matrix) -> list[tuple[Matrix, Matrix]]:
    """``Bounded.drawn`` of each row of numbers (k, n) with its ``least`` and ``most`` (k, 2)."""
    size = rows.shape[1]
    scale = np.maximum(np.abs(rows).max(axis=1), np.abs(bounds).max(axis=1))
    scale = np.where(scale > 0.0, scale, 1.0)  # so that single precision is enough
    columns, least, most = ((values / scale).astype(np.float32) for values in (rows.T, *bounds.T))
    found = []
    for start in range(0, DRAWS, each := max(1, PART // size)):
        weights, total = _weights(size + 1, start, min(each, DRAWS - start))
        sums, further = weights[:, :-1] @ columns, weights[:, -1:]
        found.append(np.stack([sums + further * least, sums + further * most]) / total)
    ends = np.ascontiguousarray(np.concatenate(found, axis=1).transpose(2, 0, 1), dtype=np.float64)
    return [(low * by, high * by) for (low, high), by in zip(ends, scale, strict=True)]


@lru_cache(maxsize=12)
def _weights(size: int, start: int, draws: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Exponential weights (draws, size) and their sums (draws, 1), the same for all runs of as many prompts."""
    weights = np.random.default_rng([SEED, start]).standard_exponential((draws, size), dtype=np.float32)
    return weights, weights.sum(axis=1, keepdims=True)


@dataclass(frozen=True, eq=False)
class Unbounded(_Numbers):
    """By the wider of Student's limit and that of a bootstrap-t, in which numbers are drawn again."""

    draws: int = 1999

    def above(self, value: float) -> float:
        t = self._studentised(value)
        return max(self._student(t), _share(self._drawn, self.draws - np.searchsorted(self._drawn, t, side="left")))

    def below(self, value: float) -> float:
        t = self._studentised(value)
        return max(self._student(-t), _share(self._drawn, np.searchsorted(self._drawn, t, side="right")))

    def limits(self, alpha: float) -> tuple[float, float]:
        place = _place(alpha, self.draws)
        student = student_quantile(1 - 2 * alpha, len(self.numbers) - 1)
        down, up = self._drawn[self.draws - place], self._drawn[place - 1]
        low, high = max(student, float(down)), max(student, -float(up))
        return self.mean - low * self.error, self.mean + high * self.error

    def reach(self, alpha: float, times: float) -> float:
        return student_quantile(1 - 2 * alpha, len(self.numbers) - 1) * self.error / math.sqrt(times)

    def _studentised(self, value: float) -> float:
        gap = self.mean - value
        return gap / self.error if self.error > 0 else math.copysign(math.inf, gap) if gap else 0.0

    def _student(self, t: float) -> float:
        """P(T > t)."""
        both = 0.0 if math.isinf(t) else float(student_two_sided(t, len(self.numbers) - 1))
        return both / 2 if t > 0 else 1 - both / 2

    @cached_property
    def _drawn(self) -> Matrix:
        """Sorted draws of the studentised mean about its own; infinite where all that were drawn are equal."""
        size, halves = len(self.numbers), np.stack([self.numbers / 2, -self.numbers / 2])
        found = []
        for means, squares in resampled(halves, self.draws, SEED):
            gaps = means[:, 0] - means[:, 1]
            variance = np.maximum(squares[:, 0, 1] - gaps * gaps, 0.0) / (size - 1)
            with np.errstate(divide="ignore", invalid="ignore"):
                found.append(np.nan_to_num(gaps / np.sqrt(variance), nan=0.0, posinf=np.inf, neginf=-np.inf))
        return np.sort(np.concatenate(found))


def _share(draws: Matrix, count: np.intp | int) -> float:
    """The p-value where so many draws are as far as what was seen, which is one more of them."""
    return (1 + int(count)) / (len(draws) + 1)


def _place(alpha: float, draws: int) -> int:
    """The limit is the draw of this rank: no closer than where the p-value is ``alpha``."""
    return max(1, math.floor(alpha * (draws + 1) + 1e-9))
