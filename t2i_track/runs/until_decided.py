"""What an adaptive sweep was asked for: until when images are made, and what may be added to its grid."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from t2i_track.errors import SettingsError
from t2i_track.settings import DECLARED, suggestion

ROUNDS = "rounds"
"""Key of ``Sweep.spec``: the order of the prompts and the looks, before the first image; at the end why it ended."""
MOST_IMAGES_A_SETTING = 2048
"""Prompts of a setting at most, where nobody says how many: of a longer manifest no more prompts are taken."""
OF_ADAPTIVE = ("within", "budget", "max_num", "search", "by")
"""Keys of an experiment that say something of rounds only."""
_BUDGET = re.compile(r"\s*(\d+\.?\d*|\.\d+)\s*(images?|s|min|h)\s*", re.IGNORECASE)
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Budget:
    """At most so many images, or so long to make them; None: unlimited."""

    images: int | None = None
    seconds: float | None = None
    text: str = ""


def budget_of(text: str | None) -> Budget:
    """``2000images``, ``90min`` or ``1h``.

    Raises:
        SettingsError: anything else.
    """
    if text is None:
        return Budget()
    found = _BUDGET.fullmatch(text)
    amount = float(found[1]) if found else 0.0
    if found is None or amount <= 0:
        raise SettingsError(f"budget {text!r} is none: give images or time, as 2000images, 90min or 1h")
    unit = found[2].lower()
    if unit.startswith("image"):
        if not amount.is_integer():
            raise SettingsError(f"budget {text!r} is no whole number of images")
        return Budget(images=int(amount), text=text.strip())
    return Budget(seconds=amount * _SECONDS[unit], text=text.strip())


def resolutions(search: Mapping[str, Any], axes: Mapping[str, Sequence[Any]], zipped: bool) -> dict[str, float]:
    """Axis -> the step to which it is refined.

    Raises:
        SettingsError: no axis of the sweep, no numeric one, or a step that is none.
    """
    if search and zipped:
        raise SettingsError("'search' refines a grid, and 'zip' makes none: leave one of them out")
    found: dict[str, float] = {}
    for name, step in search.items():
        if name not in axes:
            raise SettingsError(f"search names '{name}', which is not an axis{suggestion(name, tuple(axes))}")
        declared = DECLARED[name]
        if declared.kind is str or declared.words or declared.decides != "pixels":
            raise SettingsError(f"'{name}' cannot be searched: only numbers that decide pixels, as guidance and steps")
        try:
            number = float(step)
        except (TypeError, ValueError):
            number = 0.0
        if not 0 < number < float("inf") or (declared.kind is int and not number.is_integer()):
            kind = "a whole number" if declared.kind is int else "a number"
            raise SettingsError(
                f"search wants {kind} above 0 for {name}, the step to which it is refined, not {step!r}"
            )
        found[name] = number
    return found


def search_of(texts: Sequence[str]) -> dict[str, float]:
    """``guidance:0.5`` of the command line, as the key of a file has it.

    Raises:
        SettingsError: no axis and step.
    """
    found: dict[str, float] = {}
    for text in texts:
        name, colon, step = text.replace("=", ":").partition(":")
        try:
            found[name.strip().replace("-", "_")] = float(step)
        except ValueError:
            raise SettingsError(
                f"--search {text!r} is no axis with the step to which it is refined: --search guidance:0.5"
            ) from None
        if not colon:
            raise SettingsError(f"--search {text!r} has no step: --search {text}:0.5")
    return found
