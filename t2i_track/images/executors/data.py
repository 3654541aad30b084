"""What a driver and the workers tell each other: plain data, which pickles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2i_track.images.adapters import Adapters
from t2i_track.settings import Values


@dataclass(frozen=True)
class Loaded:
    """A model as a worker has loaded it."""

    revision: str
    weights_sha256: str
    pipeline_class: str
    adapters: Adapters
    dtype: str
    device: str
    scheduler_config: dict[str, Any]
    """Of the settings' scheduler."""
    environment: dict[str, Any]
    """What pictures are made on there: versions, machine, threads (``environment.environment``)."""
    machine: dict[str, Any]
    """What of it moves rounding (``environment.machine``)."""
    seconds: float | None
    """Until the model was loaded, imports included; None where it was loaded before."""


@dataclass(frozen=True)
class Wanted:
    """A run before its model is loaded."""

    settings: Values
    """As asked for, with places as they are found from here."""
    prompts: tuple[str, ...]
    negative_prompts: tuple[str | None, ...]
    """None: the settings'."""


@dataclass(frozen=True)
class Prepared:
    """A run with every open choice made, and what its model says of it."""

    loaded: Loaded
    settings: Values
    call: dict[str, Any]
    """Arguments of the pipeline's call that are no settings."""
    passes: int
    """Of the network a step: two where it is guided so."""
    notes: list[str]
    negative_truncated: bool
    """Whether the run's negative prompt is longer than the encoder's window."""
    negatives_truncated: int
    """Prompts whose own negative prompt is."""


@dataclass(frozen=True)
class Spec:
    """How the pictures of a run are made: all that a worker needs beside the jobs."""

    asked: Values
    """What the model is loaded by, with places as they are found from here."""
    settings: Values
    """With every choice made."""
    folder: Path
    """Absolute; all workers see it."""
    record: Mapping[str, Any]
    """What the records in all PNGs have in common."""
    marked: bool
    """Whether PNGs say that a model made them."""
    machine: Mapping[str, Any]
    """Of the worker that prepared it (``environment.machine``)."""
    weights_sha256: str
    lora_files: tuple[str, ...]
    embedding_files: tuple[str, ...]
