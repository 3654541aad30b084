"""What settings add to a model's own weights: LoRAs and embeddings, found, hashed and put into a pipeline."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from t2i_track.images.adapter_files import EMBEDDING, LORA, AdapterFile, adapter_files, digest_of, require_local
from t2i_track.images.embeddings import Embedding, load_embeddings, with_token
from t2i_track.images.lora import load_loras, set_scales
from t2i_track.settings import DECLARED, Values


@dataclass(frozen=True)
class Adapters:
    """The files of a pipeline's LoRAs and embeddings; once they are in it, the embeddings' tokens, and notes."""

    loras: tuple[AdapterFile, ...] = ()
    embeddings: tuple[AdapterFile, ...] = ()
    tokens: tuple[Embedding, ...] = ()
    notes: tuple[str, ...] = ()
    """What of them has no place in the model."""

    @property
    def lora_files(self) -> list[str]:
        return [file.sha256 for file in self.loras]

    @property
    def embedding_files(self) -> list[str]:
        return [file.sha256 for file in self.embeddings]

    @property
    def lora_sha256(self) -> str | None:
        return digest_of(self.lora_files)

    @property
    def embedding_sha256(self) -> str | None:
        return digest_of(self.embedding_files)

    @property
    def files(self) -> tuple[AdapterFile, ...]:
        return (*self.loras, *self.embeddings)


def places(settings: Values, name: str) -> list[str]:
    """Where the LoRAs (``lora``) or embeddings (``embedding``) of the settings are."""
    return [spec.place for spec in DECLARED[name].specs(getattr(settings, name))]


def find_adapters(settings: Values, allow_pickle: bool) -> Adapters:
    """The files that the settings name, hashed.

    Raises:
        ModelError: one is not there or cannot be read. PickledWeights: it is not safetensors.
    """
    embeddings = adapter_files(EMBEDDING, places(settings, "embedding"), allow_pickle)
    return Adapters(
        loras=adapter_files(LORA, places(settings, "lora"), allow_pickle),
        embeddings=tuple(map(with_token, embeddings)),
    )


def require_local_adapters(settings: Values, allow_pickle: bool) -> None:
    """Refuse local files that are not there, before anything is written or imported.

    Raises:
        ModelError, PickledWeights: as ``find_adapters``.
    """
    for kind, name in ((LORA, "lora"), (EMBEDDING, "embedding")):
        require_local(kind, places(settings, name), allow_pickle)


def put_adapters(pipe: Any, adapters: Adapters, settings: Values) -> Adapters:
    """Put them into the pipeline, the LoRAs at the settings' scales.

    Raises:
        ModelError: one fits nothing of this model, or is none.
    """
    tokens, notes = load_embeddings(pipe, adapters.embeddings)
    notes += load_loras(pipe, adapters.loras)
    set_scales(pipe, settings)
    return replace(adapters, tokens=tokens, notes=tuple(notes))
