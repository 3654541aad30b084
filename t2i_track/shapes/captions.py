"""Scenes in words, and back.

A caption is a frame around a core; the core is "number size colour shape", or two such objects and a relation.
"""

import re
from collections.abc import Iterable

from t2i_track.shapes.scene import BACKGROUNDS, COLOURS, SHAPES, Scene, Thing
from t2i_track.shapes.stream import Stream

FRAMES = (
    "{core} on a {background} background",
    "{core} against a {background} background",
    "a picture of {core} on a {background} background",
    "there {be} {core} on a {background} background",
    "on a {background} background, {core}",
    "a {background} background with {core}",
)
NUMBERS = {1: ("a", "one"), 2: ("two",), 3: ("three",), 4: ("four",)}
SIZE_WORDS = {"small": ("small", "little"), "large": ("large", "big")}
# (axis, the first object of the sentence is the left-most or top-most one) -> wordings
RELATIONS = {
    ("horizontal", True): ("to the left of", "left of"),
    ("horizontal", False): ("to the right of", "right of"),
    ("vertical", True): ("above", "over"),
    ("vertical", False): ("below", "under"),
}
PLURALS = {shape: "crosses" if shape == "cross" else shape + "s" for shape in SHAPES}


def caption(scene: Scene, stream: Stream) -> str:
    """One of the scene's wordings; every attribute is named, so `parse` gives the scene back."""
    be = "is"
    if scene.second is None:
        core = _noun(scene.first, scene.count, stream)
        be = "is" if scene.count == 1 else "are"
    else:
        pair = [scene.first, scene.second]
        in_order = stream.below(2) == 0
        one, other = pair if in_order else pair[::-1]
        relation = stream.pick(RELATIONS[scene.axis, in_order])
        core = f"{_noun(one, 1, stream)} {relation} {_noun(other, 1, stream)}"
    return stream.pick(FRAMES).format(core=core, be=be, background=scene.background)


def _noun(thing: Thing, count: int, stream: Stream) -> str:
    shape = thing.shape if count == 1 else PLURALS[thing.shape]
    return f"{stream.pick(NUMBERS[count])} {stream.pick(SIZE_WORDS[thing.size])} {thing.colour} {shape}"


def words() -> list[str]:
    """Every word of the grammar, sorted: the tokenizer keeps them whole."""
    text = " ".join(FRAMES).format(core=" ", background=" ", be="is are").replace(",", " ")
    listed = [text, *SHAPES, *PLURALS.values(), *COLOURS, *BACKGROUNDS]
    listed += [w for group in (*NUMBERS.values(), *SIZE_WORDS.values(), *RELATIONS.values()) for w in group]
    return sorted(set(" ".join(listed).split()))


def parse(text: str) -> Scene | None:
    """The scene a caption of the grammar describes; None for any other text.

    Case, spaces and a final full stop are ignored.
    """
    text = " ".join(text.lower().split()).removesuffix(".")
    for pattern, plural in _PATTERNS:
        match = pattern.fullmatch(text)
        scene = match and _scene(match.group("core"), match.group("background"), plural)
        if scene:
            return scene
    return None


def _either(options: Iterable[str]) -> str:
    return "|".join(sorted(options, key=len, reverse=True))


_SIZE_OF = {word: size for size, group in SIZE_WORDS.items() for word in group}
_COUNT_OF = {word: count for count, group in NUMBERS.items() for word in group}
_SHAPE_OF = {**{shape: shape for shape in SHAPES}, **{many: shape for shape, many in PLURALS.items()}}
_RELATION_OF = {wording: key for key, group in RELATIONS.items() for wording in group}
_NOUN = f"({_either(_COUNT_OF)}) ({_either(_SIZE_OF)}) ({_either(COLOURS)}) ({_either(_SHAPE_OF)})"
_CORE = re.compile(f"{_NOUN}(?: ({_either(_RELATION_OF)}) {_NOUN})?")
# Where the frame has a verb, it says whether several objects follow.
_BE: dict[bool, tuple[tuple[str, bool | None], ...]] = {True: (("is", False), ("are", True)), False: (("", None),)}
_PATTERNS = [
    (
        re.compile(frame.format(core="(?P<core>.+?)", be=be, background=f"(?P<background>{_either(BACKGROUNDS)})")),
        plural,
    )
    for frame in FRAMES
    for be, plural in _BE["{be}" in frame]
]


def _scene(core: str, background: str, plural: bool | None) -> Scene | None:
    match = _CORE.fullmatch(core)
    if match is None:
        return None
    number, size, colour, shape, relation, *other = match.groups()
    count = _COUNT_OF[number]
    thing = _thing(count, size, colour, shape)
    if thing is None or (plural is not None and plural != (count > 1)):
        return None
    if relation is None:
        return Scene("single" if count == 1 else "count", count, background, thing)
    second = _thing(_COUNT_OF[other[0]], *other[1:])
    if second is None or count != 1 or _COUNT_OF[other[0]] != 1:
        return None
    if thing.shape == second.shape or thing.colour == second.colour:
        return None
    axis, in_order = _RELATION_OF[relation]
    first, last = (thing, second) if in_order else (second, thing)
    return Scene("relation", 2, background, first, last, axis)


def _thing(count: int, size: str, colour: str, shape: str) -> Thing | None:
    if (shape in PLURALS) != (count == 1):
        return None
    return Thing(_SHAPE_OF[shape], colour, _SIZE_OF[size])
