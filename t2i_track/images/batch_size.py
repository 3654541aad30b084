"""How many images a batch may have: as many as fit in memory and still make each of them faster."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from t2i_track.images.decoding import decoding_of
from t2i_track.images.encoding import PromptEncoder
from t2i_track.images.sampling import Job, sample
from t2i_track.settings import Values

MOST = 64
GAIN = 1.05
"""What twice as many at once must at least give in images a second: less is noise, and memory is not free."""
TRIED_STEPS = 2
FULL = 0.9
"""Share of a GPU's memory: the rest is for what a run holds besides."""


def largest(pipe: Any, settings: Values, most: int = MOST) -> int:
    """The size found by doubling, each tried with a few steps of one prompt; ``settings`` are resolved but for it.

    Raises:
        ModelError: a single picture does not fit.
    """
    best, rate, size = 1, 0.0, 1
    while size <= most:
        tried = dataclasses.replace(settings, batch_size=size, steps=min(TRIED_STEPS, settings.steps))
        pictures, now = _made(pipe, tried)
        if (
            any(picture.batch_size is not None or decoding_of(picture.note) for picture in pictures)
            or now < rate * GAIN
        ):
            break
        best, rate = size, now
        if _is_full(str(settings.device)):
            break
        size *= 2
    return best


def _made(pipe: Any, settings: Values) -> tuple[list[Any], float]:
    """The pictures of one batch, and how many a second; the first use of a size prepares it, and is not timed."""
    todo = [Job(0, number, "a photograph", number, number) for number in range(settings.batch_size)]
    encoder = PromptEncoder(pipe, settings)
    list(sample(pipe, encoder, todo, settings))
    started = time.perf_counter()
    pictures = list(sample(pipe, encoder, todo, settings))
    return pictures, len(todo) / (time.perf_counter() - started)


def _is_full(device: str) -> bool:
    if not device.startswith("cuda"):
        return False
    import torch

    return torch.cuda.max_memory_reserved(device) > FULL * torch.cuda.get_device_properties(device).total_memory
