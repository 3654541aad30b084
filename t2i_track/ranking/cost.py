"""What an image costs: passes of the network, and how long they took where that was timed."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import fsum, prod
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from t2i_track.ranking.rows import RunRow
from t2i_track.settings import COSTLY, COUNTED

COST = "cost"
"""What the third objective of a frontier is called."""
SEVERAL = 4
"""Timings of each of two kinds of work that can show which is cheaper. That all of one lie below all of the other
happens by chance in 2 of the 70 orders of four and four (an exact permutation test at 2.9 %)."""
_SIZE = ("height", "width")
_kind = attrgetter(*(name for name in COSTLY if name not in (*COUNTED, *_SIZE)))


@dataclass(frozen=True)
class Cost:
    """What an image of one setting costs.

    ``seconds``, ``low`` and ``high`` are the mean, the least and the most of its ``timings``, one a run that did the
    same work, as in a full batch; None where there are none. They say what it took, not what it costs: a machine that
    does something else makes the same work ten times as long.
    """

    passes: int | None
    """None where the settings that decide it are unknown: nothing is known to cost less or as much."""
    pixels: int
    kind: tuple[object, ...]
    """Model, precision, device, ...: what decides how long a pass takes for a pixel."""
    timings: int = 0
    seconds: float | None = None
    low: float | None = None
    high: float | None = None
    bounds: tuple[float, float] | None = None
    """The least and the most seconds that all timings of its kind allow; None where they are fewer than ``SEVERAL``."""

    @property
    def work(self) -> float:
        """Passes times pixels; NaN, which is less than nothing and equal to nothing, where they are unknown."""
        return math.nan if self.passes is None else self.passes * self.pixels

    def cheaper(self, other: Cost) -> bool:
        """Whether it is known to cost less (see ``cheaper_than``)."""
        return bool(cheaper_than([self, other])[0, 1])

    def same(self, other: Cost) -> bool:
        return (self.kind, self.work) == (other.kind, other.work)

    def __str__(self) -> str:
        """``62 passes of the network (0.31 s an image, 0.28 to 0.35 in 4 timings)``."""
        if self.passes is None:
            return "an unknown number of passes of the network"
        if self.seconds is None:
            return f"{self.passes} passes of the network"
        spread = "timed once" if self.timings == 1 else f"{self.low:.3g} to {self.high:.3g} in {self.timings} timings"
        return f"{self.passes} passes of the network ({self.seconds:.3g} s an image, {spread})"


def cost_of_each(rows: Sequence[RunRow]) -> dict[str, Cost]:
    """The cost of each run by its uuid; what each took is read off all rows that do the same work."""
    alike: dict[Cost, list[RunRow]] = defaultdict(list)
    for row in rows:
        alike[Cost(row.passes, _pixels(row), _kind(row))].append(row)
    timings = {
        cost: [seconds for seconds in map(_seconds, same) if seconds is not None] for cost, same in alike.items()
    }
    rates: dict[object, list[float]] = defaultdict(list)
    for cost, found in timings.items():
        rates[cost.kind] += [seconds / cost.work for seconds in found]
    return {row.run: timed for cost in alike for timed in [_timed(cost, timings[cost], rates)] for row in alike[cost]}


def _timed(cost: Cost, found: Sequence[float], rates: Mapping[object, Sequence[float]]) -> Cost:
    kind = rates[cost.kind]
    bounds = (min(kind) * cost.work, max(kind) * cost.work) if len(kind) >= SEVERAL else None
    mean, low, high = (fsum(found) / len(found), min(found), max(found)) if found else (None, None, None)
    return replace(cost, timings=len(found), seconds=mean, low=low, high=high, bounds=bounds)


def cheaper_than(costs: Sequence[Cost]) -> NDArray[np.bool_]:
    """``[i, j]``: whether cost i is known to be less than cost j.

    Within a kind that is a count: fewer passes of the network, for as many pixels (sizes count by passes times pixels).
    No timing can turn that round. Between kinds it takes timings: ``SEVERAL`` of each, which, brought to the same work,
    all lie below those of the other. Where that is not so neither is known to be cheaper. The relation has no circles.
    """
    kinds = {kind: number for number, kind in enumerate(dict.fromkeys(cost.kind for cost in costs))}
    kind, work = np.array([kinds[cost.kind] for cost in costs]), np.array([cost.work for cost in costs], dtype=float)
    low, high = np.array([cost.bounds or (np.nan, np.nan) for cost in costs], dtype=float).reshape(-1, 2).T
    counted, timed = work[:, None] < work[None, :], high[:, None] < low[None, :]
    return np.where(kind[:, None] == kind[None, :], counted, timed)


def same_as(costs: Sequence[Cost]) -> NDArray[np.bool_]:
    """``[i, j]``: whether the two are the same work."""
    keys = [(cost.kind, place if cost.passes is None else (cost.work,)) for place, cost in enumerate(costs)]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    work = np.array([numbers[key] for key in keys])
    return np.asarray(work[:, None] == work[None, :])


def cheapest(costs: Sequence[Cost]) -> list[int]:
    """The places of the costs of which none is known to be cheaper; never empty for one or more."""
    return [place for place, beaten in enumerate(cheaper_than(costs).T) if not beaten.any()]


def saving(cost: Cost, other: Cost) -> str | None:
    """In words, how much less it is than the other; None where it is not known to be less."""
    if not cost.cheaper(other):
        return None
    if cost.kind == other.kind:
        of = "passes of the network" if cost.pixels == other.pixels else "passes times pixels"
        return f"{1 - cost.work / other.work:.0%} fewer {of}"
    assert cost.bounds is not None
    assert other.bounds is not None
    return f"at least {1 - cost.bounds[1] / other.bounds[0]:.0%} less time"


def _pixels(row: RunRow) -> int:
    return prod(getattr(row, name) for name in _SIZE)


def _seconds(row: RunRow) -> float | None:
    """Seconds an image in a full batch: a short last batch is padded, so that its images seem dear."""
    if row.seconds_per_image is None or not row.images:
        return row.seconds_per_image
    batch = row.batch_size or 1
    slots = -(-row.images // batch) * batch
    return row.seconds_per_image * row.images / slots
