"""The record inside a PNG from anywhere: text by a stranger, until each of its values is checked."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image as PilImage

from t2i_track.errors import SettingsError
from t2i_track.images import png
from t2i_track.jsontext import KeyTwice
from t2i_track.runs.record import RECORD_VERSION
from t2i_track.settings import DECLARED, RECORDED, Settings, Values
from t2i_track.texts import unstorable

MOST_RECORD = 2**20
"""Characters of a record's JSON; ours have a few thousand and the prompt."""
SEEDS = 2**64
MOST_PIXELS_AT_ONCE = 2**26
"""Pixels of a whole batch: 64 pictures of 1024 x 1024."""
MOST_WORK = 2**32
"""Pixels of a whole batch times passes of the network: 16 pictures of 1024 x 1024 in 128 steps with guidance."""
MOST_TEXT = 2**14
"""Characters of a prompt: the encoder's window takes 77 tokens."""


def read(path: Path) -> dict[str, Any] | None:
    """The record of a PNG, every value of it checked; None where there is no record or no picture.

    Raises:
        SettingsError: there is a record, and a picture cannot be made of it; the value is named.
    """
    try:
        record = png.read_record(path, MOST_RECORD)
    except PilImage.DecompressionBombError as error:
        raise SettingsError(f"{path} is no picture of t2i-track ({error})") from None
    except KeyTwice as error:
        raise SettingsError(f"{path}: no picture can be made of its record: {error}") from None
    except RecursionError:
        raise SettingsError(f"{path}: its record is nested too deeply") from None
    except (OSError, ValueError, SyntaxError):  # not a picture, or one cut short
        return None
    if record is None:
        return None
    try:
        return validated(record)
    except SettingsError as error:
        raise SettingsError(f"{path}: no picture can be made of its record: {_short(str(error))}") from None


def require_bounded(record: Mapping[str, Any]) -> None:
    """Refuse a checked record that would take days, or all memory: each of its values may be one of ours, and not all.

    Raises:
        SettingsError: names the values and what may be done.
    """
    for name in ("prompt", "negative_prompt"):
        if len(record[name]) > MOST_TEXT:
            raise SettingsError(
                f"its {name} has {len(record[name])} characters, more than the {MOST_TEXT} that are taken of a"
                " stranger's picture: reproduce it in the home that has its run"
            )
    at_once = record["batch_size"] * record["height"] * record["width"]
    passes = Values.stored(record).passes
    if at_once > MOST_PIXELS_AT_ONCE or at_once * passes > MOST_WORK:
        raise SettingsError(
            f"its record asks for batch_size {record['batch_size']} of {record['width']} x {record['height']} pixels in"
            f" {record['steps']} steps, which is more than a picture of a stranger may take: make one like it with"
            " 't2i generate', or reproduce it in the home that has its run"
        )


def validated(record: Any) -> dict[str, Any]:
    """The record with its values as their settings read them.

    Raises:
        SettingsError: names the first value that cannot be.
    """
    if not isinstance(record, dict):
        raise SettingsError(f"it is a {type(record).__name__}, not an object")
    for name, text in _texts(record):
        if reason := unstorable(text):
            raise SettingsError(f"{name} cannot be stored ({reason})")
    for name, (is_right, words) in _CHECKS.items():
        if not is_right(record.get(name)):
            raise SettingsError(f"{name} must be {words}, not {_short(repr(record.get(name)))}")
    values = _settings(record)
    return {**record, **values}


def _settings(record: Mapping[str, Any]) -> dict[str, Any]:
    """One by one: records of older versions may combine settings that are refused together today."""
    found: dict[str, Any] = {}
    for name in RECORDED:
        declared = DECLARED[name]
        value = declared.read(name, record[name]) if name in record else declared.neutral if declared.later else None
        if name == "scheduler" and value is not None and value == record["scheduler_config"].get("class"):
            pass  # one without a short name, which its model came with
        elif value is not None and value not in declared.words.values():
            declared.check(name, value)
        elif value is not None or declared.open is None or name in ("height", "width", "device", "dtype"):
            raise SettingsError(f"{name} has no value")
        found[name] = value
    Settings(steps=found["steps"], batch_size=found["batch_size"], height=found["height"], width=found["width"])
    return found


def _texts(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every text of the record, its keys too, however deep it stands, with the name of the value that it is in."""
    for name, value in record.items():
        yield f"the name {_short(repr(name))}", name
        below = [value]
        while below:
            part = below.pop()
            if isinstance(part, str):
                yield name, part
            elif isinstance(part, Mapping):
                below += [*part, *part.values()]
            elif isinstance(part, list):
                below += part


def _whole(least: int, most: int) -> tuple[Callable[[Any], bool], str]:
    return (
        lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value < most,
        f"a whole number of {least} or more",
    )


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None


def _are_digests(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(map(_is_digest, value)))


_DIGEST = "a sha256"
_TEXTS = (
    lambda value: isinstance(value, dict) and all(isinstance(text, str) for text in value.values()),
    "an object of texts",
)
_CHECKS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "t2i_record": (lambda value: value == RECORD_VERSION, f"{RECORD_VERSION}, as this version writes it"),
    "prompt": (lambda value: isinstance(value, str), "text"),
    "prompt_index": _whole(0, SEEDS),
    "replicate": _whole(0, SEEDS),
    "place": (lambda value: value is None or (type(value) is int and 0 <= value < SEEDS), "a whole number"),
    "seed": _whole(0, SEEDS),
    "threads": _whole(1, SEEDS),
    "weights_sha256": (_is_digest, _DIGEST),
    "pixels_sha256": (_is_digest, _DIGEST),
    "lora_sha256": (lambda value: value is None or _is_digest(value), _DIGEST),
    "lora_files": (lambda value: _are_digests(value), f"a list of {_DIGEST}"),
    "embedding_files": (lambda value: _are_digests(value), f"a list of {_DIGEST}"),
    "scheduler_config": (lambda value: isinstance(value, dict), "an object"),
    "versions": _TEXTS,
}


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}…"
