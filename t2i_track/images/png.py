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
XMP_CHUNK = "XML:com.adobe.xmp"
"""The keyword under which a PNG holds XMP (Adobe, XMP Specification Part 3, 2016, 1.1.5)."""
SIGNATURE, END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
"""How every PNG begins and ends."""
MADE_BY_A_MODEL = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's term for pictures by a model that was trained on others (NewsCodes, Digital Source Type)."""
_XMP = f"""\
<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">
   <Iptc4xmpExt:DigitalSourceType>{MADE_BY_A_MODEL}</Iptc4xmpExt:DigitalSourceType>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""

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


def encode(pixels: Pixels, record: dict[str, Any], *, marked: bool = False) -> bytes:
    """A PNG with the record in two text chunks: ours as JSON, and ``parameters``.

    Args:
        pixels: uint8 ``[height, width, 3]``.
        record: what is stored with the picture.
        marked: also say, as XMP, that a model made it (``MADE_BY_A_MODEL``).
    """
    info = PngInfo()
    if marked:
        info.add_itxt(XMP_CHUNK, _XMP)
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


def text_in(head: bytes, keyword: str) -> str | None:
    """The text of an uncompressed iTXt chunk that stands whole in the first bytes of a PNG, as ``encode`` writes it;
    None where there is none."""
    place, begins = len(SIGNATURE), keyword.encode() + b"\0\0\0\0\0"  # not compressed, of no language
    while place + 8 <= len(head):
        length, kind = int.from_bytes(head[place : place + 4]), head[place + 4 : place + 8]
        end = place + 8 + length
        if kind == b"IDAT" or end > len(head):
            return None
        if kind == b"iTXt" and head.startswith(begins, place + 8):
            return head[place + 8 + len(begins) : end].decode()
        place = end + 4
    return None


def is_marked(path: Path) -> bool:
    """Whether a PNG says that a model made it."""
    with _header(path) as image:
        return MADE_BY_A_MODEL in str(image.info.get(XMP_CHUNK, ""))


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
