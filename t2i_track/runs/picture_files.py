"""One picture's file against what its row says: its bytes, its pixels and the record inside it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from PIL import Image as PilImage

from t2i_track.images import png
from t2i_track.pictures import UnreadablePicture, decode
from t2i_track.runs.faults import Kind
from t2i_track.runs.foreign import MOST_RECORD
from t2i_track.settings import DECLARED

BLOCK = 2**20
"""Bytes read at once: most pictures are one block, and none needs more memory."""
UNSAID = {"place": None, **{name: declared.neutral for name, declared in DECLARED.items() if declared.later}}
"""What the records of older versions do not have; of settings, they have the neutral value."""


@dataclass(frozen=True, slots=True)
class Expected:
    """A picture's file as its row says it is."""

    path: Path
    sha256: str
    pixels_sha256: str
    size: tuple[int, int]
    """Height and width."""
    record: Mapping[str, Any] | None
    """What its own record has to say; None where nothing is known of it, as of an imported picture."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a file is instead."""

    kind: Kind | None
    """None: the same picture with the same record, in other bytes."""
    what: str
    sha256: str = ""
    """Of its bytes; empty where it cannot be read."""
    pixels_sha256: str = ""
    """Of its pixels; empty where they were not decoded."""


def look(expected: Expected) -> Found | None:
    """What is wrong with the file; None where it is byte for byte what was written, and says what its row says.

    Pixels are decoded only where the bytes are others, or the file's own record names other pixels than the row.
    """
    try:
        sha256, head, tail = _read(expected.path)
    except FileNotFoundError:
        return Found(Kind.MISSING, "the file is gone")
    except OSError as error:
        return Found(Kind.UNREADABLE, f"it cannot be read ({error.strerror})")
    if sha256 == expected.sha256:
        return _of_the_row(expected, head)
    if not head.startswith(png.SIGNATURE) or not tail.endswith(png.END):
        return _no_whole_png(head, sha256)
    return _other_bytes(expected, sha256)


def _read(path: Path) -> tuple[str, bytes, bytes]:
    """The sha256 of a file, its first block and its last bytes."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        head = block = tail = file.read(BLOCK)
        while block:
            digest.update(block)
            tail, block = block, file.read(BLOCK)
        if len(tail) < len(png.END) <= file.tell():
            file.seek(-len(png.END), os.SEEK_END)
            tail = file.read()
    return digest.hexdigest(), head, tail


def _of_the_row(expected: Expected, head: bytes) -> Found | None:
    """The file is what was written: where it says something else than the row, the row was changed."""
    if expected.record is None:
        return None
    text = png.text_in(head, png.RECORD_CHUNK)
    record = orjson.loads(text) if text is not None else read_record(expected.path)
    told = differences(expected.record, record)
    if not told:
        return None
    what = f"the file is as it was written, and its row says otherwise: {told}"
    return Found(Kind.RECORD, what, expected.sha256)


def _no_whole_png(head: bytes, sha256: str) -> Found:
    if not head:
        return Found(Kind.HALF, "an empty file", sha256)
    if head.startswith(png.SIGNATURE[: len(head)]):
        return Found(Kind.HALF, "a PNG that is cut off", sha256)
    return Found(Kind.CHANGED, "it is no PNG", sha256)


def _other_bytes(expected: Expected, sha256: str) -> Found:
    pixels = _pixels_sha256(expected)
    if pixels != expected.pixels_sha256:
        return Found(Kind.CHANGED, "other pixels than were recorded", sha256, pixels)
    told = "" if expected.record is None else differences(expected.record, read_record(expected.path))
    if told:
        return Found(Kind.RECORD, f"its pixels are as recorded, its own record is not: {told}", sha256, pixels)
    return Found(None, "the recorded picture, compressed anew by another program", sha256, pixels)


def _pixels_sha256(expected: Expected) -> str:
    """Nothing is decoded that has not the size of the row; empty where nothing can be."""
    try:
        if png.size(expected.path) != expected.size:
            return ""
        return png.pixels_sha256(np.asarray(decode(expected.path)))
    except (UnreadablePicture, PilImage.DecompressionBombError, OSError, ValueError, SyntaxError):
        return ""


def read_record(path: Path) -> Any:
    """The record inside a PNG, whatever it says; None where there is none that can be read."""
    try:
        return png.read_record(path, MOST_RECORD)
    except (PilImage.DecompressionBombError, RecursionError, OSError, ValueError, SyntaxError):
        return None


def differences(expected: Mapping[str, Any], record: Any) -> str:
    """What a picture's record says otherwise than it has to, in words; nothing where it says all of it."""
    if not isinstance(record, dict):
        return "there is no record of t2i-track in it"
    told = [
        f"{name} is {record[name]!r:.60} in the file, {value!r:.60} in the row"
        if name in record
        else f"{name} is not in the file"
        for name, value in expected.items()
        if (record[name] != value if name in record else not _may_be_unsaid(name, value))
    ]
    return "; ".join(told[:3]) + (f"; and {len(told) - 3} more" if len(told) > 3 else "")


def _may_be_unsaid(name: str, value: Any) -> bool:
    return name in UNSAID and (name == "place" or value == UNSAID[name])
