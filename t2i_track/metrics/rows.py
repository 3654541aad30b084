"""Features as the formulas see them: indexed by row, in blocks, in float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

BLOCK = 1024
"""Rows taken at a time, so that memory does not grow with the number of images."""

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Groups = NDArray[np.intp]


class Rows(Protocol):
    """An array of shape (inputs, dimension), or something that is indexed like one."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> NDArray[Any]: ...


@dataclass(frozen=True)
class Score:
    """A value, what it is without each group, and its interval where one is sound."""

    value: float
    replicates: Sequence[float | None] | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    note: str | None = None
    per_image: Vector | None = field(default=None, repr=False)
    """NaN where the score does not apply to an image."""
    n: int | None = None
    """Images that it applies to, where that is not all."""
    parts: Vector | None = field(default=None, repr=False)
    """Of a mean: that of each prompt, in the order of ``Prompts.digests``; NaN where the score does not apply."""


def spans(rows: Rows, size: int = BLOCK) -> Iterator[slice]:
    return (slice(start, min(start + size, len(rows))) for start in range(0, len(rows), size))


def blocks(rows: Rows, size: int = BLOCK) -> Iterator[Matrix]:
    for span in spans(rows, size):
        yield np.asarray(rows[span], dtype=np.float64)


def mean(rows: Rows) -> Vector:
    """Mean of the rows, (dimension,), in float64."""
    return np.asarray(sum(block.sum(axis=0) for block in blocks(rows)) / len(rows))
