"""One seed for each image, a pure function of the base seed and the image's place."""

from __future__ import annotations

import numpy as np


def image_seed(base_seed: int, prompt_index: int, replicate: int) -> int:
    """The 32-bit seed of one image.

    The three numbers are the entropy of numpy's ``SeedSequence`` (O'Neill's seed_seq hash), whose first 32-bit word
    is the seed. It depends on nothing else, so a longer run, another batch size or a resume gives the same seeds.

    Args:
        base_seed: the run's ``--seed``, 0 or more.
        prompt_index: position in the manifest, 0 or more.
        replicate: which image of that prompt, 0 or more.

    Returns:
        An integer in ``[0, 2**32)``, accepted by ``torch.Generator.manual_seed``.

    Raises:
        ValueError: one of the three is negative.
    """
    # SeedSequence splits large integers into 32-bit words of no fixed number; a fixed width of two words for each
    # keeps (1, 2**32) and other such pairs from sharing an entropy pool.
    words: list[int] = []
    for name, number in (("base_seed", base_seed), ("prompt_index", prompt_index), ("replicate", replicate)):
        if not 0 <= number < 2**64:
            raise ValueError(f"{name} must be in [0, 2**64), not {number}")
        words += [number & 0xFFFFFFFF, number >> 32]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint32)[0])
