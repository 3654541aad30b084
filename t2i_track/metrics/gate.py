"""How many images a Fréchet distance needs before its bias can be taken away."""

from __future__ import annotations

import math
from pathlib import Path

from t2i_track.metrics.extractors import resolve
from t2i_track.metrics.features import picture_features
from t2i_track.metrics.inputs import Size
from t2i_track.metrics.reference import Reference
from t2i_track.metrics.scores.fid import effective_dimension, gaussian, gaussian_of
from t2i_track.metrics.uncertainty import IMAGES_PER_DIMENSION


def fid_images(
    reference: Reference, extractor: str, weights: Path | None, size: Size, cache_dir: Path, device: str
) -> int:
    """``IMAGES_PER_DIMENSION`` to each effective dimension of the reference's features."""
    if reference.statistics is not None:
        found = gaussian(*reference.statistics)
    else:
        network = resolve(extractor, cache_dir, weights)
        store, failed = picture_features(network, reference.items, size, cache_dir, device, None)
        read = [item.sha256 for item in reference.items if item.sha256 not in failed]
        found = gaussian_of(store.rows(read).layer(network.layers["features"]))
    return math.ceil(IMAGES_PER_DIMENSION * effective_dimension(found))
