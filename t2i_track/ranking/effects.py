"""What guidance and steps do, each averaged over everything else, and where more steps stop paying."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from operator import attrgetter
from typing import Literal

import numpy as np

from t2i_track.metrics.uncertainty import Interval
from t2i_track.ranking.differences import (
    difference,
    differences,
    holm,
    interval_of,
    mean,
)
from t2i_track.ranking.rows import RunRow, Score, direction
from t2i_track.ranking.words import change, moves
from t2i_track.settings import AXES

Axis = Literal["guidance", "steps"]
MOST_EXCEPTIONS = 2
"""Exceptions that a sentence names; the rest are counted."""


@dataclass(frozen=True)
class Block:
    """Runs that differ in one axis only, by their level on it; ``settings`` are the others that vary elsewhere."""

    settings: Mapping[str, object]
    scores: Mapping[float, Score]


@dataclass(frozen=True)
class Level:
    """The average at one value of the axis."""

    level: float
    interval: Interval


@dataclass(frozen=True)
class Exceptional:
    """One matched pair of runs whose own change is certain, and not the one of the average."""

    settings: Mapping[str, object]
    change: Interval
    p_adjusted: float


@dataclass(frozen=True)
class Contrast:
    """From one value of the axis to another: the average paired change over ``settings`` matched pairs of runs.

    An average can hide that the axes interact; ``exceptions`` are the pairs that go their own way, Holm-adjusted over
    all pairs of the effect.
    """

    low: float
    high: float
    change: Interval
    p_adjusted: float | None
    settings: int
    verdict: Literal["better", "worse", "cannot be told apart", "unknown"]
    exceptions: tuple[Exceptional, ...] = ()


@dataclass(frozen=True)
class Effect:
    """The main effect of an axis on a metric.

    ``levels`` are over the blocks that have all of them, so that they can be read as one curve; ``contrasts`` are
    between neighbouring levels, over all blocks that have both, Holm-adjusted together; ``overall`` is from the first
    level to the last.
    """

    axis: Axis
    metric: str
    levels: tuple[Level, ...]
    contrasts: tuple[Contrast, ...]
    overall: Contrast | None

    confidence: float

    @property
    def sentence(self) -> str:
        parts = [f"from {c.low:g} to {c.high:g} it {_moves(c, self.confidence)}" for c in self.contrasts]
        settings = max(c.settings for c in self.contrasts)
        over = f"averaged over {settings} matched settings" if settings > 1 else "at one setting of the rest"
        return f"{self.axis.capitalize()} and {self.metric}, {over}: {'; '.join(parts)}."


def blocks(rows: Sequence[RunRow], axis: Axis, metric: str) -> list[Block]:
    """Groups of runs equal in all settings but ``axis``, with two levels or more; equal settings are averaged."""
    others = [name for name in (*AXES, "manifest") if name != axis]
    found: dict[tuple[object, ...], dict[float, list[Score]]] = defaultdict(lambda: defaultdict(list))
    rest, level = attrgetter(*others), attrgetter(axis)
    for row in rows:
        score = row.score(metric)
        if score is not None and level(row) is not None:
            found[rest(row)][level(row)].append(score)
    several = {key: block for key, block in found.items() if len(block) > 1}
    varying = [n for n in range(len(others)) if len({key[n] for key in several}) > 1]
    return [
        Block({others[n]: key[n] for n in varying}, {level: mean(same) for level, same in block.items()})
        for key, block in several.items()
    ]


def effect(rows: Sequence[RunRow], axis: Axis, metric: str, confidence: float) -> Effect | None:
    """The main effect of ``axis``, from replicates alone; None where no two runs differ in the axis only."""
    groups = blocks(rows, axis, metric)
    if not groups:
        return None
    levels = sorted({level for block in groups for level in block.scores})
    pairs = [(a, b) for a, b in pairwise(levels) if any({a, b} <= block.scores.keys() for block in groups)]

    @cache  # a level is compared with both its neighbours, mostly over the same blocks
    def average(level: float, among: tuple[int, ...]) -> Score:
        return mean([groups[place].scores[level] for place in among])

    def changed(low: float, high: float) -> tuple[Interval, int]:
        both = tuple(place for place, block in enumerate(groups) if low in block.scores and high in block.scores)
        return difference(average(high, both), average(low, both), confidence), len(both)

    changes = [changed(a, b) for a, b in pairs]
    adjusted = holm([interval.p_value for interval, _ in changes])
    contrasts = tuple(
        _contrast(pair, change, p, metric, confidence) for pair, change, p in zip(pairs, changes, adjusted, strict=True)
    )
    contrasts = _with_exceptions(contrasts, groups, confidence)
    full = tuple(place for place, block in enumerate(groups) if len(block.scores) == len(levels))
    curve = [Level(level, interval_of(average(level, full), confidence)) for level in levels] if full else []
    if not contrasts:
        return None
    overall = None
    if any({levels[0], levels[-1]} <= block.scores.keys() for block in groups):
        whole = changed(levels[0], levels[-1])
        p = np.nan if whole[0].p_value is None else whole[0].p_value
        overall = _contrast((levels[0], levels[-1]), whole, p, metric, confidence)
    return Effect(axis, metric, tuple(curve), contrasts, overall, confidence)


def _contrast(
    pair: tuple[float, float], change: tuple[Interval, int], p: float, metric: str, confidence: float
) -> Contrast:
    interval, settings = change
    verdict: Literal["better", "worse", "cannot be told apart", "unknown"]
    if np.isnan(p):
        verdict = "unknown"
    elif p > 1 - confidence:
        verdict = "cannot be told apart"
    else:
        verdict = "better" if (interval.estimate < 0) == (direction(metric) == "lower") else "worse"
    return Contrast(*pair, interval, None if np.isnan(p) else float(p), settings, verdict)


def _with_exceptions(contrasts: Sequence[Contrast], groups: Sequence[Block], confidence: float) -> tuple[Contrast, ...]:
    """The contrasts with the single pairs of runs that surely differ from what is said of the average."""
    singles = [
        (place, block)
        for place, contrast in enumerate(contrasts)
        for block in groups
        if contrast.settings > 1 and {contrast.low, contrast.high} <= block.scores.keys()
    ]
    highs = [block.scores[contrasts[place].high] for place, block in singles]
    lows = [block.scores[contrasts[place].low] for place, block in singles]
    changes = differences(list(zip(highs, lows, strict=True)), confidence)
    adjusted = holm([change.p_value for change in changes]) if singles else ()
    found: dict[int, list[Exceptional]] = defaultdict(list)
    for (place, block), high, low, p in zip(singles, highs, lows, adjusted, strict=True):
        average = contrasts[place]
        sure = average.verdict in ("better", "worse")
        same = sure and (high.value - low.value) * average.change.estimate > 0
        if p <= 1 - confidence and not same:
            found[place].append(Exceptional(block.settings, difference(high, low, confidence), float(p)))
    return tuple(replace(contrast, exceptions=tuple(found[place])) for place, contrast in enumerate(contrasts))


def _moves(contrast: Contrast, confidence: float) -> str:
    evidence = change(contrast.change, contrast.p_adjusted, confidence)
    if contrast.verdict == "unknown":
        return f"changes by {evidence}"
    if contrast.verdict == "cannot be told apart":
        text = f"shows no measurable change ({evidence})"
    else:
        text = f"{moves(contrast.change)} ({evidence}): {contrast.verdict}"
    named = [
        f"at {', '.join(f'{axis} {value}' for axis, value in one.settings.items())} it {moves(one.change)}"
        f" ({change(one.change, one.p_adjusted, confidence)})"
        for one in contrast.exceptions[:MOST_EXCEPTIONS]
    ]
    more = len(contrast.exceptions) - len(named)
    return text + (f", but {' and '.join(named)}" if named else "") + (f" and {more} more differ" if more > 0 else "")
