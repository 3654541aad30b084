"""Files as MLflow's UI expects them: keyed pictures for the chart view, tables with pictures for the table view."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2i_track.errors import TrackingError

if TYPE_CHECKING:
    from PIL.Image import Image

THUMBNAIL = 256
"""Longest side of a table's small pictures, as in ``mlflow.log_table``. Smaller pictures are enlarged to it: the UI
shows a preview of 64 pixels at its own size, and cuts it off."""
GRID = 1024
"""Longest side of the picture that the chart view shows; MLflow's 256 would make the prompts unreadable."""


def write_keyed(folder: Path, picture: Image, key: str, step: int) -> None:
    """The two files of ``MlflowClient.log_image(key=, step=)``, whose names carry key, step and time.

    Raises:
        TrackingError: the key has characters that MLflow does not take.
    """
    if not re.fullmatch(r"[a-zA-Z0-9_\-./ ]+", key):
        raise TrackingError(f"a picture's key has letters, digits, and _ - . / only, not {key!r}")
    stamp = f"{key.replace('/', '~')}+step+{step}+timestamp+{int(time.time() * 1000)}+{uuid.uuid4()}"
    (folder / "images").mkdir()
    picture.save(folder / "images" / f"{stamp}.png")
    _save_small(picture, folder / "images" / f"{stamp}+compressed.webp", GRID)


def write_table(folder: Path, rows: Sequence[Mapping[str, Any]], name: str) -> None:
    """The files of ``mlflow.log_table(rows, name)``: ``name`` and, under ``table_images/``, two for each picture.

    Values that are a ``Path`` or a PIL image become pictures. Their file names follow from the row and the column,
    so that the same table sent again replaces itself. Picture files are linked, not copied, where that is possible.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))
    data = [
        [_cell(folder, name, f"{n:06d}-{m}", row.get(c)) for m, c in enumerate(columns)] for n, row in enumerate(rows)
    ]
    (folder / name).write_text(json.dumps({"columns": columns, "data": data}, ensure_ascii=False), "utf-8")


def _cell(folder: Path, name: str, place: str, value: object) -> object:
    from PIL import Image

    if not isinstance(value, Path | Image.Image):
        return value
    stem = f"table_images/{Path(name).stem}/{place}"
    full, small = folder / f"{stem}.png", folder / f"{stem}.webp"
    full.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(value, Path):
        link_or_copy(value, full)
        with Image.open(value) as picture:
            _save_small(_enlarged(picture), small, THUMBNAIL)
    else:
        value.save(full)
        _save_small(_enlarged(value), small, THUMBNAIL)
    return {"type": "image", "filepath": f"{stem}.png", "compressed_filepath": f"{stem}.webp"}


def _enlarged(picture: Image) -> Image:
    """A small picture by a whole factor, its pixels kept square."""
    from PIL import Image

    factor = THUMBNAIL // max(picture.size)
    if factor < 2:
        return picture
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)


def _save_small(picture: Image, path: Path, side: int) -> None:
    small = picture.convert("RGB")
    small.thumbnail((side, side))
    small.save(path, quality=85, method=2)


def link_or_copy(source: Path, target: Path) -> None:
    """A hard link (pictures are replaced, never changed in place), or a copy across file systems."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
