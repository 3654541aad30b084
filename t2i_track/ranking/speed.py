"""How many times as fast one run was as another, with what their own batches say of the error of that."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from t2i_track.energy import WARM
from t2i_track.ranking.student import student_quantile

BLOCKS = 8
"""Parts into which the batches of a run are put together, in their order: slow times come together."""
FEWEST = 3
"""Blocks from which a spread is taken."""


@dataclass(frozen=True)
class Spent:
    """What a run's images took, as far as that was measured.

    ``seconds`` are of an image in a full batch, one number a batch in order, none of one whose pictures another run
    made. ``peak_memory_mb`` is of the process, ``alone`` whether the run was the first of it. ``joules`` are of an
    image.
    """

    seconds: tuple[float, ...] = ()
    peak_memory_mb: float | None = None
    alone: bool = True
    joules: float | None = None
    meters: tuple[str, ...] = ()
    """By which the energy was measured: other meters, other numbers."""

    @property
    def warm(self) -> tuple[float, ...]:
        """Of the batches that count: all but the first, where there are several."""
        return self.seconds[1:] if len(self.seconds) >= WARM else self.seconds

    @property
    def seconds_per_image(self) -> float | None:
        return math.fsum(self.warm) / len(self.warm) if self.warm else None


@dataclass(frozen=True)
class SpeedUp:
    """``times`` as fast; the interval is over blocks of batches, and None where there are too few of them."""

    times: float
    low: float | None = None
    high: float | None = None


def speed_up(base: Spent, fast: Spent, level: float) -> SpeedUp | None:
    """How many times as fast; None where one of the two was not timed.

    The interval is Welch's, of the logarithms of blocks of consecutive batches. It knows what varied within the two
    runs, and nothing of what the machine did between them.
    """
    ours, theirs = base.seconds_per_image, fast.seconds_per_image
    if not ours or not theirs:
        return None
    times = ours / theirs
    blocks = [_blocks(one.warm) for one in (base, fast)]
    if min(map(len, blocks)) < FEWEST:
        return SpeedUp(times)
    logs = [np.log(np.array(one)) for one in blocks]
    variances = [float(one.var(ddof=1)) / len(one) for one in logs]
    total = sum(variances)
    if total == 0.0:
        return SpeedUp(times, times, times)
    freedom = total**2 / sum(v * v / (len(one) - 1) for v, one in zip(variances, logs, strict=True))
    factor = math.exp(student_quantile(level, max(int(freedom), 1)) * math.sqrt(total))
    return SpeedUp(times, times / factor, times * factor)


def _blocks(seconds: Sequence[float]) -> list[float]:
    """The means of up to ``BLOCKS`` runs of consecutive batches, of equal lengths up to one."""
    parts = np.array_split(np.array(seconds, dtype=float), min(BLOCKS, len(seconds)) or 1)
    return [float(part.mean()) for part in parts if len(part) and part.mean() > 0]
