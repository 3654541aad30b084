"""The runs that no other run beats in quality, alignment and cost at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from t2i_track.metrics.registry import SECONDS, of_role
from t2i_track.ranking.cost import COST, cheaper_than, cost_of_each, same_as
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
    """The Pareto frontier over quality (see ``quality_metric``), alignment and cost.

    Scores are taken as they are: being on the frontier is a description, not a test. A cost is no timing but work (see
    ``cost.cheaper_than``), and one that is not known to be as low as another beats it in nothing. None where no score
    or fewer than two runs have been measured.
    """
    quality = quality_metric(rows, by)
    scores = [name for name in (quality, alignment_metric(rows, but=quality)) if name and name != SECONDS]
    scores = [name for name in scores if len(eligible(rows, name)[0]) > 1]
    kept = list(rows)
    for name in scores:
        kept, _ = eligible(kept, name)
    if not scores or len(kept) < 2:
        return None
    beaten = _beaten(kept, scores)
    best = [row.run for row, worse in zip(kept, beaten, strict=True) if not worse]
    return Frontier((*scores, COST), tuple(best), tuple(row.run for row in kept))


def _beaten(rows: Sequence[RunRow], scores: Sequence[str]) -> NDArray[np.bool_]:
    """For each row, whether another is nowhere worse and somewhere better."""
    found = cost_of_each(rows)
    costs = [found[row.run] for row in rows]
    better = cheaper_than(costs)
    nowhere_worse = better | same_as(costs)
    for name in scores:
        values = np.array([_loss(row, name) for row in rows])
        better |= values[:, None] < values[None, :]
        nowhere_worse &= values[:, None] <= values[None, :]
    return np.asarray((nowhere_worse & better).any(axis=0))


def _loss(row: RunRow, metric: str) -> float:
    """The score, so that less is better."""
    score = row.score(metric)
    assert score is not None
    return score.value if direction(metric) == "lower" else -score.value
