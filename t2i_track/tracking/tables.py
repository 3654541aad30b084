"""Files as MLflow's UI expects them: keyed pictures for the chart view, tables with pictures for the table view."""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from t2i_track.errors import TrackingError
from t2i_track.tracking.records import Grid, Table

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGES = "images"
"""MLflow's folder of keyed pictures."""
THUMBNAIL = 256
"""Longest side of a table's small pictures, as in ``mlflow.log_table``. Smaller pictures are enlarged to it: the UI
shows a preview of 64 pixels at its own size, and cuts it off."""
GRID = 1024
"""Longest side of the picture that the chart view shows; MLflow's 256 would make the prompts unreadable."""


def keyed_prefix(grid: Grid) -> str:
    """What the names of all files of that key and step begin with.

    Raises:
        TrackingError: the key has characters that MLflow does not take.
    """
    if not re.fullmatch(r"[a-zA-Z0-9_\-./ ]+", grid.key):
        raise TrackingError(f"a picture's key has letters, digits, and _ - . / only, not {grid.key!r}")
    return f"{grid.key.replace('/', '~')}+step+{grid.step}+timestamp+"


def keyed_stem(grid: Grid) -> str:
    return f"{keyed_prefix(grid)}{int(grid.time.timestamp() * 1000)}+{uuid.UUID(grid.uuid)}"


def write_keyed(folder: Path, grid: Grid, stem: str) -> None:
    """The two files of ``MlflowClient.log_image(key=, step=)``, whose names carry key, step and time."""
    (folder / IMAGES).mkdir()
    picture = grid.picture()
    picture.save(folder / IMAGES / f"{stem}.png")
    _save_small(picture, folder / IMAGES / f"{stem}+compressed.webp", GRID)


def write_table(folder: Path, table: Table) -> None:
    """The files of ``mlflow.log_table(rows, name)``: ``name`` and, under ``table_images/``, two for each picture.

    Values that are a ``Path`` or a PIL image become pictures. Their file names follow from the row and the column,
    so that the same table sent again replaces itself. Picture files are linked, not copied, where that is possible.
    """
    name, rows = table.name, table.rows
    columns = list(dict.fromkeys(column for row in rows for column in row))
    data = [
        [_cell(folder, name, f"{n:06d}-{m}", row.get(c)) for m, c in enumerate(columns)] for n, row in enumerate(rows)
    ]
    (folder / name).write_text(json.dumps({"columns": columns, "data": data}, ensure_ascii=False), "utf-8")


def _cell(folder: Path, name: str, place: str, value: object) -> object:
    from PIL import Image

    from t2i_track.pictures import decode

    if not isinstance(value, Path | Image.Image):
        return value
    stem = f"table_images/{Path(name).stem}/{place}"
    full, small = folder / f"{stem}.png", folder / f"{stem}.webp"
    full.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(value, Path):
        link_or_copy(value, full)
        _save_small(_enlarged(decode(value)), small, THUMBNAIL)
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
