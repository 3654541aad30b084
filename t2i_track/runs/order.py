"""The order in which an adaptive sweep makes a manifest's prompts: drawn once, stored with the sweep.

Manifests are sorted, PartiPrompts by category, so their first rows say little of the rest. A picture stays where its
place in the manifest puts it: only when it is made is drawn. Rows of equal prompts are made together, since they are no
new prompt. Of every ``period`` prompts in turn one is of each class of places that a batch has, so that a round fills
whole batches; within a class all orders are equally likely.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Unit = tuple[int, ...]
"""The manifest positions of one prompt."""


def period(batch_size: int, images_per_prompt: int) -> int:
    """So many prompts, one of each class, fill whole batches."""
    return batch_size // math.gcd(batch_size, images_per_prompt)


def drawn(prompts: Sequence[str], seed: int, every: int) -> list[Unit]:
    """The units in the order in which they are made."""
    positions: dict[str, list[int]] = {}
    for position, prompt in enumerate(prompts):
        positions.setdefault(prompt, []).append(position)
    classes: dict[int, list[Unit]] = {}
    for unit in positions.values():
        classes.setdefault(unit[0] % every, []).append(tuple(unit))
    rng = np.random.default_rng(np.random.SeedSequence([seed, len(prompts), every]))
    shuffled = [[members[i] for i in rng.permutation(len(members))] for _, members in sorted(classes.items())]
    longest = max(map(len, shuffled), default=0)
    found: list[Unit] = []
    for turn in range(longest):
        some = [members[turn] for members in shuffled if turn < len(members)]
        found += [some[i] for i in rng.permutation(len(some))]
    return found
