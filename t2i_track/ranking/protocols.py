"""Which stored value of a score stands for a run, so that values of different protocols never meet."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from t2i_track.ranking.rows import ENDED, ImageRow, RunRow, Score, protocol_difference

MARK = "*"
"""Stands behind a value that was measured otherwise than those beside it."""


def usual(rows: Iterable[RunRow], metric: str) -> str | None:
    """The protocol under which most finished runs have a value, among all that are stored.

    Of protocols that are as common, that of the later run (rows come oldest first), and there the newer value's.
    """
    return commonest(score for row in rows if row.status in ENDED for score in row.every_score(metric))


def commonest(scores: Iterable[Score]) -> str | None:
    """The protocol of most of these values of one score, of two as common that of the last value."""
    counts: dict[str, int] = {}
    latest: dict[str, int] = {}
    for place, score in enumerate(scores):
        if math.isfinite(score.value):
            counts[score.protocol] = counts.get(score.protocol, 0) + 1
            latest[score.protocol] = place
    return max(counts, key=lambda protocol: (counts[protocol], latest[protocol]), default=None)


def settled(rows: Iterable[RunRow], metric: str | None = None) -> list[RunRow]:
    """The runs with each score under its usual protocol; a run that lacks that keeps its newest value.

    ``metric``: only this score.
    """
    seen = list(rows)
    several = {name for row in seen if row.all_scores for name in row.all_scores if metric in (None, name)}
    ours = {name: usual(seen, name) for name in sorted(several)}
    return [_taken(row, ours) for row in seen] if ours else seen


def _taken(row: RunRow, protocols: Mapping[str, str | None]) -> RunRow:
    """The run with its values of these protocols, by score, where it has them."""
    found = {
        name: score
        for name, protocol in protocols.items()
        for score in row.all_scores.get(name, ())
        if score.protocol == protocol and score is not row.scores.get(name)
    }
    return replace(row, scores={**row.scores, **found}) if found else row


def otherwise(rows: Sequence[RunRow], metric: str) -> dict[str, str]:
    """Run -> what its value was measured with that most others' was not."""
    scored = {row.run: score for row in rows if (score := row.score(metric)) is not None}
    if len({score.protocol for score in scored.values()}) < 2:
        return {}
    ours = usual(rows, metric)
    example = next((score for score in scored.values() if score.protocol == ours), None)
    others = {run: score for run, score in scored.items() if score.protocol != ours}
    return {run: protocol_difference(example, score) for run, score in others.items()} if example else {}


def alike(images: Sequence[ImageRow]) -> tuple[list[ImageRow], list[str]]:
    """The images with only those of their own scores that can be set side by side, and what was left out.

    Of each score the protocol counts that most runs' images have, of two as common the last.
    """
    runs = {(name, protocol, image.run): None for image in images for name, protocol in image.protocols.items()}
    counts = Counter((name, protocol) for name, protocol, _ in runs)
    ours = {name: protocol for (name, protocol), _ in sorted(counts.items(), key=lambda item: item[1])}
    if len(ours) == len(counts):
        return list(images), []
    left_out = Counter(name for name, protocol, _ in runs if protocol != ours[name])
    alike_many: dict[int, list[str]] = {}
    for name, count in sorted(left_out.items()):
        alike_many.setdefault(count, []).append(name)
    notes = [
        f"{', '.join(names)} of the single images of {count} run{'s' * (count > 1)}"
        f" {'are not shown: they were' if len(names) > 1 else 'is not shown: it was'} measured under another"
        " protocol than most."
        for count, names in alike_many.items()
    ]
    kept = [
        replace(
            image, scores={name: value for name, value in image.scores.items()
                           if image.protocols.get(name) == ours.get(name)}
        )
        for image in images
    ]  # fmt: skip
    return kept, notes
