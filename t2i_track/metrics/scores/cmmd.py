"""CMMD: Jayasumana et al. 2024, arXiv:2401.09603, section 4.

1000 MMD² of CLIP's image embeddings, each scaled to length 1, with the kernel exp(-|x - y|² / (2 · 10²)) and all pairs
(the biased form), as in the paper's code.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from t2i_track.metrics.intervals import with_interval
from t2i_track.metrics.metric import Metric, Parameters, ScoreInfo
from t2i_track.metrics.mmd import kernel_sums, total
from t2i_track.metrics.prompts import GROUPS
from t2i_track.metrics.rows import Groups, Matrix, Rows, Score
from t2i_track.metrics.uncertainty import jackknife, within

if TYPE_CHECKING:
    from t2i_track.metrics.measurement import Measurement

SIGMA = 10.0
SCALE = 1000.0


def gaussian_kernel(x: Matrix, y: Matrix) -> Matrix:
    """Of the rows' directions, so lengths do not matter."""
    x, y = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (x, y))
    # |x - y|² = 2 - 2 xᵀy for unit vectors.
    return np.asarray(np.exp((x @ y.T - 1.0) / SIGMA**2))


def reference_mean(reference: Rows) -> float:
    """Mean of k over all pairs of reference pictures."""
    return total(reference, gaussian_kernel)[0] / len(reference) ** 2


def cmmd(rows: Rows, reference: Rows, groups: Groups, reference_within: float) -> tuple[float, list[float | None]]:
    """The distance of embeddings (n, d) from the reference's (m, d), and its replicates without each group."""
    sums = kernel_sums(rows, reference, gaussian_kernel, groups)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = SCALE * (sums.within(unbiased=False) + reference_within - 2 * sums.across())
    empty = (sums.counts == 0) | (sums.counts == len(rows))
    return float(values[0]), [None if empty[g] else float(values[1 + g]) for g in range(GROUPS)]


def _compute(m: Measurement, _: Parameters) -> dict[str, Score]:
    reference = m.reference_rows("embeddings")
    theirs = m.kept("embeddings", "cmmd", lambda: {"within": np.array(reference_mean(reference))})["within"]
    value, replicates = cmmd(m.rows("embeddings"), reference, m.groups, float(theirs))
    interval = within(jackknife(value, replicates, correct_bias=True), 0.0, math.inf)
    return {"cmmd": with_interval(value, interval, replicates)}


METRIC = Metric(
    word="cmmd",
    order=30,
    scores=(
        ScoreInfo(
            "cmmd",
            "lower",
            "quality",
            "distance of the images' CLIP embeddings from the reference's by a kernel",
            "jackknife, its bias removed, at any number of images: the bias is exactly of the form that the jackknife "
            "removes; cut at 0",
            depends_on_n=True,
            corrected=True,
            any_n=True,
            margin="10%",
        ),
    ),
    layers=("embeddings",),
    formula="1000·MMD² of unit CLIP embeddings, k = exp(-|x - y|²/200), over all pairs",
    source="Jayasumana et al. 2024, arXiv:2401.09603, section 4",
    compute=_compute,
    reference="pictures",
    reference_least=lambda _: 2,
    parameters={"sigma": SIGMA, "scale": SCALE},
)
