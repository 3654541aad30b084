"""Prompts and seeds in, a stream of pictures out: the only caller of a diffusers pipeline."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from t2i_track.errors import ModelError
from t2i_track.images.caching import forget
from t2i_track.images.compiling import eagerly, explained
from t2i_track.images.decoding import (
    PARTS,
    Decoded,
    Note,
    decode_again,
    decoded,
    in_fp32,
    is_half,
    modules,
    watched,
    written,
)
from t2i_track.images.encoding import Encoding, PromptEncoder
from t2i_track.images.families import family_of
from t2i_track.images.memory import Decoding, Room, free
from t2i_track.images.model import guidance_of
from t2i_track.images.seeds import image_seed
from t2i_track.settings import NO_OFFLOAD, UNQUANTIZED, Stage, Values

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Job:
    """One image to make."""

    prompt_index: int
    replicate: int
    prompt: str
    seed: int
    place: int = 0
    """Its number among the images of its run: it is made in this place of its batch, since the row that a picture has
    there moves its rounding too."""
    negative_prompt: str | None = None
    """Where it is not its run's."""


@dataclass(frozen=True)
class Picture:
    """A finished image: ``pixels`` is uint8 ``[height, width, 3]``; ``seconds`` its share of its batch's time."""

    job: Job
    pixels: np.ndarray[Any, np.dtype[np.uint8]]
    tokens: int
    truncated: bool
    flagged: bool
    """It does not show what the model made: the safety checker blacked it out, or it is not finite."""
    seconds: float
    batch_size: int | None = None
    """Where another than the run's made it, as ``dtype``; None: as the run."""
    dtype: str | None = None
    note: str | None = None


def jobs(
    prompts: Sequence[str], base_seed: int, images_per_prompt: int, negatives: Mapping[int, str] = {}
) -> Iterator[Job]:
    """Every image of a run, prompt by prompt; ``negatives`` are those of the prompts that have their own, by index."""
    for index, prompt in enumerate(prompts):
        for replicate in range(images_per_prompt):
            seed = image_seed(base_seed, index, replicate)
            place = index * images_per_prompt + replicate
            yield Job(index, replicate, prompt, seed, place, negatives.get(index))


@dataclass
class _Fit:
    """What fits in memory, as far as is known."""

    settings: Values
    """With the batch size that fits."""
    how: Decoding
    room: Room
    encoder: PromptEncoder


def sample(
    pipe: Any, encoder: PromptEncoder, todo: Iterable[Job], settings: Values, how: Decoding = Decoding.WHOLE
) -> Iterator[Picture]:
    """Make the images, ``settings.batch_size`` at a time, in the order of ``todo``; ``settings`` are resolved.

    Every batch is run at exactly that many rows; places without a job are filled with copies of its first, which are
    thrown away. Each row has its own CPU generator, so a picture depends on its own job and on the tensor shapes
    alone.

    A picture that is not finite is decoded again in single precision where the run is in half, then made again in it;
    where that does not help it is black.

    Where memory is short, a GPU's text encoders leave it once all prompts are encoded, which changes nothing. Then what
    cannot be decoded at once is decoded in parts (``how``), a batch that does not fit is halved, and so are those
    after it. Its pictures' ``note`` says so.

    Raises:
        ModelError: a single picture does not fit in memory.
    """
    todo = list(todo)
    room = Room(pipe, lambda: _encode_all(pipe, fit.encoder, todo, settings), settings.offload != NO_OFFLOAD)
    fit = _Fit(settings, how, room, encoder)
    try:
        for planned in _by_place(todo, settings.batch_size):
            yield from _as_fits(pipe, planned, fit, settings.batch_size)
    finally:
        room.give_back()


def _as_fits(pipe: Any, planned: Sequence[Job], fit: _Fit, rows: int) -> Iterator[Picture]:
    """The pictures of a batch of so many rows, in smaller ones where that is what fits."""
    import torch

    waiting = deque(_by_place(planned, fit.settings.batch_size))
    while waiting:
        try:
            yield from _batch(pipe, waiting[0], fit, rows)
        except torch.OutOfMemoryError as error:
            if fit.room.made():
                continue
            fit.settings = _halved(fit.settings, error)
            fit.room.give_back()  # a prompt's encoding is of its batch's size
            fit.encoder = PromptEncoder(pipe, fit.settings)
            waiting = deque(_by_place(itertools.chain(*waiting), fit.settings.batch_size))
        else:
            waiting.popleft()


def _encode_all(pipe: Any, encoder: PromptEncoder, todo: Sequence[Job], settings: Values) -> bool:
    """Encode all that the pictures need, and say whether the encoder remembers all of it."""
    if not encoder.remembers([job.prompt for job in todo]):
        return False
    if _negatives(pipe, encoder, todo[:1], settings)[0] is None:
        return True
    return encoder.remembers([_negative(job, settings) for job in todo], negative=True)


def _halved(settings: Values, error: Exception) -> Values:
    """The settings with a batch that may fit."""
    if settings.batch_size == 1:
        raise ModelError(
            f"one picture of {settings.width} x {settings.height} does not fit in the memory of {settings.device}"
            f" ({' '.join(str(error).split())[:100]}): try --offload model, --dtype fp16, or a smaller --height"
        ) from None
    free(settings.device)
    return dataclasses.replace(settings, batch_size=settings.batch_size // 2)


def _batch(pipe: Any, batch: Sequence[Job], fit: _Fit, planned: int) -> Iterator[Picture]:
    """The pictures of one batch, of which ``planned`` rows were planned; nothing is yielded before all are made."""
    started = time.perf_counter()
    settings = fit.settings
    encodings = fit.encoder([job.prompt for job in batch])
    negatives = _negatives(pipe, fit.encoder, batch, settings)
    made = _made(pipe, batch, encodings, negatives, settings, fit.how, fit.room.made)
    fit.how = made.how
    seconds = (time.perf_counter() - started) / len(batch)
    size = settings.batch_size
    note = written(None if size == planned else Note.HALVED, PARTS.get(made.how))
    otherwise: dict[str, Any] = {"note": note} if size == planned else {"note": note, "batch_size": size}
    for job, encoding in zip(batch, encodings, strict=True):
        row = job.place % size
        picture = Picture(
            job, made.pixels[row], encoding.tokens, encoding.truncated, made.unsafe[row], seconds, **otherwise
        )
        yield picture if made.finite[row] else _mended(pipe, picture, made.latents[row : row + 1], fit)


def _by_place(todo: Iterable[Job], batch_size: int) -> Iterator[list[Job]]:
    """The jobs in order, those together that have different rows of a batch.

    Of a run that is made from its first picture to its last these are its batches in turn; of pictures from anywhere in
    it as few as their rows allow, since what the other rows hold moves nothing.
    """
    batch: list[Job] = []
    for job in todo:
        if job.place % batch_size in {other.place % batch_size for other in batch}:
            yield batch
            batch = []
        batch.append(job)
    if batch:
        yield batch


def _mended(pipe: Any, picture: Picture, latents: torch.Tensor, fit: _Fit) -> Picture:
    """A picture that is not finite, made so in single precision if that can be; its time is counted with it."""
    import torch

    started = time.perf_counter()
    settings = fit.settings
    generator = torch.Generator("cpu").manual_seed(picture.job.seed)
    found = None
    # What is offloaded layer by layer cannot be brought to another precision, nor can what is in 8 bits.
    if is_half(pipe) and settings.offload not in ("sequential", "group"):
        if torch.isfinite(latents).all():
            found = _if_finite(decode_again(pipe, latents, generator, fit.how), picture, Note.DECODED)
        if found is None and settings.quantize == UNQUANTIZED:
            fit.room.give_back()
            with in_fp32(*modules(pipe)), eagerly(settings):
                alone = dataclasses.replace(settings, batch_size=1, dtype="fp32")  # so that its place is the first
                encoder = PromptEncoder(pipe, alone)
                encodings = encoder([picture.job.prompt])
                negatives = _negatives(pipe, encoder, [picture.job], alone)
                made = _made(pipe, [picture.job], encodings, negatives, alone, fit.how)
            found = _if_finite(made, picture, Note.REMADE, batch_size=1, dtype="fp32")
    found = found or dataclasses.replace(picture, flagged=True, note=Note.NOT_FINITE.value)
    return dataclasses.replace(found, seconds=picture.seconds + time.perf_counter() - started)


def _if_finite(made: Decoded, picture: Picture, note: Note, **changes: Any) -> Picture | None:
    if not made.finite[0]:
        return None
    told = written(note, PARTS.get(made.how))
    return dataclasses.replace(picture, pixels=made.pixels[0], flagged=made.unsafe[0], note=told, **changes)


def _negatives(pipe: Any, encoder: PromptEncoder, batch: Sequence[Job], settings: Values) -> Sequence[Encoding | None]:
    """What each picture is steered away from; None where none is guided so."""
    texts = [_negative(job, settings) for job in batch]
    # One row tells of all: what is guided only against a negative prompt has one in every row (fits).
    told = dataclasses.replace(settings, negative_prompt=texts[0])
    if not family_of(type(pipe).__name__, settings.model).guided(told, guidance_of(pipe)):
        return [None] * len(batch)
    return encoder(texts, negative=True)


def _negative(job: Job, settings: Values) -> str:
    return settings.negative_prompt if job.negative_prompt is None else job.negative_prompt


def initial_latents(job: Job, shape: tuple[int, int, int], dtype: torch.dtype) -> torch.Tensor:
    """The standard normal noise that the job starts from, ``[channels, height / f, width / f]``, drawn on the CPU."""
    import torch

    generator = torch.Generator("cpu").manual_seed(job.seed)
    return torch.randn((1, *shape), generator=generator, dtype=dtype)[0]


def _made(
    pipe: Any,
    batch: Sequence[Job],
    encodings: Sequence[Encoding],
    negatives: Sequence[Encoding | None],
    settings: Values,
    how: Decoding,
    relieved: Callable[[], bool] = lambda: False,
) -> Decoded:
    """The pictures of a batch, padded to its size."""
    import torch

    rows = [0] * settings.batch_size
    for number, job in enumerate(batch):
        rows[job.place % settings.batch_size] = number
    generators = [torch.Generator("cpu").manual_seed(batch[row].seed) for row in rows]
    further = [{} if negative is None else negative.inputs for negative in negatives]
    inputs = [{**encodings[row].inputs, **further[row]} for row in rows]
    forget(pipe)
    with torch.inference_mode(), watched(pipe, how, relieved) as watch, explained(settings):
        output = pipe(
            **_stacked(pipe, inputs), **call_arguments(pipe, settings), generator=generators, output_type="np"
        )
    return decoded(watch, output)


def _stacked(pipe: Any, rows: Sequence[dict[str, torch.Tensor]]) -> dict[str, Any]:
    """The rows' inputs as the call takes them."""
    import torch

    lists = family_of(type(pipe).__name__, "").lists
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return {name: values if lists else torch.stack(values) for name, values in columns.items()}


def call_arguments(pipe: Any, settings: Values) -> dict[str, Any]:
    """What the settings, and what is fixed for the family, pass to the pipeline's call, as it names them."""
    return arguments_of(type(pipe), settings)


def arguments_of(kind: Any, settings: Values) -> dict[str, Any]:
    """The same by the pipeline's class alone."""
    family = family_of(kind.__name__, settings.model)
    taken = inspect.signature(kind.__call__).parameters
    asked = settings.arguments(Stage.CALL, Stage.SCHEDULER)
    asked[family.guidance] = asked.pop("guidance_scale")
    # Some have "" for their default, and refuse it beside embeddings.
    given = {"negative_prompt": None, **family.call_arguments(settings), **asked}
    return {name: value for name, value in given.items() if name in taken}
