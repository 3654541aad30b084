"""Which images belong together: those of one prompt, wherever its manifest has it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from t2i_track.metrics.rows import Groups, Vector

GROUPS = 32
"""Leave-one-group-out groups, at most; arrays by group have this length, and groups beyond the prompts are empty."""

GROUPING = f"prompts-sha256-{GROUPS}"
"""Stored with replicates: how their groups were made. Values without it are of ``prompt_index % 32``."""


@dataclass(frozen=True)
class Prompts:
    """The distinct prompts of images, in the order of the sha256 of their text, and which one each image is of.

    The order has nothing to do with the manifest's, so a manifest that repeats a pattern every 8 or 32 prompts does
    not put all of a kind into one group.
    """

    digests: tuple[str, ...]
    """Hexadecimal, sorted; a prompt's place here is its number."""
    of_image: Groups
    """The number of each image's prompt."""

    @classmethod
    def of(cls, texts: Sequence[str]) -> Prompts:
        """From the prompt of each image, in the images' order."""
        digest = {text: hashlib.sha256(text.encode()).hexdigest() for text in set(texts)}
        ordered = sorted(digest.values())
        number = {sha256: i for i, sha256 in enumerate(ordered)}
        return cls(tuple(ordered), np.array([number[digest[text]] for text in texts], dtype=np.intp))

    def __len__(self) -> int:
        return len(self.digests)

    @cached_property
    def sha256(self) -> str:
        """Of the set of prompts: equal for runs over the same ones."""
        return hashlib.sha256("".join(self.digests).encode()).hexdigest()

    @property
    def groups(self) -> Groups:
        """The group of each image, in [0, GROUPS)."""
        return self.dealt(self.of_image)

    def dealt(self, numbers: Groups) -> Groups:
        """The groups of prompts by their numbers: dealt in turn, so that sizes are equal up to one."""
        return np.asarray(numbers % max(1, min(GROUPS, len(self))), dtype=np.intp)

    def means(self, per_image: Vector) -> Vector:
        """The mean of each prompt's images, NaN where there are none but NaN."""
        known = ~np.isnan(per_image)
        which = self.of_image[known]
        sums = np.bincount(which, weights=per_image[known], minlength=len(self))
        counts = np.bincount(which, minlength=len(self))
        return np.asarray(np.divide(sums, counts, out=np.full(len(self), np.nan), where=counts > 0))
