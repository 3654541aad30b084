"""What is compared: runs with their scores, and images with theirs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2i_track.errors import CompareError
from t2i_track.metrics.metric import Direction
from t2i_track.metrics.registry import SECONDS, rankable, score_info
from t2i_track.schedulers import network_calls
from t2i_track.settings import AXES, UNKNOWABLE, UNKNOWN, Values

PICTURES = {"n", "images_per_prompt", "parameters.left_out_sha256", "parameters.scored_prompts_sha256"}
"""The words of a ``protocol_label`` that say which pictures of a run were scored."""


ENDED = ("finished", "enough")
"""What a run's status is once it has the pictures that it was to have."""


@dataclass(frozen=True)
class Score:
    """One metric of one run.

    ``protocol`` is the fingerprint of what it was measured with and ``protocol_label`` its readable form (see
    ``protocol_label``); ``replicates`` are the leave-one-group-out values, None for an empty group.
    """

    name: str
    value: float
    ci_low: float | None = None
    ci_high: float | None = None
    n: int = 0
    protocol: str = ""
    protocol_label: str = ""
    replicates: tuple[float | None, ...] | None = None
    note: str | None = None
    grouping: str | None = None
    """How prompts were dealt into groups; None: by their index modulo 32, as before there was a name for it."""
    prompts: str = ""
    """Hash of the set of prompts that were scored."""
    parts: NDArray[np.float64] | None = field(default=None, compare=False, repr=False)
    """Of a mean: that of each prompt, in the order of their hashes; NaN where the score does not apply."""
    stored_protocol: str = ""
    """Its fingerprint as stored: a value of an earlier version says less there than in ``protocol``."""
    options: str = ""
    """Of `t2i evaluate`, with which it was measured."""

    @cached_property
    def columns(self) -> NDArray[np.float64] | None:
        """Numbers whose mean is the score, one a prompt or a group of prompts; None where it cannot be compared.

        Of a mean they are its parts. Of any other score they are the jackknife's pseudo-values, ``G v - (G - 1) v_(g)``
        (Tukey 1958), whose mean is the value without its bias of the form 1/n. That bias depends on the spread of the
        pictures, so scores that say ``corrected`` are compared without it, and not at all where it cannot be removed
        (Chong & Forsyth 2020, arXiv:1911.07023); of others the pseudo-values are moved so that their mean is the value.
        """
        if not self.comparable:
            return None
        if self.parts is not None:
            return self.parts
        left_out = np.array(self.replicates, dtype=np.float64)  # a None is a NaN here
        known = left_out[np.isfinite(left_out)]
        if not len(known):
            return None
        found = len(known) * self.value - (len(known) - 1) * left_out
        if self._corrected:
            return found
        mean = len(known) * self.value - (len(known) - 1) * (float(known.sum()) / len(known))
        return np.asarray(found + (self.value - mean))

    @property
    def comparable(self) -> bool:
        """Whether there is something to compare it by: ``columns``, without making them."""
        if self.parts is not None:
            return True
        return self.replicates is not None and not (self._corrected and self.ci_low is None)

    @property
    def _corrected(self) -> bool:
        info = score_info(self.name)
        return info is not None and info.corrected

    def pairs_with(self, other: Score) -> bool:
        """Whether the two are over the same prompts, grouped alike."""
        ours, theirs = self.columns, other.columns
        if ours is None or theirs is None or len(ours) != len(theirs):
            return False
        return self.grouping == other.grouping and self.prompts == other.prompts

    @property
    def holds_value(self) -> bool:
        """False where the interval lies beside the value, as FID's does: it is of the value without its bias."""
        return self.ci_low is None or self.ci_high is None or self.ci_low <= self.value <= self.ci_high


@dataclass(frozen=True, kw_only=True)
class RunRow(Values):
    """One run: its settings as resolved, what its images cost (seconds) and how they scored.

    Of a run that was imported, some settings are unknown and None: those that ``UNKNOWABLE`` names.
    """

    # Wider than what they override, which is of runs that can be made: a row is only read.
    guidance: float | None  # type: ignore[assignment]
    steps: int | None  # type: ignore[assignment]
    scheduler: str | None  # type: ignore[assignment]
    seed: int | None  # type: ignore[assignment]
    batch_size: int | None  # type: ignore[assignment]
    run: str
    name: str
    experiment: str
    sweep: str | None
    status: str
    manifest: str
    images: int
    seconds_per_image: float | None = None
    halves: int | None = None
    """Passes of the network in a step, as the model's family takes them; None: of a version that did not say."""
    mlflow_run_id: str | None = None
    origin: str | None = None
    """The program that made the pictures, where they were imported."""
    note: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    """What people said of it."""
    scores: Mapping[str, Score] = field(default_factory=dict)
    all_scores: Mapping[str, tuple[Score, ...]] = field(default_factory=dict)
    """Of each score that is stored under several protocols, all its values, the newest last."""

    @property
    def passes(self) -> int | None:  # type: ignore[override]
        """Passes of the network for one picture; None where the settings that decide it are unknown."""
        if self.steps is None or self.scheduler is None or (self.halves is None and self.guidance is None):
            return None
        return super().passes if self.halves is None else network_calls(self.scheduler, self.steps) * self.halves

    def score(self, metric: str) -> Score | None:
        """The stored score, or the run's cost as one without an interval."""
        if metric == SECONDS and self.seconds_per_image is not None:
            return Score(SECONDS, self.seconds_per_image, n=self.images, note="a timing, measured once")
        return self.scores.get(metric)

    def every_score(self, metric: str) -> tuple[Score, ...]:
        """Its values under all protocols, the newest last."""
        score = self.score(metric)
        return self.all_scores.get(metric) or (() if score is None else (score,))

    def told(self, axis: str) -> object:
        """The value of a setting, or the word for one that nobody knows."""
        value = getattr(self, axis)
        return UNKNOWN if value is None and axis in UNKNOWABLE else value

    @property
    def setting(self) -> str:
        return f"guidance {self.short('guidance')} with {self.short('steps')} steps"

    def short(self, axis: str) -> str:
        """The same as a word of a sentence: 7.5, not 7.50."""
        value = self.told(axis)
        return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class ImageRow:
    """One image: ``record`` is its whole lineage as shown to people, ``scores`` its own scores.

    ``protocols`` has the fingerprint of each of them.
    """

    run: str
    prompt_index: int
    replicate: int
    prompt: str
    seed: int | None
    path: Path
    record: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    protocols: Mapping[str, str] = field(default_factory=dict)


def direction(metric: str) -> Direction:
    """Whether lower or higher is better.

    Raises:
        CompareError: the name is no metric that has a better end.
    """
    info = score_info(metric)
    if info is None or info.direction is None:
        raise CompareError(f"cannot rank by {metric!r}: choose one of {', '.join(rankable())}")
    return info.direction


def varied(rows: Iterable[RunRow], axes: Sequence[str] = AXES) -> list[str]:
    """The settings in which the rows differ."""
    seen = list(rows)
    return [axis for axis in axes if len(set(map(attrgetter(axis), seen))) > 1]


def protocol_label(fields: Mapping[str, Any]) -> str:
    """A protocol as ``key=value`` words, so that ``protocol_difference`` can name the field that differs.

    Hashes are cut to eight digits, ``None`` is left out, and mappings are opened one level deep.
    """
    flat: dict[str, Any] = {}
    for key, value in fields.items():
        flat.update(
            {f"{key}.{inner}": part for inner, part in value.items()} if isinstance(value, Mapping) else {key: value}
        )
    words = ((key, str(value)[:8] if key.endswith("sha256") else value) for key, value in flat.items())
    return " · ".join(f"{key}={value}" for key, value in words if value is not None)


def protocol_difference(ours: Score, theirs: Score) -> str:
    """In words, what ``theirs`` was measured with that ``ours``, the ranked group's, was not."""
    left, right = _fields(ours.protocol_label), _fields(theirs.protocol_label)
    changed = [key for key in dict.fromkeys([*left, *right]) if left.get(key) != right.get(key)]
    if changed and all("=" in word for word in (ours.protocol_label, theirs.protocol_label)):
        return ", ".join(f"{key} is {right.get(key, 'not set')}, not {left.get(key, 'set')}" for key in changed)
    if ours.protocol_label != theirs.protocol_label:
        return f"measured with {theirs.protocol_label or 'an unnamed protocol'}, not {ours.protocol_label}"
    return f"protocol {theirs.protocol[:8]}, not {ours.protocol[:8]}"


def differ_in_pictures(ours: Score, theirs: Score) -> bool:
    """Whether the two were measured alike, but of other pictures: more of them, or others left out.

    A picture's own score is then the same measurement in both, whatever the score of all of them is.
    """
    left, right = _fields(ours.protocol_label), _fields(theirs.protocol_label)
    changed = {key for key in (*left, *right) if left.get(key) != right.get(key)}
    return bool(changed) and changed <= PICTURES


def _fields(label: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in label.split(" · ") if "=" in word)
