"""The pictures of a run or of a reference set, read one at a time."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from t2i_track.metrics.cache import sha256

Size = tuple[int, int]
"""Width and height, in pixels."""


@dataclass(frozen=True, slots=True)
class ImageItem:
    path: Path
    sha256: str
    """Of the pixels for a run's image, ``file_key`` for a reference picture; equal hashes mean equal features."""
    prompt: str = ""
    prompt_index: int = 0
    replicate: int = 0
    key: int | str = ""
    """The database's id of the image; it only comes back in ``MetricResult.per_image``."""
    file_sha256: str = ""
    """Of a run's image: of its file's bytes, as recorded. Where ``sha256`` is of the file as it is now, nothing."""


@dataclass(frozen=True, slots=True)
class Picture:
    pixels: NDArray[np.uint8]
    """Height x width x 3, brought to the size that was asked for."""
    native: Size
    black: bool
    """Every pixel is 0, as a safety checker leaves it."""


def file_key(path: Path) -> str:
    """The ``ImageItem.sha256`` of a file: that of its bytes, or where they were once decoded otherwise, a new one.

    Features of what ``convert("RGB")`` made of such files may be in a cache, and scores in a database.
    """
    from t2i_track.pictures import DECODING, is_plain

    found = sha256(path)
    return found if is_plain(path) else hashlib.sha256(f"decoding {DECODING} {found}".encode()).hexdigest()


def read(path: Path, size: Size) -> Picture:
    """Decode a picture as RGB and bring it to ``size``.

    Raises:
        pictures.UnreadablePicture: missing, truncated or not a picture.
    """
    from t2i_track.pictures import decode

    image = decode(path)
    native, pixels = image.size, np.asarray(_cover(image, size))
    return Picture(pixels, native, not pixels.any())


def _cover(image, size: Size):  # type: ignore[no-untyped-def]
    """Scale to cover ``size`` and cut out the centre: torchvision's ``Resize`` (antialiased) and ``CenterCrop``."""
    from PIL import Image

    (width, height), (wide, high) = size, image.size
    if (wide, high) == size:
        return image
    if width * high >= height * wide:
        scaled = (width, max(height, int(width * high / wide)))
    else:
        scaled = (max(width, int(height * wide / high)), height)
    left, top = round((scaled[0] - width) / 2.0), round((scaled[1] - height) / 2.0)
    return image.resize(scaled, Image.Resampling.BILINEAR).crop((left, top, left + width, top + height))


def common_size(items: Sequence[ImageItem]) -> Size | None:
    """The size that most of the pictures have, from their headers; None where none can be read."""
    from t2i_track.pictures import size_of

    sizes: Counter[Size] = Counter()
    for item in items:
        # What is wrong with a picture is said when it is decoded.
        with suppress(Exception):
            sizes[size_of(item.path)] += 1
    return sizes.most_common(1)[0][0] if sizes else None
