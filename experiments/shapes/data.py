"""The training pictures as arrays, drawn once into the work folder."""

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from t2i_track.shapes import HEADS, Row, Scene, Stream, caption, draw, rows

SIZES = {"train": 96_000, "val": 2048, "reference": 4096}
WORDINGS = 3  # captions of each picture
BATCH = 2000


@dataclass(frozen=True)
class Pictures:
    """Pixels uint8 [n, 3, 64, 64], labels [n, 9] in the order of HEADS, and `WORDINGS` captions each."""

    pixels: NDArray[np.uint8]
    labels: Tensor
    captions: list[list[str]]

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(self, chosen: Tensor) -> Tensor:
        """The chosen pictures, float32 in [-1, 1]."""
        return torch.from_numpy(self.pixels[chosen.numpy()]).float() / 127.5 - 1

    def scenes(self) -> list[Scene]:
        names = list(HEADS.items())
        return [
            Scene.from_attributes({head: classes[i] for (head, classes), i in zip(names, row, strict=True)})
            for row in self.labels.tolist()
        ]


def _draw(batch: list[Row]) -> NDArray[np.uint8]:
    return np.stack([draw(row.scene, row.seed).transpose(2, 0, 1) for row in batch])


def wordings(row: Row) -> list[str]:
    """The row's own caption first, then others of the same scene."""
    stream = Stream(0x3C, row.seed)
    return [row.caption, *(caption(row.scene, stream) for _ in range(WORDINGS - 1))]


def prepare(work: Path, split: str, num: int, seed: int = 0, workers: int = 2) -> None:
    """Draw a split into `work` unless it is there."""
    stem = work / "data" / f"{split}-{num}-{seed}"
    if stem.with_suffix(".json").exists():
        return
    stem.parent.mkdir(parents=True, exist_ok=True)
    listed = list(rows(split, num, seed))
    with ProcessPoolExecutor(workers) as pool:
        drawn = pool.map(_draw, [listed[i : i + BATCH] for i in range(0, num, BATCH)])
        np.save(stem.with_suffix(".npy"), np.concatenate(list(drawn)))
    text = {"labels": [row.scene.labels() for row in listed], "captions": [wordings(row) for row in listed]}
    temporary = stem.with_suffix(".tmp")
    temporary.write_text(json.dumps(text))
    temporary.replace(stem.with_suffix(".json"))  # last: its presence says that the split is complete


def load(work: Path, split: str, num: int | None = None, seed: int = 0) -> Pictures:
    num = num or SIZES[split]
    stem = work / "data" / f"{split}-{num}-{seed}"
    text = json.loads(stem.with_suffix(".json").read_text())
    pixels = np.load(stem.with_suffix(".npy"), mmap_mode="r")
    return Pictures(pixels, torch.tensor(text["labels"]), text["captions"])
