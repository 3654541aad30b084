"""Alignment: how much of what the prompt says is in the picture, as the attribute classifier sees it."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from t2i_track.shapes.scene import HEADS, Scene

Floats = NDArray[np.float64]
WHOLE = "alignment"
PARTS = {
    "shape": "share of the caption's shapes that are in the image",
    "colour": "share of the objects that have the caption's colour",
    "size": "share of the objects that have the caption's size",
    "count": "share of the images with the caption's number of objects",
    "background": "share of the images with the caption's background",
    "relation": "share of the images whose two objects stand as the caption says, each with its shape and colour",
}
"""What a caption can say, and what the score of each says."""
_PER_OBJECT = ("shape", "colour", "size")


def alignment(logits: Mapping[str, NDArray[np.floating]], scenes: Sequence[Scene]) -> dict[str, Floats]:
    """Each picture's score in [0, 1] for every part of its scene, [n] each.

    `logits` has an array [n, classes] for every head of `HEADS`. `shape`, `colour` and `size` are the shares of the
    scene's objects that have them right, under the better of the two ways to match objects with what was seen.
    `relation` is strict: the axis, and both objects' shape and colour, each on its own side. It is NaN where the
    scene has no relation, and `alignment` is the mean of the parts that apply.

    Raises ValueError where an array's shape is not [len(scenes), classes of the head].
    """
    for head, names in HEADS.items():
        if logits[head].shape != (len(scenes), len(names)):
            raise ValueError(f"logits[{head!r}] must be {(len(scenes), len(names))}, not {logits[head].shape}")
    if not scenes:
        return {part: np.zeros(0) for part in (*PARTS, WHOLE)}
    columns = list(HEADS)
    wanted = np.array([scene.labels() for scene in scenes])
    right = {
        (seen, slot, name): logits[f"{name}{seen}"].argmax(1) == wanted[:, columns.index(f"{name}{slot}")]
        for seen in (1, 2)
        for slot in (1, 2)
        for name in _PER_OBJECT
    }
    parts: dict[str, Floats] = _objects(right, np.array([scene.second is not None for scene in scenes]))
    for head in ("count", "background"):
        parts[head] = (logits[head].argmax(1) == wanted[:, columns.index(head)]).astype(float)
    strict = logits["axis"].argmax(1) == wanted[:, columns.index("axis")]
    for slot in (1, 2):
        strict = strict & right[slot, slot, "shape"] & right[slot, slot, "colour"]
    related = np.array([scene.axis != "none" for scene in scenes])
    parts["relation"] = np.where(related, strict, np.nan)
    table = np.stack([parts[part] for part in PARTS])
    return {part: parts[part] for part in PARTS} | {WHOLE: np.nanmean(table, axis=0)}


def _objects(right: dict[tuple[int, int, str], NDArray[np.bool_]], two: NDArray[np.bool_]) -> dict[str, Floats]:
    """One assignment of seen slots to wanted objects for each picture, the one with more attributes right."""
    straight, crossed = {}, {}
    for name in _PER_OBJECT:
        kept, swapped = right[1, 1, name].astype(float), right[2, 1, name].astype(float)
        straight[name] = np.where(two, (kept + right[2, 2, name]) / 2, kept)
        crossed[name] = np.where(two, (swapped + right[1, 2, name]) / 2, swapped)
    better = sum(crossed.values()) > sum(straight.values())
    return {name: np.where(better, crossed[name], straight[name]) for name in _PER_OBJECT}
