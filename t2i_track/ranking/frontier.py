"""The runs that no other run beats in quality, alignment and cost at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from t2i_track.metrics.registry import SECONDS, of_role
from t2i_track.ranking.cost import TOLERANCE, costs
from t2i_track.ranking.ranking import eligible
from t2i_track.ranking.rows import RunRow, direction


@dataclass(frozen=True)
class Frontier:
    """``runs`` on the frontier of ``objectives``, in the order given; ``considered`` have all the objectives."""

    objectives: tuple[str, ...]
    runs: tuple[str, ...]
    considered: tuple[str, ...]


def alignment_metric(rows: Sequence[RunRow], but: str = "") -> str | None:
    """The preferred score of alignment that two rows or more have, other than ``but``."""
    return measured(rows, (name for name in of_role("alignment") if name != but))


def measured(rows: Sequence[RunRow], names: Iterable[str]) -> str | None:
    """The first of these scores that two rows or more have."""
    return next((name for name in names if sum(name in row.scores for row in rows) > 1), None)


def quality_metric(rows: Sequence[RunRow], by: str) -> str:
    """The preferred score of quality by which two rows or more can be compared; where there is none, the preferred one.

    FID of few images is better for the less diverse of equal runs, so it is passed over where its bias cannot be
    removed. ``by`` where fewer than two rows have the preferred one.
    """
    names = of_role("quality")
    return (
        next((name for name in names if sum(_comparable(row, name) for row in rows) > 1), None)
        or measured(rows, names[:1])
        or by
    )


def _comparable(row: RunRow, metric: str) -> bool:
    score = row.score(metric)
    return score is not None and score.comparable


def frontier(rows: Sequence[RunRow], by: str) -> Frontier | None:
    """The Pareto frontier over quality (see ``quality_metric``), alignment and seconds an image.

    Values are taken as they are: being on the frontier is a description, not a test. None where fewer than two
    objectives or fewer than two runs have been measured.
    """
    quality = quality_metric(rows, by)
    objectives = [name for name in (quality, alignment_metric(rows, but=quality), SECONDS) if name]
    objectives = [name for name in dict.fromkeys(objectives) if len(eligible(rows, name)[0]) > 1]
    kept = list(rows)
    for name in objectives:
        kept, _ = eligible(kept, name)
    if len(objectives) < 2 or len(kept) < 2:
        return None
    seconds = costs(rows)
    points = np.array([[_cost(row, name, seconds) for name in objectives] for row in kept])
    slack = np.array([TOLERANCE if name == SECONDS else 1.0 for name in objectives])
    best = [row.run for row, beaten in zip(kept, _beaten(points, slack), strict=True) if not beaten]
    return Frontier(tuple(objectives), tuple(best), tuple(row.run for row in kept))


def _cost(row: RunRow, metric: str, seconds: Mapping[str, float]) -> float:
    if metric == SECONDS:
        return seconds[row.run]
    score = row.score(metric)
    assert score is not None
    return score.value if direction(metric) == "lower" else -score.value


def _beaten(points: NDArray[np.float64], slack: NDArray[np.float64]) -> NDArray[np.bool_]:
    """For each row of ``points``, whether some row is nowhere worse and somewhere better, both beyond the slack."""
    nowhere_worse = np.ones((len(points), len(points)), dtype=bool)
    better = np.zeros_like(nowhere_worse)
    for values, times in zip(points.T, slack, strict=True):
        nowhere_worse &= values[None, :] <= values[:, None] * times
        better |= values[None, :] * times < values[:, None]
    return np.asarray((nowhere_worse & better).any(axis=1))
