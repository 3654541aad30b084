"""Which runs can be ranked together, in which order, and which of them can be told apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from t2i_track.metrics.registry import SECONDS, word_of
from t2i_track.metrics.uncertainty import Interval
from t2i_track.ranking.differences import Matrix, difference, differences, holm_pairs, p_values
from t2i_track.ranking.protocols import otherwise, settled
from t2i_track.ranking.rows import RunRow, Score, direction


@dataclass(frozen=True)
class Ranked:
    """A run in its place: ``difference`` and ``p_adjusted`` are against the best run, None for that run itself."""

    rank: int
    tier: int | None
    row: RunRow
    score: Score
    difference: Interval | None = None
    p_adjusted: float | None = None


@dataclass(frozen=True)
class Excluded:
    row: RunRow
    reason: str


def eligible(rows: Sequence[RunRow], by: str) -> tuple[list[RunRow], list[Excluded]]:
    """Split runs into those whose ``by`` may be ranked together and the others, each with the reason.

    The group of the most common protocol is ranked, with each run's stored value of it (see ``protocols.usual``): a
    newer value of another protocol hides none.
    """
    found = settled(rows, by)
    reasons = {row.run: reason for row in found if (reason := _unfit(row, by)) is not None}
    fit = [row for row in found if row.run not in reasons] if reasons else found
    others = otherwise(fit, by)
    reasons |= {run: f"another protocol: {difference}" for run, difference in others.items()}
    kept = [row for row in fit if row.run not in others] if others else fit
    return kept, [Excluded(row, reasons[row.run]) for row in found if row.run in reasons]


def _unfit(row: RunRow, by: str) -> str | None:
    score, short = row.score(by), row.run[:8]
    if row.status == "failed":
        return f"failed; `t2i show {short}` tells why"
    if row.status != "finished":
        return f"not finished ({row.status}); `t2i generate --resume {short}` completes it"
    if score is None:
        return f"no {by}" if by == SECONDS else f"no {by}; `t2i evaluate {short} --metrics {word_of(by)}` measures it"
    return None if math.isfinite(score.value) else f"{by} is {score.value}"


def rank(rows: Sequence[RunRow], by: str, level: float) -> list[Ranked]:
    """Order runs, best first, with tiers.

    A run joins the first tier whose best run it cannot be told from; otherwise it begins a tier. Two runs are told
    apart where the Holm-adjusted p-value of their paired difference, over all pairs of these runs, is at most
    ``1 - level``. All pairs count, not only those with the best, because which run is best was itself read off the
    same numbers. A run without replicates has no tier, unless it is the only one.
    """
    sign = 1 if direction(by) == "lower" else -1
    ordered = sorted(((row, score) for row in rows if (score := row.score(by))), key=lambda pair: sign * pair[1].value)
    adjusted = holm_pairs(p_values([score for _, score in ordered], [row.manifest for row, _ in ordered]))
    tiers = _tiers(adjusted, 1 - level)
    result = []
    gaps = differences([score for _, score in ordered], ordered[0][1], level) if ordered else []
    for place, (row, score) in enumerate(ordered):
        gap = p = None
        if place:
            best_row, best = ordered[0]
            paired = row.manifest == best_row.manifest
            gap = gaps[place] if paired else difference(score, best, level, paired=False)
            p = None if np.isnan(adjusted[0, place]) else float(adjusted[0, place])
        result.append(Ranked(place + 1, tiers[place], row, score, gap, p))
    return result


def any_apart(rows: Sequence[RunRow], by: str, level: float) -> bool:
    """Whether any two of the runs can be told apart: whether Holm's first step, the smallest of all p-values, holds."""
    scored = [(score, row.manifest) for row in rows if (score := row.score(by))]
    p = p_values([score for score, _ in scored], [manifest for _, manifest in scored])
    pairs = np.isfinite(p).sum() / 2
    return bool(pairs) and bool(np.nanmin(p) * pairs <= 1 - level)


def _tiers(adjusted: Matrix, alpha: float) -> list[int | None]:
    """Tier of each run of a matrix in rank order."""
    leaders: list[int] = []
    tiers: list[int | None] = []
    alone = len(adjusted) == 1
    for run in range(len(adjusted)):
        if not alone and np.isnan(adjusted[run]).all():
            tiers.append(None)
            continue
        shared = (tier for tier, leader in enumerate(leaders, 1) if not adjusted[leader, run] <= alpha)
        tier = next(shared, None)
        if tier is None:
            leaders.append(run)
            tier = len(leaders)
        tiers.append(tier)
    return tiers
