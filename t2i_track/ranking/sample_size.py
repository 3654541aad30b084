"""How many images a difference takes, and which difference so many images can find."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from t2i_track.errors import CompareError
from t2i_track.metrics.registry import score_info
from t2i_track.metrics.uncertainty import MIN_GROUPS
from t2i_track.ranking.differences import difference, interval_of
from t2i_track.ranking.margin import MOST_IMAGES, POWER_QUANTILE, rounded_up
from t2i_track.ranking.ranking import eligible
from t2i_track.ranking.rows import RunRow, Score
from t2i_track.ranking.student import bonferroni

MOST_PILOTS = 32
"""The newest pilots; pairs of more take long and say no more."""


@dataclass(frozen=True)
class Spread:
    """Variance of a difference between two runs, times the number of images; from ``pilots`` runs."""

    variance: float
    pilots: int
    images: int
    """Of each pilot."""
    paired: bool
    """False where there was one pilot: a second run is then taken to have nothing in common with it."""


def spread(rows: Sequence[RunRow], metric: str, level: float = 0.95) -> Spread:
    """How much differences between runs vary, in the median over all pairs of pilots over the same prompts.

    Raises:
        CompareError: no run has the score with something to compare it by, or all pilots are equal.
    """
    kept, excluded = eligible(rows, metric)
    scored = [(score, row) for row in kept[-MOST_PILOTS:] if (score := row.score(metric)) and score.comparable]
    if not scored:
        raise CompareError(_no_pilot(metric, kept, len(excluded)))
    pairs = [_variance(a, b) for (a, ours), (b, theirs) in combinations(scored, 2) if ours.manifest == theirs.manifest]
    known = [variance for variance in pairs if variance]
    images = scored[-1][0].n
    if known:
        return Spread(float(np.median(known)), len(scored), images, True)
    if pairs:
        raise CompareError(
            f"the {len(scored)} pilot runs do not differ in {metric}: name pilots of other settings, or of more images"
        )
    own = interval_of(scored[-1][0], level).standard_error
    if not own:
        raise CompareError(f"{metric} of the pilot is the same in every image: name a pilot of more images")
    return Spread(2 * own**2 * images, 1, images, False)


def _variance(a: Score, b: Score) -> float | None:
    error = difference(a, b, 0.95).standard_error
    return error**2 * a.n if error is not None else None


def _no_pilot(metric: str, kept: Sequence[RunRow], others: int) -> str:
    few = [score for row in kept if (score := row.score(metric)) is not None]
    if few and few[-1].note:
        return f"no pilot can be compared by {metric} ({few[-1].note}): make one of more images, or choose another --by"
    return (
        f"no finished run has {metric} to plan by ({others} runs without): make a pilot first, as by `t2i generate"
        " --num 64 --evaluate`, and name it with --run"
    )


@dataclass(frozen=True)
class SampleSize:
    """So many ``images`` a run find a difference of ``difference`` between any two of ``settings`` runs."""

    metric: str
    settings: int
    difference: float
    images: int


def images_for(metric: str, wanted: float, settings: int, found: Spread, level: float = 0.95) -> SampleSize:
    """The images a run that find a difference with a chance of ``margin.POWER``, all pairs allowed for.

    ``(t + z)² variance / wanted²``, where t is Student's quantile at ``1 - level`` over all pairs (Bonferroni) and z
    the normal quantile of the power (Lachin 1981); never fewer than runs can be compared by.

    Raises:
        CompareError: the difference is not above 0, or more than the score can have, or takes more images than anybody
            makes.
    """
    info = score_info(metric)
    most = 1.0 if info is not None and info.share else math.inf
    if not 0 < wanted < most:
        limits = f"between 0 and {most:g}" if most < math.inf else "above 0"
        raise CompareError(f"--detect {wanted:g} is no difference: give a number {limits}, in units of {metric}")
    needed = float(MIN_GROUPS)
    for _ in range(20):  # Student's quantile depends on the number that is looked for
        needed = (_reach(settings, needed, level) + POWER_QUANTILE) ** 2 * found.variance / wanted**2
    images = rounded_up(max(needed, MIN_GROUPS))
    if images is None:
        raise CompareError(
            f"a difference of {wanted:g} in {metric} takes more than {MOST_IMAGES:,} images a run: plan for a larger"
            " one"
        )
    return SampleSize(metric, settings, wanted, images)


def difference_at(metric: str, images: int, settings: int, found: Spread, level: float = 0.95) -> SampleSize:
    """The difference that so many images a run find, likewise.

    Raises:
        CompareError: fewer images than runs can be compared by.
    """
    if images < MIN_GROUPS:
        raise CompareError(f"--num {images} is too few to compare runs by: give {MIN_GROUPS} or more")
    reach = _reach(settings, images, level) + POWER_QUANTILE
    return SampleSize(metric, settings, reach * math.sqrt(found.variance / images), images)


def _reach(settings: int, images: float, level: float) -> float:
    return bonferroni(settings, max(min(int(images), 100_000) - 1, 1), level)[1]
