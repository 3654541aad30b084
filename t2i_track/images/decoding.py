"""Latents to pictures, and what is done about a picture that is not finite: half precision overflows at 65504.

A pipeline's call decodes its own latents, each family in its own way. It is watched while it does, so that no family's
way stands here a second time, and a picture is what a plain call makes.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from t2i_track.images.memory import Decoding, decode_as_fits

if TYPE_CHECKING:
    import torch

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


class Note(enum.StrEnum):
    """What an image's own row says of how it was made, where that is not as its run says."""

    DECODED = "decoded in fp32: not finite in half precision"
    REMADE = "made again in fp32, alone: not finite in half precision"
    NOT_FINITE = "not finite, so black"
    HALVED = "made in a smaller batch: that of its run did not fit in memory"
    SLICED = "decoded by itself: its batch did not fit in memory"
    TILED = "decoded in tiles: whole it did not fit in memory"


PARTS = {Decoding.SLICED: Note.SLICED, Decoding.TILED: Note.TILED}


def written(*notes: Note | None) -> str | None:
    """The notes as an image's row has them."""
    return "; ".join(note.value for note in notes if note is not None) or None


def has(note: object, *wanted: Note) -> bool:
    """Whether an image's note, which may be a stranger's, says one of these."""
    return isinstance(note, str) and any(part in [one.value for one in wanted] for part in note.split("; "))


def decoding_of(note: object) -> Decoding:
    """How a picture with this note was decoded."""
    return next((how for how, told in PARTS.items() if has(note, told)), Decoding.WHOLE)


@dataclass(frozen=True)
class Decoded:
    """The pictures of a batch, uint8 ``[rows, height, width, 3]``; those that are not finite are black."""

    pixels: np.ndarray[Any, np.dtype[np.uint8]]
    finite: list[bool]
    unsafe: list[bool]
    """Blacked out by the pipeline's safety checker."""
    latents: torch.Tensor
    """As they were handed to the decoder."""
    how: Decoding = Decoding.WHOLE


class Watch:
    """What went through a pipeline's decoder."""

    latents: torch.Tensor
    finite: torch.Tensor
    how: Decoding


@contextlib.contextmanager
def watched(pipe: Any, how: Decoding = Decoding.WHOLE, relieved: Callable[[], bool] = lambda: False) -> Iterator[Watch]:
    """Watch the pipeline's decoder: what is not finite becomes black before the pipeline clamps it to [0, 1], and what
    does not fit in memory is decoded in parts (``memory.decode_as_fits``)."""
    import torch

    watch, vae, decode = Watch(), pipe.vae, pipe.vae.decode
    watch.how = how
    before = vae.__dict__.get("decode")
    watch.finite = torch.ones(0, dtype=torch.bool)

    def watching(latents: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        given = {**kwargs, "return_dict": False}
        (image, *rest), watch.how = decode_as_fits(vae, lambda: decode(latents, *args, **given), watch.how, relieved)
        watch.latents, watch.finite = latents, finite_rows(latents) & finite_rows(image)
        if not watch.finite.all():
            shape = (-1, *[1] * (image.ndim - 1))
            image = torch.where(watch.finite.view(shape), image, torch.full_like(image, -1.0))
        return (image, *rest)

    vae.decode = watching
    try:
        yield watch
    finally:
        if before is None:
            del vae.decode  # the method of its class shows again
        else:
            vae.decode = before


def decoded(watch: Watch, output: Any) -> Decoded:
    """What a watched pipeline's call returned, with ``output_type="np"``."""
    images = output.images
    # Rounding as diffusers' numpy_to_pil, so that a plain pipeline call gives the same picture.
    unsafe = getattr(output, "nsfw_content_detected", None) or [False] * len(images)
    pixels = (images * 255).round().astype(np.uint8)
    return Decoded(pixels, watch.finite.tolist(), [bool(bad) for bad in unsafe], watch.latents, watch.how)


def decode_again(pipe: Any, latents: torch.Tensor, generator: torch.Generator, how: Decoding) -> Decoded:
    """The end of a pipeline's call again, of one picture's latents as they were handed to the decoder, in fp32."""
    import inspect

    import torch

    with torch.inference_mode(), in_fp32(pipe.vae), watched(pipe, how) as watch:
        takes = inspect.signature(type(pipe.vae).decode).parameters
        drawn = {"generator": [generator]} if "generator" in takes else {}
        image = pipe.vae.decode(latents.float(), return_dict=False, **drawn)[0]
        if image.ndim == 5:  # decoders of films give one frame
            image = image[:, :, 0]
        unsafe = None
        if getattr(pipe, "safety_checker", None) is not None:
            image, unsafe = pipe.run_safety_checker(image, image.device, pipe.safety_checker.dtype)
        unsafe = unsafe or [False] * len(image)
        shown = pipe.image_processor.postprocess(image, output_type="np", do_denormalize=[not bad for bad in unsafe])
    pixels = (shown * 255).round().astype(np.uint8)
    return Decoded(pixels, watch.finite.tolist(), [bool(bad) for bad in unsafe], watch.latents, watch.how)


def finite_rows(values: torch.Tensor) -> torch.Tensor:
    """Of each row of a batch, whether all its values are finite."""
    import torch

    return torch.isfinite(values).flatten(1).all(1)


def network(pipe: Any) -> Any:
    """The network that takes the steps."""
    found = getattr(pipe, "transformer", None)
    return pipe.unet if found is None else found


def modules(pipe: Any) -> list[Any]:
    """All networks of the pipeline."""
    import torch

    return [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]


def is_half(pipe: Any) -> bool:
    """Whether the pipeline computes in fp16 or bf16."""
    return bool(network(pipe).dtype.itemsize < 4)


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
