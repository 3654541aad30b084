"""PNG files by their chunks: texts read within bounds, and taken out with no pixel touched."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

SIGNATURE = b"\x89PNG\r\n\x1a\n"
TEXTS = (b"tEXt", b"zTXt", b"iTXt")
PRIVATE = (*TEXTS, b"eXIf", b"tIME")
"""Chunks that may say how, when and of what a picture was made."""
MOST_TEXT = 2**23
"""Bytes of all texts of a file, unpacked; ComfyUI's largest workflows have some hundred thousand."""
MOST_CHUNKS = 2**16


class BadChunks(ValueError):
    """A file that begins as a PNG and does not go on as one."""


def texts(path: Path) -> dict[str, str]:
    """The texts of a PNG by their keywords, those behind the pixels too; nothing is decoded. Empty for other files.

    Raises:
        BadChunks: the file is cut short, or its texts are more than is read of a stranger's file. OSError.
    """
    found: dict[str, str] = {}
    left = MOST_TEXT
    with path.open("rb") as file:
        if file.read(len(SIGNATURE)) != SIGNATURE:
            return {}
        for kind, length in _headers(file):
            if kind not in TEXTS:
                file.seek(length + 4, 1)
                continue
            if length > left:
                raise BadChunks(f"its texts have more than {MOST_TEXT:,} bytes")
            keyword, text, size = _text(kind, file.read(length), left)
            file.seek(4, 1)
            left -= size
            found[keyword] = text
    return found


def without(content: bytes, kinds: tuple[bytes, ...] = PRIVATE) -> bytes:
    """The same PNG without the chunks of these kinds; the others, with the pixels, are byte for byte as they were.

    Raises:
        BadChunks: it is no PNG, or one cut short.
    """
    if not content.startswith(SIGNATURE):
        raise BadChunks("it is no PNG")
    kept, at = [SIGNATURE], len(SIGNATURE)
    while at < len(content):
        if at + 12 > len(content):
            raise BadChunks("it is cut short")
        length, kind = struct.unpack_from(">I4s", content, at)
        end = at + 12 + length
        if end > len(content):
            raise BadChunks("it is cut short")
        if kind not in kinds:
            kept.append(content[at:end])
        at = end
        if kind == b"IEND":  # what some programs hang behind the end is no part of the picture
            break
    return b"".join(kept)


def _headers(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    for _ in range(MOST_CHUNKS):
        header = file.read(8)
        if len(header) < 8:
            raise BadChunks("it is cut short")
        length, kind = struct.unpack(">I4s", header)
        yield kind, length
        if kind == b"IEND":
            return
    raise BadChunks(f"it has more than {MOST_CHUNKS:,} chunks")


def _text(kind: bytes, data: bytes, most: int) -> tuple[str, str, int]:
    """The keyword, the text and its bytes (PNG, third edition, 11.3.3)."""
    keyword, _, rest = data.partition(b"\0")
    packed = kind == b"zTXt"
    if packed:
        rest = rest[1:]
    elif kind == b"iTXt":
        packed = rest[:1] == b"\1"
        rest = rest[2:].split(b"\0", 2)[-1]
    if packed:
        rest = _unpacked(rest, most)
    return keyword.decode("latin-1"), decoded(rest), len(rest)


def _unpacked(data: bytes, most: int) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        found = unpacker.decompress(data, most)
    except zlib.error as error:
        raise BadChunks(f"a text of it cannot be unpacked ({error})") from None
    if unpacker.unconsumed_tail:
        raise BadChunks(f"its texts have more than {MOST_TEXT:,} bytes")
    return found


def decoded(data: bytes) -> str:
    """UTF-8, which many programs write where PNG says Latin-1; hardly any other text of Latin-1 is UTF-8 too."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def without_words(content: bytes) -> bytes:
    """A PNG, JPEG or WebP file without what says how it was made; its compressed pixels are byte for byte as they were.

    Raises:
        BadChunks: it is none of these, or cut short.
    """
    if content.startswith(SIGNATURE):
        return without(content)
    if content.startswith(b"\xff\xd8"):
        return _jpeg_without(content)
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return _webp_without(content)
    raise BadChunks("it is no PNG, JPEG or WebP")


def _jpeg_without(content: bytes) -> bytes:
    """Without comments and all application segments but JFIF's, colour profiles and Adobe's (ITU T.81, B.1.1.4)."""
    kept, at = [content[:2]], 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4], "big")
        if marker == 0xDA:  # the pixels begin
            return b"".join([*kept, content[at:]])
        if not (marker == 0xFE or (0xE0 <= marker <= 0xEF and marker not in (0xE0, 0xE2, 0xEE))):
            kept.append(content[at : at + 2 + length])
        at += 2 + length
    raise BadChunks("it is cut short")


def _webp_without(content: bytes) -> bytes:
    """Without EXIF and XMP, and the flags that announce them (RFC 9649, 2.7)."""
    kept, at = [], 12
    while at + 8 <= len(content):
        kind, length = struct.unpack_from("<4sI", content, at)
        end = at + 8 + length + length % 2
        chunk = content[at:end]
        if kind == b"VP8X":
            chunk = chunk[:8] + bytes([chunk[8] & ~0x0C]) + chunk[9:]
        if kind not in (b"EXIF", b"XMP "):
            kept.append(chunk)
        at = end
    body = b"WEBP" + b"".join(kept)
    return b"RIFF" + struct.pack("<I", len(body)) + body
