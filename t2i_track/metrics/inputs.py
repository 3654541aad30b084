"""The pictures of a run or of a reference set, read one at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Size = tuple[int, int]
"""Width and height, in pixels."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
FILTER = "bilinear"


@dataclass(frozen=True, slots=True)
class ImageItem:
    path: Path
    sha256: str
    """Of the pixels for a run's image, of the file for a reference picture; equal hashes mean equal features."""
    prompt: str = ""
    prompt_index: int = 0
    replicate: int = 0
    key: int | str = ""
    """The database's id of the image; it only comes back in ``MetricResult.per_image``."""


@dataclass(frozen=True, slots=True)
class Picture:
    pixels: NDArray[np.uint8]
    """Height x width x 3, brought to the size that was asked for."""
    native: Size
    black: bool
    """Every pixel is 0, as a safety checker leaves it."""


class UnreadablePicture(Exception):
    """A picture that cannot be decoded, with the reason."""


def read(path: Path, size: Size) -> Picture:
    """Decode a picture as RGB and bring it to ``size``.

    Raises:
        UnreadablePicture: missing, truncated or not a picture.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            native = image.size
            pixels = np.asarray(_cover(image.convert("RGB"), size))
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise UnreadablePicture(str(error) or type(error).__name__) from error
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
    from PIL import Image

    sizes: Counter[Size] = Counter()
    for item in items:
        try:
            with Image.open(item.path) as image:
                sizes[image.size] += 1
        except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError):
            continue
    return sizes.most_common(1)[0][0] if sizes else None
