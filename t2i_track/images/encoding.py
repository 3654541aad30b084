"""Prompts as a pipeline takes them: encoded once, in batches of one shape, whatever the family."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from t2i_track.images import weighting
from t2i_track.images.batches import batches
from t2i_track.images.families import Family, family_of
from t2i_track.settings import UNWEIGHTED, Stage, Values
from t2i_track.texts import MOST_COUNTED, beginning

if TYPE_CHECKING:
    import torch

CACHE_BYTES = 512 * 2**20
NOT_SHARED = ("prompt", "negative", "embeds", "mask", "image", "device", "lora_scale")
"""Parts of the names of arguments that ``encode_prompt`` and ``__call__`` have in common and one does not get from the
other's defaults."""
_NEGATIVE = "negative_"


@dataclass(frozen=True)
class Encoding:
    """A prompt as the pipeline takes it.

    ``inputs`` are arguments of its call by name, without a batch axis, on its device; ``tokens`` counts the whole
    prompt with its start and end marks, and ``truncated`` says that it is longer than the window of the encoder that
    reads most of it.
    """

    inputs: Mapping[str, torch.Tensor]
    tokens: int
    truncated: bool

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.inputs.values())


class PromptEncoder:
    """Encodes each prompt once, in batches of one shape, and remembers them up to a bound.

    Every forward pass of the text encoders has ``batch_size`` rows: rounding depends on tensor shapes, and an image
    must not depend on which prompts were encoded beside its own. Weighted prompts are encoded one by one.
    """

    def __init__(self, pipe: Any, settings: Values, *, cache_bytes: int = CACHE_BYTES) -> None:
        self._pipe = pipe
        self._family = family_of(type(pipe).__name__, settings.model)
        self._batch_size = settings.batch_size
        self._arguments = settings.arguments(Stage.ENCODE)
        self._weighting = settings.prompt_weighting
        self._cache_bytes = cache_bytes
        self._used = 0
        self._cache: OrderedDict[tuple[str, bool], Encoding] = OrderedDict()

    @staticmethod
    def key(settings: Values) -> tuple[Any, ...]:
        """Settings of one key are encoded alike."""
        arguments = tuple(sorted(settings.arguments(Stage.ENCODE).items()))
        return settings.batch_size, arguments, settings.prompt_weighting

    def __call__(self, prompts: Sequence[str], *, negative: bool = False) -> list[Encoding]:
        """The encodings of the prompts, in order; ``negative`` as what is steered away from.

        An empty negative prompt is none: what the pipeline's call does where it is given none.
        """
        found: dict[str, Encoding] = {}
        missing: list[str] = []
        for prompt in dict.fromkeys(prompts):
            if (prompt, negative) in self._cache:
                self._cache.move_to_end((prompt, negative))
                found[prompt] = self._cache[prompt, negative]
            else:
                missing.append(prompt)
        # None is not a text, so it has a batch of its own.
        alone = [[""]] if negative and "" in missing else []
        texts = [text for text in missing if not alone or text]
        for batch in (*alone, *batches(texts, self._batch_size)):
            for prompt, encoding in zip(batch, self._encode(batch, negative), strict=True):
                found[prompt] = encoding
                self._remember((prompt, negative), encoding)
        return [found[prompt] for prompt in prompts]

    def remembers(self, prompts: Sequence[str], *, negative: bool = False) -> bool:
        """Encode the prompts, and say whether all of them are still remembered; none is encoded that could not be."""
        some = list(dict.fromkeys(prompts))
        (first,) = self(some[:1], negative=negative)
        if self._used + len(some) * first.nbytes > self._cache_bytes:
            return False
        self(some, negative=negative)
        return True

    def _encode(self, prompts: Sequence[str], negative: bool) -> list[Encoding]:
        import torch

        limit = window(self._pipe, self._arguments)
        counted = _counted(self._pipe, prompts, limit, self._weighting)
        texts = [text for text, _ in counted]
        rows = self._batch_size if self._weighting == UNWEIGHTED else len(texts)
        padded = [*texts, *texts[-1:] * (rows - len(texts))]
        if "clip_skip" in self._arguments:
            _restore_text_model(self._pipe.text_encoder)
        with torch.inference_mode():
            named = self._negatives(padded) if negative else self._positives(padded)
            if self._family.padded:
                named = _padded(named, self._length())
        return [
            Encoding({name: values[row] for name, values in named.items()}, count, count > limit)
            for row, (_, count) in enumerate(counted)
        ]

    def _positives(self, texts: Sequence[str]) -> dict[str, Any]:
        if self._weighting != UNWEIGHTED:
            return dict(weighting.embeddings(self._pipe, texts))
        named = self._encode_prompt(texts, do_classifier_free_guidance=False)
        return {name: values for name, values in named.items() if not name.startswith(_NEGATIVE)}

    def _negatives(self, texts: Sequence[str]) -> dict[str, Any]:
        """By the encoding call itself where it takes a negative prompt: several families encode it in another way."""
        # Weighted, none is still what the pipeline makes of none: several classes have zeros for it.
        if self._family.negative_apart or (self._weighting != UNWEIGHTED and texts[0]):
            named = self._positives([text or self._family.unnamed_negative or "" for text in texts])
            return {f"{_NEGATIVE}{name}": values for name, values in named.items()}
        given = {} if not texts[0] else {"negative_prompt": list(texts)}
        named = self._encode_prompt([""] * len(texts), do_classifier_free_guidance=True, **given)
        return {name: values for name, values in named.items() if name.startswith(_NEGATIVE)}

    def _encode_prompt(self, texts: Sequence[str], **asked: Any) -> dict[str, Any]:
        """What ``encode_prompt`` returns, by the names under which ``__call__`` takes it."""
        pipe, family = self._pipe, self._family
        known, taken = _parameters(pipe.encode_prompt), _parameters(pipe.__call__)
        shared = {
            name: parameter.default
            for name, parameter in taken.items()
            if name in known and not any(part in name for part in NOT_SHARED)
        }
        further = {"prompt_2": None, "prompt_3": None, "device": pipe._execution_device, "num_images_per_prompt": 1}
        negative = taken.get("negative_prompt")
        default = {} if negative is None else {"negative_prompt": negative.default}
        given = {**shared, **further, **default, **family.arguments, **self._arguments, **asked}
        named: dict[str, Any] = {}
        for ending, own in family.encodings:
            arguments = {name: value for name, value in {**given, **own}.items() if name in known}
            # A copy: Z-Image writes its chat template into the caller's list.
            found = pipe.encode_prompt(prompt=list(texts), **arguments)
            named |= {
                f"{name}{ending}": values
                for name, values in zip(family.outputs, found, strict=True)
                if name is not None and values is not None and len(values)
            }
        return named

    def _length(self) -> int:
        return int(self._arguments.get("max_sequence_length") or _default(self._pipe.__call__, "max_sequence_length"))

    def _remember(self, key: tuple[str, bool], encoding: Encoding) -> None:
        self._cache[key] = encoding
        self._used += encoding.nbytes
        while self._used > self._cache_bytes and len(self._cache) > 1:
            _, oldest = self._cache.popitem(last=False)
            self._used -= oldest.nbytes


def _padded(named: Mapping[str, Any], length: int) -> dict[str, Any]:
    """Embeddings and masks of one length; a mask that was left out, since all tokens count, is written out."""
    from torch import long, ones
    from torch.nn.functional import pad

    found = {}
    for name in [name for name in named if name.endswith("embeds")]:
        embeds = named[name]
        mask = named.get(f"{name}_mask")
        if mask is None:
            mask = ones(embeds.shape[:2], dtype=long, device=embeds.device)
        extra = length - embeds.shape[1]
        found[name] = pad(embeds, (0, 0, 0, extra))
        found[f"{name}_mask"] = pad(mask, (0, extra))
    return found


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(function).parameters


def _default(function: Callable[..., Any], name: str) -> Any:
    parameter = _parameters(function).get(name)
    return None if parameter is None else parameter.default


def _reader(pipe: Any, arguments: Mapping[str, Any]) -> tuple[Any, int]:
    """The tokenizer whose encoder reads most of a prompt, and how many tokens it reads."""
    family: Family = family_of(type(pipe).__name__, "")
    asked = arguments.get("max_sequence_length") or _default(pipe.__call__, "max_sequence_length")
    found: list[tuple[int, Any]] = []
    for name in ("tokenizer", "tokenizer_2", "tokenizer_3"):
        tokenizer = getattr(pipe, name, None)
        tokenizer = getattr(tokenizer, "tokenizer", tokenizer)  # a processor's, of models that see
        if tokenizer is not None:
            own = int(tokenizer.model_max_length)
            # CLIP's position embeddings end at 77; what a caller asks for is for the other encoders.
            is_clip = type(tokenizer).__name__.startswith("CLIP")
            found.append((own if is_clip else asked or family.window or own, tokenizer))
    longest, tokenizer = max(found, key=lambda one: one[0])
    return tokenizer, longest


def window(pipe: Any, arguments: Mapping[str, Any]) -> int:
    """Tokens of a prompt that its longest encoder reads."""
    return _reader(pipe, arguments)[1]


def token_counts(pipe: Any, texts: Sequence[str]) -> list[int]:
    """Tokens of each text with its start and end marks, however many the encoder's window takes.

    Of a text of more than ``texts.MOST_COUNTED`` characters its beginning is counted, where that fills the window.
    """
    return [count for _, count in _counted(pipe, texts, window(pipe, {}), UNWEIGHTED)]


def _counted(pipe: Any, texts: Sequence[str], limit: int, weights: str) -> list[tuple[str, int]]:
    """Each text, or as much of its beginning as the encoder reads, and its tokens; those of weights are none."""
    if weights != UNWEIGHTED:
        marks = _tokens(pipe, [""])[0]
        parts = [_tokens(pipe, weighting.weighted(text).texts) for text in texts]
        return [(text, marks + sum(n - marks for n in some)) for text, some in zip(texts, parts, strict=True)]
    starts = [beginning(text) for text in texts]
    found = list(zip(starts, _tokens(pipe, starts), strict=True))
    for row, text in enumerate(texts):
        if len(text) > MOST_COUNTED and found[row][1] <= limit:
            # A beginning that fills no window, as of white space: what follows counts.
            found[row] = (text, _tokens(pipe, [text])[0])
    return found


def _tokens(pipe: Any, texts: Sequence[str]) -> list[int]:
    tokenizer, _ = _reader(pipe, {})
    written = family_of(type(pipe).__name__, "").written
    convert = getattr(pipe, "maybe_convert_prompt", lambda text, _: text)
    asked = [written(pipe, convert(text, tokenizer)) for text in texts]
    # The tokenizer's own warning for long prompts would come once for each; the summary counts them instead.
    return [len(ids) for ids in tokenizer(asked, truncation=False, verbose=False).input_ids]


def are_cut(pipe: Any, texts: Sequence[str], settings: Values) -> list[bool]:
    """Of each text, whether it is longer than the encoder's window."""
    limit = window(pipe, settings.arguments(Stage.ENCODE))
    return [count > limit for _, count in _counted(pipe, texts, limit, settings.prompt_weighting)] if texts else []


def _restore_text_model(encoder: Any) -> None:
    """transformers 5.6 moved the parts of ``text_model`` up into ``CLIPTextModel``, and diffusers' ``clip_skip`` still
    looks for them there (huggingface/diffusers issue 14124)."""
    if not hasattr(encoder, "text_model"):
        # Past torch's own setting of attributes, which would make the module a child of itself.
        object.__setattr__(encoder, "text_model", encoder)
