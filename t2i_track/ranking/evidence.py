"""What the scores of settings that are made in rounds show so far: of all pairs, whatever was looked at before.

Row ``j`` and column ``k`` of a matrix are of how much better setting ``j`` is than ``k``. Settings have unequal numbers
of prompts: a pair is compared over those that both have, always the first ones of the same order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from t2i_track.metrics.uncertainty import MIN_GROUPS
from t2i_track.ranking import sequential, spending

Matrix = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Limits:
    """How much better one setting is than another: the estimate and its one-sided limits."""

    estimate: float
    low: float
    high: float


class Evidence(Protocol):
    """What is known of each pair of settings after each look; ``alpha`` is a matrix of the chances of an error."""

    def more(self, look: int, alpha: Matrix) -> Flags:
        """Whether the row is shown to be better than the column by more than the margin."""

    def within(self, look: int, alpha: Matrix) -> Flags:
        """Whether the row is shown to be better than the column by no more than the margin."""

    def means(self, look: int) -> Matrix:
        """The score of each setting at that look, more is better; NaN where it has none."""

    def gaps(self, look: int) -> Matrix:
        """How much better the row is than the column, over what both have."""

    def limits(self, better: int, worse: int, look: int, low: float, high: float) -> Limits:
        """With a chance of an error of ``low`` below and ``high`` above."""

    def prompts(self, room: float, better: int, worse: int, look: int, alpha: float, power: float) -> float:
        """About how many would show a difference that is ``room`` from the margin, with so many standard errors to
        spare."""


@dataclass(frozen=True)
class Means:
    """Scores that are means over prompts: of bounded ones by bets (``sequential``), else by alpha spending
    (``spending``)."""

    columns: Matrix
    """A setting a row, its prompts in the order in which they are made (K, n); more is better, NaN: not made, or the
    score does not apply."""
    margin: float
    looks: tuple[int, ...]
    """Numbers of prompts; the last is the planned maximum."""
    span: float | None = None
    """Two scores differ by at most this: shares by 1. None: unbounded."""

    @cached_property
    def _wealth(self) -> tuple[Matrix, Matrix]:
        """Of all pairs at each look (K, K, L): that the row is better by more than the margin, and that by less."""
        settings, places = len(self.columns), self._places
        more, less = (np.zeros((settings, settings, len(self.looks))) for _ in range(2))
        for j in range(settings):
            gaps = self.columns[j] - self.columns
            assert self.span is not None
            span = self.span
            more[j] = sequential.wealth(gaps, self.margin, -span, span, at=places)
            less[j] = sequential.wealth(-gaps, -self.margin, -span, span, at=places)
        return more, less

    @cached_property
    def _running(self) -> sequential.Running:
        """Of all pairs at each look (K, K, L)."""
        rows = [sequential.running(self.columns[j] - self.columns) for j in range(len(self.columns))]
        fields = ("mean", "error", "skewness", "number")
        return sequential.Running(
            *(np.stack([getattr(row, field)[:, self._places] for row in rows]) for field in fields)
        )

    @cached_property
    def _places(self) -> NDArray[np.intp]:
        return np.array(self.looks, dtype=np.intp) - 1

    def _width(self, look: int, alpha: Matrix, side: float) -> Matrix:
        """How far below (side 1) or above (-1) the estimates their limits are."""
        found = self._running
        size, error = found.number[:, :, look], found.error[:, :, look]
        known, reached = size >= sequential.LEAST, np.zeros(size.shape)
        for number in np.unique(size[known]):
            for chance in np.unique(alpha[same := size == number]):
                reached[same & (alpha == chance)] = self._reach(int(number), float(chance))
        wide = sequential.skewed_reach(reached, side * found.skewness[:, :, look], size.astype(np.float64))
        return np.where(known, wide * np.where(known, error, 0.0), np.inf)

    def _reach(self, number: int, alpha: float) -> float:
        """Of so many prompts: the limit of the look at which a pair had them, however often it is looked at since."""
        look = int(np.searchsorted(self.looks, number))
        return spending.reach(look, self.looks, self.looks[-1], alpha, number - 1, spending.squared)

    def more(self, look: int, alpha: Matrix) -> Flags:
        if self.span is not None:
            return np.asarray(self._wealth[0][:, :, look] >= -np.log(alpha))
        return np.asarray(self.gaps(look) - self._width(look, alpha, 1) > self.margin)

    def within(self, look: int, alpha: Matrix) -> Flags:
        if self.span is not None:
            return np.asarray(self._wealth[1][:, :, look] >= -np.log(alpha))
        return np.asarray(self.gaps(look) + self._width(look, alpha, -1) <= self.margin)

    def means(self, look: int) -> Matrix:
        some = self.columns[:, : self.looks[look]]
        known = np.isfinite(some)
        number = known.sum(axis=1)
        sums = np.where(known, some, 0.0).sum(axis=1)
        return np.asarray(np.divide(sums, number, out=np.full(len(some), np.nan), where=number > 0))

    def gaps(self, look: int) -> Matrix:
        return np.asarray(self._running.mean[:, :, look])

    def limits(self, better: int, worse: int, look: int, low: float, high: float) -> Limits:
        some = (self.columns[better] - self.columns[worse])[: self.looks[look]]
        some = some[np.isfinite(some)]
        estimate = float(some.mean()) if len(some) else 0.0
        if self.span is not None:
            below = sequential.betting_limit(some, low, -self.span, self.span)
            above = -sequential.betting_limit(-some, high, -self.span, self.span)
            return Limits(estimate, below, above)
        one = Means(np.stack([self.columns[better], self.columns[worse]]), self.margin, self.looks)
        below, above = (one._width(look, np.full((2, 2), alpha), side)[0, 1] for alpha, side in ((low, 1), (high, -1)))
        return Limits(estimate, estimate - float(below), estimate + float(above))

    def prompts(self, room: float, better: int, worse: int, look: int, alpha: float, power: float) -> float:
        number = int(self._running.number[better, worse, look])
        spread = float(self._running.error[better, worse, look]) * math.sqrt(number)
        if self.span is None:
            return ((self._reach(self.looks[-1], alpha) + power) * spread / abs(room)) ** 2 if room else math.inf
        # Differences that were never seen may be there all the same (Bernoulli's variance at the margin).
        spread = max(spread, math.sqrt(abs(self.margin) / max(number, 1)) * self.span)
        return enough(lambda n: (sequential.asymptotic_reach(n, alpha, n) + power) * spread / math.sqrt(n), room)


@dataclass(frozen=True)
class Distances:
    """Scores of sets of pictures, at planned looks, by alpha spending (``spending``)."""

    columns: Matrix
    """Of each look and setting the pseudo-values of its groups of prompts (L, K, G); more is better, NaN: none."""
    margin: float
    looks: tuple[int, ...]

    @cached_property
    def _known(self) -> tuple[Matrix, Matrix, NDArray[np.intp]]:
        """Of all pairs at the newest look that both have, up to each (L, K, K): estimate, error, that look or -1."""
        looks, settings, _ = self.columns.shape
        means, errors = np.zeros((looks, settings, settings)), np.full((looks, settings, settings), np.inf)
        newest = np.full((looks, settings, settings), -1, dtype=np.intp)
        for look in range(looks):
            if look:
                means[look], errors[look], newest[look] = means[look - 1], errors[look - 1], newest[look - 1]
            for j in range(settings):
                gaps = self.columns[look, j] - self.columns[look]
                groups = np.isfinite(gaps).sum(axis=1)
                for k in np.flatnonzero(groups >= MIN_GROUPS):
                    some = gaps[k][np.isfinite(gaps[k])]
                    means[look, j, k], newest[look, j, k] = some.mean(), look
                    errors[look, j, k] = some.std(ddof=1) / math.sqrt(len(some))
        return means, errors, newest

    def _reach(self, look: int, alpha: Matrix) -> Matrix:
        _, errors, newest = self._known
        wide = np.full(alpha.shape, np.inf)
        for at in np.unique(newest[look][newest[look] >= 0]):
            for chance in np.unique(alpha[same := newest[look] == at]):
                some = same & (alpha == chance)
                wide[some] = self._one(int(at), float(chance)) * errors[look][some]
        return wide

    def _one(self, look: int, alpha: float) -> float:
        if look < 0:
            return math.inf
        groups = self.columns.shape[2]
        return spending.reach(int(look), self.looks, self.looks[-1], float(alpha), groups - 1)

    def more(self, look: int, alpha: Matrix) -> Flags:
        return np.asarray(self.gaps(look) - self._reach(look, alpha) > self.margin)

    def within(self, look: int, alpha: Matrix) -> Flags:
        return np.asarray(self.gaps(look) + self._reach(look, alpha) <= self.margin)

    def means(self, look: int) -> Matrix:
        found = np.full(self.columns.shape[1], np.nan)
        for some in self.columns[: look + 1]:
            known = np.isfinite(some).any(axis=1)
            found[known] = np.nanmean(some[known], axis=1)
        return found

    def gaps(self, look: int) -> Matrix:
        return np.asarray(self._known[0][look])

    def limits(self, better: int, worse: int, look: int, low: float, high: float) -> Limits:
        means, errors, newest = self._known
        estimate, at = float(means[look, better, worse]), int(newest[look, better, worse])
        if at < 0:
            return Limits(0.0, -math.inf, math.inf)
        error = float(errors[look, better, worse])
        return Limits(estimate, estimate - self._one(at, low) * error, estimate + self._one(at, high) * error)

    def prompts(self, room: float, better: int, worse: int, look: int, alpha: float, power: float) -> float:
        _, errors, newest = self._known
        at = int(newest[look, better, worse])
        if at < 0:
            return math.inf
        spread = float(errors[look, better, worse]) * math.sqrt(self.looks[at])
        reach = self._one(len(self.looks) - 1, alpha) + power
        return (reach * spread / abs(room)) ** 2 if room else math.inf


def enough(width: Callable[[int], float], room: float) -> float:
    """The least number of prompts, to a percent, at which limits are narrower than the room."""
    if not room:
        return math.inf
    low, high = sequential.LEAST, 2**24
    if width(high) > abs(room):
        return math.inf
    while high > low * 1.01 + 1:
        middle = max(math.isqrt(low * high), low + 1)  # of two numbers beside each other the root is the lower one
        low, high = (middle, high) if width(middle) > abs(room) else (low, middle)
    return high


def doubling(first: int, most: int, step: int, share: int = 8) -> tuple[int, ...]:
    """Numbers of prompts to look at: a step at a time at first, then an eighth more, in whole steps."""
    found, number = [], min(first, most)
    while number < most:
        found.append(number)
        number += max(step, number // share // step * step)
    return (*found, most)


def allowances(weights: Sequence[float]) -> Matrix:
    """Weights of the settings as an array that adds up to at most 1."""
    found = np.asarray(weights, dtype=np.float64)
    if not (len(found) and (found > 0).all() and found.sum() <= 1 + 1e-9):
        raise ValueError(f"weights must be above 0 and add up to at most 1, not to {found.sum():g}")
    return found
