"""Image files that carry their own record: encoded, hashed, read back."""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PilImage
from PIL.PngImagePlugin import PngInfo

from t2i_track.jsontext import parsed
from t2i_track.pictures import rgb
from t2i_track.schedulers import SCHEDULERS

RECORD_CHUNK = "t2i"
PARAMETERS_CHUNK = "parameters"

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def file_name(prompt_index: int, replicate: int, seed: int) -> str:
    """``000123-<seed>.png``; later images of the same prompt are ``000123.1-<seed>.png`` and so on."""
    place = f"{prompt_index:06d}" if replicate == 0 else f"{prompt_index:06d}.{replicate}"
    return f"{place}-{seed}.png"


def pixels_sha256(pixels: Pixels) -> str:
    """sha256 of a picture's shape and decoded RGB bytes: unlike the file's, free of zlib's version and of text."""
    height, width, channels = pixels.shape
    digest = hashlib.sha256(f"{height}x{width}x{channels} ".encode())
    digest.update(np.ascontiguousarray(pixels).tobytes())
    return digest.hexdigest()


def parameters_text(record: dict[str, Any]) -> str:
    """The record in the `parameters` format that AUTOMATIC1111's web UI began and other tools read."""
    name = record["scheduler"]
    lines = [record["prompt"]]
    if record["negative_prompt"]:
        lines.append(f"Negative prompt: {record['negative_prompt']}")
    told = {
        "Steps": record["steps"],
        "Sampler": SCHEDULERS[name].sampler if name in SCHEDULERS else name,
        "CFG scale": None if record["guidance"] is None else f"{record['guidance']:g}",
        "Seed": record["seed"],
        "Size": f"{record['width']}x{record['height']}",
        "Model hash": None if record["weights_sha256"] is None else record["weights_sha256"][:10],
        "Model": Path(record["model"]).name or None,
    }
    # What an imported picture does not tell is left out.
    lines.append(", ".join(f"{title}: {value}" for title, value in told.items() if value is not None))
    return "\n".join(lines)


def encode(pixels: Pixels, record: dict[str, Any]) -> bytes:
    """A PNG with the record in two text chunks: ours as JSON, and ``parameters``."""
    info = PngInfo()
    info.add_itxt(RECORD_CHUNK, json.dumps(record, ensure_ascii=False, sort_keys=True))
    info.add_itxt(PARAMETERS_CHUNK, parameters_text(record))
    buffer = io.BytesIO()
    PilImage.fromarray(pixels).save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


def read_record(path: Path, most: int | None = None) -> Any:
    """The record inside a PNG of ours, as it is written; None where there is none.

    Raises:
        KeyTwice: a key is there twice. ValueError: it is not JSON, or has more than ``most`` characters.
    """
    with _header(path) as image:
        text = image.info.get(RECORD_CHUNK)  # image.text would decode the pixels first
    if not isinstance(text, str):
        return None
    if most is not None and len(text) > most:
        raise ValueError(f"a record of {len(text)} characters")
    return parsed(text)


def size(path: Path) -> tuple[int, int]:
    """(height, width) as the file's header says, nothing being decoded."""
    with _header(path) as image:
        return image.height, image.width


def _header(path: Path) -> PilImage.Image:
    """The file opened and not decoded, so that its size is nothing to be warned of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PilImage.DecompressionBombWarning)
        return PilImage.open(path)


def read_pixels(path: Path) -> Pixels:
    """The decoded RGB pixels, uint8 ``[height, width, 3]``."""
    with PilImage.open(path) as image:
        return np.asarray(rgb(image), dtype=np.uint8)
