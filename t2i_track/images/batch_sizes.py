"""Batch sizes that were found out, kept: a second command must not find another, and take its cells for other work."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from t2i_track.files import write_atomically
from t2i_track.images.batch_size import largest
from t2i_track.settings import DECLARED, Stage, Values

if TYPE_CHECKING:
    from t2i_track.images.loading import LoadedPipeline

FILE = "batch_sizes.json"


def found_out(loaded: LoadedPipeline, settings: Values, cache: Path) -> int:
    """The batch size for this model, size of picture and machine; measured where it is not known yet.

    Raises:
        ModelError: a single picture does not fit in memory.
    """
    key, file = _key(loaded, settings), cache / FILE
    known = _known(file)
    if key not in known:
        known[key] = largest(loaded.pipe, settings)
        cache.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(known, sort_keys=True).encode())
    return known[key]


def _key(loaded: LoadedPipeline, settings: Values) -> str:
    """What decides how many fit: the model and how it is loaded, the size of a picture, guidance, the machine."""
    import torch

    device = str(settings.device)
    machine = torch.cuda.get_device_name(device) if device.startswith("cuda") else f"{torch.get_num_threads()} threads"
    guided = loaded.family.guided(settings, loaded.family.guided_by(loaded.configs))
    how = {name: getattr(settings, name) for name, one in DECLARED.items() if one.stage is Stage.LOAD}
    del how["model"], how["revision"]
    what = [loaded.weights_sha256, settings.height, settings.width, guided, machine, how]
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()


def _known(file: Path) -> dict[str, int]:
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    sizes = found.items() if isinstance(found, dict) else ()
    return {key: size for key, size in sizes if isinstance(size, int) and size > 0}
