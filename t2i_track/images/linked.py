"""A folder of links to the files that were chosen: what was hashed is what is loaded, and nothing beside it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from t2i_track.images.model_folder import INDEX, Part
from t2i_track.images.variants import is_weights

UNLINKED = (".py",)
"""Code of a model is not run."""


@contextmanager
def linked(index: Mapping[str, Any], parts: Sequence[Part]) -> Iterator[Path]:
    """A pipeline's folder with the chosen weights under the names that the libraries look for by themselves.

    It is gone when the block ends. Weights that are mapped into memory stay so, since they are the files' own.
    """
    with tempfile.TemporaryDirectory(prefix="t2i-model-") as name:
        folder = Path(name)
        chosen = {part.component.name: [part.component.library, part.component.class_name] for part in parts}
        absent = {key: [None, None] for key, value in index.items() if isinstance(value, list) and key not in chosen}
        (folder / INDEX).write_text(json.dumps({**index, **absent, **chosen}), encoding="utf-8")
        for part in parts:
            _link(part, folder / part.component.name)
        yield folder


def _link(part: Part, folder: Path) -> None:
    folder.mkdir()
    for path in part.folder.iterdir():
        # Beside an adapter_config.json, transformers would load an adapter that no hash knows of.
        if not (is_weights(path.name) or path.suffix in UNLINKED or path.name.startswith("adapter_")):
            (folder / path.name).symlink_to(path.absolute())
    if part.weights is None:
        return
    for name in (*part.weights.files, *([part.weights.index] if part.weights.index else [])):
        (folder / part.weights.plain_name(name)).symlink_to((part.folder / name).absolute())
