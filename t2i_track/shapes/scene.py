"""What a picture shows, as attributes: the common ground of drawing, captions, splits and the judge."""

from dataclasses import dataclass

SHAPES = ("circle", "square", "triangle", "star", "cross")
COLOURS = {
    "red": (224, 24, 36),
    "orange": (252, 128, 8),
    "yellow": (250, 218, 24),
    "green": (20, 152, 52),
    "cyan": (0, 200, 222),
    "blue": (28, 72, 236),
    "pink": (255, 84, 192),
}
# Far from every colour above, so that no object can vanish into its background.
BACKGROUNDS = {
    "white": (248, 248, 248),
    "grey": (156, 156, 156),
    "black": (14, 14, 14),
    "navy": (16, 18, 86),
    "brown": (94, 60, 36),
    "beige": (238, 216, 170),
}
SIZES = ("small", "large")
AXES = ("none", "horizontal", "vertical")
COUNTS = (1, 2, 3, 4)
KINDS = ("single", "count", "relation")

# The attributes as classification heads: name -> class names. The order is part of the trained weights.
HEADS: dict[str, tuple[str, ...]] = {
    "count": tuple(str(n) for n in COUNTS),
    "background": tuple(BACKGROUNDS),
    "axis": AXES,
    "shape1": SHAPES,
    "colour1": tuple(COLOURS),
    "size1": SIZES,
    "shape2": (*SHAPES, "none"),
    "colour2": (*COLOURS, "none"),
    "size2": (*SIZES, "none"),
}


@dataclass(frozen=True, slots=True)
class Thing:
    """One object, or one kind of object where several alike are shown."""

    shape: str
    colour: str
    size: str

    def __post_init__(self) -> None:
        _among("shape", self.shape, SHAPES)
        _among("colour", self.colour, tuple(COLOURS))
        _among("size", self.size, SIZES)


@dataclass(frozen=True, slots=True)
class Scene:
    """A scene in canonical form: in a relation `first` is the left-most or the top-most object."""

    kind: str
    count: int
    background: str
    first: Thing
    second: Thing | None = None
    axis: str = "none"

    def __post_init__(self) -> None:
        _among("background", self.background, tuple(BACKGROUNDS))
        if self.kind == "relation":
            _among("axis", self.axis, AXES[1:])
            if self.second is None or self.count != 2:
                raise ValueError("a relation has two objects")
            if self.first.shape == self.second.shape or self.first.colour == self.second.colour:
                raise ValueError("the objects of a relation differ in shape and colour")
            return
        _among("kind", self.kind, KINDS)
        _among("count", self.count, (1,) if self.kind == "single" else COUNTS[1:])
        if self.second is not None or self.axis != "none":
            raise ValueError(f"a {self.kind} scene has one kind of object and no axis")

    def attributes(self) -> dict[str, str]:
        """The class name under every head of `HEADS`."""
        second = self.second
        return {
            "count": str(self.count),
            "background": self.background,
            "axis": self.axis,
            "shape1": self.first.shape,
            "colour1": self.first.colour,
            "size1": self.first.size,
            "shape2": second.shape if second else "none",
            "colour2": second.colour if second else "none",
            "size2": second.size if second else "none",
        }

    def labels(self) -> list[int]:
        """The class index under every head, in the order of `HEADS`."""
        return [HEADS[head].index(name) for head, name in self.attributes().items()]

    def key(self) -> str:
        """The attribute tuple as text: what a split is decided by."""
        return "|".join(self.attributes().values())

    @classmethod
    def from_attributes(cls, attributes: dict[str, str]) -> "Scene":
        """The inverse of `attributes`."""
        a = attributes
        first = Thing(a["shape1"], a["colour1"], a["size1"])
        if a["axis"] != "none":
            second = Thing(a["shape2"], a["colour2"], a["size2"])
            return cls("relation", 2, a["background"], first, second, a["axis"])
        count = int(a["count"])
        return cls("single" if count == 1 else "count", count, a["background"], first)


def _among(name: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} {value!r} is not one of {', '.join(map(str, allowed))}")
