"""Textual inversions (Gal et al. 2022, arXiv:2208.01618): new words of a pipeline's text encoders."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from t2i_track.errors import ModelError
from t2i_track.images.adapter_files import AdapterFile
from t2i_track.images.quiet import quiet_libraries

if TYPE_CHECKING:
    import torch

UNNAMED = "emb_params"
"""The key of AUTOMATIC1111's files, which names no token: the file's name is the token."""
ENCODERS = {"clip_l": "text_encoder", "clip_g": "text_encoder_2"}
"""The keys of files for SDXL, which has two encoders; their token is the file's name too."""
MOST_DIMENSIONS = 2


@dataclass(frozen=True)
class Embedding:
    """A token that a prompt may use, and the file that it is of."""

    token: str
    file: str


def token_of(file: AdapterFile) -> str:
    """The word that stands for the embedding: the file's only key, else its name without ``.safetensors``.

    Raises:
        ModelError: it is no textual inversion.
    """
    keys = _keys(file)
    return file.path.stem if keys == {UNNAMED} or keys == set(ENCODERS) else keys.pop()


def with_token(file: AdapterFile) -> AdapterFile:
    """The file with a hash that knows its token too, where that is the file's name."""
    token = token_of(file)
    if token in _keys(file):  # the tensors' hash has their keys in it
        return file
    return replace(file, sha256=hashlib.sha256(json.dumps([token, file.sha256]).encode()).hexdigest())


def _keys(file: AdapterFile) -> set[str]:
    from safetensors import safe_open

    with safe_open(file.path, "pt") as opened:
        keys = set(opened.keys())
    if keys != set(ENCODERS) and len(keys) != 1:
        what = "a LoRA: give it with --lora" if any("lora" in key for key in keys) else "none"
        raise ModelError(
            f"embedding '{file.place}' has {len(keys)} tensors, and a textual inversion has one, or"
            f" {' and '.join(ENCODERS)}: it is {what}"
        )
    return keys


def load_embeddings(pipe: Any, files: Sequence[AdapterFile]) -> tuple[tuple[Embedding, ...], list[str]]:
    """Teach the pipeline the tokens; what they are, and notes on encoders that do not know them.

    Raises:
        ModelError: the pipeline takes none, a file is none or of another width, or its token is a word already.
    """
    if files and not hasattr(pipe, "load_textual_inversion"):
        raise ModelError(f"{type(pipe).__name__} takes no textual inversion: leave out --embedding '{files[0].place}'")
    found, notes = [], []
    for file in files:
        token = token_of(file)
        taught = [_teach(pipe, file, token, *vectors) for vectors in _vectors(pipe, file)]
        others = [name for name, _, _ in _encoders(pipe) if name not in taught]
        if others:
            notes.append(
                f"embedding {file.path.name} is for {', '.join(taught)}: {', '.join(others)} reads '{token}' as words"
            )
        found.append(Embedding(token, file.path.name))
    return tuple(found), notes


def _teach(pipe: Any, file: AdapterFile, token: str, encoder: str, vectors: torch.Tensor) -> str:
    network, tokenizer = next((network, words) for name, network, words in _encoders(pipe) if name == encoder)
    try:
        with quiet_libraries():
            pipe.load_textual_inversion(vectors, token=token, text_encoder=network, tokenizer=tokenizer)
    except ValueError as error:
        if token in tokenizer.get_vocab():
            raise ModelError(
                f"embedding '{file.place}': its token '{token}' is a word of the model already, or of another"
                " embedding: give the file another name, or its tensor another key"
            ) from None
        reason = " ".join(str(error).split())[:160]
        raise ModelError(f"embedding '{file.place}' does not fit the model ({reason})") from None
    return encoder


def _vectors(pipe: Any, file: AdapterFile) -> Iterator[tuple[str, torch.Tensor]]:
    """The name of an encoder, and the vectors for it, ``[width]`` or ``[vectors, width]``."""
    import torch
    from safetensors.torch import load_file

    widths = {name: int(network.get_input_embeddings().weight.shape[1]) for name, network, _ in _encoders(pipe)}
    for key, tensor in load_file(file.path).items():
        width = tensor.shape[-1] if 0 < tensor.ndim <= MOST_DIMENSIONS and tensor.numel() else None
        fitting = [name for name, wanted in widths.items() if wanted == width and name == ENCODERS.get(key, name)]
        if not fitting:
            wanted = ", ".join(f"{name} {number}" for name, number in widths.items()) or "no text encoder"
            raise ModelError(
                f"embedding '{file.place}': its tensor '{key}' is {list(tensor.shape)}, and the width of this model's"
                f" words is {wanted}: it was made for another kind of model"
            )
        if not torch.isfinite(tensor).all():
            raise ModelError(f"embedding '{file.place}': its tensor '{key}' is not finite: download it again")
        yield fitting[0], tensor


def _encoders(pipe: Any) -> list[tuple[str, Any, Any]]:
    """Name, network and tokenizer of each of the pipeline's text encoders."""
    pairs = [("text_encoder", "tokenizer"), ("text_encoder_2", "tokenizer_2")]
    found = [(name, getattr(pipe, name, None), getattr(pipe, words, None)) for name, words in pairs]
    return [(name, network, words) for name, network, words in found if network is not None and words is not None]


def unused(pipe: Any, embeddings: Sequence[Embedding], prompts: Sequence[str], negatives: Sequence[str]) -> list[str]:
    """Notes on embeddings whose token is in no prompt, or in some only; in a prompt's negative one it is used too."""
    notes = []
    for embedding in embeddings:
        pairs = zip(_uses(pipe, embedding.token, prompts), _uses(pipe, embedding.token, negatives), strict=True)
        using = sum(map(any, pairs))
        if using == len(prompts):
            continue
        does = ": it changes nothing" if using == 0 else " only"
        where = f"{using or 'none'} of the {len(prompts)} prompts"
        notes.append(f"embedding {embedding.file}: its token '{embedding.token}' is in {where}{does}")
    return notes


def _uses(pipe: Any, token: str, prompts: Sequence[str]) -> list[bool]:
    """Of each prompt, whether the tokenizer that knows the token finds it there."""
    for _, _, tokenizer in _encoders(pipe):
        if token in tokenizer.get_vocab():
            wanted = tokenizer.convert_tokens_to_ids(token)
            return [wanted in ids for ids in tokenizer(list(prompts), truncation=False, verbose=False).input_ids]
    return [False] * len(prompts)
