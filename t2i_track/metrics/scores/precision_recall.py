"""Improved precision and recall: Kynkäänniemi et al. 2019, arXiv:1904.06991, eq. 1 and 2.

A set's manifold is the union of balls around its pictures, each as wide as the distance to its k-th nearest neighbour.
Precision is the share of the run's images inside the reference's manifold, recall the share of reference pictures
inside the run's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from t2i_track.metrics.intervals import SHARE_INTERVAL, mean_over_images, with_interval
from t2i_track.metrics.metric import Metric, Parameters, ScoreInfo
from t2i_track.metrics.neighbours import BLOCK, distances_to_all, kept_radii, kth, require_more
from t2i_track.metrics.prompts import GROUPS
from t2i_track.metrics.rows import Groups, Matrix, Rows, Score, Vector, spans
from t2i_track.metrics.uncertainty import jackknife, within

if TYPE_CHECKING:
    from t2i_track.metrics.measurement import Measurement

NEIGHBOURS = 3


def _radii(rows: Rows, groups: Groups, neighbours: int) -> Matrix:
    """Squared radii of all rows, then without each group: (1 + GROUPS, n), inf where too few are left."""
    require_more(rows, neighbours)
    found = np.full((1 + GROUPS, len(rows)), np.inf)
    for span in spans(rows, BLOCK):
        d = distances_to_all(np.asarray(rows[span], dtype=np.float64), rows)
        found[0, span] = kth(d, neighbours)
        for group in range(GROUPS):
            kept = d[:, groups != group]
            if kept.shape[1] > neighbours:
                found[1 + group, span] = kth(kept, neighbours)
    return found


def precision_recall(
    rows: Rows, reference: Rows, groups: Groups, reference_radii: Vector, neighbours: int = NEIGHBOURS
) -> tuple[NDArray[np.bool_], float, list[float | None]]:
    """Which images are inside the reference's manifold, the recall, and the recall without each group.

    Args:
        rows: features of the run (n, d).
        reference: features (m, d).
        groups: the group of each image, in [0, GROUPS).
        reference_radii: ``radii(reference, neighbours)``.

    Returns:
        For each image whether it is inside (precision is the mean), recall in [0, 1] and its replicates.
    """
    ours = _radii(rows, groups, neighbours)
    inside = np.zeros(len(rows), dtype=bool)
    covered = np.zeros(1 + GROUPS)
    for span in spans(reference, BLOCK):
        d = distances_to_all(np.asarray(reference[span], dtype=np.float64), rows)
        inside |= (d <= reference_radii[span, None]).any(axis=0)
        covered[0] += (d <= ours[0]).any(axis=1).sum()
        for group in range(GROUPS):
            kept = groups != group
            covered[1 + group] += (d[:, kept] <= ours[1 + group, kept]).any(axis=1).sum()
    recall = covered / len(reference)
    sizes = np.bincount(groups, minlength=GROUPS)
    empty = (sizes == 0) | (len(rows) - sizes <= neighbours)
    return inside, float(recall[0]), [None if empty[g] else float(recall[1 + g]) for g in range(GROUPS)]


PRECISION = ScoreInfo(
    "precision",
    "higher",
    "quality",
    "share of the images that lie among the reference's pictures",
    SHARE_INTERVAL,
    share=True,
    mean=True,
    margin="0.05",
)
RECALL = ScoreInfo(
    "recall",
    "higher",
    "diversity",
    "share of the reference's pictures that lie among the images",
    "jackknife, no bias removed: about its expectation at this n; inside [0, 1]",
    depends_on_n=True,
    margin="0.02",
)


def _compute(m: Measurement, parameters: Parameters) -> dict[str, Score]:
    rows, reference = m.rows("features"), m.reference_rows("features")
    neighbours = parameters["prc_neighborhood"]
    inside, recall, recalls = precision_recall(rows, reference, m.groups, kept_radii(m, neighbours), neighbours)
    return {
        PRECISION.name: mean_over_images(inside.astype(np.float64), m, PRECISION, keep=False),
        RECALL.name: with_interval(recall, within(jackknife(recall, recalls)), recalls),
    }


METRIC = Metric(
    word="prc",
    order=60,
    scores=(PRECISION, RECALL),
    layers=("features",),
    formula="share inside the other set's manifold: balls to the 3rd nearest neighbour",
    source="Kynkäänniemi et al. 2019, arXiv:1904.06991, eq. 1 and 2",
    compute=_compute,
    reference="pictures",
    reference_least=lambda parameters: parameters["prc_neighborhood"] + 1,
    parameters={"prc_neighborhood": NEIGHBOURS},
    settable=("prc_neighborhood",),
)
