"""Whether the files of a run's pictures are still what was recorded when they were made."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from t2i_track.images.png import pixels_sha256
from t2i_track.metrics.cache import files_sha256
from t2i_track.metrics.inputs import ImageItem
from t2i_track.pictures import UnreadablePicture, decode

ANOTHER = "not the picture that was recorded"


def changed(items: Iterable[ImageItem], cache_dir: Path) -> dict[int | str, str]:
    """Of each picture whose file is gone or another, by ``ImageItem.key``: what is wrong with it.

    Features are kept by the recorded hash, so without this another picture in its place would be scored unseen. Files
    are read again only where their size or time has changed since the last look.
    """
    recorded = [item for item in items if item.file_sha256]
    there = [item for item in recorded if item.path.is_file() and os.access(item.path, os.R_OK)]
    hashes = files_sha256([item.path for item in there], cache_dir) if there else []
    found = {item.key: sha256 for item, sha256 in zip(there, hashes, strict=True)}
    reasons = {item.key: _reason(item) for item in recorded if found.get(item.key) != item.file_sha256}
    return {key: reason for key, reason in reasons.items() if reason is not None}


def _reason(item: ImageItem) -> str | None:
    """None where the pixels are as they were: another program may have compressed the file anew."""
    try:
        pixels = np.asarray(decode(item.path))
    except UnreadablePicture as error:
        return str(error)
    return None if pixels_sha256(pixels) == item.sha256 else ANOTHER
