"""Rounds over settings that are alive: what is decided after each, as a pure function of the scores that are stored.

A setting is *out* where it is shown to be worse than another by more than the margin, *as good* where it is shown to be
worse than none that is not out by more than the margin, else *undecided*. Every picture is a function of its record, so
the whole table of settings and prompts is there before it is drawn from, and whatever is decided reads the first
prompts of the same order: what is looked at, and when it is stopped, changes no number of it. So limits that hold at
every look hold for whatever was looked at.

Half of ``1 - level`` is spent on each kind of statement. On *out*: of setting ``k`` against ``j`` its weight ``w_k``
over those of all that are not out, times ``w_j / (1 - w_k)``, which is Holm's method made sequential (Bartroff & Song
2014): until the first mistake all that are out are rightly so, hence those wrongly sent out share no less than that. On
*as good*: a mistake has to be one against the truly best setting, so only those pairs count (multiple comparisons with
the best, Hsu 1984): ``w_k`` over the weights of those that are not as good yet, one at least of all being the best.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from t2i_track.ranking.evidence import Evidence, Flags, Limits, Matrix
from t2i_track.ranking.margin import POWER_QUANTILE, rounded_up

State = Literal["out", "as good", "undecided"]
STATES: tuple[State, ...] = get_args(State)
Ended = Literal["decided", "budget", "all images", "open", "refined"]
"""Why nothing more is made; ``open``: more is to be made; ``refined``: with settings that are not there yet."""


@dataclass(frozen=True)
class Rule:
    """What was fixed before the first image. ``weights``: of the chance of an error, each setting's share."""

    margin: float
    looks: tuple[int, ...]
    """Numbers of prompts."""
    weights: tuple[float, ...]
    level: float = 0.95
    growing: bool = False
    """Whether settings may be added: the best may be another one tomorrow."""

    @property
    def alpha(self) -> float:
        """Of each kind of statement."""
        return (1 - self.level) / 2

    def out(self, gone: Flags) -> Matrix:
        """The chance of an error of "row is better than column by more than the margin", where so many are out."""
        weights = np.array(self.weights)
        left = max(1 - float(weights[gone].sum()), float(weights.min()))
        return np.asarray(self.alpha * self._pairs(weights / left))

    def good(self, shown: Flags) -> Matrix:
        """The chance of an error of "row is better than column by no more than the margin", where so many are shown."""
        weights = np.array(self.weights)
        if self.growing:
            return np.asarray(self.alpha * self._pairs(weights))
        best = max(float(weights[shown].sum()), float(weights.min()))
        own = np.minimum(weights / max(1 - best, float(weights.min())), 1.0)
        return np.asarray(self.alpha * np.broadcast_to(own, (len(weights), len(weights))))

    def _pairs(self, own: Matrix) -> Matrix:
        """The column's share, divided among the rows."""
        weights = np.array(self.weights)
        rows = weights[:, None] / np.maximum(1 - weights, weights.min())
        return np.asarray(np.minimum(own * np.minimum(rows, 1.0), 1.0))


@dataclass(frozen=True)
class Look:
    """What was decided with so many prompts: the state of each setting, None where it was not there yet."""

    number: int
    prompts: int
    states: tuple[State | None, ...]
    best: int
    """The setting that looks best of those that are not out."""
    measured: tuple[int, ...]
    """Those that were given images for this look."""
    before: tuple[State | None, ...]
    alone: tuple[Flags, Flags]
    """Who was out and as good before: what the chances of an error are divided by."""


@dataclass(frozen=True)
class Course:
    """How far a sweep has come: its looks, and what it needs for the next."""

    looks: tuple[Look, ...]
    ended: Ended
    wanted: tuple[int, ...] = ()
    """Settings that need ``prompts`` prompts."""
    prompts: int = 0
    done: tuple[int, ...] = ()
    """Looks that each setting has been part of; the last one's prompts are what it was given."""

    @cached_property
    def states(self) -> tuple[State | None, ...]:
        return self.looks[-1].states if self.looks else tuple(None for _ in self.done)


Affordable = Callable[[Sequence[int], Sequence[int], int], bool]
"""Whether settings (the second) may be given a look's images, with the looks that each has had."""
Refine = Callable[[Sequence[State | None], int], Sequence[int | None]]
"""Settings to add, from the states of those that are there and the best of them, once it is as good. None: one that
has no place among these yet, so that the sweep has to be gone through again with it."""


def replay(
    evidence: Evidence,
    rule: Rule,
    have: Sequence[int],
    first: Sequence[int],
    affordable: Affordable = lambda done, wanted, look: True,
    refine: Refine = lambda states, best: (),
    dead: Container[int] = (),
) -> Course:
    """Go through the looks as far as there are scores.

    Args:
        have: of each setting, how many looks its scores reach.
        first: the settings to begin with.
        dead: settings that get no more images, since something failed; they take part as far as they have scores.

    Returns:
        Its looks, and either why it ended or which settings need scores of how many prompts.
    """
    course = _Replay(evidence, rule, have, first)
    for look in range(len(rule.looks)):
        while True:
            course.bury(dead, look)
            wanted = course.lacking(look)
            active = course.active(look)
            if active and not affordable(course.done, active, look):
                return course.ended("budget")
            if wanted:
                return course.open(wanted, look)
            course.decide(look, active)
            added = course.asked(refine)
            if None in added:
                return course.ended("refined")
            if added:
                course.add([k for k in added if k is not None])
                continue
            if not course.undecided():
                return course.ended("decided")
            break
    return course.ended("all images")


class _Replay:
    """The state between looks."""

    def __init__(self, evidence: Evidence, rule: Rule, have: Sequence[int], first: Sequence[int]) -> None:
        self.evidence, self.rule, self.have = evidence, rule, tuple(have)
        self.states: list[State | None] = [None] * len(have)
        self.done = [0] * len(have)
        self.buried: set[int | None] = set()
        self.best = first[0]
        self.looks: list[Look] = []
        size = (len(have), len(have))
        self.more, self.within = np.zeros(size, dtype=bool), np.zeros(size, dtype=bool)
        np.fill_diagonal(self.within, True)
        self.add(first)

    def add(self, settings: Sequence[int]) -> None:
        """Whoever was as good as the best has to be so beside the new ones too."""
        for k in settings:
            self.states[k] = "undecided"
        for k, state in enumerate(self.states):
            if state == "as good":
                self.states[k] = "undecided"

    def undecided(self) -> list[int]:
        return [k for k, state in enumerate(self.states) if state == "undecided"]

    def asked(self, refine: Refine) -> list[int | None]:
        """Settings to add now: where nothing that is there may be much better than the best, so that what lies beside
        it is of interest. Not only where all are decided: one that is about a margin worse would hold up the search.
        """
        if self.states[self.best] != "as good":
            return []
        return [k for k in refine(self.states, self.best) if k not in self.buried]

    def flags(self, *states: State) -> Flags:
        return np.array([state in states for state in self.states])

    def active(self, look: int) -> list[int]:
        """Settings that this look needs and that have not been part of it: those undecided, and whom these have to be
        compared with: the best, and those that may still be better than they by more than the margin."""
        undecided = self.undecided()
        alive = np.flatnonzero(self.flags("as good", "undecided"))
        best = [self.best] if self.states[self.best] is not None else []
        needed = {*undecided, *best} if undecided else set()
        needed |= {int(j) for j in alive if undecided and not self.within[j, undecided].all()}
        return sorted(k for k in needed if self.done[k] <= look)

    def bury(self, dead: Container[int], look: int) -> None:
        """Leave out those that get no more images and lack this look's."""
        for k in self.lacking(look):
            if k in dead:
                self.states[k] = None
                self.buried.add(k)
        if self.states[self.best] is None:
            self.best = next((k for k, state in enumerate(self.states) if state not in (None, "out")), self.best)

    def lacking(self, look: int) -> list[int]:
        return [k for k in self.active(look) if self.have[k] <= look]

    def decide(self, look: int, active: Sequence[int]) -> None:
        gone, shown = self.flags("out"), self.flags("as good")
        for k in active:
            self.done[k] = look + 1
        there = np.array([state is not None for state in self.states])
        pairs = there[:, None] & there
        self.more |= pairs & self.evidence.more(look, self.rule.out(gone))
        self.within |= pairs & self.evidence.within(look, self.rule.good(shown))
        before = tuple(self.states)
        means = self.evidence.means(look)
        for k in self.undecided():
            if self.more[:, k].any() and not self._last(k):
                self.states[k] = "out"
        alive = self.flags("as good", "undecided")
        for k in self.undecided():
            if self.within[alive, k].all():
                self.states[k] = "as good"
        self.best = int(np.argmax(np.where(alive & np.isfinite(means), means, -np.inf)))
        self.looks.append(
            Look(look, self.rule.looks[look], tuple(self.states), self.best, tuple(active), before, (gone, shown))
        )

    def _last(self, k: int) -> bool:
        """Whether all others are out: then it is the best, whatever it seems."""
        return all(state in ("out", None) for j, state in enumerate(self.states) if j != k)

    def ended(self, why: Ended) -> Course:
        return Course(tuple(self.looks), why, done=tuple(self.done))

    def open(self, wanted: Sequence[int], look: int) -> Course:
        return Course(tuple(self.looks), "open", tuple(wanted), self.rule.looks[look], tuple(self.done))


@dataclass(frozen=True)
class Decision:
    """One setting after one look; ``gap`` is how much worse than ``against`` it is, with limits over all others."""

    setting: int
    look: int
    prompts: int
    state: State
    against: int
    gap: Limits


def decisions(evidence: Evidence, rule: Rule, course: Course, look: Look) -> list[Decision]:
    """The evidence of a look, of each setting that it could decide and of the best.

    ``gap.low`` is above the margin where a setting is out, ``gap.high`` at most the margin where it is as good.
    """
    found = []
    gone, shown = look.alone
    out, good = rule.out(gone), rule.good(shown)
    for k, state in enumerate(look.states):
        if state is None or (look.before[k] not in ("undecided", None) and k not in look.measured):
            continue
        others = [j for j, other in enumerate(look.states) if other is not None and j != k and not gone[j]]
        gaps = evidence.gaps(look.number)
        against = max(others, key=lambda j: gaps[j, k], default=k)
        limits = [evidence.limits(j, k, look.number, float(out[j, k]), float(good[j, k])) for j in others]
        estimate = float(gaps[against, k]) if others else 0.0
        low = max((one.low for one in limits), default=0.0)
        alive = [one for j, one in zip(others, limits, strict=True) if look.states[j] != "out"]
        high = max((one.high for one in alive or limits), default=0.0)
        if state == "as good":  # shown against some at an earlier look
            high = min(high, rule.margin)
        if state == "out":
            low = max(low, rule.margin)
        found.append(Decision(k, look.number, look.prompts, state, against, Limits(estimate, low, max(high, low))))
    return found


def more_prompts(evidence: Evidence, rule: Rule, course: Course, setting: int) -> int | None:
    """About how many prompts would probably decide an undecided setting, if the differences that are seen are true.

    None: more than anybody makes.
    """
    look = course.looks[-1]
    gaps, gone, shown = evidence.gaps(look.number), np.array([s == "out" for s in look.states]), look.alone[1]
    out, good = rule.out(gone), rule.good(shown)
    others = [j for j, state in enumerate(look.states) if state not in (None, "out") and j != setting]
    rooms = {j: rule.margin - float(gaps[j, setting]) for j in others}
    beyond = {j: room for j, room in rooms.items() if room < 0}

    def needed(j: int, alpha: Matrix) -> float:
        return evidence.prompts(rooms[j], j, setting, look.number, float(alpha[j, setting]), POWER_QUANTILE)

    numbers = [needed(j, out) for j in beyond] if beyond else [needed(j, good) for j in others]
    if not numbers:
        return None
    number = min(numbers) if beyond else max(numbers)
    return rounded_up(max(number, look.prompts + 1.0)) if math.isfinite(number) else None


def images_made(course: Course, sizes: Sequence[int]) -> NDArray[np.intp]:
    """Of each setting, from the images that a setting has at each look."""
    return np.array([sizes[done - 1] if done else 0 for done in course.done], dtype=np.intp)
