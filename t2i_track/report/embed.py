"""Pictures inside a report: embedded in one file, or copied beside it."""

from __future__ import annotations

import base64
import io
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from PIL import Image

from t2i_track.images.png import pixels_sha256
from t2i_track.pictures import UnreadablePicture, decode
from t2i_track.ranking import ImageRow

EMBEDDED_BYTES = 32 * 2**20
"""Originals are embedded up to this total; beyond it, previews."""
PREVIEW_SIDE = 256
LOOK_SIDE = 8
_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}


@dataclass(frozen=True)
class Picture:
    """Where the page finds a picture: ``small`` for the grid and ``full`` for the viewer, as URLs.

    ``look`` is the picture shrunk to 8 x 8 RGB, base64: enough to say which prompts changed most between two runs.
    """

    small: str
    full: str
    look: str
    width: int
    height: int


class Lost(StrEnum):
    """Why an image has no picture, as the page says it."""

    MISSING = "file missing"
    UNREADABLE = "file unreadable"
    CHANGED = "file is another picture"


def pictures(images: Sequence[ImageRow], folder: Path | None) -> list[Picture | Lost]:
    """A picture for each image, or why there is none: another picture in its place is not shown as this one.

    With a ``folder`` the originals are copied into it, otherwise everything is a ``data:`` URL: the originals up to
    ``EMBEDDED_BYTES``, else WebP previews of at most 256 px.
    """
    total = sum(image.path.stat().st_size for image in images if image.path.is_file())
    return [_picture(image, folder, originals=folder is not None or total <= EMBEDDED_BYTES) for image in images]


def _picture(image: ImageRow, folder: Path | None, originals: bool) -> Picture | Lost:
    try:
        rgb = decode(image.path)
    except UnreadablePicture:
        return Lost.UNREADABLE if image.path.exists() else Lost.MISSING
    if image.record.get("pixels_sha256") not in (None, pixels_sha256(np.asarray(rgb))):
        return Lost.CHANGED
    look = base64.b64encode(rgb.resize((LOOK_SIDE, LOOK_SIDE), Image.Resampling.BOX).tobytes()).decode()
    large = max(rgb.size) > PREVIEW_SIDE
    if folder is None:
        url = _original(image.path) if originals and not large else _data("image/webp", _preview(rgb))
        return Picture(url, _original(image.path) if originals else url, look, *rgb.size)
    name = f"{image.run[:12]}-{image.prompt_index:06}-{image.replicate:03}"
    full = folder / f"{name}{image.path.suffix.lower()}"
    shutil.copyfile(image.path, full)
    small = full
    if large:
        small = folder / f"{name}.small.webp"
        small.write_bytes(_preview(rgb))
    return Picture(f"{folder.name}/{small.name}", f"{folder.name}/{full.name}", look, *rgb.size)


def _original(path: Path) -> str:
    return _data(_TYPES.get(path.suffix.lower(), "image/png"), path.read_bytes())


def _preview(picture: Image.Image) -> bytes:
    small = picture.copy()
    small.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=85)
    return buffer.getvalue()


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
