"""The large arrays of a JSON object, read piece by piece, so that memory stays far below that of the whole."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from t2i_track.jsontext import KeyTwice, parsed
from t2i_track.prompts.text import open_bytes

PIECE = 4 << 20
"""Bytes parsed at a time."""
SMALL = 1 << 16
"""Bytes that a value which nobody asked for may have (COCO's ``info`` and ``licenses``)."""
_KEY = re.compile(rb'\s*"([^"\\]*)"\s*:\s*')
_ELEMENT_END = re.compile(rb"\}\s*[,\]]")
_SPACE = b" \t\r\n"


class _Odd(Exception):
    """Not the plain shape that can be read in pieces, or not JSON at all."""


def read(path: Path, names: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[str, Any]]:
    """Pairs of a top-level key and some of the elements of its array, in the file's order.

    A key in ``names`` whose value is an array comes once or more, each time with a list, together all elements. Any
    other value in ``names`` comes as it is. Files of an unusual shape are parsed whole, when nothing was given out yet
    of that key.

    Args:
        names: with the keys that are read of the elements.

    Raises:
        ValueError: the file is not JSON, not an object, or has a key twice; of the elements the keys that are read.
        OSError: it cannot be read; of one that ends in .gz also one of ``text.DAMAGED``.
    """
    done: dict[str, int] = {}
    try:
        with open_bytes(path) as file:
            for name, elements in _Pieces(file).pairs(names):
                yield name, elements
                done[name] = done.get(name, 0) + len(elements)
    except _Odd:
        with open_bytes(path) as file:
            whole = _parsed(file.read().removeprefix(b"\xef\xbb\xbf"))
        if not isinstance(whole, dict):
            raise ValueError(f"a JSON object is needed, not {type(whole).__name__}") from None  # noqa: TRY004 (a wrong file)
        for name in names:
            if name in whole:
                value = whole[name]
                yield name, value[done.get(name, 0) :] if isinstance(value, list) else value


def _parsed(data: bytes) -> Any:
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError as error:
        # NaN and Infinity are no JSON, but Python and others write them, and the standard library reads them.
        try:
            return parsed(data)
        except KeyTwice:
            raise
        except (ValueError, RecursionError):
            raise error from None
    return parsed(data)  # orjson takes the last of two equal keys without a word


def _require_once(data: bytes, elements: list[Any], keys: Iterable[str]) -> None:
    """Refuse elements that have one of the keys twice: where it stands there more often than there are elements, it
    may be in a value too, and the slower parser that sees every key decides."""
    if any(data.count(b'"%b"' % key.encode()) > len(elements) for key in keys):
        parsed(data)


class _Pieces:
    """A file of which a part is held in ``_held``; what has been read is dropped from its front."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._held = file.read(PIECE).removeprefix(b"\xef\xbb\xbf")

    def pairs(self, names: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[str, list[Any]]]:
        seen: set[str] = set()
        self._expect(b"{")
        while True:
            name = self._key()
            if name in seen:
                raise KeyTwice(f"the key {name!r} is there twice")
            seen.add(name)
            if name in names:
                self._expect(b"[")
                yield name, []
                for elements in self._elements(names[name]):
                    yield name, elements
            else:
                self._small_value()
            if self._next() == b"}":
                self._expect(b"}")
                break
            self._expect(b",")
        if self._next():
            raise _Odd

    def _elements(self, keys: tuple[str, ...]) -> Iterator[list[Any]]:
        """The rest of an array, up to and with its bracket."""
        while self._next() != b"]":
            elements, length = self._parse_ahead()
            _require_once(b"[%b]" % self._held[:length], elements, keys)
            self._drop(length)
            yield elements
            if self._next() == b",":
                self._expect(b",")
                if self._next() == b"]":
                    raise _Odd
        self._expect(b"]")

    def _parse_ahead(self) -> tuple[list[Any], int]:
        """As many whole elements as are held, and their length in bytes.

        An element ends at some brace before a comma or bracket. The last such brace is tried: text that begins where
        an element begins and parses as a list's inside is a number of whole elements. Where it does not (the brace
        is within a caption, or behind the array's end), one before the place where the parser stopped is tried.
        """
        self._fill(PIECE)
        limit = len(self._held)
        for _ in range(20):
            end = self._last_end(limit)
            try:
                return orjson.loads(b"[%b]" % self._held[:end]), end
            except orjson.JSONDecodeError as error:
                # The position counts characters, so it can only be too small, and the opening bracket is ours.
                limit = min(end - 1, max(error.pos, 1)) if error.pos < end else end - 1
        raise _Odd

    def _last_end(self, limit: int) -> int:
        window = 1 << 10
        while True:
            start = max(0, limit - window)
            found = list(_ELEMENT_END.finditer(self._held, start, min(limit + 64, len(self._held))))
            ends = [match.start() + 1 for match in found if match.start() < limit]
            if ends:
                return ends[-1]
            if start == 0:
                raise _Odd
            window *= 8

    def _small_value(self) -> None:
        """Skip a value with the standard library's parser, which tells where a value ends."""
        self._fill(SMALL)
        text = self._held[:SMALL].decode("utf-8", "ignore")
        try:
            _, end = json.JSONDecoder().raw_decode(text)
        except (ValueError, RecursionError):
            raise _Odd from None
        if end == len(text):
            raise _Odd  # a number may go on
        self._drop(len(text[:end].encode()))

    def _key(self) -> str:
        self._fill(SMALL)
        match = _KEY.match(self._held)
        if match is None:
            raise _Odd
        self._drop(match.end())
        return match[1].decode("utf-8", "replace")

    def _next(self) -> bytes:
        """The next byte that is not white space, or nothing at the end."""
        while not self._held or self._held[0] in _SPACE:
            self._held = self._held.lstrip(_SPACE) or self._file.read(PIECE)
            if not self._held:
                return b""
        return self._held[:1]

    def _expect(self, byte: bytes) -> None:
        if self._next() != byte:
            raise _Odd
        self._drop(1)

    def _drop(self, length: int) -> None:
        self._held = self._held[length:]

    def _fill(self, size: int) -> None:
        if len(self._held) < size:
            self._held += self._file.read(size - len(self._held))
