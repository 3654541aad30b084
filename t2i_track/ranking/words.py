"""Numbers as they are written in sentences and tables."""

from __future__ import annotations

import math

from t2i_track.metrics.uncertainty import Interval
from t2i_track.ranking.rows import Score


def number(value: float) -> str:
    return f"{value:.4g}"


def decimals(low: float, high: float) -> int:
    """Places after the point that show an interval's half width with two digits; more would be noise."""
    reach = (high - low) / 2
    return min(max(1 - math.floor(math.log10(reach)), 0), 12) if 0 < reach < math.inf else 4


def value(score: Score) -> str:
    """The value with its own interval."""
    return with_interval(score.value, score.ci_low, score.ci_high)


def with_interval(estimate: float, low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return number(estimate)
    return f"{estimate:.{decimals(low, high)}f} {bounds(low, high)}"


def bounds(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return ""
    places = decimals(low, high)
    return f"[{low:.{places}f}, {high:.{places}f}]"


def moves(interval: Interval) -> str:
    return "rises" if interval.estimate > 0 else "falls"


def change(interval: Interval | None, p_adjusted: float | None = None, level: float = 0.95) -> str:
    """A signed difference with its interval.

    The interval is for this one difference, the verdicts are corrected for all of them: where the two seem to
    disagree (0 lies outside, yet the runs are not told apart) the corrected p-value is written too.
    """
    if interval is None:
        return ""
    if interval.low is None or interval.high is None:
        return f"{interval.estimate:+.4g}, no interval"
    places = decimals(interval.low, interval.high)
    text = f"{interval.estimate:+.{places}f} [{interval.low:+.{places}f}, {interval.high:+.{places}f}]"
    outside = interval.low > 0 or interval.high < 0
    if outside and p_adjusted is not None and p_adjusted > 1 - level:
        text += f", corrected p = {p_adjusted:.2g}"
    return text
