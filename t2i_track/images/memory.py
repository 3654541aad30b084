"""What is done where a device's memory is short, in the order of what it changes: nothing, rounding, pixels."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable, Iterator
from typing import Any

TEXT_ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")


class Decoding(enum.IntEnum):
    """How the VAE decodes a batch."""

    WHOLE = 0
    SLICED = 1
    """Picture by picture: other shapes, so another rounding."""
    TILED = 2
    """Each picture in tiles that overlap, too: other pixels."""


def free(device: object) -> None:
    """Hand back what the device's allocator keeps for later."""
    import torch

    if str(device).startswith("cuda"):
        torch.cuda.empty_cache()


def decode_as_fits(
    vae: Any, decode: Callable[[], Any], how: Decoding, relieved: Callable[[], bool]
) -> tuple[Any, Decoding]:
    """What ``decode`` returns, and how it was done: as asked if that fits, else in smaller parts.

    ``relieved`` makes room without changing a picture; False: there is none to make.

    Raises:
        torch.OutOfMemoryError: it does not fit in tiles either, or the VAE knows none.
    """
    import torch

    while True:
        try:
            with in_parts(vae, how):
                return decode(), how
        except torch.OutOfMemoryError:
            if not relieved():
                smaller = _next(vae, how)
                if smaller is None:
                    raise
                how = smaller
        # Outside of the clause, whose error holds the tensors of what failed.
        free(vae.device)


def _next(vae: Any, how: Decoding) -> Decoding | None:
    needed = {Decoding.SLICED: "use_slicing", Decoding.TILED: "use_tiling"}
    return next((way for way, name in needed.items() if way > how and hasattr(vae, name)), None)


@contextlib.contextmanager
def in_parts(vae: Any, how: Decoding) -> Iterator[None]:
    """The VAE decoding so, and afterwards as before."""
    wanted = {"use_slicing": how >= Decoding.SLICED, "use_tiling": how is Decoding.TILED}
    before = {name: getattr(vae, name) for name, on in wanted.items() if on and hasattr(vae, name)}
    for name in before:
        setattr(vae, name, True)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(vae, name, value)


class Room:
    """The room that a pipeline's text encoders leave on a GPU, once all prompts are encoded.

    Meanwhile the pipeline has none, as diffusers allows where a call is given embeddings. ``encode`` encodes all that
    is left to encode, and says whether all of it is remembered.
    """

    def __init__(self, pipe: Any, encode: Callable[[], bool], offload: bool) -> None:
        self._pipe, self._encode = pipe, encode
        self._waiting: dict[str, tuple[Any, Any]] = {}
        self._possible = not offload  # what is offloaded is moved by its own hooks

    def made(self) -> bool:
        """Whether the encoders have made room now."""
        import torch

        found = {name: getattr(self._pipe, name, None) for name in TEXT_ENCODERS}
        on_gpu = {name: part for name, part in found.items() if part is not None and _is_on_gpu(part)}
        try:
            if not (self._possible and on_gpu and self._encode()):
                return False
        except torch.OutOfMemoryError:
            return False
        with torch.inference_mode(False):  # else their weights could never be changed again
            for name, part in on_gpu.items():
                self._waiting[name] = (part, part.device)
                vars(self._pipe)[name] = None
                part.to("cpu")
        free("cuda")
        return True

    def give_back(self) -> None:
        """Bring the encoders back to where they were."""
        import torch

        with torch.inference_mode(False):
            while self._waiting:
                name, (part, device) = self._waiting.popitem()
                vars(self._pipe)[name] = part
                part.to(device)


def _is_on_gpu(part: Any) -> bool:
    return str(part.device).startswith("cuda")
