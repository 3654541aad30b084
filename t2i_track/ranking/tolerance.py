"""By how much a score may differ and still count as the same: as given, by what a seed changes, or its own margin."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from t2i_track.errors import CompareError
from t2i_track.metrics.uncertainty import MIN_GROUPS
from t2i_track.ranking.margin import margin_of
from t2i_track.ranking.rows import ImageRow, RunRow, Score

SHARE = 0.25
"""Of the standard deviation between seeds of one picture's score. That of the mean of 64 pictures is half as much."""
Source = Literal["given", "seeds", "default"]


@dataclass(frozen=True)
class Tolerance:
    """``amount`` in units of the score; ``text`` is how it was given, or in words what it is a share of.

    ``spread`` is the standard deviation between seeds of one picture's score, None where that does not decide.
    """

    amount: float
    text: str
    source: Source
    spread: float | None = None

    @property
    def words(self) -> str:
        short = f"{self.amount:.3g}"
        return short if self.text == short else f"{short} ({self.text})"


def tolerance(
    base: RunRow,
    by: str,
    within: str | float | None = None,
    others: Iterable[RunRow] = (),
    images: Iterable[ImageRow] = (),
) -> Tolerance:
    """The margin that was given; else ``SHARE`` of the spread between seeds, which ``others`` tell, runs of the base's
    settings and another seed, or else the base's own images of a prompt; else the score's own margin.

    The spread is of a picture, not of a mean: a margin that shrank with the number of images could never be shown.

    Raises:
        CompareError: the base lacks the score, or there is no margin, or none that can be read.
    """
    ours = base.score(by)
    if ours is None or not math.isfinite(ours.value):
        raise CompareError(
            f"run {base.name!r} has no {by}: `t2i evaluate {base.run[:12]}` measures it, or choose another --by"
        )
    if within is None:
        variance, whence = _between_runs(base, ours, others)
        if not variance:
            variance, whence = _within_prompts(ours, images)
        if variance:
            spread = math.sqrt(variance)
            text = f"{SHARE:g} of the standard deviation between seeds, {spread:.3g} a picture by {whence}"
            return Tolerance(SHARE * spread, text, "seeds", spread)
    margin = margin_of(by, ours, within)
    if margin is None:
        raise CompareError(f"{by} has no margin of its own: give one with --within")
    return Tolerance(margin.amount, margin.text, "default" if margin.default else "given")


def _between_runs(base: RunRow, ours: Score, others: Iterable[RunRow]) -> tuple[float, str]:
    """The variance of one picture's score between runs of different seeds; 0 where it is not known."""
    same = [
        score.parts
        for row in others
        if (score := row.score(ours.name)) and score.protocol == ours.protocol and score.pairs_with(ours)
        if score.parts is not None
    ]
    if ours.parts is None or not same:
        return 0.0, ""
    columns = np.stack([ours.parts, *same])
    columns = columns[:, np.isfinite(columns).all(axis=0)]
    if columns.shape[1] < MIN_GROUPS:
        return 0.0, ""
    runs = f"{len(same)} run{'s' * (len(same) > 1)} of another seed"
    return base.images_per_prompt * float(columns.var(axis=0, ddof=1).mean()), runs


def _within_prompts(ours: Score, images: Iterable[ImageRow]) -> tuple[float, str]:
    """The variance between the images of one prompt; 0 where there is one of each."""
    scores: dict[tuple[int, str], list[float]] = defaultdict(list)
    for image in images:
        if ours.name in image.scores:
            scores[image.prompt_index, image.prompt].append(image.scores[ours.name])
    several: Sequence[float] = [float(np.var(one, ddof=1)) for one in scores.values() if len(one) > 1]
    if len(several) < MIN_GROUPS:
        return 0.0, ""
    return float(np.mean(several)), "the base's own pictures of a prompt"
