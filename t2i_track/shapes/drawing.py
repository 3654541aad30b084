"""Scenes as 64 x 64 pictures, in whole numbers throughout, so that every machine draws the same pixels."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from t2i_track.shapes.scene import BACKGROUNDS, COLOURS, Scene
from t2i_track.shapes.stream import Stream

SIDE = 64
SCALE = 1024  # corners are in 1/1024 of a shape's radius, y down
TURN = 16384  # the unit of TURNS

Corners = tuple[tuple[int, int], ...]


def _box(half_width: int, half_height: int) -> Corners:
    w, h = half_width, half_height
    return ((-w, -h), (w, -h), (w, h), (-w, h))


# A regular star's directions; cos and sin of 18 and 54 degrees as constants.
_TIPS = ((0, -1024), (974, -316), (602, 828), (-602, 828), (-974, -316))
_NOTCHES = ((602, -828), (974, 316), (0, 1024), (-974, 316), (-602, -828))


def _star(outer: int, inner: int) -> tuple[Corners, ...]:
    """Five kites about the centre; radii in 1/1024."""
    tips = [(x * outer // SCALE, y * outer // SCALE) for x, y in _TIPS]
    notches = [(x * inner // SCALE, y * inner // SCALE) for x, y in _NOTCHES]
    return tuple(((0, 0), notches[i - 1], tips[i], notches[i]) for i in range(5))


# A shape is a union of convex polygons, clockwise on the screen; the circle has its own test.
POLYGONS: dict[str, tuple[Corners, ...]] = {
    "square": (_box(900, 900),),
    "triangle": (((0, -1180), (1130, 780), (-1130, 780)),),
    "star": _star(1240, 560),
    "cross": (_box(1100, 370), _box(370, 1100)),
}
# (cos, sin) of -8, -6 ... 8 degrees, times 16384
TURNS = (
    (16225, -2280),
    (16294, -1713),
    (16344, -1143),
    (16374, -572),
    (16384, 0),
    (16374, 572),
    (16344, 1143),
    (16294, 1713),
    (16225, 2280),
)
# Radii and positions are in quarters of a pixel.
RADII = {"small": (32, 36), "large": (47, 51)}
CENTRE = SIDE * 2
LAYOUTS: dict[int, tuple[tuple[tuple[int, int], ...], ...]] = {
    1: (((0, 0),),),
    2: (((-62, 0), (62, 0)), ((0, -62), (0, 62))),
    3: (((0, -58), (-62, 58), (62, 58)),),
    4: (((-62, -62), (62, -62), (-62, 62), (62, 62)),),
}
JITTER = {1: 32, 2: 12, 3: 10, 4: 8}
RELATION_JITTER = 14


@cache
def coverage(shape: str, radius: int, turn: int, dx: int, dy: int) -> NDArray[np.int32]:
    """How many of each pixel's 4 x 4 samples a shape covers, in a box around its centre.

    `radius` in quarters of a pixel; (dx, dy), 0 to 3, is the centre's place in its pixel, in quarters.
    """
    half = reach(radius)
    samples = np.arange(-half * 8 + 1, half * 8 + 8, 2, dtype=np.int64)  # in eighths of a pixel
    x, y = (samples - 2 * dx)[None, :], (samples - 2 * dy)[:, None]
    cos, sin = TURNS[turn]
    u, v = x * cos + y * sin, y * cos - x * sin
    unit = 2 * radius * TURN
    if shape == "circle":
        inside = u * u + v * v <= unit * unit
    else:
        corners = [np.array(polygon, dtype=np.int64) * (unit // SCALE) for polygon in POLYGONS[shape]]
        inside = np.logical_or.reduce([_within(u, v, polygon) for polygon in corners])
    n = 2 * half + 1
    samples_inside: NDArray[np.int32] = inside.reshape(n, 4, n, 4).sum(axis=(1, 3), dtype=np.int32)
    return samples_inside[..., None]


def reach(radius: int) -> int:
    """Half the side, in whole pixels, of a box that holds a shape of this radius wherever it is turned."""
    return radius * 5 // 16 + 2


def _within(u: NDArray[np.int64], v: NDArray[np.int64], corners: NDArray[np.int64]) -> NDArray[np.bool_]:
    inside = np.ones(np.broadcast_shapes(u.shape, v.shape), dtype=bool)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        inside &= (bx - ax) * (v - ay) - (by - ay) * (u - ax) >= 0
    return inside


def draw(scene: Scene, seed: int) -> NDArray[np.uint8]:
    """The scene's picture, uint8 [64, 64, 3]; the seed decides places, turns, shades and texture."""
    stream = Stream(0x5D, seed)
    canvas = _ground(scene.background, stream)
    if scene.second is None:
        things = [scene.first] * scene.count
        places = stream.pick(LAYOUTS[scene.count])
        jitter = JITTER[scene.count]
    else:
        things = [scene.first, scene.second]
        places = LAYOUTS[2][0 if scene.axis == "horizontal" else 1]
        jitter = RELATION_JITTER
    for thing, (x, y) in zip(things, places, strict=True):
        x, y = (CENTRE + c + stream.between(-jitter, jitter) for c in (x, y))
        radius = stream.between(*RADII[thing.size])
        mask = coverage(thing.shape, radius, stream.below(len(TURNS)), x % 4, y % 4)
        _paint(canvas, mask, _shade(COLOURS[thing.colour], 8, stream), x // 4, y // 4)
    noise = _GRAIN[stream.octets(canvas.size)].reshape(canvas.shape)
    picture: NDArray[np.uint8] = np.clip(canvas + noise, 0, 255).astype(np.uint8)
    return picture


def _shade(colour: tuple[int, int, int], spread: int, stream: Stream) -> NDArray[np.int32]:
    return np.array([c + stream.between(-spread, spread) for c in colour], dtype=np.int32)


def _ground(background: str, stream: Stream) -> NDArray[np.int32]:
    """The background colour with a gentle slope of light between the four corners."""
    colour = _shade(BACKGROUNDS[background], 5, stream)
    light = sum(stream.between(-6, 6) * weight for weight in _CORNERS) // 3969
    return colour + np.asarray(light, dtype=np.int32)[..., None]


def _paint(canvas: NDArray[np.int32], mask: NDArray[np.int32], colour: NDArray[np.int32], x: int, y: int) -> None:
    """Blend a colour in by coverage (0 to 16), cut at the canvas's edges."""
    half = mask.shape[0] // 2
    top, left = max(0, half - y), max(0, half - x)
    mask = mask[top : half + SIDE - y, left : half + SIDE - x]
    area = canvas[y - half + top : y + half + 1, x - half + left : x + half + 1]
    area[:] = (area * (16 - mask) + colour * mask + 8) // 16


_RAMP = np.arange(SIDE, dtype=np.int32)
_CORNERS = [a[:, None] * b[None, :] for a in (_RAMP, _RAMP[::-1]) for b in (_RAMP, _RAMP[::-1])]
# A byte's four pairs of bits, summed: a bell of standard deviation 2.2, of whole numbers from -6 to 6.
_BYTES = np.arange(256, dtype=np.int32)
_GRAIN = (_BYTES & 3) + (_BYTES >> 2 & 3) + (_BYTES >> 4 & 3) + (_BYTES >> 6) - 6
