"""A folder in diffusers' format, looked at before anything of it is loaded: its index, its components, their files."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2i_track.errors import ModelError
from t2i_track.filesystems import is_lfs_pointer
from t2i_track.images.variants import DIFFUSERS, TRANSFORMERS, Weights, choose, is_weights
from t2i_track.images.weights import SAFE, header
from t2i_track.jsontext import parsed

INDEX = "model_index.json"
CONFIG = "config.json"
CLASS = "_class_name"
WEIGHTLESS = ("Scheduler", "Tokenizer", "Processor", "FeatureExtractor")
"""Parts of the names of classes that have no weights: TokenizersBackend, CLIPTokenizerFast."""
PULL = "it is a Git LFS pointer, not the file: run 'git lfs pull' in its repository"
READ = (".json", ".txt", ".model", SAFE, ".bin")
"""How the names of files end that the libraries read."""
NOT_FOR_US = (
    SAFE,
    ".bin",
    ".ckpt",
    ".pt",
    ".pth",
    ".pkl",
    ".msgpack",
    ".h5",
    ".onnx",
    ".onnx_data",
    ".pb",
    ".xml",
    ".gguf",
)
"""How the names of files with weights end, of any library."""
AGAIN = "copy or download it again"


@dataclass(frozen=True)
class Component:
    """What the index says of one part of a pipeline."""

    name: str
    library: str
    class_name: str

    @property
    def has_weights(self) -> bool:
        """Whether it is nothing without weights."""
        return not any(part in self.class_name for part in WEIGHTLESS)


@dataclass(frozen=True)
class Part:
    """A component as it will be loaded: from which folder, and which of its weights."""

    component: Component
    folder: Path
    weights: Weights | None

    @property
    def files(self) -> tuple[Path, ...]:
        """The weight files."""
        return () if self.weights is None else tuple(self.folder / name for name in self.weights.files)


@dataclass(frozen=True)
class Choice:
    """What is chosen where a folder has several weights of one component: the arguments of ``variants.choose``."""

    dtype: str = "fp32"
    variant: str | None = None
    allow_pickle: bool = False

    def weights(self, component: Component, names: Iterable[str], model: str, place: str = "") -> Weights | None:
        """Of the component's files, by their names in its folder; ``place`` is the folder's name where it is another.

        Raises:
            ModelError, PickledWeights: as ``variants.choose``; there are none, or there is code.
        """
        listed, place = sorted(names), place or component.name
        if f"{component.library}.py" in listed:
            raise ModelError(_own_code(model, component.name, f"{component.library}.py"))
        if not component.has_weights:
            return None
        found = choose(
            listed,
            component.library,
            where=f"'{model}': {place}/",
            dtype=self.dtype,
            variant=self.variant,
            allow_pickle=self.allow_pickle,
        )
        if found is None:
            stem = "diffusion_pytorch_model" if component.library == DIFFUSERS else "model"
            odd = [name for name in listed if Path(name).suffix in NOT_FOR_US]
            raise ModelError(
                f"'{model}' has no weights in {place}/: it needs {stem}{SAFE} there"
                + (f", and has {', '.join(odd[:3])}" if odd else "")
            )
        return found


def index(folder: Path, model: str) -> dict[str, Any]:
    """The folder's index, with the name of the pipeline's class under ``CLASS``; nothing of it is run or imported.

    Raises:
        ModelError: there is none, it cannot be read or names no class, or one that is code of the folder's own.
    """
    path = folder / INDEX
    found = read_json(path, model)
    name = found.get(CLASS)
    if isinstance(name, list):
        raise ModelError(_own_code(model, "its pipeline", " of ".join(f"{word}" for word in reversed(name))))
    if not isinstance(name, str) or not name:
        raise ModelError(f"'{model}': its {INDEX} names no pipeline class under {CLASS}: {AGAIN}")
    return found


def components(found: Mapping[str, Any], model: str) -> tuple[Component, ...]:
    """The parts that an index names, without those that are null.

    Raises:
        ModelError: a part that is none of diffusers or transformers, or not written as they write it.
    """
    named = []
    for name, value in found.items():
        if name.startswith("_") or not isinstance(value, list) or not any(value):
            continue
        if len(value) != 2 or not all(isinstance(word, str) for word in value):
            raise ModelError(f"'{model}': its {INDEX} has {value} for {name}, not a library and a class: {AGAIN}")
        if Path(name).name != name or name in ("", ".", ".."):
            raise ModelError(f"'{model}': its {INDEX} names '{name}', which is not a folder in it")
        component = Component(name, *value)
        if not _is_known(component.library):
            raise ModelError(_own_code(model, name, f"{component.class_name} of {component.library}"))
        named.append(component)
    return tuple(named)


def parts(folder: Path, found: Mapping[str, Any], model: str, choice: Choice) -> tuple[Part, ...]:
    """Every component with the folder and the weights that will be loaded, each file of them looked at.

    Raises:
        ModelError: a folder or a file that is missing, empty, cut short, a Git LFS pointer or code.
        PickledWeights: only pickled weights, and they are not allowed.
    """
    return tuple(part(folder / component.name, component, model, choice) for component in components(found, model))


def part(folder: Path, component: Component, model: str, choice: Choice) -> Part:
    """One component in its folder.

    Raises:
        ModelError, PickledWeights: as ``parts``.
    """
    if not folder.is_dir():
        raise ModelError(
            f"'{model}' has no folder {component.name}/, which its {INDEX} names: copy or download the model again"
        )
    names = [path.name for path in looked_at(folder, model)]
    weights = choice.weights(component, names, model, folder.name)
    if weights is None:
        return Part(component, folder, None)
    if CONFIG not in names:
        raise ModelError(f"'{model}' has no {folder.name}/{CONFIG}, which says how its weights are used: {AGAIN}")
    if weights.index is not None:
        weights = _with_shards(folder / weights.index, weights, model)
    else:
        require_readable(folder / weights.files[0], model)
    return Part(component, folder, weights)


def _own_code(model: str, part: str, what: str) -> str:
    return (
        f"'{model}' brings code of its own for {part} ({what}), which is not run here: use a model that is made of"
        " classes of diffusers and transformers"
    )


def _is_known(library: str) -> bool:
    """Of the libraries, or a module of diffusers' own pipelines, as ``stable_diffusion``; found without importing."""
    if library in (DIFFUSERS, TRANSFORMERS):
        return True
    spec = importlib.util.find_spec(DIFFUSERS)
    places = [] if spec is None else spec.submodule_search_locations or []
    return library.isidentifier() and any((Path(place) / "pipelines" / library).is_dir() for place in places)


def looked_at(folder: Path, model: str) -> Iterator[Path]:
    """The folder's files, after a look at those beside the weights; of the weights only some will be read.

    Raises:
        ModelError: a file is none, empty, cut short or a Git LFS pointer.
    """
    for path in sorted(folder.iterdir()):
        if path.suffix in READ or not path.is_dir():
            if not is_weights(path.name):
                require_readable(path, model)
            yield path


def require_readable(path: Path, model: str) -> None:
    """Refuse what is no file, or not all of it.

    Raises:
        ModelError: names the file, and what is wrong with it.
    """
    where = f"'{model}': {path.parent.name}/{path.name}"
    if path.is_dir():
        raise ModelError(f"{where} is a folder, where a file should be: {AGAIN}")
    if not path.exists():
        raise ModelError(f"{where} is a link to a file that is gone: {AGAIN}")
    _refuse_pointer(path, model)
    if path.suffix == SAFE:
        header(path)
    elif path.suffix in READ and not path.stat().st_size:
        raise ModelError(f"{where} is empty: {AGAIN}")
    elif path.name.endswith(CONFIG):
        read_json(path, model)
    elif path.suffix == ".json":
        _refuse_cut(path, model)


def read_json(path: Path, model: str) -> dict[str, Any]:
    where = path.name if path.name == INDEX else f"{path.parent.name}/{path.name}"
    if path.is_dir():
        raise ModelError(f"'{model}': {where} is a folder, where a file should be: {AGAIN}")
    _refuse_pointer(path, model)
    try:
        found = parsed(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        reason = " ".join(str(error).split())[:100]
        raise ModelError(f"'{model}': its {where} cannot be read ({reason}): {AGAIN}") from None
    if not isinstance(found, dict):
        raise ModelError(f"'{model}': its {where} is a {type(found).__name__}, not an object: {AGAIN}")
    return found


def _refuse_cut(path: Path, model: str) -> None:
    """A vocabulary has megabytes: its end says whether it is whole."""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - 64))
        if not stream.read().rstrip().endswith((b"}", b"]")):
            raise ModelError(f"'{model}': {path.parent.name}/{path.name} is cut short, or no JSON: {AGAIN}")


def _refuse_pointer(path: Path, model: str) -> None:
    try:
        pointer = is_lfs_pointer(path)
    except OSError as error:
        raise ModelError(f"'{model}': {path.name} cannot be read ({error.strerror})") from None
    if pointer:
        raise ModelError(f"'{model}': {path.parent.name}/{path.name} cannot be used: {PULL}")


def _with_shards(path: Path, weights: Weights, model: str) -> Weights:
    """With the shards that the index names, and no others."""
    where = f"'{model}': {path.parent.name}/{path.name}"
    shards = read_json(path, model).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
        raise ModelError(f"{where} has no weight_map, which says what is in which shard: {AGAIN}")
    for name in sorted(set(shards.values())):
        if Path(name).name != name or not (path.parent / name).is_file():
            raise ModelError(f"{where} names {name}, which is not there: copy or download the model again")
        require_readable(path.parent / name, model)
        named = {tensor for tensor, shard in shards.items() if shard == name}
        if weights.suffix == SAFE and (gone := named - header(path.parent / name).keys()):
            raise ModelError(f"{where} says that {min(gone)} is in {name}, which it is not: {AGAIN}")
    return dataclasses.replace(weights, files=tuple(sorted(set(shards.values()))))
