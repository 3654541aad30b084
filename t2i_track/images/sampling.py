"""Prompts and seeds in, a stream of pictures out: the only caller of a diffusers pipeline."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from t2i_track.errors import SettingsError
from t2i_track.images.decoding import Decoded, Note, decode, in_fp32, is_half
from t2i_track.images.schedulers import scheduler_class
from t2i_track.images.seeds import image_seed
from t2i_track.schedulers import SCHEDULERS
from t2i_track.settings import Setting, Stage, Values
from t2i_track.texts import MOST_COUNTED, beginning

if TYPE_CHECKING:
    import torch

EMBEDDING_CACHE_BYTES = 512 * 2**20


@dataclass(frozen=True)
class Job:
    """One image to make."""

    prompt_index: int
    replicate: int
    prompt: str
    seed: int


@dataclass(frozen=True)
class Encoding:
    """A prompt as the pipeline takes it.

    ``embeds`` is ``[window, hidden]`` on the pipeline's device; ``tokens`` counts the prompt with its start and end
    marks, and ``truncated`` says that it is longer than the window. Of a prompt of more than ``texts.MOST_COUNTED``
    characters its beginning is counted.
    """

    embeds: torch.Tensor
    tokens: int
    truncated: bool


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


def jobs(prompts: Sequence[str], base_seed: int, images_per_prompt: int) -> Iterator[Job]:
    """Every image of a run, prompt by prompt."""
    for index, prompt in enumerate(prompts):
        for replicate in range(images_per_prompt):
            yield Job(index, replicate, prompt, image_seed(base_seed, index, replicate))


class PromptEncoder:
    """Encodes each prompt once, in batches of one shape, and remembers them up to a bound.

    Every forward pass of the text encoder has ``batch_size`` rows: rounding depends on tensor shapes, and an image
    must not depend on which prompts were encoded beside its own.
    """

    def __init__(self, pipe: Any, settings: Values, *, cache_bytes: int = EMBEDDING_CACHE_BYTES) -> None:
        self._pipe = pipe
        self._batch_size = settings.batch_size
        self._arguments = settings.arguments(Stage.ENCODE)
        self._cache_bytes = cache_bytes
        self._used = 0
        self._cache: OrderedDict[tuple[str, bool], Encoding] = OrderedDict()

    @staticmethod
    def key(settings: Values) -> tuple[Any, ...]:
        """Settings of one key are encoded alike."""
        return settings.batch_size, tuple(sorted(settings.arguments(Stage.ENCODE).items()))

    @property
    def window(self) -> int:
        return int(self._pipe.tokenizer.model_max_length)

    def __call__(self, prompts: Sequence[str], *, negative: bool = False) -> list[Encoding]:
        """The encodings of the prompts, in order; ``negative`` as what is steered away from."""
        found: dict[str, Encoding] = {}
        missing: list[str] = []
        for prompt in dict.fromkeys(prompts):
            if (prompt, negative) in self._cache:
                self._cache.move_to_end((prompt, negative))
                found[prompt] = self._cache[prompt, negative]
            else:
                missing.append(prompt)
        for batch in _batches(missing, self._batch_size):
            for prompt, encoding in zip(batch, self._encode(batch, negative), strict=True):
                found[prompt] = encoding
                self._remember((prompt, negative), encoding)
        return [found[prompt] for prompt in prompts]

    def _encode(self, prompts: Sequence[str], negative: bool) -> list[Encoding]:
        import torch

        texts, lengths = _counted(self._pipe, prompts)
        texts += texts[-1:] * (self._batch_size - len(texts))
        # diffusers' encoders apply such arguments (clip_skip) to positive prompts only.
        arguments = {} if negative else self._arguments
        if arguments:
            _restore_text_model(self._pipe.text_encoder)
        with torch.inference_mode():
            embeds, _ = self._pipe.encode_prompt(
                texts, self._pipe.device, 1, do_classifier_free_guidance=False, **arguments
            )
        return [Encoding(embeds[row], length, length > self.window) for row, length in enumerate(lengths)]

    def _remember(self, key: tuple[str, bool], encoding: Encoding) -> None:
        self._cache[key] = encoding
        self._used += encoding.embeds.nbytes
        while self._used > self._cache_bytes and len(self._cache) > 1:
            _, oldest = self._cache.popitem(last=False)
            self._used -= oldest.embeds.nbytes


def _counted(pipe: Any, prompts: Sequence[str]) -> tuple[list[str], list[int]]:
    """Each prompt as the encoder takes it, and its tokens with start and end marks, however many the window takes."""
    tokenizer = pipe.tokenizer

    def counted(parts: Sequence[str]) -> tuple[list[str], list[int]]:
        texts = [pipe.maybe_convert_prompt(part, tokenizer) for part in parts]
        # The tokenizer's own warning for long prompts would come once for each; the summary counts them instead.
        return texts, [len(ids) for ids in tokenizer(texts, truncation=False, verbose=False).input_ids]

    texts, lengths = counted([beginning(prompt) for prompt in prompts])
    for row, prompt in enumerate(prompts):
        if len(prompt) > MOST_COUNTED and lengths[row] <= int(tokenizer.model_max_length):
            # A beginning that fills no window, as of white space: what follows counts.
            (texts[row],), (lengths[row],) = counted([prompt])
    return texts, lengths


def cuts_negative_prompt(pipe: Any, settings: Values) -> bool:
    """Whether the negative prompt is longer than the encoder's window."""
    _, lengths = _counted(pipe, [settings.negative_prompt])
    return lengths[0] > int(pipe.tokenizer.model_max_length)


def _restore_text_model(encoder: Any) -> None:
    """transformers 5.6 moved the parts of ``text_model`` up into ``CLIPTextModel``, and diffusers' ``clip_skip`` still
    looks for them there (huggingface/diffusers issue 14124)."""
    if not hasattr(encoder, "text_model"):
        # Past torch's own setting of attributes, which would make the module a child of itself.
        object.__setattr__(encoder, "text_model", encoder)


def refuse_ignored(pipe: Any, settings: Values) -> None:
    """Refuse what this pipeline, with its present scheduler, would silently leave out.

    Raises:
        SettingsError: names the setting, its value, and what ignores it.
    """
    places: dict[Stage, tuple[Callable[..., Any], str]] = {
        Stage.ENCODE: (pipe.encode_prompt, type(pipe).__name__),
        Stage.CALL: (pipe.__call__, type(pipe).__name__),
        Stage.SCHEDULER: (pipe.scheduler.step, f"scheduler {settings.scheduler}"),
    }
    for name, declared, value in settings.used():
        if declared.passed_as is not None and not _takes(places[declared.stage][0], declared.passed_as):
            raise SettingsError(
                f"{name} {value!r} would be ignored by {places[declared.stage][1]}: leave it out{_takers(declared)}"
            )
    layers = getattr(pipe.text_encoder.config, "num_hidden_layers", settings.clip_skip + 1)
    if settings.clip_skip >= layers:
        raise SettingsError(f"clip_skip {settings.clip_skip} leaves none of the text encoder's {layers} layers")


def _takes(function: Callable[..., Any], argument: str) -> bool:
    return argument in inspect.signature(function).parameters


def _takers(declared: Setting) -> str:
    """The schedulers that would not ignore it."""
    if declared.stage is not Stage.SCHEDULER or declared.passed_as is None:
        return ""
    found = [name for name in SCHEDULERS if _takes(scheduler_class(name).step, declared.passed_as)]
    return f", or take --scheduler {' or '.join(found)}"


def sample(pipe: Any, encoder: PromptEncoder, todo: Iterable[Job], settings: Values) -> Iterator[Picture]:
    """Make the images, ``settings.batch_size`` at a time, in the order of ``todo``; ``settings`` are resolved.

    Every batch is run at exactly that many rows; a short one is padded with copies of its last job, which are
    thrown away. Each row has its own CPU generator, so a picture depends on its own job and on the tensor shapes
    alone. ``guidance`` of 1 or less leaves out the unconditional half (Ho & Salimans 2022, arXiv:2207.12598).

    A picture that is not finite is decoded again in single precision where the run is in half, then made again in it;
    where that does not help it is black. Its ``note`` says so.
    """
    negative = _negative(encoder, settings)
    for batch in _batches(todo, settings.batch_size):
        started = time.perf_counter()
        encodings = encoder([job.prompt for job in batch])
        latents, generators = _latents(pipe, batch, encodings, negative, settings)
        made = decode(pipe, latents, generators)
        seconds = (time.perf_counter() - started) / len(batch)
        for row, (job, encoding) in enumerate(zip(batch, encodings, strict=True)):
            picture = Picture(job, made.pixels[row], encoding.tokens, encoding.truncated, made.unsafe[row], seconds)
            yield picture if made.finite[row] else _mended(pipe, picture, latents[row : row + 1], settings)


def _mended(pipe: Any, picture: Picture, latents: torch.Tensor, settings: Values) -> Picture:
    """A picture that is not finite, made so in single precision if that can be; its time is counted with it."""
    import torch

    started = time.perf_counter()
    generator = torch.Generator("cpu").manual_seed(picture.job.seed)
    found = None
    if is_half(pipe):
        if torch.isfinite(latents).all():
            with in_fp32(pipe.vae):
                found = _if_finite(decode(pipe, latents.float(), [generator]), picture, Note.DECODED)
        if found is None:
            with in_fp32(pipe.unet, pipe.vae, pipe.text_encoder):
                alone = dataclasses.replace(settings, batch_size=1, dtype="fp32")
                encoder = PromptEncoder(pipe, alone)
                encodings, negative = encoder([picture.job.prompt]), _negative(encoder, alone)
                made = decode(pipe, *_latents(pipe, [picture.job], encodings, negative, alone))
            found = _if_finite(made, picture, Note.REMADE, batch_size=1, dtype="fp32")
    found = found or dataclasses.replace(picture, flagged=True, note=Note.NOT_FINITE.value)
    return dataclasses.replace(found, seconds=picture.seconds + time.perf_counter() - started)


def _if_finite(made: Decoded, picture: Picture, note: Note, **changes: Any) -> Picture | None:
    if not made.finite[0]:
        return None
    return dataclasses.replace(picture, pixels=made.pixels[0], flagged=made.unsafe[0], note=note.value, **changes)


def _negative(encoder: PromptEncoder, settings: Values) -> Encoding | None:
    return encoder([settings.negative_prompt], negative=True)[0] if settings.guidance > 1 else None


def initial_latents(job: Job, shape: tuple[int, int, int], dtype: torch.dtype) -> torch.Tensor:
    """The standard normal noise that the job starts from, ``[channels, height / f, width / f]``, drawn on the CPU."""
    import torch

    generator = torch.Generator("cpu").manual_seed(job.seed)
    return torch.randn((1, *shape), generator=generator, dtype=dtype)[0]


def _latents(
    pipe: Any,
    batch: Sequence[Job],
    encodings: Sequence[Encoding],
    negative: Encoding | None,
    settings: Values,
) -> tuple[torch.Tensor, list[torch.Generator]]:
    """The latents of a batch, padded to its size, and the rows' generators as sampling left them."""
    import torch

    batch_size = settings.batch_size
    rows = [min(row, len(batch) - 1) for row in range(batch_size)]
    generators = [torch.Generator("cpu").manual_seed(batch[row].seed) for row in rows]
    with torch.inference_mode():
        output = pipe(
            prompt_embeds=torch.stack([encodings[row].embeds for row in rows]),
            negative_prompt_embeds=None if negative is None else negative.embeds.expand(batch_size, -1, -1),
            generator=generators,
            output_type="latent",
            **settings.arguments(Stage.CALL, Stage.SCHEDULER),
        )
    return output.images, generators


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
