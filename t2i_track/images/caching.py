"""Attention that is worked out in one of several steps and extrapolated in the others (TaylorSeer, arXiv:2503.06923).

Which steps those are depends on their number alone. Caches that look at the pictures to decide (first-block cache,
TeaCache, SeaCache) take the mean over the batch, so that a picture would depend on those made beside it.
"""

from __future__ import annotations

from typing import Any

from t2i_track.settings import EVERY_STEP, Values

FIRST = 3
"""Calls of the network that are always worked out whole, diffusers' default: what is extrapolated comes from them."""


def enable_cache(pipe: Any, settings: Values) -> None:
    """Extrapolate in all but one of ``cache_interval`` steps, to the first order, in single precision."""
    if settings.cache_interval == EVERY_STEP:
        return
    import diffusers
    import torch

    config = cache_arguments(settings)
    pipe.transformer.enable_cache(diffusers.TaylorSeerCacheConfig(**config, taylor_factors_dtype=torch.float32))


def cache_arguments(settings: Values) -> dict[str, int]:
    """What diffusers is given for it, beside the precision."""
    return {"cache_interval": settings.cache_interval, "disable_cache_before_step": FIRST, "max_order": 1}


def forget(pipe: Any) -> None:
    """Leave nothing of an earlier batch: diffusers does so at the end of a call, but not where one fails."""
    transformer: Any = getattr(pipe, "transformer", None)
    if getattr(transformer, "is_cache_enabled", False):
        transformer._reset_stateful_cache()
