"""The embedded captioned data set: small scenes of coloured shapes, their pictures and their captions.

Needs numpy and Pillow only, and gives the same pictures and words for a seed on every machine.
"""

from t2i_track.shapes.captions import caption, parse
from t2i_track.shapes.dataset import SPLITS, Row, manifest_rows, rows, scenes, split_of, write
from t2i_track.shapes.drawing import SIDE, draw
from t2i_track.shapes.scene import BACKGROUNDS, COLOURS, HEADS, SHAPES, SIZES, Scene, Thing
from t2i_track.shapes.stream import Stream

__all__ = [
    "BACKGROUNDS",
    "COLOURS",
    "HEADS",
    "SHAPES",
    "SIDE",
    "SIZES",
    "SPLITS",
    "Row",
    "Scene",
    "Stream",
    "Thing",
    "caption",
    "draw",
    "manifest_rows",
    "parse",
    "rows",
    "scenes",
    "split_of",
    "write",
]
