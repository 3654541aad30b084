"""The names that other programs give to schedulers, as ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

from t2i_track.schedulers import SCHEDULERS, SIGMAS

MOST_NAME = 50
"""Characters of a scheduler's name that a run keeps."""
MOST_READ = 200
_PLAIN = {"", "automatic", "normal", "default", "uniform", "native", "none"}
"""Names of the spacing of noise levels that a sampler has by itself."""
_OWN_SPACING = {("dpm++2m", "karras"): "dpm++2m-karras"}
"""Samplers that have a short name of their own with a spacing."""
_OTHERS = {
    "pndm": "pndm",
    "plms": "pndm",
    "eulerancestral": "euler-a",
    "dpmsolver++": "dpm++2m",
    "dpmsolvermultistep": "dpm++2m",
    "dpmpp2msdegpu": "dpm++2m-sde",
    "unipcmultistep": "unipc",
    "deismultistep": "deis",
}


def named(sampler: str, spacing: str = "") -> tuple[str | None, str | None]:
    """Our short name of a sampler, and the spacing of its noise levels where that is not its own.

    Where no known one is meant, the name as it is, with the spacing behind a ``/``; None without a name.
    """
    name, spacing = " ".join(sampler[:MOST_READ].split()), spacing[:MOST_READ].strip().lower()
    key = _key(name)
    for end in (*SIGMAS, "k"):  # "DPM++ 2M Karras" and InvokeAI's "dpmpp_2m_k"
        match = re.fullmatch(rf"(.+?)[ _-]{end}", name, re.IGNORECASE)
        if match and key not in KNOWN:
            name, key, spacing = match[1], _key(match[1]), "karras" if end == "k" else end
            break
    if not name:
        return None, None
    found = KNOWN.get(key)
    if found is not None and (found, spacing) in _OWN_SPACING:
        return _OWN_SPACING[found, spacing], None
    if found is not None and (spacing in _PLAIN or spacing in SIGMAS):
        return found, spacing if spacing in SIGMAS else None
    return (name if spacing in _PLAIN else f"{name}/{spacing}")[:MOST_NAME], None


def _key(name: str) -> str:
    """The same for ``DPM++ 2M``, ``dpmpp_2m`` and ``k_dpmpp_2m``."""
    plain = re.sub(r"[\s_.-]", "", name.lower().removeprefix("k_").replace("++", "pp"))
    return plain.removesuffix("scheduler") if plain != "scheduler" else plain


def _known() -> Mapping[str, str]:
    found: dict[str, str] = {}
    for short, kind in SCHEDULERS.items():
        for name in (short, kind.sampler, kind.diffusers):
            found.setdefault(_key(name), short)
    return {**found, **{_key(name): short for name, short in _OTHERS.items()}}


KNOWN = _known()
