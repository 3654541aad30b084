"""A folder in diffusers' format, looked at before anything of it is loaded: its index, and the weights of each part."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from t2i_track.errors import ModelError, PickledWeights
from t2i_track.images.weights import SAFE

INDEX = "model_index.json"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
NEEDED = {"unet", "transformer", "vae", "text_encoder", "text_encoder_2"}
"""Components that are nothing without weights."""
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
PULL = "it is a Git LFS pointer, not the file: run 'git lfs pull' in its repository"


def weight_files(folder: Path, model: str, allow_pickle: bool) -> Iterator[Path]:
    """The weight files of each component that has any, safetensors before pickles.

    Raises:
        ModelError: the index or a component cannot be used; the file and what is wrong with it are named.
        PickledWeights: only pickled weights, and ``allow_pickle`` is not set.
    """
    for component in _components(folder, model):
        files = sorted(path for path in (folder / component).glob("*") if path.is_file())
        for path in files:
            _refuse_pointer(path, model)
        safe = [path for path in files if path.suffix == SAFE]
        pickled = [path for path in files if path.suffix in PICKLED]
        if safe:
            yield from _one_variant(safe)
        elif pickled:
            if not allow_pickle:
                raise PickledWeights(
                    f"'{model}' has only pickled weights for {component} ({pickled[0].name}), which can run code when"
                    " loaded: convert them to safetensors, or pass --allow-pickle if you trust their author"
                )
            yield from pickled
        elif component in NEEDED:
            raise ModelError(f"'{model}' has no weights in {component}/: it needs a {SAFE} file there")


def _components(folder: Path, model: str) -> list[str]:
    """The parts that the index names, each with a folder of its own."""
    named = [name for name, value in index(folder, model).items() if isinstance(value, list) and any(value)]
    for name in named:
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise ModelError(f"'{model}': its {INDEX} names '{name}', which is not a folder in it")
        if not (folder / name).is_dir():
            raise ModelError(
                f"'{model}' has no folder {name}/, which its {INDEX} names: copy or download the model again"
            )
    return named


def index(folder: Path, model: str) -> dict[str, Any]:
    """The folder's index.

    Raises:
        ModelError: it cannot be read, or is no object.
    """
    path = folder / INDEX
    _refuse_pointer(path, model)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        reason = " ".join(str(error).split())[:100]
        raise ModelError(f"'{model}': its {INDEX} cannot be read ({reason}): copy or download it again") from None
    if not isinstance(found, dict):
        raise ModelError(f"'{model}': its {INDEX} is a {type(found).__name__}, not an object: download it again")
    return found


def _refuse_pointer(path: Path, model: str) -> None:
    try:
        with path.open("rb") as stream:
            pointer = stream.read(len(LFS_POINTER)) == LFS_POINTER
    except OSError as error:
        raise ModelError(f"'{model}': {path.name} cannot be read ({error.strerror})") from None
    if pointer:
        raise ModelError(f"'{model}': {path.parent.name}/{path.name} cannot be used: {PULL}")


def _one_variant(files: list[Path]) -> list[Path]:
    """Without ``.fp16`` and other variants where plain files are there too, as diffusers chooses."""
    plain = [path for path in files if path.name.count(".") == 1]
    return plain or files
