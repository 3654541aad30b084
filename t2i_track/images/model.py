"""What is known of a model by its configurations: a folder's before its weights are read, a loaded pipeline's after."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from t2i_track.errors import ModelError
from t2i_track.images.families import Configs, Guidance, family_of
from t2i_track.images.model_folder import index

TOLD = ("unet", "transformer", "vae", "scheduler", "text_encoder")
"""The components whose configurations say something."""
PIPELINE = "pipeline"
"""The key under which the pipeline's own configuration stands: its index."""


def configs_of(pipe: Any) -> Configs:
    """A loaded pipeline's."""
    found = {name: getattr(pipe, name, None) for name in TOLD}
    named = {name: _config(part) for name, part in found.items() if part is not None}
    scheduler = {**named["scheduler"], "_class_name": type(pipe.scheduler).__name__}
    return {**named, "scheduler": scheduler, PIPELINE: dict(pipe.config)}


def _config(part: Any) -> dict[str, Any]:
    """Of transformers' parts as of diffusers'."""
    config = part.config
    return dict(config.to_dict() if hasattr(config, "to_dict") else config)


def configs_in(folder: Path, model: str) -> Configs:
    """A model folder's.

    Raises:
        ModelError: one cannot be read; the file is named.
    """
    found = {PIPELINE: index(folder, model)}
    for name in TOLD:
        file = folder / name / ("scheduler_config.json" if name == "scheduler" else "config.json")
        if not file.parent.is_dir():
            continue
        try:
            config = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError, OSError) as error:
            reason = " ".join(str(error).split())[:100]
            raise ModelError(f"'{model}': {name}/{file.name} cannot be read ({reason}): download it again") from None
        if not isinstance(config, dict):
            raise ModelError(f"'{model}': {name}/{file.name} is a {type(config).__name__}, not an object")
        found[name] = config
    return found


def guidance_of(pipe: Any) -> Guidance:
    """How a loaded pipeline is guided."""
    return family_of(type(pipe).__name__, "").guided_by(configs_of(pipe))
