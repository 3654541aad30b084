"""LoRAs and embeddings as they are written: ``place`` or ``place:scale``, several joined by ``;``.

A place is a file, a folder or an id of the hub. A ``;`` within one is written twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

SEPARATOR = ";"
_BETWEEN = re.compile(r"(?<!;);(?!;)")
_SCALED = re.compile(r"(?P<place>.*[^:]):(?P<scale>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)", re.DOTALL)
"""What follows the last colon is a scale only where it is a number: drives and file names have colons too."""


@dataclass(frozen=True)
class Spec:
    """One of several: where it is, and its scale as it was written."""

    place: str
    written: str | None = None

    @property
    def scale(self) -> float:
        return 1.0 if self.written is None else float(self.written)


def specs(text: str | None, *, scaled: bool) -> tuple[Spec, ...]:
    """The parts of a setting; of one that is not ``scaled`` (embeddings), colons belong to the places."""
    if not text:
        return ()
    parts = (part.strip().replace(SEPARATOR * 2, SEPARATOR) for part in _BETWEEN.split(text))
    return tuple(_spec(part) if scaled else Spec(part) for part in parts)


def _spec(part: str) -> Spec:
    found = _SCALED.fullmatch(part)
    return Spec(part) if found is None else Spec(found["place"], found["scale"])


def joined(parts: Iterable[Spec]) -> str:
    """The parts as one setting again."""
    return SEPARATOR.join(
        spec.place.replace(SEPARATOR, SEPARATOR * 2) + ("" if spec.written is None else f":{spec.written}")
        for spec in parts
    )


def with_places(text: str, change: Callable[[str], str], *, scaled: bool) -> str:
    """The setting with each of its places changed."""
    return joined(replace(spec, place=change(spec.place)) for spec in specs(text, scaled=scaled))
