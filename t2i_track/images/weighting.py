"""Weights of a prompt's words by compel: ``a (red)1.4 cat``. Only weights are taken of its syntax."""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from t2i_track.errors import SettingsError
from t2i_track.settings import UNWEIGHTED, Values
from t2i_track.texts import MOST_COUNTED

if TYPE_CHECKING:
    import torch

REMEMBERED = 2**14
"""Prompts whose parts are kept: each is checked, counted and encoded, and parsed in a hundredth of a second."""
DEEPEST = 3
"""Brackets within brackets: compel's parser takes ten times as long for each further level."""
_SYNTAX = (*'()"+-\\', "withLora", "useLora")
_OF_WEB_UI = re.compile(r"(?<!\\)\([^()]*:\s*[0-9.]+\s*\)")
"""``(red:1.4)``, as AUTOMATIC1111's web UI writes weights; compel takes it for text and takes it apart."""


@dataclass(frozen=True)
class Weighted:
    """The parts of a prompt in order, each with its weight."""

    texts: tuple[str, ...]
    weights: tuple[float, ...]

    @property
    def plain(self) -> str:
        return " ".join(self.texts)


def require_compel() -> None:
    """Raises SettingsError where compel is not installed."""
    if importlib.util.find_spec("compel") is None:
        raise SettingsError(
            "prompt_weighting compel needs compel, which is not installed: pip install 't2i-track[weighting]', or leave"
            " it out"
        )


def require_weights(cells: Iterable[Values], prompts: Iterable[str | None]) -> None:
    """Refuse prompts of which compel would ignore something, or make something else than weights.

    Raises:
        SettingsError: names the prompt and what of it cannot be.
    """
    negatives = [cell.negative_prompt for cell in cells if cell.prompt_weighting != UNWEIGHTED]
    for prompt in dict.fromkeys([*prompts, *negatives] if negatives else ()):
        weighted(prompt or "")


@functools.lru_cache(REMEMBERED)
def weighted(prompt: str) -> Weighted:
    """The prompt by compel's syntax; a prompt without a character of it is taken as it stands.

    Raises:
        SettingsError: as ``require_weights``.
    """
    if not any(mark in prompt for mark in _SYNTAX):
        return Weighted((prompt,), (1.0,))
    _require_plain_weights(prompt)
    from compel import Compel
    from compel.prompt_parser import FlattenedPrompt, Fragment

    try:
        found = Compel.parse_prompt_string(prompt)
    except Exception as error:  # noqa: BLE001 - whatever its grammar's library raises
        raise _refused(prompt, f"compel cannot read it ({' '.join(str(error).split())[:80]})") from None
    parts = found.prompts[0].children if len(found.prompts) == 1 and type(found.prompts[0]) is FlattenedPrompt else []
    if found.lora_weights or not parts or not all(type(part) is Fragment for part in parts):
        raise _refused(prompt, "only weights are taken, as of (red)1.4: no .and(), .blend(), .swap(), withLora()")
    return Weighted(tuple(part.text for part in parts), tuple(float(part.weight) for part in parts))


def _require_plain_weights(prompt: str) -> None:
    if len(prompt) > MOST_COUNTED:
        raise _refused(prompt, f"it has more than {MOST_COUNTED} characters")
    if found := _OF_WEB_UI.search(prompt):
        raise _refused(prompt, f"{found[0]!r:.40} is how other programs write a weight, and compel writes (red)1.4")
    depth = deepest = 0
    for mark in re.findall(r"(?<!\\)[()]", prompt):
        depth = depth + 1 if mark == "(" else max(0, depth - 1)
        deepest = max(deepest, depth)
    if deepest > DEEPEST:
        raise _refused(prompt, f"its brackets are {deepest} deep, and {DEEPEST} is the most")


def _refused(prompt: str, reason: str) -> SettingsError:
    return SettingsError(
        f"the prompt {prompt!r:.80} cannot be weighted: {reason}; write \\( and \\) for brackets that are text, or"
        " leave --prompt-weighting out"
    )


def embeddings(pipe: Any, prompts: Sequence[str]) -> dict[str, torch.Tensor]:
    """The prompts as the pipeline's call takes them, one after another: no prompt depends on its company.

    As the pipeline's own encoding makes them, a token of weight w being moved to w times its distance from what the
    empty prompt has in its place (compel's rule); below 1 the prompt without the part counts too. The window is the
    encoder's: what is beyond it is cut, as without weights.
    """
    import torch

    encoders = [_provider(pipe, name, words) for name, words in _ENCODERS if getattr(pipe, name, None) is not None]
    rows = [weighted(prompt) for prompt in prompts]
    device = pipe._execution_device
    embeds = [torch.cat([_embedded(encoder, row, device) for encoder in encoders], dim=-1)[0] for row in rows]
    if len(encoders) == 1:
        return {"prompt_embeds": torch.stack(embeds)}
    # Pooled outputs know no weights: that of the words without them, as of the same prompt unweighted.
    pooled = [encoders[-1].get_pooled_embeddings([row.plain], device=device)[0] for row in rows]
    return {"prompt_embeds": torch.stack(embeds), "pooled_prompt_embeds": torch.stack(pooled)}


_ENCODERS = (("text_encoder", "tokenizer"), ("text_encoder_2", "tokenizer_2"))


def _embedded(encoder: Any, row: Weighted, device: Any) -> torch.Tensor:
    found: torch.Tensor = encoder.get_embeddings_for_weighted_prompt_fragments(
        [list(row.texts)], [list(row.weights)], device=device
    )
    return found.to(device)


def _provider(pipe: Any, name: str, words: str) -> Any:
    from compel.embeddings_provider import EmbeddingsProvider, ReturnedEmbeddingsType

    encoder, tokenizer = getattr(pipe, name), getattr(pipe, words)
    two = getattr(pipe, "text_encoder_2", None) is not None
    kinds = ReturnedEmbeddingsType
    return EmbeddingsProvider(
        tokenizer,
        encoder,
        _Vectors(pipe, tokenizer) if _has_embeddings(tokenizer) else None,
        # As the pipeline: padding is masked only where the encoder's configuration says so.
        padding_attention_mask_value=int(not getattr(encoder.config, "use_attention_mask", False)),
        returned_embeddings_type=kinds.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED
        if two
        else kinds.LAST_HIDDEN_STATES_NORMALIZED,
        device=pipe._execution_device,
    )


def _has_embeddings(tokenizer: Any) -> bool:
    added: Mapping[str, int] = tokenizer.get_added_vocab()
    return bool(set(added) - set(tokenizer.all_special_tokens))


@dataclass(frozen=True)
class _Vectors:
    """Embeddings of several vectors: their token stands for as many, as in the pipeline's own encoding."""

    pipe: Any
    tokenizer: Any

    def expand_textual_inversion_token_ids_if_necessary(self, token_ids: list[int]) -> list[int]:
        tokens = self.tokenizer.convert_ids_to_tokens(token_ids)
        further = self.tokenizer.get_added_vocab()
        return [
            one
            for token, number in zip(tokens, token_ids, strict=True)
            for one in [number, *_following(token, further)]
        ]


def _following(token: str, added: Mapping[str, int]) -> list[int]:
    """The ids of ``<cat>_1``, ``<cat>_2`` … behind ``<cat>``, as diffusers names them."""
    found: list[int] = []
    while (number := added.get(f"{token}_{len(found) + 1}")) is not None:
        found.append(number)
    return found
