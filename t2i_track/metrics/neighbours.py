"""Distances to nearest neighbours, in blocks: what the manifolds of several metrics are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from t2i_track.errors import MetricError
from t2i_track.metrics.rows import Matrix, Rows, Vector, blocks, spans

if TYPE_CHECKING:
    from t2i_track.metrics.measurement import Measurement

BLOCK = 256
"""Rows whose distances to everything else are held at a time."""


def squared_distances(x: Matrix, y: Matrix) -> Matrix:
    """(a, d) and (b, d) to (a, b), at least 0."""
    squares = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1)
    return np.asarray(np.clip(squares - 2.0 * (x @ y.T), 0.0, None))


def distances_to_all(x: Matrix, rows: Rows) -> Matrix:
    """Squared, (a, n)."""
    return np.concatenate([squared_distances(x, y) for y in blocks(rows)], axis=1)


def kth(distances: Matrix, neighbours: int) -> Vector:
    # The nearest is the row itself, as in torch-fidelity.
    return np.asarray(np.partition(distances, neighbours, axis=1)[:, neighbours])


def require_more(rows: Rows, neighbours: int) -> None:
    if len(rows) <= neighbours:
        raise MetricError(f"nearest neighbours need more than {neighbours} pictures, not {len(rows)}; add pictures")


def radii(rows: Rows, neighbours: int) -> Vector:
    """Squared distance of each row to its k-th nearest other row, (n,).

    Raises:
        MetricError: no more rows than neighbours.
    """
    require_more(rows, neighbours)
    found = np.empty(len(rows))
    for span in spans(rows, BLOCK):
        found[span] = kth(distances_to_all(np.asarray(rows[span], dtype=np.float64), rows), neighbours)
    return found


def kept_radii(m: Measurement, neighbours: int) -> Vector:
    """``radii`` of the reference's features, kept with them."""
    reference = m.reference_rows("features")
    kept = m.kept("features", "radii", lambda: {"radii": radii(reference, neighbours)}, neighbours=neighbours)
    return np.asarray(kept["radii"])
