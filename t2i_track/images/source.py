"""What the settings name, found: the folder or the file of a model, each part's weights, and a VAE in its place."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from t2i_track import assets
from t2i_track.errors import ModelError, PickledWeights, SettingsError
from t2i_track.images import model_folder
from t2i_track.images.download import Get, fetch, is_hub_id, of_a_component, of_a_pipeline
from t2i_track.images.families import Configs, family_of
from t2i_track.images.model import configs_of_parts
from t2i_track.images.model_folder import CLASS, CONFIG, INDEX, Choice, Component, Part
from t2i_track.images.variants import DIFFUSERS
from t2i_track.images.weights import SAFE
from t2i_track.settings import EMBEDDED_MODEL, PLAIN, Values

VAE = "vae"
CHECKED_BY = ("safety_checker", "feature_extractor")
"""Parts that no checkpoint has, so that a folder of configurations may be without them."""
PIPELINE = "give a folder that diffusers saved with save_pretrained, or a Hugging Face id"


@dataclasses.dataclass(frozen=True)
class Source:
    """All that a pipeline is loaded from; nothing of it has been loaded yet."""

    index: Mapping[str, Any]
    parts: tuple[Part, ...]
    """With a checkpoint they have configurations only."""
    revision: str = ""
    checkpoint: Path | None = None
    """One file with the weights of all parts."""
    vae: Path | None = None
    """One file with the VAE's weights."""

    @property
    def pipeline_class(self) -> str:
        return str(self.index[CLASS])

    def configs(self, model: str) -> Configs:
        """The configurations of its parts, wherever they lie."""
        return configs_of_parts(self.index, {part.component.name: part.folder for part in self.parts}, model)

    def weights(self) -> list[tuple[str, Path]]:
        """Every file that weights are loaded from, with the component that they are of."""
        named = [(part.component.name, file) for part in self.parts for file in part.files]
        named += [] if self.checkpoint is None else [(".", self.checkpoint)]
        return named + ([] if self.vae is None else [(VAE, self.vae)])


def find(settings: Values, choice: Choice) -> Source:
    """What the settings' model, configuration and VAE are, each file of them looked at; ids are downloaded.

    Raises:
        ModelError: names what cannot be used, and what to do.
        PickledWeights: only pickled weights, and they are not allowed.
        SettingsError: a setting that would be ignored.
    """
    place = Path(settings.model).expanduser()
    if settings.model != EMBEDDED_MODEL and place.is_file():
        found = _checkpoint(place, settings, choice)
    elif settings.model_config is not None:
        raise SettingsError(
            f"model_config '{settings.model_config}' would be ignored: '{settings.model}' is no single file, and has"
            " its own; leave it out"
        )
    else:
        found = _pipeline(settings, choice)
    return found if settings.vae is None else _with_vae(found, settings, choice)


def read_index(folder: Path, model: str) -> dict[str, Any]:
    """The index of a model that is to be run: each passes here before a weight of it is downloaded, read or hashed.

    Raises:
        ModelError: as ``model_folder.index``, or of a class that is not run here.
    """
    found = model_folder.index(folder, model)
    family_of(found[CLASS], model)
    return found


def _pipeline(settings: Values, choice: Choice) -> Source:
    model = settings.model
    if model == EMBEDDED_MODEL:
        folder, revision = assets.shapes_sd(), ""
    elif (place := Path(model).expanduser()).is_dir():
        if not (place / INDEX).exists():
            raise ModelError(f"'{model}' has no {INDEX}: {PIPELINE}")
        folder, revision = place.resolve(), settings.revision or ""
    elif not is_hub_id(model):
        raise ModelError(f"no model folder '{model}': give a folder, a Hugging Face id (owner/name) or shapes")
    else:
        folder, revision = download(model, settings.revision, choice)
    index = read_index(folder, model)
    return Source(index, model_folder.parts(folder, index, model, choice), revision)


def download(model: str, revision: str | None, choice: Choice | None) -> tuple[Path, str]:
    """The folder of a pipeline of the hub and its commit; without a choice of weights, its configuration alone."""

    def wanted(get: Get, names: list[str]) -> list[str]:
        return of_a_pipeline(read_index(get(INDEX).parent, model), names, model, choice)

    return fetch(model, revision, wanted)


def _checkpoint(file: Path, settings: Values, choice: Choice) -> Source:
    model = settings.model
    if settings.variant not in (None, PLAIN):
        raise SettingsError(f"variant '{settings.variant}' would be ignored: '{model}' is one file; leave it out")
    _require_weights(file, model, choice.allow_pickle)
    if settings.model_config is None:
        raise ModelError(
            f"'{model}' is one file of weights: say with --model-config which pipeline it is, by the folder or id of"
            f" the model that it was made from ({INDEX}, configurations and tokenizer; its weights are not needed)"
        )
    folder = Path(settings.model_config).expanduser()
    if is_hub_id(settings.model_config):
        folder, _ = download(settings.model_config, None, None)
    elif not (folder / INDEX).exists():
        raise ModelError(f"model_config '{settings.model_config}' has no {INDEX}: {PIPELINE}")
    index = read_index(folder, settings.model_config)
    named = [
        component
        for component in model_folder.components(index, settings.model_config)
        if component.name not in CHECKED_BY or (folder / component.name).is_dir()
    ]
    parts = tuple(_configured(folder / component.name, component, settings.model_config) for component in named)
    return Source(index, parts, settings.revision or "", checkpoint=file.resolve())


def _configured(folder: Path, component: Component, model: str) -> Part:
    """A component whose weights come from elsewhere."""
    if not folder.is_dir():
        raise ModelError(f"model_config '{model}' has no folder {component.name}/, which its {INDEX} names")
    for path in folder.iterdir():
        if path.suffix == ".json":
            model_folder.require_readable(path, model)
    return Part(component, folder, None)


def _require_weights(file: Path, name: str, allow_pickle: bool) -> None:
    if file.suffix != SAFE and not allow_pickle:
        raise PickledWeights(f"'{name}' is not {SAFE}: convert it, or pass --allow-pickle if you trust its author")
    model_folder.require_readable(file, name)


def _with_vae(found: Source, settings: Values, choice: Choice) -> Source:
    vae, own = str(settings.vae), next((part for part in found.parts if part.component.name == VAE), None)
    if own is None:
        raise SettingsError(f"vae '{vae}' would be ignored: '{settings.model}' has no {VAE}; leave it out")
    place = Path(vae).expanduser()
    if place.is_file():
        _require_weights(place, vae, choice.allow_pickle)
        parts = (*(part for part in found.parts if part is not own), dataclasses.replace(own, weights=None))
        return dataclasses.replace(found, parts=parts, vae=place.resolve())
    if place.is_dir():
        folder = place.resolve() / VAE if (place / INDEX).is_file() else place.resolve()
    elif is_hub_id(vae):
        folder = _download_vae(vae, choice)
    else:
        raise ModelError(f"no VAE '{vae}': give a folder, a {SAFE} file or a Hugging Face id (owner/name)")
    chosen = model_folder.part(folder, _vae_component(folder, vae), vae, choice)
    _require_same_latents(own.folder, folder, settings)
    return dataclasses.replace(found, parts=tuple(chosen if part is own else part for part in found.parts))


def _vae_component(folder: Path, vae: str) -> Component:
    if not (folder / CONFIG).exists():
        raise ModelError(f"'{vae}' has no {CONFIG}: --vae takes a VAE that diffusers saved with save_pretrained")
    name = model_folder.read_json(folder / CONFIG, vae).get(CLASS)
    if not isinstance(name, str) or not ("Autoencoder" in name or "VAE" in name):
        raise ModelError(f"'{vae}' is no VAE (its {CONFIG} names {name} under {CLASS})")
    return Component(VAE, DIFFUSERS, name)


def _require_same_latents(own: Path, given: Path, settings: Values) -> None:
    places = ((own, settings.model), (given, str(settings.vae)))
    theirs, its = (model_folder.read_json(folder / CONFIG, name).get("latent_channels") for folder, name in places)
    if None not in (theirs, its) and theirs != its:
        raise ModelError(
            f"vae '{settings.vae}' has {its} latent channels, and that of '{settings.model}' {theirs}: it was made for"
            " another kind of model"
        )


def _download_vae(vae: str, choice: Choice) -> Path:
    def wanted(get: Get, names: list[str]) -> list[str]:
        if INDEX in names:
            inside = [name.removeprefix(f"{VAE}/") for name in names if name.startswith(f"{VAE}/")]
            component = _vae_component(get(f"{VAE}/{CONFIG}").parent, vae)
            return [INDEX, *(f"{VAE}/{name}" for name in of_a_component(component, inside, vae, choice))]
        return of_a_component(_vae_component(get(CONFIG).parent, vae), names, vae, choice)

    folder, _ = fetch(vae, None, wanted)
    return folder / VAE if (folder / INDEX).is_file() else folder
