"""Which runs can be ranked together, in which order, and which of them can be told apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from t2i_track.metrics.registry import SECONDS, score_info, word_of
from t2i_track.metrics.uncertainty import MIN_GROUPS, Interval, within
from t2i_track.ranking.differences import adjusted_p_values, difference, differences, interval_of
from t2i_track.ranking.margin import Detectable, Margin, Standing, judge, margin_of
from t2i_track.ranking.protocols import otherwise, settled, usual
from t2i_track.ranking.rows import ENDED, RunRow, Score, direction
from t2i_track.ranking.separation import simultaneous_reach, tiers


@dataclass(frozen=True)
class Ranked:
    """A run in its place: ``difference`` and ``p_adjusted`` are against the best run, None for that run itself."""

    rank: int
    tier: int | None
    row: RunRow
    score: Score
    difference: Interval | None = None
    p_adjusted: float | None = None
    standing: Standing | None = None
    """Against the best within a margin."""


@dataclass(frozen=True)
class Ranking:
    """Runs in order, best first; the margin within which they are held against the best, and what can be found."""

    entries: tuple[Ranked, ...]
    margin: Margin | None
    detectable: Detectable | None


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
    peer = _peer(found, by)
    reasons = {row.run: reason for row in found if (reason := _unfit(row, by, peer)) is not None}
    fit = [row for row in found if row.run not in reasons] if reasons else found
    others = otherwise(fit, by)
    reasons |= {
        row.run: f"another protocol: {others[row.run]}{_anew(row, by, peer)}" for row in fit if row.run in others
    }
    kept = [row for row in fit if row.run not in others] if others else fit
    return kept, [Excluded(row, reasons[row.run]) for row in found if row.run in reasons]


def _peer(rows: Sequence[RunRow], by: str) -> RunRow | None:
    """A run whose value counts, and so says how others are to be measured."""
    ours = usual(rows, by)
    return next((row for row in rows if (score := row.score(by)) is not None and score.protocol == ours), None)


def _unfit(row: RunRow, by: str, peer: RunRow | None) -> str | None:
    score, short = row.score(by), row.run[:8]
    if row.status == "failed":
        return f"failed; `t2i show {short}` tells why"
    if row.status not in ENDED:
        return f"not finished ({row.status}); `t2i generate --resume {short}` completes it"
    if score is None:
        return f"no {by}" if by == SECONDS else f"no {by}; {_measuring(row, by, peer)} measures it{_fewer(row, peer)}"
    return None if math.isfinite(score.value) else f"{by} is {score.value}"


def _measuring(row: RunRow, by: str, peer: RunRow | None) -> str:
    """The command that measures it as its peer was: with less than all of it, it would be another protocol."""
    score = None if peer is None else peer.score(by)
    words = ["t2i evaluate", row.run[:8], "--metrics", word_of(by), score.options if score is not None else ""]
    return f"`{' '.join(filter(None, words))}`"


def _fewer(row: RunRow, peer: RunRow | None) -> str:
    """That numbers of images differ, which no measurement mends."""
    if peer is None or (row.images, row.images_per_prompt) == (peer.images, peer.images_per_prompt):
        return ""
    return f", but its {_pictures(row)} are not ranked with {_pictures(peer)}"


def _pictures(row: RunRow) -> str:
    return f"{row.images} images" + (f" ({row.images_per_prompt} a prompt)" if row.images_per_prompt > 1 else "")


def _anew(row: RunRow, by: str, peer: RunRow | None) -> str:
    """How a run can be measured as its peer was, where that is a question of options or of prompts."""
    ours, theirs = row.score(by), None if peer is None else peer.score(by)
    if peer is None or ours is None or theirs is None:
        return ""
    if _fewer(row, peer) and row.images_per_prompt == peer.images_per_prompt:
        words = ["t2i evaluate", row.run[:8], peer.run[:8], "--metrics", word_of(by), theirs.options]
        return f"; `{' '.join(filter(None, words))} --shared-prompts` measures them on the prompts that both have"
    if ours.options == theirs.options or _fewer(row, peer):
        return ""
    return f"; {_measuring(row, by, peer)} measures it alike"


def rank(rows: Sequence[RunRow], by: str, level: float, margin: str | float | None = None) -> Ranking:
    """Order runs, best first, with tiers, and hold each against the best within a margin (None: the score's own).

    All pairs of these runs are tested together (``separation``), not only those with the best, because which run is
    best was itself read off the same numbers. A run joins the first tier of which it can be told from no member, so no
    two runs of one tier differ, and a run outside the first can be told from one above it. A run that cannot be
    compared has no tier, unless it is the only one.
    """
    sign = 1 if direction(by) == "lower" else -1
    ordered = sorted(((row, score) for row in rows if (score := row.score(by))), key=lambda pair: sign * pair[1].value)
    scores, manifests = [score for _, score in ordered], [row.manifest for row, _ in ordered]
    adjusted = adjusted_p_values(scores, manifests, level)
    within = margin_of(by, scores[0], margin) if scores else None
    judged = judge(scores, manifests, within, level)
    found = tiers(adjusted, 1 - level)
    best = ordered[:1]
    same = [score for row, score in ordered[1:] if row.manifest == best[0][0].manifest]
    paired = iter(differences([(score, best[0][1]) for score in same], level) if same else ())
    result = []
    for place, (row, score) in enumerate(ordered):
        gap = p = None
        if place:
            best_row, best_score = ordered[0]
            together = row.manifest == best_row.manifest
            gap = next(paired) if together else difference(score, best_score, level, paired=False)
            p = None if np.isnan(adjusted[0, place]) else float(adjusted[0, place])
        result.append(Ranked(place + 1, found[place], row, score, gap, p, judged.standings[place]))
    return Ranking(tuple(result), within, judged.detectable)


def best_interval(ranking: Sequence[Ranked], level: float) -> Interval | None:
    """Of the best run's own score, allowing for its having been chosen as the best: one of simultaneous bands.

    The naive interval of the best of nine equal runs holds its truth in 80 to 90 %. None where there are fewer than two
    runs that can be compared, or not all are over the same prompts.
    """
    scores = [entry.score for entry in ranking]
    first = scores[0] if scores else None
    if first is None or len(scores) < 2 or not all(score.pairs_with(first) for score in scores):
        return None
    if len({entry.row.manifest for entry in ranking}) > 1:
        return None
    columns = np.stack([np.asarray(score.columns) for score in scores])
    columns = columns[:, np.isfinite(columns).all(axis=0)]
    if columns.shape[1] < MIN_GROUPS:
        return None
    found = interval_of(first, level)
    if found.standard_error is None:
        return None
    reach = simultaneous_reach(columns, level) * found.standard_error
    low, high = found.estimate - reach, found.estimate + reach
    if first.ci_low is not None and first.ci_high is not None and first.holds_value:
        # The interval of the score alone, which near a bound is wider than one by its standard error.
        low, high = min(low, first.ci_low), max(high, first.ci_high)
    wide, info = replace(found, low=low, high=high), score_info(first.name)
    return within(wide) if info is not None and info.share else wide


def any_apart(rows: Sequence[RunRow], by: str, level: float) -> bool:
    """Whether any two of the runs can be told apart."""
    scored = [(score, row.manifest) for row in rows if (score := row.score(by))]
    p = adjusted_p_values([score for score, _ in scored], [manifest for _, manifest in scored], level)
    return bool(np.isfinite(p).any()) and bool(np.nanmin(p) <= 1 - level)
