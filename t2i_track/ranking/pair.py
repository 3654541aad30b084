"""Exactly two runs: paired differences of every metric, and prompt by prompt."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from t2i_track.errors import CompareError
from t2i_track.metrics.registry import of_role, rankable, score_info, word_of
from t2i_track.metrics.uncertainty import Interval
from t2i_track.notebook import Shown
from t2i_track.ranking.differences import difference, holm
from t2i_track.ranking.failures import FailureRate
from t2i_track.ranking.margin import Margin, margin_of
from t2i_track.ranking.protocols import settled
from t2i_track.ranking.rows import ImageRow, RunRow, Score, differ_in_pictures, direction, protocol_difference
from t2i_track.settings import DECISIVE

SCHEMA = "t2i-track/compare-two/3"
COLUMNS = ("metric", "a", "b", "change", "change_low", "change_high", "p_adjusted", "margin", "verdict", "note")
Verdict = Literal["A better", "B better", "equal within the margin", "cannot be told apart", "unknown"]


@dataclass(frozen=True)
class MetricDifference:
    """``change`` is B minus A; None, with the reason in ``note``, where the two values cannot be compared."""

    metric: str
    a: float | None
    b: float | None
    change: Interval | None
    p_adjusted: float | None
    verdict: Verdict
    note: str | None = None
    margin: float | None = None
    """Differences of at most so much count as none."""


@dataclass(frozen=True)
class PromptChange:
    """One prompt in both runs: the means of its images' scores, and the first image of each."""

    prompt_index: int
    prompt: str
    a: float
    b: float
    a_path: Path
    b_path: Path

    @property
    def change(self) -> float:
        return self.b - self.a


@dataclass(frozen=True)
class PromptCounts:
    metric: str
    a_wins: int
    b_wins: int
    ties: int


@dataclass(frozen=True)
class PairComparison(Shown):
    a: RunRow
    b: RunRow
    level: float
    differing: Mapping[str, tuple[Any, Any]]
    metrics: tuple[MetricDifference, ...]
    prompts: tuple[PromptCounts, ...]
    by: str | None
    changes: tuple[PromptChange, ...]
    notes: tuple[str, ...]
    failures: tuple[FailureRate, ...] = ()
    """Of the two, as far as their pictures are labelled."""

    def rows(self) -> list[dict[str, Any]]:
        """A row for each metric."""
        found = []
        for row in self.metrics:
            gap = (row.change.estimate, row.change.low, row.change.high) if row.change else (None, None, None)
            values = (row.metric, row.a, row.b, *gap, row.p_adjusted, row.margin, row.verdict, row.note)
            found.append(dict(zip(COLUMNS, values, strict=True)))
        return found

    def lines(self) -> list[str]:
        from t2i_track.ranking.describe import heads, pair_findings

        return [*heads(self), *pair_findings(self)]

    def to_dict(self) -> dict[str, Any]:
        """The documented JSON (docs/compare.md)."""
        return {
            "schema": SCHEMA,
            "a": {"run": self.a.run, "name": self.a.name},
            "b": {"run": self.b.run, "name": self.b.name},
            "level": self.level,
            "correction": "holm",
            "differing": {name: list(values) for name, values in self.differing.items()},
            "metrics": [asdict(metric) for metric in self.metrics],
            "prompts": [asdict(counts) for counts in self.prompts],
            "by": self.by,
            "changes": [
                asdict(change) | {"change": change.change, "a_path": str(change.a_path), "b_path": str(change.b_path)}
                for change in self.changes
            ],
            "failures": [asdict(rate) for rate in self.failures],
            "notes": list(self.notes),
        }


def compare_two(
    a: RunRow,
    b: RunRow,
    images_a: Sequence[ImageRow] = (),
    images_b: Sequence[ImageRow] = (),
    *,
    by: str | None = None,
    level: float = 0.95,
    within: str | float | None = None,
    top: int = 10,
) -> PairComparison:
    """Compare two runs.

    Args:
        images_a, images_b: their images with per-image scores; prompts are matched by index and text, over different
            manifests by text alone, and a score only where all these images have it under one protocol, which may be
            of other pictures in A than in B.
        by: the per-image score by which the ``top`` prompts with the largest change are chosen; by default the first
            of the scores of alignment that both have.
        within: differences of at most so much count as none: in units of each score, or ``"2%"`` of A's value; None:
            each score's own margin.

    Raises:
        CompareError: A and B are the same run, or ``by`` is no per-image score of both.
    """
    if a.run == b.run:
        raise CompareError(f"both addresses are run {a.name!r} ({a.run[:8]}); name two different runs")
    a, b = settled([a, b])
    pairs = matched(images_a, images_b, by_place=a.manifest == b.manifest)
    found = {
        name: changes for name in _scored(images_a) & _scored(images_b) if (changes := prompt_changes(pairs, name))
    }
    shared = sorted(found)
    parts = {name: found[name] for name in shared if _of_other_pictures(a, b, name)}
    scored = [name for name in shared if name in parts or len(protocols_of((*images_a, *images_b), name)) == 1]
    mixed = [name for name in shared if name not in scored]
    if by is not None and by not in scored:
        lacking = "of one protocol " if by in mixed else ""
        raise CompareError(
            f"no score {by!r} {lacking}for each image of both runs; there is {', '.join(scored) or 'none'}"
        )
    by = by or next((name for name in (*of_role("alignment"), *scored) if name in scored), None)
    changes = sorted(found[by], key=lambda c: (-abs(c.change), c.prompt_index)) if by else []
    differing = {
        name: (getattr(a, name), getattr(b, name))
        for name in (*DECISIVE, "manifest")
        if getattr(a, name) != getattr(b, name)
    }
    counts = tuple(_counts(name, found[name]) for name in scored)
    return PairComparison(
        a,
        b,
        level,
        differing,
        _metrics(a, b, parts, level, within),
        counts,
        by,
        tuple(changes[:top]),
        tuple(_notes(a, b, pairs, by, mixed)),
    )


def _of_other_pictures(a: RunRow, b: RunRow, name: str) -> bool:
    ours, theirs = a.score(name), b.score(name)
    return ours is not None and theirs is not None and differ_in_pictures(ours, theirs)


def _metrics(
    a: RunRow, b: RunRow, parts: Mapping[str, Sequence[PromptChange]], level: float, within: str | float | None
) -> tuple[MetricDifference, ...]:
    """``parts``: of means over other pictures in A than in B, the prompts that both have."""
    names = [name for name in rankable(parts=True) if a.score(name) or b.score(name)]
    rows = [
        _over_shared(a, b, name, parts[name], level) if name in parts else _metric(name, a, b, level) for name in names
    ]
    adjusted = holm([row.change.p_value if row.change else None for row in rows])
    margins = [margin_of(row.metric, ours, within) if (ours := a.score(row.metric)) else None for row in rows]
    return tuple(_decided(row, p, level, margin) for row, p, margin in zip(rows, adjusted, margins, strict=True))


def _metric(name: str, a: RunRow, b: RunRow, level: float) -> MetricDifference:
    ours, theirs = a.score(name), b.score(name)
    if ours is None or theirs is None:
        lacking = "A" if ours is None else "B"
        known = (ours.value if ours else None, theirs.value if theirs else None)
        return MetricDifference(name, *known, None, None, "unknown", f"{lacking} has no {name}")
    if not (math.isfinite(ours.value) and math.isfinite(theirs.value)):
        lacking = "B" if math.isfinite(ours.value) else "A"
        return MetricDifference(name, None, None, None, None, "unknown", f"{name} of {lacking} is not a number")
    if ours.protocol != theirs.protocol:
        reason = f"another protocol: in B {protocol_difference(ours, theirs)}"
        return MetricDifference(name, ours.value, theirs.value, None, None, "unknown", reason)
    paired = a.manifest == b.manifest
    gap = difference(theirs, ours, level, paired)
    note = None if paired else "over different manifests: unpaired"
    return MetricDifference(name, ours.value, theirs.value, gap, None, "unknown", note)


def _over_shared(a: RunRow, b: RunRow, name: str, shared: Sequence[PromptChange], level: float) -> MetricDifference:
    """Of a mean over other pictures in A than in B: both made again over the prompts that both have."""
    columns = np.array([(change.a, change.b) for change in shared]).T
    ours, theirs = (Score(name, float(own.mean()), n=len(own), parts=own) for own in columns)
    note = f"over the {len(shared)} prompts that both have: in B {protocol_difference(a.scores[name], b.scores[name])}"
    return MetricDifference(name, ours.value, theirs.value, difference(theirs, ours, level), None, "unknown", note)


def _decided(row: MetricDifference, p: float, level: float, margin: Margin | None) -> MetricDifference:
    if row.change is None or np.isnan(p):
        return row
    verdict: Verdict = "cannot be told apart"
    least = None if margin is None else margin.amount
    if p <= 1 - level:
        verdict = "B better" if (row.change.estimate < 0) == (direction(row.metric) == "lower") else "A better"
    elif least is not None and max(abs(row.change.low or 0.0), abs(row.change.high or 0.0)) <= least:
        verdict = "equal within the margin"
    return replace(row, p_adjusted=float(p), verdict=verdict, margin=least)


Pairs = Sequence[tuple[list[ImageRow], list[ImageRow]]]


def matched(images_a: Sequence[ImageRow], images_b: Sequence[ImageRow], by_place: bool) -> Pairs:
    """The images of each prompt that both runs have, by prompt index, or where the manifests differ by text.

    Over different manifests only the seeds that both have of a prompt count, where they have any in common.
    """
    ours, theirs = _by_prompt(images_a, by_place), _by_prompt(images_b, by_place)
    pairs = [(ours[key], theirs[key]) for key in sorted(ours.keys() & theirs.keys())]
    return pairs if by_place else [_of_shared_seeds(*pair) for pair in pairs]


def _of_shared_seeds(ours: list[ImageRow], theirs: list[ImageRow]) -> tuple[list[ImageRow], list[ImageRow]]:
    shared = ({image.seed for image in ours} & {image.seed for image in theirs}) - {None}
    if not shared:
        return ours, theirs
    return [image for image in ours if image.seed in shared], [image for image in theirs if image.seed in shared]


def _by_prompt(images: Sequence[ImageRow], by_place: bool) -> dict[tuple[int, str], list[ImageRow]]:
    found: dict[tuple[int, str], list[ImageRow]] = defaultdict(list)
    for image in sorted(images, key=lambda image: image.replicate):
        if image.prompt:  # the prompts that nobody knows are not one prompt
            found[image.prompt_index if by_place else 0, image.prompt].append(image)
    return found


def prompt_changes(pairs: Pairs, metric: str) -> list[PromptChange]:
    """Of each prompt whose images all have the score, in both runs."""
    return [
        PromptChange(
            a[0].prompt_index, a[0].prompt, _mean(a, metric), _mean(b, metric), a[0].path, b[0].path
        )
        for a, b in pairs
        if all(metric in image.scores for image in (*a, *b))
    ]  # fmt: skip


def _scored(images: Sequence[ImageRow]) -> set[str]:
    """The scores that some image has; one that was left out of a measurement has none."""
    return {name for image in images for name in image.scores}


def protocols_of(images: Sequence[ImageRow], metric: str) -> set[str | None]:
    """The protocols under which single images have the score."""
    return {image.protocols.get(metric) for image in images if metric in image.scores}


def _mean(images: Sequence[ImageRow], metric: str) -> float:
    return math.fsum(image.scores[metric] for image in images) / len(images)


def _counts(metric: str, changes: Sequence[PromptChange]) -> PromptCounts:
    info = score_info(metric)
    better = -1 if info is not None and info.direction == "lower" else 1
    signs = [int(np.sign(change.change)) * better for change in changes]
    return PromptCounts(metric, signs.count(-1), signs.count(1), signs.count(0))


def _notes(a: RunRow, b: RunRow, pairs: Pairs, by: str | None, mixed: Sequence[str]) -> list[str]:
    notes = []
    if a.manifest != b.manifest:
        notes.append(f"The runs are over different manifests; {len(pairs)} prompts are in both.")
    if a.seed is None or b.seed is None:
        other = sum({image.seed for image in ours} != {image.seed for image in theirs} for ours, theirs in pairs)
        if other:
            notes.append(f"Of {other} of {len(pairs)} prompts that both have, the pictures are of other seeds.")
    elif a.seed != b.seed:
        notes.append(f"The base seeds differ ({a.seed} and {b.seed}): pictures of a prompt start from other noise.")
    if mixed:
        notes.append(
            f"{', '.join(mixed)}: not compared prompt by prompt, since the two runs' images were measured under "
            f"different protocols{_first_difference(a, b, mixed)}."
        )
    if pairs and by is None and not mixed:
        words = ",".join(map(word_of, of_role("alignment")))
        notes.append(f"No image has a score of its own; `t2i evaluate RUN --metrics {words}` makes them.")
    return notes


def _first_difference(a: RunRow, b: RunRow, metrics: Sequence[str]) -> str:
    """The field in which the protocols differ, where the runs' own scores tell it."""
    pairs = [(ours, theirs) for name in metrics if (ours := a.score(name)) and (theirs := b.score(name))]
    told = [protocol_difference(ours, theirs) for ours, theirs in pairs if ours.protocol != theirs.protocol]
    return f" (in B {told[0]})" if told else ""
