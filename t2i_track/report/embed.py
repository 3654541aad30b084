"""Pictures inside a report: embedded in one file, or copied beside it."""

from __future__ import annotations

import base64
import io
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

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


def pictures(images: Sequence[ImageRow], folder: Path | None) -> list[Picture | None]:
    """A picture for each image, None where its file is gone or no picture.

    With a ``folder`` the originals are copied into it, otherwise everything is a ``data:`` URL: the originals up to
    ``EMBEDDED_BYTES``, else WebP previews of at most 256 px.
    """
    total = sum(image.path.stat().st_size for image in images if image.path.is_file())
    return [_picture(image, folder, originals=folder is not None or total <= EMBEDDED_BYTES) for image in images]


def _picture(image: ImageRow, folder: Path | None, originals: bool) -> Picture | None:
    try:
        rgb = decode(image.path)
    except UnreadablePicture:
        return None
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
