"""What is known of a model by its configurations: a folder's before its weights are read, a loaded pipeline's after."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from t2i_track.images.families import Configs, Guidance, family_of
from t2i_track.images.model_folder import index, read_json

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
    found = index(folder, model)
    return configs_of_parts(found, {name: folder / name for name in found}, model)


def configs_of_parts(found: Mapping[str, Any], folders: Mapping[str, Path], model: str) -> Configs:
    """Those of a model by its index and its components' folders, wherever they lie.

    Raises:
        ModelError: one cannot be read; the file is named.
    """
    files = {
        name: folders[name] / ("scheduler_config.json" if name == "scheduler" else "config.json")
        for name in TOLD
        if name in folders and folders[name].is_dir()
    }
    configs = {name: read_json(file, model) for name, file in files.items() if file.exists()}
    # The index says which class is made of a scheduler's configuration, whatever class that was saved by.
    if isinstance(named := found.get("scheduler"), list) and "scheduler" in configs:
        configs["scheduler"] = {**configs["scheduler"], "_class_name": named[-1]}
    return {PIPELINE: found, **configs}


def guidance_of(pipe: Any) -> Guidance:
    """How a loaded pipeline is guided."""
    return family_of(type(pipe).__name__, "").guided_by(configs_of(pipe))
