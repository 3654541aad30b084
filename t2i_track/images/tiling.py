"""``--vae-tiling``: pictures decoded in tiles that overlap, and what of a VAE says whether there would be any."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from t2i_track.errors import SettingsError
from t2i_track.settings import UNTILED, Values


def set_tiling(pipe: Any, settings: Values) -> None:
    """Have the VAE decode in tiles, or whole."""
    if settings.vae_tiling != UNTILED:
        pipe.vae.enable_tiling()
    elif getattr(pipe.vae, "use_tiling", False):
        pipe.vae.disable_tiling()


def require_tiles(settings: Values, config: Mapping[str, Any], size: tuple[int, int]) -> None:
    """Refuse tiles that a VAE of this configuration cannot make, or would not make of a picture of this size.

    Raises:
        SettingsError: names the VAE's class, or the sizes.
    """
    asked, tile = f"vae_tiling {settings.vae_tiling}", tile_of(config)
    if tile is None:
        raise SettingsError(f"{asked} would be ignored: {config.get('_class_name')} knows no tiles; leave it out")
    height, width = size
    if height <= tile[0] and width <= tile[1]:
        raise SettingsError(
            f"{asked} would be ignored: a picture of {width} x {height} is no larger than one tile of this VAE,"
            f" {tile[1]} x {tile[0]}; leave it out, or give a larger --height"
        )


def tile_of(config: Mapping[str, Any]) -> tuple[int, int] | None:
    """(height, width) of a tile in pixels; None where the VAE knows none."""
    import diffusers
    import torch

    with torch.device("meta"):  # its classes say it of objects alone, and no weight is wanted
        vae: Any = getattr(diffusers, str(config["_class_name"])).from_config(config)
    if not hasattr(vae, "use_tiling"):
        return None
    if hasattr(vae, "tile_sample_min_size"):
        return int(vae.tile_sample_min_size), int(vae.tile_sample_min_size)
    return int(vae.tile_sample_min_height), int(vae.tile_sample_min_width)
