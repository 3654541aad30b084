"""How often pictures fail: from labels to shares with intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

from t2i_track.metrics.uncertainty import Interval, share_interval

OK = "ok"
"""What a picture is labelled in which nothing failed."""
AUTO = "auto"
"""The author of proposals that were read off scores; a person's label of an image replaces them."""


class Said(NamedTuple):
    """A label: of which image, of which prompt, what failed, and who says so."""

    image: int
    prompt: int
    failure: str
    author: str


@dataclass(frozen=True)
class FailureRate:
    """The share of a run's labelled images that have a failure, in [0, 1].

    The interval is None with fewer than 8 prompts, over which the spread is too little known.
    """

    run: str
    failure: str
    n: int
    """Images that have a label."""
    k: int
    """Those of them that fail so: at least one person says so. Of ``ok``: nobody says otherwise."""
    share: float
    ci_low: float | None
    ci_high: float | None
    people: int
    """Images of the n that a person labelled; the others have proposals."""


def failure_rates(
    labels: Mapping[str, Sequence[Said]], order: Sequence[str], level: float = 0.95
) -> tuple[FailureRate, ...]:
    """The rates of each run, of every failure that any of the runs has.

    Images of one prompt are one cluster, so the interval is that of shares over prompts
    (``uncertainty.share_interval``): Clopper and Pearson's at the effective number of images.

    Args:
        labels: run -> its labels.
        order: of the failures.
        level: of the intervals, in (0, 1).
    """
    failing = {run: _failing(said) for run, said in labels.items() if said}
    seen = {failure for images in failing.values() for found in images.values() for failure in found}
    found = []
    for run, images in failing.items():
        prompts = {one.image: one.prompt for one in labels[run]}
        people = len({one.image for one in labels[run] if one.author != AUTO})
        for failure in (name for name in order if name in seen):
            has = [image for image, failures in images.items() if failure in failures]
            interval = _interval(_shape(prompts, has), level)
            share = len(has) / len(images)
            found.append(FailureRate(run, failure, len(images), len(has), share, interval.low, interval.high, people))
    return tuple(found)


Shape = tuple[tuple[tuple[int, int], int], ...]
"""How many prompts have so many labelled images, of which so many fail: ``(((failing, images), prompts), …)``."""


def _shape(prompts: Mapping[int, int], has: Iterable[int]) -> Shape:
    failing = Counter(map(prompts.__getitem__, has))
    counts = Counter((failing[prompt], images) for prompt, images in Counter(prompts.values()).items())
    return tuple(sorted(counts.items()))


@cache
def _interval(shape: Shape, level: float) -> Interval:
    """Which prompts they are decides nothing, so that of a thousand runs few have an interval of their own."""
    clusters = [counts for counts, prompts in shape for _ in range(prompts)]
    scores = np.concatenate([np.repeat((1.0, 0.0), (failing, images - failing)) for failing, images in clusters])
    return share_interval(scores, np.repeat(np.arange(len(clusters)), [images for _, images in clusters]), level)


def _failing(labels: Iterable[Said]) -> dict[int, set[str]]:
    """Image -> its failures: all that people name, the proposals where no person has looked."""
    people: dict[int, set[str]] = {}
    proposed: dict[int, set[str]] = {}
    for one in labels:
        (proposed if one.author == AUTO else people).setdefault(one.image, set()).add(one.failure)
    return {image: failures - {OK} or {OK} for image, failures in (proposed | people).items()}
