"""What a model is and needs, before anything of it is loaded: by its configurations and the headers of its files."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from t2i_track.images.download import is_hub_id, of_a_pipeline
from t2i_track.images.families import Configs, Family, Guidance
from t2i_track.images.fits import few_steps, pipeline_class
from t2i_track.images.model import configs_in
from t2i_track.images.model_folder import Choice
from t2i_track.images.schedulers import own_name, working
from t2i_track.images.source import download, find, read_index
from t2i_track.images.weights import SAFE, header
from t2i_track.settings import EMBEDDED_MODEL, Values


@dataclass(frozen=True)
class ModelFacts:
    """What can be said of a model."""

    pipeline_class: str
    family: Family
    guidance: Guidance
    scheduler: str
    """Its own, by its short name where it has one."""
    schedulers: tuple[str, ...]
    size: int
    """Pixels of a side where none is asked for."""
    default_guidance: float | None
    """Of the class's call, as published with it."""
    default_steps: int | None
    made_for: str
    """What says that it was distilled to few steps; empty where nothing does."""
    files_bytes: int
    """Of the weight files that would be loaded."""
    parameters: int | None
    """Numbers in them; None where they are not on this machine."""
    here: bool


def facts(settings: Values, choice: Choice) -> ModelFacts:
    """The facts of a model folder, a checkpoint, or an id, of which configurations alone are downloaded.

    Raises:
        ModelError, PickledWeights, SettingsError: what is missing or cannot be used; the file is named.
    """
    if settings.model == EMBEDDED_MODEL or not is_hub_id(settings.model):
        source = find(settings, choice)
        configs = source.configs(settings.model)
        files = [file for _, file in source.weights()]
        sizes, numbers = sum(file.stat().st_size for file in files), _parameters(files)
        return _facts(settings, source.pipeline_class, configs, sizes, numbers, here=True)
    folder, _ = download(settings.model, settings.revision, None)
    index = read_index(folder, settings.model)
    sizes = _listed_bytes(settings, choice)
    return _facts(settings, str(index["_class_name"]), configs_in(folder, settings.model), sizes, None, here=False)


def _facts(
    settings: Values, class_name: str, configs: Configs, files_bytes: int, parameters: int | None, *, here: bool
) -> ModelFacts:
    from t2i_track.images.families import family_of

    family = family_of(class_name, settings.model)
    call = inspect.signature(pipeline_class(class_name, settings.model).__call__).parameters
    return ModelFacts(
        pipeline_class=class_name,
        family=family,
        guidance=family.guided_by(configs),
        scheduler=own_name(configs["scheduler"]),
        schedulers=tuple(working(family, configs, settings)),
        size=family.size(configs),
        default_guidance=call[family.guidance].default,
        default_steps=call["num_inference_steps"].default,
        made_for=few_steps(settings, configs),
        files_bytes=files_bytes,
        parameters=parameters,
        here=here,
    )


def _parameters(files: Iterable[Path]) -> int | None:
    """Numbers in the files; None where one is pickled, and would have to be run to be read."""
    named = list(files)
    if any(file.suffix != SAFE for file in named):
        return None
    return sum(int(math.prod(tensor["shape"])) for file in named for tensor in header(file).values())


def _listed_bytes(settings: Values, choice: Choice) -> int:
    """Of the files of an id that would be downloaded."""
    from huggingface_hub import model_info

    found = model_info(settings.model, revision=settings.revision, files_metadata=True)
    sizes = {sibling.rfilename: sibling.size or 0 for sibling in found.siblings or []}
    folder, _ = download(settings.model, settings.revision, None)
    wanted = of_a_pipeline(read_index(folder, settings.model), list(sizes), settings.model, choice)
    return sum(sizes[name] for name in wanted)
