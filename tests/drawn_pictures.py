"""Folders of drawn pictures for the tests of scores, and the scores of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from t2i_track.metrics.evaluate import EvaluationResult, evaluate
from t2i_track.metrics.inputs import ImageItem

SIDE = 64


def draw(folder: Path, number: int, seed: int, size: tuple[int, int] = (SIDE, SIDE), top: int = 256) -> Path:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for i in range(number):
        small = Image.fromarray(rng.integers(0, top, (5, 5, 3)).astype(np.uint8))
        small.resize(size, Image.Resampling.BICUBIC).save(folder / f"{i:06d}.png")
    return folder


def items_of(folder: Path) -> list[ImageItem]:
    paths = sorted(folder.iterdir())
    return [
        ImageItem(path, hashlib.sha256(path.read_bytes()).hexdigest(), f"a red circle {i}", i, 0, 1000 + i)
        for i, path in enumerate(paths)
    ]


def run(images: Sequence[ImageItem], cache: Path, **changes: Any) -> EvaluationResult:
    return evaluate(images, **{"metrics": ["is"], "cache_dir": cache, **changes})
