"""Two one-sided tests of paired differences (Schuirmann 1987), of one run and of several against one base."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from t2i_track.errors import CompareError
from t2i_track.metrics.registry import rankable, score_info
from t2i_track.metrics.uncertainty import MIN_GROUPS, Interval
from t2i_track.ranking.differences import holm
from t2i_track.ranking.limits import Known, known
from t2i_track.ranking.margin import MOST_IMAGES, POWER
from t2i_track.ranking.pair import matched, prompt_changes
from t2i_track.ranking.rows import ImageRow, RunRow, Score, differ_in_pictures, direction, protocol_difference

Vector = NDArray[np.float64]
Pictures = Mapping[str, Sequence[ImageRow]]
"""The images of each run, by its uuid."""
Verdict = Literal["equivalent", "worse", "better", "undecided", "unknown"]


@dataclass(frozen=True)
class Paired:
    """One score of a run and of its base over the same prompts: ``change`` is the run's less the base's.

    Its limits are one-sided. ``known`` is of how much better the run is; None, with the reason in ``note``, where they
    cannot be compared.
    """

    base: float
    value: float | None
    change: Interval | None = None
    known: Known | None = None
    at_most: float | None = None
    """How much worse than the base it may be, one-sided."""
    numbers: int = 0
    note: str | None = None


@dataclass(frozen=True)
class Decision:
    """p-values are adjusted for all runs; ``times`` the numbers would probably decide what is undecided."""

    verdict: Verdict
    p_equivalent: float | None = None
    p_worse: float | None = None
    p_better: float | None = None
    times: float | None = None


def testable(name: str) -> bool:
    """Whether equivalence in a score can be shown: each prompt has its part in it, or it is free of its bias."""
    info = score_info(name)
    return info is not None and info.direction is not None and (info.mean or info.any_n or info.corrected)


def require_testable(name: str) -> None:
    """Raise CompareError for a score whose expectation moves with the number of images, or with nothing to pair."""
    direction(name)
    if not testable(name):
        can = ", ".join(one for one in rankable() if testable(one))
        raise CompareError(f"{name} cannot show that runs are equivalent: choose --by one of {can}")


def paired(base: RunRow, row: RunRow, by: str, level: float, pictures: Pictures) -> Paired:
    """Hold one score of a run against the base's, which has it."""
    ours, theirs = base.scores[by], row.score(by)
    if theirs is None or not math.isfinite(theirs.value):
        return Paired(ours.value, None, note=f"it has no {by}" if theirs is None else f"its {by} is not a number")
    columns, note = _columns(base, row, ours, theirs, pictures)
    if columns is not None:
        columns = columns[:, np.isfinite(columns).all(axis=0)]
        if columns.shape[1] < MIN_GROUPS:
            note, columns = f"{columns.shape[1]} prompts in common are too few, {MIN_GROUPS} are needed", None
    if columns is None:
        return Paired(ours.value, theirs.value, note=note)
    a, b = columns
    sign = -1.0 if direction(by) == "lower" else 1.0
    found = known(sign * (b - a), bounds(ours, sign * a, sign * b))
    p = min(1.0, 2 * min(found.above(0.0), found.below(0.0)))
    low, high = found.limits(1 - level)
    ends = (low, high) if sign > 0 else (-high, -low)
    change = Interval(sign * found.mean, ends[0], ends[1], found.error, p)
    values = (ours.value, theirs.value) if note is None else (float(a.mean()), float(b.mean()))
    return Paired(*values, change, found, max(-low, 0.0), len(a), note)


def _columns(
    base: RunRow, row: RunRow, ours: Score, theirs: Score, pictures: Pictures
) -> tuple[Vector | None, str | None]:
    """The two scores as columns (2, n) over the same prompts and what has to be said of that; or why there are none."""
    if ours.protocol != theirs.protocol and not differ_in_pictures(ours, theirs):
        return None, f"another protocol: {protocol_difference(ours, theirs)}"
    info, same = score_info(ours.name), base.manifest == row.manifest
    if info is None or not info.mean:  # of few images it may have no columns, or others
        if same and ours.protocol == theirs.protocol and ours.pairs_with(theirs):
            return np.stack([np.asarray(ours.columns), np.asarray(theirs.columns)]), None
        return None, "not over the same prompts, or of so few images that its bias cannot be removed"
    if same and ours.parts is not None and theirs.parts is not None and ours.pairs_with(theirs):
        return np.stack([ours.parts, theirs.parts]), None
    shared = prompt_changes(matched(pictures[base.run], pictures[row.run], by_place=same), ours.name)
    if shared:
        return np.array([(change.a, change.b) for change in shared]).T, f"over the {len(shared)} prompts in common"
    return None, "no prompts in common that have a score of their own"


def bounds(score: Score, base: Vector, values: Vector) -> tuple[float, float] | None:
    """The least and the most that a further prompt's difference is taken for; None of what is no mean over prompts.

    Of shares they are -1 and 1. Of other scores: what takes a good prompt of the base, at its upper quartile, to the
    worst score that was seen of either run, or the largest loss that was seen where that is more; and so of gains.

    Args:
        score: whose they are. base, values: of each prompt, turned so that more is better.
    """
    info = score_info(score.name)
    if info is None or not info.mean:
        return None
    if info.share:
        return -1.0, 1.0
    bad, good = np.quantile(base, (0.25, 0.75))
    least, most, gaps = min(base.min(), values.min()) - good, max(base.max(), values.max()) - bad, values - base
    return float(min(least, gaps.min())), float(max(most, gaps.max()))


def decide(found: Sequence[Known | None], margin: float, alpha: float) -> list[Decision]:
    """Of each run against one base, whether it is equivalent within the margin.

    p-values are adjusted by Holm's method over the runs, of each of the three claims by itself.
    """

    def adjusted(p: Callable[[Known], float]) -> list[float]:
        return [float(one) for one in holm([None if one is None else p(one) for one in found])]

    equivalent = adjusted(lambda one: max(one.above(-margin), one.below(margin)))
    worse, better = adjusted(lambda one: one.below(-margin)), adjusted(lambda one: one.above(margin))
    left = max(1, sum(p > alpha for p in equivalent))  # NaN is not: what is not known is not tested
    result = []
    for one, *p in zip(found, equivalent, worse, better, strict=True):
        if one is None:
            result.append(Decision("unknown"))
            continue
        verdict: Verdict = (
            "equivalent" if p[0] <= alpha else "worse" if p[1] <= alpha else "better" if p[2] <= alpha else "undecided"
        )
        times = _times(one, margin, alpha / left) if verdict == "undecided" else None
        result.append(Decision(verdict, p[0], p[1], p[2], times))
    return result


def _times(found: Known, margin: float, alpha: float) -> float:
    """So many times the numbers probably (``POWER``) decide, if the difference that was seen is the true one."""
    gap = abs(found.mean)
    near, far = (gap - margin, math.inf) if gap > margin else (margin - gap, margin + gap)

    def enough(times: float) -> bool:
        reach, error = found.reach(alpha, times), found.error / math.sqrt(times)
        return _normal(near - reach, error) + _normal(far - reach, error) - 1 >= POWER

    most = 1.0
    while not enough(most):
        most *= 2
        if most > MOST_IMAGES:
            return math.inf
    least = most / 2
    for _ in range(6):
        middle = (least + most) / 2
        least, most = (least, middle) if enough(middle) else (middle, most)
    return most


def _normal(value: float, error: float) -> float:
    """The chance of a normal number with that standard error to be at most ``value``."""
    if error == 0.0 or math.isinf(value):
        return float(value >= 0)
    return (1 + math.erf(value / error / math.sqrt(2))) / 2
