"""What a run costs: seconds an image, with the noise of timing averaged out where the work is equal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

from t2i_track.ranking.rows import RunRow
from t2i_track.settings import COSTLY

TOLERANCE = 1.05
"""Timings of equal work differ by some percent, so costs within 5 % of each other count as equal."""


def costs(rows: Sequence[RunRow]) -> dict[str, float]:
    """Seconds an image of each timed run, by its uuid: the mean over all runs that do the same work.

    Guidance has no cost of its own beyond being there (two passes of the network instead of one), nor has a seed or a
    prompt: what such runs differ in is the machine's load.
    """
    timings: dict[tuple[object, ...], list[float]] = defaultdict(list)
    for row in rows:
        if row.seconds_per_image is not None:
            timings[_work(row)].append(row.seconds_per_image)
    return {row.run: fmean(timings[_work(row)]) for row in rows if row.seconds_per_image is not None}


def _work(row: RunRow) -> tuple[object, ...]:
    return row.guidance > 1, *(getattr(row, name) for name in COSTLY if name != "guidance")
