"""CMMD: Jayasumana et al. 2024, arXiv:2401.09603, section 4.

1000 MMD² of CLIP's image embeddings, each scaled to length 1, with the kernel exp(-|x - y|² / (2 · 10²)) and all pairs
(the biased form), as in the paper's code.
"""

from __future__ import annotations

import numpy as np

from t2i_track.metrics.mmd import kernel_sums, total
from t2i_track.metrics.rows import Groups, Matrix, Rows
from t2i_track.metrics.uncertainty import GROUPS

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
