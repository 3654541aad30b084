"""Picture files to RGB as a person sees them: what ``convert("RGB")`` alone would get wrong is put right, or named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from t2i_track.filesystems import LFS_POINTER

ENDINGS = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm",
)  # fmt: skip
DECODING = 2
"""Version of the rules below; the first was ``convert("RGB")`` alone."""

_ORIENTATION = 0x0112  # of EXIF
_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # of TIFF
_TRANSPARENT = ("RGBA", "LA", "PA", "La", "RGBa")


class UnreadablePicture(OSError):
    """A picture that cannot be decoded, with the reason; not with its name, which the caller knows."""


def decode(path: Path) -> Image.Image:
    """The picture as RGB, see ``rgb``.

    Raises:
        UnreadablePicture: missing, cut off, not a picture, or not one that 8 bits of RGB can say.
    """
    try:
        with Image.open(path) as image:
            return rgb(image)
    except UnreadablePicture:
        raise
    except Exception as error:
        raise UnreadablePicture(reason_of(path, error)) from error


def rgb(image: Image.Image) -> Image.Image:
    """An opened picture as RGB: upright, its 16 bits by their high byte, what is transparent on white.

    Raises:
        UnreadablePicture: several frames, or numbers without an agreed range.
    """
    if (frames := _frames(image)) > 1:
        raise UnreadablePicture(f"it has {frames} frames: save one of them as a picture")
    orientation = _orientation(image)
    image.load()
    if _deep(image):
        found = Image.fromarray(_high_bytes(image)).convert("RGB")
    elif image.mode in ("I", "F"):
        raise UnreadablePicture(f"its numbers ({image.mode}) have no agreed range: save it with 8 or 16 bits")
    elif _has_alpha(image):
        whole = image.convert("RGBA")
        found = Image.alpha_composite(Image.new("RGBA", whole.size, "white"), whole).convert("RGB")
    else:
        found = image.convert("RGB")
    if orientation != 1:
        found.getexif()[_ORIENTATION] = orientation
        ImageOps.exif_transpose(found, in_place=True)
    return found


def is_plain(path: Path) -> bool:
    """Whether ``convert("RGB")`` alone is right, or no picture; from the header, where that is enough."""
    try:
        with Image.open(path) as image:
            odd = _frames(image) > 1 or _deep(image) or image.mode in ("I", "F") or _orientation(image) != 1
            return not (odd or _see_through(image))
    except Exception:  # noqa: BLE001 (as in ``decode``, which says why)
        return True


def size_of(path: Path) -> tuple[int, int]:
    """Width and height as ``decode`` gives them, from the header."""
    with Image.open(path) as image:
        return (image.height, image.width) if _orientation(image) in (5, 6, 7, 8) else image.size


def _frames(image: Image.Image) -> int:
    """A JPEG of several pictures (MPO) is a photograph with its previews: the first one is meant."""
    return 1 if image.format == "MPO" else int(getattr(image, "n_frames", 1))


def _orientation(image: Image.Image) -> int:
    # Asking a PNG without EXIF would decode it; a TIFF is turned by Pillow itself.
    return int(image.getexif().get(_ORIENTATION, 1)) if "exif" in image.info and image.format != "TIFF" else 1


def _deep(image: Image.Image) -> bool:
    """Gray of more than 8 bits; of RGB, Pillow itself keeps the high byte. It gives those of PGM as 32 bits."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")


def _high_bytes(image: Image.Image) -> np.ndarray[Any, np.dtype[np.uint8]]:
    tags = getattr(image, "tag_v2", {})
    (bits, *_) = np.atleast_1d(tags.get(_BITS, 16))
    values = np.asarray(image).astype(np.int64) >> (int(bits) - 8)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        values = 255 - values
    return np.asarray(np.clip(values, 0, 255), dtype=np.uint8)


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in _TRANSPARENT or "transparency" in image.info


def _see_through(image: Image.Image) -> bool:
    """Whether a pixel is not opaque: its colour is whatever a program left there."""
    if not _has_alpha(image):
        return False
    low, _ = image.convert("RGBA").getchannel("A").getextrema()
    return bool(low < 255)  # type: ignore[operator]


def reason_of(path: Path, error: Exception) -> str:
    """Why a picture cannot be read, in words without its path."""
    if isinstance(error, UnidentifiedImageError):
        with path.open("rb") as file:
            start = file.read(len(LFS_POINTER))
        if start == LFS_POINTER:
            return "only a pointer of Git LFS: run `git lfs pull`"
        return "cannot identify image file" if start else "an empty file"
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())
    return reason or type(error).__name__
