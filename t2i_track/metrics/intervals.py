"""From numbers to a score with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from t2i_track.metrics import uncertainty
from t2i_track.metrics.metric import ScoreInfo
from t2i_track.metrics.rows import Score, Vector
from t2i_track.metrics.uncertainty import Interval

if TYPE_CHECKING:
    from t2i_track.metrics.measurement import Measurement

MEAN_INTERVAL = "Student's t over prompts, with one degree of freedom less than there are"
SHARE_INTERVAL = (
    "Clopper and Pearson's (1934) at the effective number of images that the spread over prompts leaves (Korn & "
    "Graubard 1998): all of 64 is [0.944, 1], all but one [0.915, 1.000]"
)


def with_interval(
    value: float, interval: Interval, replicates: Sequence[float | None] | None, note: str | None = None
) -> Score:
    return Score(value, replicates, interval.low, interval.high, note)


def mean_over_images(
    per_image: Vector, m: Measurement, info: ScoreInfo, note: str | None = None, *, keep: bool = True
) -> Score:
    """The mean over the images that the score applies to (NaN: it does not), with its spread over prompts."""
    applies = np.flatnonzero(~np.isnan(per_image))
    some = per_image[applies]
    interval_of = uncertainty.share_interval if info.share else uncertainty.mean_interval
    interval = interval_of(some, m.prompts.of_image[applies])
    replicates = uncertainty.leave_out_means(some, m.groups[applies])
    if len(some) < len(per_image):
        note = f"over the {len(some)} images that it applies to"
    kept = per_image if keep else None
    parts = m.prompts.means(per_image)
    return Score(interval.estimate, replicates, interval.low, interval.high, note, kept, len(some), parts)
