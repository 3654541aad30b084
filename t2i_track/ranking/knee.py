"""Where more steps stop paying."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from t2i_track.metrics.uncertainty import Interval
from t2i_track.ranking.differences import difference, mean
from t2i_track.ranking.effects import blocks
from t2i_track.ranking.margin import Margin, Standing, judge, margin_of, would
from t2i_track.ranking.rows import RunRow, direction
from t2i_track.ranking.words import change, number


@dataclass(frozen=True)
class KneePoint:
    steps: float
    value: float
    to_best: Interval | None
    standing: Standing | None


@dataclass(frozen=True)
class Knee:
    """The fewest steps that are shown to be as good as the best number of steps; None where none are."""

    metric: str
    steps: float | None
    best_steps: float
    points: tuple[KneePoint, ...]
    settings: int
    sentence: str


def knee(rows: Sequence[RunRow], metric: str, confidence: float, within: str | float | None = None) -> Knee | None:
    """The fewest steps as good as the best within a margin, averaged over the other settings.

    The curve is taken over the set of step counts that most runs share. All pairs of its points count, since the best
    point is itself read off the curve (``margin``). None where there is one step count only, or no replicates.
    """
    groups = blocks(rows, "steps", metric)
    if not groups:
        return None
    sets = list(dict.fromkeys(frozenset(block.scores) for block in groups))
    shared = max(sets, key=lambda some: (len(some) * sum(some <= block.scores.keys() for block in groups), len(some)))
    levels = sorted(shared)
    full = [block.scores for block in groups if shared <= block.scores.keys()]
    curve = [mean([block[level] for block in full]) for level in levels]
    sign = 1 if direction(metric) == "lower" else -1
    best = min(range(len(curve)), key=lambda place: sign * curve[place].value)
    margin = margin_of(metric, curve[best], within)
    standings = judge(curve, [""] * len(curve), margin, confidence).standings
    if margin is None or None in standings:
        return None
    points = tuple(
        KneePoint(level, score.value, None if place == best else difference(score, curve[best], confidence), standing)
        for place, (level, score, standing) in enumerate(zip(levels, curve, standings, strict=True))
    )
    good = [place for place, found in enumerate(standings) if found is not None and found.verdict == "as good"]
    fewest = good[0] if good else None
    sentence = _sentence(metric, points, fewest, best, len(full), confidence, margin)
    return Knee(metric, None if fewest is None else levels[fewest], levels[best], points, len(full), sentence)


def _sentence(
    metric: str,
    points: Sequence[KneePoint],
    fewest: int | None,
    best: int,
    settings: int,
    confidence: float,
    margin: Margin,
) -> str:
    top = points[best]
    over = f", averaged over {settings} settings" if settings > 1 else ""
    best_is = f"{number(top.value)} at {top.steps:g} steps{over}"
    more = "; more steps may gain further" if best == len(points) - 1 else ""
    if fewest is None:
        images = top.standing.images if top.standing else None
        return (
            f"From which number of steps on {metric} is within {margin.words} of the best ({best_is}) is undecided;"
            f" {would(images)}."
        )
    here = points[fewest]
    if fewest == best:
        none_fewer = f"; no fewer are within {margin.words} of it"
        few = "; fewer may do" if best == 0 else _undecided(points[:best]) or none_fewer
        return f"{top.steps:g} steps have the best {metric} ({number(top.value)}){over}{few}{more}."
    gap = change(here.to_best, None, confidence)
    return (
        f"{here.steps:g} steps are as good as the best in {metric}, within {margin.words}: {number(here.value)} against"
        f" {best_is} (difference {gap}){_undecided(points[:fewest])}{more}."
    )


def _undecided(points: Sequence[KneePoint]) -> str:
    """Fewer steps of which it is not known whether they are as good."""
    found = [point for point in points if point.standing is not None and point.standing.verdict == "undecided"]
    if not found:
        return ""
    steps = ", ".join(f"{point.steps:g}" for point in found)
    images = [point.standing.images for point in found if point.standing is not None]
    known = [number for number in images if number is not None]
    return f"; for {steps} it is undecided, {would(max(known) if len(known) == len(images) else None)}"
