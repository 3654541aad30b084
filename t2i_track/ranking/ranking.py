"""Which runs can be ranked together, in which order, and which of them can be told apart."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from t2i_track.metrics.registry import SECONDS, word_of
from t2i_track.metrics.uncertainty import Interval
from t2i_track.ranking.differences import adjusted_p_values, difference
from t2i_track.ranking.rows import RunRow, Score, direction, protocol_difference
from t2i_track.ranking.separation import tiers


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

    The group of the most common protocol is ranked; of two as common, the one with the later run (rows come oldest
    first).
    """
    scored: dict[str, Score] = {}
    excluded: dict[str, Excluded] = {}
    for row in rows:
        score, reason = row.score(by), _unfit(row, by)
        if reason is not None or score is None:
            excluded[row.run] = Excluded(row, reason or f"no {by}")
        else:
            scored[row.run] = score
    counts = Counter(score.protocol for score in scored.values())
    latest = {score.protocol: place for place, score in enumerate(scored.values())}
    ours = max(counts, key=lambda protocol: (counts[protocol], latest[protocol]), default=None)
    example = next((score for score in scored.values() if score.protocol == ours), None)
    for row in rows:
        if row.run in scored and example is not None and scored[row.run].protocol != ours:
            reason = f"another protocol: {protocol_difference(example, scored[row.run])}"
            excluded[row.run] = Excluded(row, reason)
    kept = [row for row in rows if row.run not in excluded]
    return kept, [excluded[row.run] for row in rows if row.run in excluded]


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

    All pairs of these runs are tested together (``separation``), not only those with the best, because which run is
    best was itself read off the same numbers. A run joins the first tier of which it can be told from no member, so no
    two runs of one tier differ, and a run outside the first can be told from one above it. A run that cannot be
    compared has no tier, unless it is the only one.
    """
    sign = 1 if direction(by) == "lower" else -1
    ordered = sorted(((row, score) for row in rows if (score := row.score(by))), key=lambda pair: sign * pair[1].value)
    adjusted = adjusted_p_values([score for _, score in ordered], [row.manifest for row, _ in ordered], level)
    found = tiers(adjusted, 1 - level)
    result = []
    for place, (row, score) in enumerate(ordered):
        gap = p = None
        if place:
            best_row, best = ordered[0]
            gap = difference(score, best, level, paired=row.manifest == best_row.manifest)
            p = None if np.isnan(adjusted[0, place]) else float(adjusted[0, place])
        result.append(Ranked(place + 1, found[place], row, score, gap, p))
    return result


def any_apart(rows: Sequence[RunRow], by: str, level: float) -> bool:
    """Whether any two of the runs can be told apart."""
    scored = [(score, row.manifest) for row in rows if (score := row.score(by))]
    p = adjusted_p_values([score for score, _ in scored], [manifest for _, manifest in scored], level)
    return bool(np.isfinite(p).any()) and bool(np.nanmin(p) <= 1 - level)
