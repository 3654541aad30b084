"""JSON that every parser reads alike: no word for what is no finite number, so that is ``null``, and no key twice."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import date, time, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID


class KeyTwice(ValueError):
    """An object has a key twice, of which Python takes the last without a word, and others the first."""


def parsed(text: str | bytes) -> Any:
    """What a JSON text from elsewhere says.

    Raises:
        KeyTwice: an object has a key twice. ValueError: it is not JSON. RecursionError: nested too deeply.
    """
    return json.loads(text, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise KeyTwice(f"the key {twice!r:.60} is there twice")
    return found


def json_text(value: Any, indent: int | None = 2, *, separators: tuple[str, str] | None = None) -> str:
    """The JSON of mappings, lists, numbers, texts, times, paths and bytes (in hexadecimal)."""
    if indent == 2 and separators is None:
        import orjson

        options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
        options |= orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS
        try:  # Python's own encoder is 10 times as slow where it indents
            return orjson.dumps(value, _jsonable, options).decode()
        except TypeError:  # whole numbers over 64 bits, halves of surrogate pairs
            pass
    write = partial(
        json.dumps, indent=indent, separators=separators, ensure_ascii=False, default=_jsonable, allow_nan=False
    )
    try:
        return write(value)
    except ValueError:  # a number that is not finite: few results have one, and to look for it takes half the time
        return write(_finite(value))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, list | tuple) else value


def _jsonable(value: Any) -> Any:
    """Of what a database can hold: times, numbers of its own, bytes; and mappings that are no dict."""
    from decimal import Decimal

    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bytes | memoryview):
        return value.hex()
    if isinstance(value, Decimal):
        return _finite(float(value))
    if isinstance(value, Path | UUID | timedelta):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} in a result")
