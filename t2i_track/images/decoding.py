"""Latents to pictures, and what is done about a picture that is not finite: half precision overflows at 65504."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


class Note(enum.StrEnum):
    """What an image's own row says of how it was made, where that is not as its run says."""

    DECODED = "decoded in fp32: not finite in half precision"
    REMADE = "made again in fp32, alone: not finite in half precision"
    NOT_FINITE = "not finite, so black"


@dataclass(frozen=True)
class Decoded:
    """The pictures of a batch of latents, uint8 ``[rows, height, width, 3]``; those that are not finite are black."""

    pixels: np.ndarray[Any, np.dtype[np.uint8]]
    finite: list[bool]
    unsafe: list[bool]
    """Blacked out by the pipeline's safety checker."""


def decode(pipe: Any, latents: torch.Tensor, generators: list[torch.Generator]) -> Decoded:
    """The end of the pipeline's call, with its own parts, and a look at each picture before it is clamped to [0, 1]."""
    import torch

    with torch.inference_mode():
        image = pipe.vae.decode(latents / pipe.vae.config.scaling_factor, return_dict=False, generator=generators)[0]
        finite = _finite_rows(latents) & _finite_rows(image)
        if not finite.all():
            image = torch.where(finite[:, None, None, None], image, torch.full_like(image, -1.0))
        checker = getattr(pipe, "safety_checker", None)
        dtype = latents.dtype if checker is None else checker.dtype
        image, unsafe = pipe.run_safety_checker(image, latents.device, dtype)
        shown = pipe.image_processor.postprocess(
            image, output_type="np", do_denormalize=[not bad for bad in unsafe or [False] * len(latents)]
        )
    # Rounding as diffusers' numpy_to_pil, so that a plain pipeline call gives the same picture.
    pixels = (shown * 255).round().astype(np.uint8)
    return Decoded(pixels, finite.tolist(), [bool(bad) for bad in unsafe or [False] * len(latents)])


def _finite_rows(values: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.isfinite(values).flatten(1).all(1)


def is_half(pipe: Any) -> bool:
    """Whether the pipeline computes in fp16 or bf16."""
    return bool(pipe.unet.dtype.itemsize < 4)


@contextlib.contextmanager
def in_fp32(*modules: Any) -> Iterator[None]:
    """The modules in single precision, with the weights that they have; afterwards as they were, bit by bit."""
    tensors = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
    kept = [(tensor, tensor.dtype) for tensor in tensors if tensor.is_floating_point()]
    for tensor, _ in kept:
        tensor.data = tensor.data.float()
    try:
        yield
    finally:
        for tensor, dtype in kept:
            tensor.data = tensor.data.to(dtype)
