"""The files of LoRAs and embeddings: found by file, folder or id of the hub, and hashed before anything is loaded."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2i_track.errors import ModelError, PickledWeights
from t2i_track.filesystems import is_lfs_pointer
from t2i_track.images.model_folder import PULL
from t2i_track.images.weights import SAFE, weights_sha256

METADATA = "lora_adapter_metadata"
"""Where diffusers keeps the configuration of a LoRA in the header of its file."""
PEFT_CONFIG = "adapter_config.json"
PEFT_WEIGHTS = "adapter_model.safetensors"
NAMED = 3
"""Files that a message names."""


@dataclass(frozen=True)
class Kind:
    """What is looked for: as it is called, its option, and its file's usual name in a folder."""

    name: str
    option: str
    usual: tuple[str, ...]


LORA = Kind("LoRA", "--lora", ("pytorch_lora_weights.safetensors", PEFT_WEIGHTS))
EMBEDDING = Kind("embedding", "--embedding", ("learned_embeds.safetensors",))


@dataclass(frozen=True)
class AdapterFile:
    """A file of tensors, with the hash of all in it that decides pixels."""

    kind: Kind
    place: str
    path: Path
    sha256: str


def digest_of(hashes: Sequence[str]) -> str | None:
    """One hash for several files, in order: the hash itself of one, None of none."""
    if len(hashes) < 2:
        return hashes[0] if hashes else None
    return hashlib.sha256(json.dumps(list(hashes)).encode()).hexdigest()


def adapter_files(kind: Kind, places: Iterable[str], allow_pickle: bool) -> tuple[AdapterFile, ...]:
    """The files of the places, hashed; those of the hub are downloaded, or had from its cache.

    Raises:
        ModelError: there is none, or it cannot be read; all that are missing are named. PickledWeights: it is not
            safetensors, and ``allow_pickle`` is not set.
    """
    places = list(places)
    require_local(kind, places, allow_pickle)
    found = []
    for place in places:
        path = _local(kind, place) or _downloaded(kind, place)
        _require_safe(kind, place, path, allow_pickle)
        found.append(AdapterFile(kind, place, path, _sha256(path)))
    return tuple(found)


def require_local(kind: Kind, places: Sequence[str], allow_pickle: bool) -> None:
    """Refuse files that are not there, before anything is written or imported; the hub is not asked.

    Raises:
        ModelError, PickledWeights: as ``adapter_files``.
    """
    paths = {place: _local(kind, place) for place in places}
    gone = [number for number, place in enumerate(places) if paths[place] is None and hub_id(place) is None]
    if gone:
        which = ", ".join(_which(places, number) for number in gone)
        listed = " (in a sweep, repeat the option for each value)" if any("," in place for place in places) else ""
        raise ModelError(
            f"no {kind.name} file {which}: {kind.option} takes a {SAFE} file, a folder that has one, or a Hugging Face"
            f" id; say where it is with {kind.option}{listed}"
        )
    for place, path in paths.items():
        if path is not None:
            _require_safe(kind, place, path, allow_pickle)


def _which(places: Sequence[str], number: int) -> str:
    return f"'{places[number]}'" + (f" ({number + 1} of {len(places)})" if len(places) > 1 else "")


def hub_id(place: str) -> tuple[str, str | None] | None:
    """The repository and the file in it, where the place is an id: ``owner/name`` or ``owner/name/file.safetensors``.

    A path whose first folder is here, and a lone ``folder/file.safetensors``, are never ids.
    """
    found = re.fullmatch(r"([\w-][\w.-]*/[\w-][\w.-]*)(?:/(.+))?", place)
    if found is None or Path(place.split("/")[0]).exists():
        return None
    repository, file = found.groups()
    if file is None:
        return None if repository.endswith(SAFE) else (repository, None)
    return (repository, file) if file.endswith(SAFE) else None


def _local(kind: Kind, place: str) -> Path | None:
    path = Path(place).expanduser()
    if path.is_file():
        return path.resolve()
    return path.resolve() / _only(kind, place, [file.name for file in path.iterdir()]) if path.is_dir() else None


def _only(kind: Kind, place: str, names: Iterable[str]) -> str:
    """The file of a folder: the usual name, else the only safetensors file in it."""
    safe = sorted(name for name in names if name.endswith(SAFE))
    usual = [name for name in kind.usual if name in safe]
    if usual or len(safe) == 1:
        return usual[0] if usual else safe[0]
    if not safe:
        raise ModelError(f"{kind.name} '{place}' has no {SAFE} file in it: name the file")
    listed = ", ".join(safe[:NAMED]) + (f" and {len(safe) - NAMED} more" if len(safe) > NAMED else "")
    raise ModelError(f"{kind.name} '{place}' has {len(safe)} {SAFE} files ({listed}): name one, '{place}/{safe[0]}'")


def _downloaded(kind: Kind, place: str) -> Path:
    from huggingface_hub import hf_hub_download, list_repo_files

    found = hub_id(place)
    assert found is not None
    repository, file = found
    try:
        if file is None:
            file = _only(kind, place, list_repo_files(repository))
        return Path(hf_hub_download(repository, file))
    except ModelError:
        raise
    except Exception as error:  # noqa: BLE001 - hub, http and file errors share no base class
        reason = " ".join(str(error).split())[:160]
        raise ModelError(
            f"{kind.name} '{place}' is not here, and cannot be had from the hub or its cache ({type(error).__name__}:"
            f" {reason}); check the id and the network, or give a local file"
        ) from None


def _require_safe(kind: Kind, place: str, path: Path, allow_pickle: bool) -> None:
    try:
        pointer = is_lfs_pointer(path)
    except OSError as error:
        raise ModelError(f"{kind.name} '{place}' cannot be read ({error.strerror})") from None
    if pointer:
        raise ModelError(f"{kind.name} '{place}' cannot be used: {PULL}")
    if path.suffix == SAFE:
        return
    if kind is not LORA:
        raise PickledWeights(f"{kind.name} '{place}' is not {SAFE}: convert it")
    if not allow_pickle:
        raise PickledWeights(
            f"{kind.name} '{place}' is not {SAFE}: convert it, or pass --allow-pickle if you trust its author"
        )


def _sha256(path: Path) -> str:
    """Of the tensors, and of the scales that are written beside them where they are any but 1."""
    tensors = weights_sha256(path.parent, [path])
    beside = {name: part for name, part in configuration(path).items() if not _is_plain(part)}
    if not beside:
        return tensors
    return hashlib.sha256(json.dumps([tensors, beside], sort_keys=True).encode()).hexdigest()


def configuration(path: Path) -> dict[str, dict[str, Any]]:
    """What a file says of its LoRA's scales, by component; "" for all. Kohya's alphas are tensors, and not in it.

    Raises:
        ModelError: it is written there, and cannot be read.
    """
    try:
        found = dict(_written(path))
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:100]
        raise ModelError(f"LoRA '{path}': its configuration cannot be read ({reason}): download it again") from None
    return {name: {key: part[key] for key in _SCALES if key in part} for name, part in found.items()}


_SCALES = ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora")


def _written(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if path.name == PEFT_WEIGHTS and (path.parent / PEFT_CONFIG).is_file():
        yield "", json.loads((path.parent / PEFT_CONFIG).read_text(encoding="utf-8"))
    if path.suffix != SAFE:
        return
    with path.open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    parts: dict[str, dict[str, Any]] = {}
    for key, value in json.loads(header.get("__metadata__", {}).get(METADATA, "{}")).items():
        component, _, name = key.partition(".")
        parts.setdefault(component, {})[name] = value
    yield from parts.items()


def _is_plain(part: dict[str, Any]) -> bool:
    """Whether the alpha of every layer is its rank, so that its scale is 1 as without a word of it."""
    patterns = part.get("alpha_pattern") or {}, part.get("rank_pattern") or {}
    return part.get("lora_alpha") == part.get("r") and patterns[0] == patterns[1] and not part.get("use_rslora")
