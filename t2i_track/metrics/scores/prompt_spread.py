"""Spread within prompts: the mean Euclidean distance between the features of two images of one prompt.

The mean over all pairs of a prompt's images, then over the prompts that have at least two: what the seed alone changes,
where a diversity of the whole run mixes it with the variety of the prompts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from t2i_track.errors import MetricError
from t2i_track.metrics.intervals import MEAN_INTERVAL
from t2i_track.metrics.metric import Metric, Parameters, ScoreInfo
from t2i_track.metrics.rows import Groups, Matrix, Rows, Score, Vector
from t2i_track.metrics.uncertainty import leave_out_means, mean_interval

if TYPE_CHECKING:
    from t2i_track.metrics.inputs import ImageItem
    from t2i_track.metrics.measurement import Measurement


def spreads(rows: Rows, prompts: Groups) -> tuple[Groups, Vector]:
    """The prompts that have at least two images, in order, and the mean distance of each one's pairs.

    Args:
        rows: features (n, d).
        prompts: the number of each row's prompt, in any order.
    """
    which, first, counts = np.unique(prompts, return_inverse=True, return_counts=True)
    order = np.argsort(first, kind="stable")
    parts = np.split(order, np.cumsum(counts)[:-1])
    several = counts > 1
    found = [
        _mean_distance(np.asarray(rows[part], dtype=np.float64))
        for part, more in zip(parts, several, strict=True)
        if more
    ]
    return np.asarray(which[several], dtype=np.intp), np.array(found)


def _mean_distance(x: Matrix) -> float:
    """Of all pairs of rows, by differences: equal rows are at exactly 0."""
    total = sum(float(np.linalg.norm(x[i + 1 :] - x[i], axis=1).sum()) for i in range(len(x) - 1))
    return total / (len(x) * (len(x) - 1) / 2)


def _several(images: Sequence[ImageItem]) -> int:
    """Prompts that have at least two images."""
    return sum(number > 1 for number in Counter(image.prompt for image in images).values())


def _refuses(images: Sequence[ImageItem]) -> str | None:
    if _several(images):
        return None
    return "needs two images of a prompt, and no prompt has them; make runs with --images-per-prompt 2 or more"


def _settle(parameters: Parameters, images: Sequence[ImageItem], _: int | None) -> Parameters:
    """As many images of fewer prompts are another measurement."""
    return {**parameters, "prompts": _several(images)}


def _compute(m: Measurement, _: Parameters) -> dict[str, Score]:
    if reason := _refuses(m.images):
        raise MetricError(reason)
    prompts, found = spreads(m.rows("features"), m.prompts.of_image)
    parts = np.full(len(m.prompts), np.nan)
    parts[prompts] = found
    interval, replicates = mean_interval(found, prompts), leave_out_means(found, m.prompts.dealt(prompts))
    note = f"over {len(found)} prompts that have at least two images"
    return {"prompt_spread": Score(interval.estimate, replicates, interval.low, interval.high, note, parts=parts)}


METRIC = Metric(
    word="spread",
    order=90,
    scores=(
        ScoreInfo(
            "prompt_spread",
            "higher",
            "diversity",
            "distance between the features of two images of one prompt",
            MEAN_INTERVAL,
            mean=True,
        ),
    ),
    layers=("features",),
    formula="mean over prompts of the mean |x - y| over the pairs of a prompt's images, where it has at least two",
    source="the mean pairwise distance of a cluster",
    compute=_compute,
    parameters={"distance": "euclidean", "version": 1},
    settle=_settle,
    refuses=_refuses,
)
