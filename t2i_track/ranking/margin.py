"""Which runs are as good as the best within a margin: "equal" as something that is shown, never assumed.

A run is *as good* where it is shown to be worse than the best by no more than the margin, whichever run is the best
(multiple comparisons with the best, Hsu 1984); *worse* where it is shown to be worse than some run by more than the
margin; else *undecided*. Critical values are those of sign flips (``separation.reaches``), so that the chance of any
false "as good", and of any false "worse", is at most ``1 - level`` over all runs together.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from t2i_track.errors import CompareError
from t2i_track.metrics.registry import score_info
from t2i_track.metrics.uncertainty import MIN_GROUPS
from t2i_track.ranking.differences import difference
from t2i_track.ranking.rows import Score, direction
from t2i_track.ranking.separation import CACHED, Matrix, reaches
from t2i_track.ranking.skewness import medians
from t2i_track.ranking.student import bonferroni

Verdict = Literal["as good", "worse", "undecided"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
POWER = 0.8
"""The chance that what is named as enough images, or as a difference that can be found, is a promise for."""
POWER_QUANTILE = 0.8416
"""The normal quantile of ``POWER``."""
MOST_IMAGES = 1_000_000
"""More than anybody makes of one setting: a number above it is not named."""
MOST_UNPAIRED = 60
"""Runs over different prompts are taken pair by pair, which takes long for more."""


@dataclass(frozen=True)
class Margin:
    """How much worse still counts as good, in units of the score; ``text`` is how it was given."""

    amount: float
    text: str
    default: bool

    @property
    def words(self) -> str:
        return f"{self.text} ({self.amount:.3g})" if self.text.endswith("%") else self.text


@dataclass(frozen=True)
class Standing:
    """``at_most``: how much worse than the best the run may still be; ``images``: so many a run would probably decide.

    ``images`` is None where it is decided already, or where no number that can be made would.
    """

    verdict: Verdict
    at_most: float
    images: int | None = None


@dataclass(frozen=True)
class Detectable:
    """The difference that is found with a chance of ``POWER`` at this many images, and the images for the margin."""

    difference: float
    images: int
    wanted: float | None
    images_for_wanted: int | None


def margin_of(metric: str, best: Score, within: str | float | None = None) -> Margin | None:
    """The margin as asked for, or the score's own; a share, as ``2%``, is of the best run's value.

    Raises:
        CompareError: no positive number, or a share that is not below 100 %.
    """
    info = score_info(metric)
    text = str(within) if within is not None else info.margin if info is not None and info.role != "cost" else None
    if text is None:
        return None
    amount, is_share = read_margin(text, metric)
    if is_share:
        amount *= abs(_estimate(best))
    return Margin(amount, text.strip(), within is None)


def read_margin(text: str, metric: str | None = None) -> tuple[float, bool]:
    """The number, and whether it is a share of the best value.

    Raises:
        CompareError: no positive number, or a share that is not below 100 %.
    """
    found = re.fullmatch(r"\s*(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)\s*(%?)\s*", text)
    amount = float(found[1]) if found else 0.0
    if found is None or not 0 < amount < math.inf or (found[2] and amount >= 100):
        units = metric or "the score"
        raise CompareError(
            f"--within {text!r} is no margin: give a number above 0 in units of {units}, or a share as 2%"
        )
    return (amount / 100, True) if found[2] else (amount, False)


def _estimate(score: Score) -> float:
    """The value; of a score that is compared without its bias, the value without it."""
    info, columns = score_info(score.name), score.columns
    corrected = info is not None and info.corrected and columns is not None
    return float(np.nanmean(columns)) if corrected and columns is not None else score.value


@dataclass(frozen=True)
class Judgement:
    """The standing of each run, None of one that cannot be compared; and what this comparison can find at all."""

    standings: tuple[Standing | None, ...]
    detectable: Detectable | None


def judge(scores: Sequence[Score], manifests: Sequence[str], margin: Margin | None, level: float) -> Judgement:
    """Hold runs, the best first, against the best of them.

    No run has a standing where there are fewer than two that can be compared, or no margin.
    """
    found: list[Standing | None] = [None] * len(scores)
    known = [place for place, score in enumerate(scores) if _usable(score)]
    if len(known) < 2:
        return Judgement(tuple(found), None)
    some, over = [scores[k] for k in known], [manifests[k] for k in known]
    columns, amount = _columns(some, over), margin.amount if margin else 0.0
    parts: Iterable[_Differences]
    if columns is not None:
        reach, parts = _Reach(*reaches(columns, level), some[0].n), _paired(some[0].name, columns, amount)
    elif len(known) <= MOST_UNPAIRED and (unpaired := _unpaired(some, over, level)) is not None:
        reach, parts = unpaired
    else:
        return Judgement(tuple(found), None)
    detectable = None
    for part in parts:
        if not part.first:
            detectable = _detectable(part, reach, margin)
        if margin is None:
            break
        for place, standing in enumerate(_standings(part, reach, margin.amount), part.first):
            found[known[place]] = standing
    return Judgement(tuple(found), detectable)


@dataclass(frozen=True)
class _Reach:
    """How far limits of differences reach, in standard errors, with so many images a run."""

    best: Matrix
    """Of upper limits against each run as the best (m,), one-sided."""
    pairs: float
    """Of the intervals of all pairs, two-sided."""
    images: int


@dataclass(frozen=True)
class _Differences:
    """Of some runs, a row each from the ``first`` on, how much better each column's is (some, m); of all m."""

    first: int
    gaps: Matrix
    errors: Matrix
    errors_at_margin: Matrix

    def without_own(self, values: Matrix, instead: float) -> Matrix:
        """With another value where a run stands against itself."""
        rows = np.arange(len(values))
        values[rows, rows + self.first] = instead
        return values


def _usable(score: Score) -> bool:
    return score.columns is not None and int(np.isfinite(score.columns).sum()) >= MIN_GROUPS


def _columns(scores: Sequence[Score], manifests: Sequence[str]) -> Matrix | None:
    """The runs' columns, oriented so that more is better; None where they are not over the same prompts."""
    if len(set(manifests)) > 1 or not all(score.pairs_with(scores[0]) for score in scores):
        return None
    columns = np.stack([np.asarray(score.columns) for score in scores])
    columns = columns[:, np.isfinite(columns).all(axis=0)]
    sign = -1.0 if direction(scores[0].name) == "lower" else 1.0
    return sign * columns if columns.shape[1] >= MIN_GROUPS else None


def _errors_at(margin: float, gaps: Matrix, squares: Matrix, size: int, unit: float) -> Matrix:
    """Standard errors of differences of shares if the true difference were the margin (Tango 1998).

    Shares differ in few prompts, so a run that was lucky shows a small spread too: an error that is estimated without
    the margin is least where it should be largest. ``unit`` is by how much a prompt usually differs: what differs is
    counted in it.
    """
    delta = min(margin / unit, 0.99)
    variance = delta * (1 - delta)
    # In place where it can be: of a thousand runs these are half a million pairs.
    net = gaps * (size / unit)  # prompts at which the column's run is better, less those at which it is worse
    worse = squares / unit**2
    b = (2 * size - net) * delta
    b -= worse
    worse -= net
    np.maximum(worse, 0.0, out=worse)  # twice their number; below 0 only by rounding, and by unequal differences
    found = b * b
    worse *= 4 * size * variance
    found += worse
    np.sqrt(found, out=found)
    found -= b  # 4 size times the likeliest share of prompts at which it is worse
    found /= 2 * size
    found += variance
    found /= size
    np.sqrt(found, out=found)
    found *= unit
    return found


def _unit(columns: Matrix) -> float:
    """The root mean square of what differs between the first run and another in a prompt; 1 where nothing does."""
    squares = (columns[1:] - columns[0]) ** 2
    some = squares[squares > 0]
    return float(np.sqrt(some.mean())) if len(some) else 1.0


def _paired(metric: str, columns: Matrix, margin: float) -> Iterator[_Differences]:
    """Of runs over the same prompts, so many rows at once as a processor's cache holds."""
    (runs, size), info = columns.shape, score_info(metric)
    share = info is not None and info.share and margin > 0
    centred, means, unit = columns - columns.mean(axis=0), columns.mean(axis=1), _unit(columns) if share else 1.0
    own = np.einsum("ij,ij->i", centred, centred)
    each = max(1, CACHED // runs)
    for start in range(0, runs, each):
        some = slice(start, start + each)
        both = own[some, None] + own
        squares = both - 2.0 * (centred[some] @ centred.T)
        squares[squares <= 1e-12 * both] = 0.0
        gaps = means - means[some, None]
        errors = np.sqrt(np.maximum(squares / size - gaps * gaps, 0.0) / (size - 1))
        yield _Differences(start, gaps, errors, _errors_at(margin, gaps, squares, size, unit) if share else errors)


def _unpaired(
    scores: Sequence[Score], manifests: Sequence[str], level: float
) -> tuple[_Reach, list[_Differences]] | None:
    """Pair by pair; None where some pair cannot be compared."""
    runs = len(scores)
    sign = -1.0 if direction(scores[0].name) == "lower" else 1.0
    gaps, errors = np.zeros((runs, runs)), np.zeros((runs, runs))
    for i, ours in enumerate(scores):
        for j, theirs in enumerate(scores):
            if i != j:
                found = difference(theirs, ours, level, paired=manifests[i] == manifests[j])
                if found.standard_error is None:
                    return None
                gaps[i, j], errors[i, j] = sign * found.estimate, found.standard_error
    fewest = min(int(np.isfinite(np.asarray(score.columns)).sum()) for score in scores)
    best, pairs = bonferroni(runs, fewest - 1, level)
    reach = _Reach(np.full(runs, best), pairs, min(score.n for score in scores))
    return reach, [_Differences(0, gaps, errors, errors)]


def _standings(found: _Differences, reach: _Reach, margin: float) -> list[Standing]:
    gaps = found.gaps
    upper = found.without_own(reach.best * found.errors_at_margin + gaps, -np.inf)
    lower = found.without_own(gaps - reach.pairs * found.errors, -np.inf)
    at_most, at_least = np.maximum(upper.max(axis=1), 0.0), lower.max(axis=1)
    result = []
    for run in range(len(gaps)):
        if at_most[run] <= margin:
            result.append(Standing("as good", float(at_most[run])))
        elif at_least[run] > margin:
            result.append(Standing("worse", float(at_most[run])))
        else:
            result.append(Standing("undecided", float(at_most[run]), _images(found, reach, run, margin)))
    return result


def _images(found: _Differences, reach: _Reach, run: int, margin: float) -> int | None:
    """So many a run would probably show it worse than one that it seems to be worse than, or else as good as all."""
    others = np.arange(found.gaps.shape[1]) != run + found.first
    room = margin - found.gaps[run]
    with np.errstate(divide="ignore"):
        refuted = ((reach.pairs + POWER_QUANTILE) * found.errors[run] / room) ** 2
        shown = ((reach.best + POWER_QUANTILE) * found.errors_at_margin[run] / room) ** 2
    beyond = others & (room < 0)
    times = refuted[beyond].min() if beyond.any() else shown[others].max()
    return rounded_up(max(float(times) * reach.images, reach.images + 1.0))


def _detectable(found: _Differences, reach: _Reach, margin: Margin | None) -> Detectable | None:
    """Between the best and another run, in the median of the others; None where they are all equal."""
    error = float(medians(found.errors[:1, 1:])[0])
    if error == 0.0:
        return None
    least = (reach.pairs + POWER_QUANTILE) * error
    wanted = margin.amount if margin is not None and margin.amount > 0 else None
    images = rounded_up(reach.images * (least / wanted) ** 2) if wanted else None
    return Detectable(least, reach.images, wanted, images)


def rounded_up(images: float) -> int | None:
    """To two digits, upwards, since it is an estimate; None above ``MOST_IMAGES``."""
    if not images <= MOST_IMAGES:
        return None
    whole = math.ceil(images)
    step = int(10 ** max(len(str(whole)) - 2, 0))
    return -(-whole // step) * step


def would(images: int | None, what: str = "may decide") -> str:
    """In words, what so many images would do."""
    return f"{about(images)} a run {what}"


def about(images: int | None) -> str:
    return f"about {images:,} images" if images else f"more than {MOST_IMAGES:,} images"
