"""A seal from anywhere: text by a stranger, until each of its values is checked."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2i_track.errors import SealError, SettingsError
from t2i_track.jsontext import KeyTwice, parsed
from t2i_track.runs import foreign
from t2i_track.runs.claims import SIDE
from t2i_track.runs.merkle import leaf_hash
from t2i_track.runs.scored import ScoreCheck, check
from t2i_track.runs.seal import LEAF, VERSION, claimed_record, root_of
from t2i_track.texts import unstorable

MOST_BYTES = 2**28
"""Of a seal: a million pictures with prompts of a hundred characters."""
MOST_IMAGES = 10**6
MOST_SCORES = 1000
MOST_NAME = 1000
"""Characters of a name."""


@dataclass(frozen=True)
class Seal:
    """A seal whose values are such as a seal may have; whether they are true is another question."""

    run: str
    name: str
    root: str
    num: int
    images_per_prompt: int
    shared: Mapping[str, Any]
    environment: Mapping[str, Any]
    scores: Sequence[Mapping[str, Any]]
    leaves: tuple[str, ...]
    records: tuple[Mapping[str, Any], ...] | None
    """None of a private one."""

    def record(self, place: int) -> dict[str, Any]:
        """The whole record of a picture, every value of it checked.

        Raises:
            SettingsError: no picture can be made of it; the value is named.
        """
        assert self.records is not None
        return foreign.validated(claimed_record(self.shared, self.records[place], self.images_per_prompt))

    def checked_scores(self) -> list[ScoreCheck]:
        return [
            check(score["name"], score["protocol"]["fingerprint"], score["value"], score["n"], _known(score["images"]))
            for score in self.scores
        ]


def _known(values: Sequence[float | None] | None) -> list[float]:
    return [value for value in values or () if value is not None]


def read(path: Path) -> Seal:
    """The seal in a file.

    Raises:
        SealError: it is none, a value in it is such as no seal has, or its records do not have its root.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise SealError(f"{path} has more than {MOST_BYTES} bytes: it is no seal")
        content = parsed(path.read_bytes())
    except OSError as error:
        raise SealError(f"cannot read {path} ({error.strerror})") from None
    except KeyTwice as error:
        raise SealError(f"{path} is no seal: {error}") from None
    except RecursionError:
        raise SealError(f"{path} is no seal: it is nested too deeply") from None
    except ValueError:
        raise SealError(f"{path} is no seal: it is not JSON") from None
    try:
        return _validated(content)
    except (SealError, SettingsError) as error:
        raise SealError(f"{path} is no seal of a run: {str(error)[:300]}") from None


def _validated(content: Any) -> Seal:
    _require(content, _TOP, "it")
    counts, images = content["counts"], content["counts"]["images"]
    if images != counts["num"] * counts["images_per_prompt"]:
        raise SealError(f"it counts {images} images of {counts['num']} prompts, {counts['images_per_prompt']} of each")
    listed = content.get("leaves" if content["private"] else "records") or []
    if len(listed) != images:
        raise SealError(f"it counts {images} images and lists {len(listed)}")
    for number, one in enumerate(() if content["private"] else listed):
        _require_record(one, number, counts["images_per_prompt"])
    for score in content["scores"]:
        _require(score, _SCORE, "a score")
        _require(score["protocol"], _PROTOCOL, "a protocol")
        if score["images"] is not None and len(score["images"]) != images:
            raise SealError(f"its {score['name']!r:.40} has scores of {len(score['images'])} images, not of {images}")
    leaves = listed if content["private"] else [leaf_hash(one) for one in listed]
    if _root(content, leaves) != content["root"]:
        raise SealError("it was changed since it was written: its root is another than it says")
    return Seal(
        content["run"], content["name"], content["root"], counts["num"], counts["images_per_prompt"], content["shared"],
        content["environment"], content["scores"], tuple(leaves), None if content["private"] else tuple(listed),
    )  # fmt: skip


def _root(content: Mapping[str, Any], leaves: Sequence[str]) -> str:
    try:
        return root_of(content, leaves)
    except (KeyError, ValueError, RecursionError):
        raise SealError("something is left out of it, or a number in it is none") from None


def _require_record(one: Any, number: int, images_per_prompt: int) -> None:
    what = f"record {number}"
    _require(one, _RECORD, what)
    if not set(one) <= {*LEAF, "batch_size"}:
        raise SealError(f"{what} has more than a record has: {sorted(set(one) - {*LEAF, 'batch_size'})[0]!r:.40}")
    if (one["prompt_index"], one["replicate"]) != divmod(number, images_per_prompt):
        raise SealError(f"{what} is of prompt {one['prompt_index']}, image {one['replicate']}")


def _require(value: Any, checks: Mapping[str, tuple[Callable[[Any], bool], str]], what: str) -> None:
    if not isinstance(value, dict):
        raise SealError(f"{what} is a {type(value).__name__}, not an object")
    for name, (is_right, words) in checks.items():
        if not is_right(value.get(name)):
            raise SealError(f"{name} of {what} must be {words}, not {value.get(name)!r:.60}")


def _whole(least: int, most: int) -> tuple[Callable[[Any], bool], str]:
    return (lambda value: type(value) is int and least <= value <= most, f"a whole number from {least} to {most}")


def _text(most: int) -> tuple[Callable[[Any], bool], str]:
    return (
        lambda value: isinstance(value, str) and len(value) <= most and unstorable(value) is None,
        f"text of at most {most} characters",
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _are_numbers(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(one is None or _is_number(one) for one in value))


def _are_blocks(value: Any) -> bool:
    try:
        return isinstance(value, str) and len(base64.b64decode(value, validate=True)) == 3 * SIDE * SIDE
    except (binascii.Error, ValueError):
        return False


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None


def _list(value: Any, most: int) -> bool:
    return isinstance(value, list) and len(value) <= most


_DIGEST = (_is_digest, "a sha256")
_OBJECT = (lambda value: isinstance(value, dict), "an object")
_COUNTS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "num": _whole(1, MOST_IMAGES),
    "images_per_prompt": _whole(1, MOST_IMAGES),
    "images": _whole(1, MOST_IMAGES),
}


def _are_counts(value: Any) -> bool:
    return isinstance(value, dict) and all(is_right(value.get(name)) for name, (is_right, _) in _COUNTS.items())


_TOP: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "t2i_seal": (lambda value: value == VERSION, f"{VERSION}, as this version writes it"),
    "run": (lambda value: isinstance(value, str) and re.fullmatch(r"[0-9a-f]{32}", value) is not None, "a run's id"),
    "name": _text(MOST_NAME),
    "root": _DIGEST,
    "counts": (_are_counts, "the numbers of prompts, images of each and images"),
    "shared": _OBJECT,
    "environment": _OBJECT,
    "private": (lambda value: isinstance(value, bool), "true or false"),
    "scores": (lambda value: _list(value, MOST_SCORES), f"a list of at most {MOST_SCORES}"),
    "records": (lambda value: value is None or _list(value, MOST_IMAGES), "a list"),
    "leaves": (lambda value: value is None or (_list(value, MOST_IMAGES) and all(map(_is_digest, value))), "hashes"),
}
_RECORD: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "prompt": _text(foreign.MOST_RECORD),
    "prompt_index": _whole(0, MOST_IMAGES),
    "replicate": _whole(0, MOST_IMAGES),
    "seed": _whole(0, foreign.SEEDS - 1),
    "pixels_sha256": _DIGEST,
    "blocks": (_are_blocks, f"{SIDE} x {SIDE} colours in base64"),
    "batch_size": (lambda value: value is None or (type(value) is int and 1 <= value <= 4096), "a batch size"),
}
_SCORE: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "name": _text(MOST_NAME),
    "value": (_is_number, "a number"),
    "n": _whole(1, MOST_IMAGES),
    "protocol": _OBJECT,
    "images": (_are_numbers, "a list of numbers"),
}
_PROTOCOL: Mapping[str, tuple[Callable[[Any], bool], str]] = {"fingerprint": _DIGEST}
