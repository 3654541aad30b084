"""What is known of a picture that another program made: each value checked, what is none of ours unknown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from t2i_track.importing.samplers import named
from t2i_track.prompts.text import normalise
from t2i_track.settings import MOST_STEPS

MOST_PROMPT = 2**16
"""Characters of a prompt."""
MOST_NAME = 200
MOST_GUIDANCE = 10_000.0
SEEDS = 2**63
"""What a database's whole number holds; ComfyUI's seeds go up to 2 to the 64th."""


class Unreadable(ValueError):
    """What a picture says of itself, and cannot be read, with the reason."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """Of one picture; None and "" are what it does not tell."""

    origin: str
    prompt: str = ""
    negative_prompt: str = ""
    seed: int | None = None
    guidance: float | None = None
    steps: int | None = None
    scheduler: str | None = None
    sigmas: str | None = None
    clip_skip: int | None = None
    model: str | None = None
    model_hash: str | None = None
    note: str | None = None

    @property
    def setting(self) -> dict[str, Any]:
        """What the pictures of one run have in common, apart from their size."""
        names = ("origin", "negative_prompt", "guidance", "steps", "scheduler", "sigmas", "clip_skip")
        return {name: getattr(self, name) for name in (*names, "model", "model_hash")}


def of(origin: str, said: Mapping[str, Any]) -> Found:
    """From values under our names (``sampler`` and ``spacing`` for the scheduler's), of whatever types they are.

    Raises:
        Unreadable: a prompt that is too long to be one.
    """
    scheduler, sigmas = named(text(said.get("sampler")), text(said.get("spacing")))
    seed = whole(said.get("seed"))
    large = seed is not None and not 0 <= seed < SEEDS
    guidance, steps, skipped = number(said.get("guidance")), whole(said.get("steps")), whole(said.get("clip_skip"))
    return Found(
        origin=origin,
        prompt=_prompt(said.get("prompt")),
        negative_prompt=_prompt(said.get("negative_prompt")),
        seed=None if large else seed,
        guidance=guidance if guidance is not None and abs(guidance) <= MOST_GUIDANCE else None,
        steps=steps if steps is not None and 1 <= steps <= MOST_STEPS else None,
        scheduler=scheduler,
        sigmas=sigmas,
        clip_skip=skipped if skipped is not None and 0 < skipped < 100 else None,
        model=text(said.get("model"))[:MOST_NAME] or None,
        model_hash=text(said.get("model_hash"))[:64] or None,
        note=f"its seed {seed} is more than a database holds" if large and len(str(seed)) < 40 else None,
    )


def text(value: Any) -> str:
    """A text on one line, as manifests are read, with nothing that cannot be stored; "" for what is none."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = f"{value}"
    if not isinstance(value, str):
        return ""
    return normalise(value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode())


def _prompt(value: Any) -> str:
    if isinstance(value, str) and len(value) > MOST_PROMPT:
        raise Unreadable(f"a prompt of {len(value):,} characters, where {MOST_PROMPT:,} are read")
    return text(value)


def number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str) or len(str(value)[:60]) > 50:
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def whole(value: Any) -> int | None:
    """A whole number, 20.0 too; with every digit of a long one."""
    if isinstance(value, bool) or (found := number(value)) is None or found != math.floor(found):
        return None
    try:
        return int(value)
    except ValueError:  # "20.0"
        return int(found)
