"""Improved precision and recall: Kynkäänniemi et al. 2019, arXiv:1904.06991, eq. 1 and 2.

A set's manifold is the union of balls around its pictures, each as wide as the distance to its k-th nearest neighbour.
Precision is the share of the run's images inside the reference's manifold, recall the share of reference pictures
inside the run's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from t2i_track.errors import MetricError
from t2i_track.metrics.rows import Groups, Matrix, Rows, Vector, blocks, spans
from t2i_track.metrics.uncertainty import GROUPS

NEIGHBOURS = 3
BLOCK = 256
"""Rows whose distances to everything else are held at a time."""


def squared_distances(x: Matrix, y: Matrix) -> Matrix:
    """(a, d) and (b, d) to (a, b), at least 0."""
    squares = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1)
    return np.asarray(np.clip(squares - 2.0 * (x @ y.T), 0.0, None))


def radii(rows: Rows, neighbours: int = NEIGHBOURS) -> Vector:
    """Squared distance of each row to its k-th nearest other row, (n,).

    Raises:
        MetricError: no more rows than neighbours.
    """
    return np.asarray(_radii(rows, np.zeros(len(rows), dtype=np.intp), neighbours, GROUPS)[0])


def _radii(rows: Rows, groups: Groups, neighbours: int, first: int = 0) -> Matrix:
    """Of all rows, then without each group from ``first`` on: (1 + GROUPS - first, n), inf where too few are left."""
    if len(rows) <= neighbours:
        raise MetricError(f"precision and recall need more than {neighbours} pictures, not {len(rows)}; add pictures")
    found = np.full((1 + GROUPS - first, len(rows)), np.inf)
    for span in spans(rows, BLOCK):
        d = _all_distances(np.asarray(rows[span], dtype=np.float64), rows)
        found[0, span] = _kth(d, neighbours)
        for group in range(first, GROUPS):
            kept = d[:, groups != group]
            if kept.shape[1] > neighbours:
                found[1 + group - first, span] = _kth(kept, neighbours)
    return found


def _all_distances(x: Matrix, rows: Rows) -> Matrix:
    return np.concatenate([squared_distances(x, y) for y in blocks(rows)], axis=1)


def _kth(distances: Matrix, neighbours: int) -> Vector:
    # The nearest is the row itself, as in torch-fidelity.
    return np.asarray(np.partition(distances, neighbours, axis=1)[:, neighbours])


def precision_recall(
    rows: Rows, reference: Rows, groups: Groups, reference_radii: Vector, neighbours: int = NEIGHBOURS
) -> tuple[NDArray[np.bool_], float, list[float | None]]:
    """Which images are inside the reference's manifold, the recall, and the recall without each group.

    Args:
        rows: features of the run (n, d).
        reference: features (m, d).
        groups: the group of each image, in [0, GROUPS).
        reference_radii: ``radii(reference)``.

    Returns:
        For each image whether it is inside (precision is the mean), recall in [0, 1] and its replicates.
    """
    ours = _radii(rows, groups, neighbours)
    inside = np.zeros(len(rows), dtype=bool)
    covered = np.zeros(1 + GROUPS)
    for span in spans(reference, BLOCK):
        d = _all_distances(np.asarray(reference[span], dtype=np.float64), rows)
        inside |= (d <= reference_radii[span, None]).any(axis=0)
        covered[0] += (d <= ours[0]).any(axis=1).sum()
        for group in range(GROUPS):
            kept = groups != group
            covered[1 + group] += (d[:, kept] <= ours[1 + group, kept]).any(axis=1).sum()
    recall = covered / len(reference)
    sizes = np.bincount(groups, minlength=GROUPS)
    empty = (sizes == 0) | (len(rows) - sizes <= neighbours)
    return inside, float(recall[0]), [None if empty[g] else float(recall[1 + g]) for g in range(GROUPS)]
