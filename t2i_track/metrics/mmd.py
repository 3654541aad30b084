"""Sums of kernels over pairs of pictures, by group: all that the kernel distances and their replicates need.

MMD²(X, Y) = mean k(x, x') + mean k(y, y') - 2 mean k(x, y): Gretton et al. 2012, JMLR 13, eq. 2 (over all pairs, the
biased form) and eq. 3 (over pairs of different pictures, the unbiased form).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from t2i_track.metrics.prompts import GROUPS
from t2i_track.metrics.rows import Groups, Matrix, Rows, Vector, blocks, spans

Kernel = Callable[[Matrix, Matrix], Matrix]
"""Rows (a, d) and (b, d) to kernel values (a, b)."""


@dataclass(frozen=True)
class KernelSums:
    xx: Matrix
    """Sum of k(x, x') by the groups of x and of x', (GROUPS, GROUPS)."""
    diagonal: Vector
    """Sum of k(x, x) by group."""
    xy: Vector
    """Sum of k(x, y) over the reference, by the group of x."""
    counts: Vector
    reference: int

    def within(self, *, unbiased: bool) -> Vector:
        """Mean k(x, x') of all images, then without each group."""
        counts = self._all_and_without(self.counts)
        rows = self.xx.sum(axis=1)
        sums = self.xx.sum() - np.concatenate([[0.0], 2 * rows - np.diagonal(self.xx)])
        if unbiased:
            return np.asarray((sums - self._all_and_without(self.diagonal)) / (counts * (counts - 1)))
        return np.asarray(sums / counts**2)

    def across(self) -> Vector:
        """Mean k(x, y) of all images, then without each group."""
        return self._all_and_without(self.xy) / (self._all_and_without(self.counts) * self.reference)

    @staticmethod
    def _all_and_without(by_group: Vector) -> Vector:
        return np.asarray(by_group.sum() - np.concatenate([[0.0], by_group]))


def kernel_sums(rows: Rows, reference: Rows, kernel: Kernel, groups: Groups) -> KernelSums:
    """Sums by group over all pairs of rows (n, d), and of rows with the reference (m, d), in blocks."""
    xx, diagonal, xy = np.zeros((GROUPS, GROUPS)), np.zeros(GROUPS), np.zeros(GROUPS)
    one_hot = np.eye(GROUPS)
    for span in spans(rows):
        x, mine = np.asarray(rows[span], dtype=np.float64), one_hot[groups[span]]
        for other in spans(rows):
            k = kernel(x, np.asarray(rows[other], dtype=np.float64))
            xx += mine.T @ k @ one_hot[groups[other]]
            if other == span:
                diagonal += mine.T @ np.diagonal(k)
        for y in blocks(reference):
            xy += mine.T @ kernel(x, y).sum(axis=1)
    counts = np.bincount(groups, minlength=GROUPS).astype(np.float64)
    return KernelSums(xx, diagonal, xy, counts, len(reference))


def total(rows: Rows, kernel: Kernel) -> tuple[float, float]:
    """Sum of k over all pairs of rows, and over each with itself."""
    everything = trace = 0.0
    for i, x in enumerate(blocks(rows)):
        for j, y in enumerate(blocks(rows)):
            k = kernel(x, y)
            everything += float(k.sum())
            trace += float(np.trace(k)) if i == j else 0.0
    return everything, trace
