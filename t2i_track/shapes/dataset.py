"""Which scenes, in which split, and the data set on disk in COCO's layout."""

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from t2i_track.files import write_atomically
from t2i_track.shapes.captions import caption
from t2i_track.shapes.drawing import SIDE, draw
from t2i_track.shapes.scene import AXES, BACKGROUNDS, COLOURS, COUNTS, SHAPES, SIZES, Scene, Thing
from t2i_track.shapes.stream import Stream

SPLITS = ("train", "val", "reference")
SHARES = (("single", 25), ("count", 35), ("relation", 40))  # in percent
TRIES = 64  # draws for a caption not seen before in the split


@dataclass(frozen=True, slots=True)
class Row:
    """One picture of the data set; `seed` is what `draw` takes."""

    image_id: int
    split: str
    scene: Scene
    caption: str
    seed: int

    @property
    def file_name(self) -> str:
        """The picture's path below `images/`."""
        return f"{self.split}/{self.image_id:012d}.png"


def split_of(scene: Scene) -> str:
    """The one split that may show this attribute tuple: 1/16 val, 1/8 reference, the rest train."""
    bucket = hashlib.sha256(scene.key().encode()).digest()[0] % 16
    return "val" if bucket == 0 else "reference" if bucket < 3 else "train"


def rows(split: str, num: int, seed: int = 0) -> Iterator[Row]:
    """The first `num` rows of a split's endless sequence: a longer draw starts with the shorter one."""
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is not one of {', '.join(SPLITS)}")
    return islice(_sequence(split, seed), num)


def scenes(split: str, num: int, seed: int = 0) -> list[Scene]:
    return [row.scene for row in rows(split, num, seed)]


def _sequence(split: str, seed: int) -> Iterator[Row]:
    code = SPLITS.index(split)
    stream = Stream(0xDA7A, code, seed)
    seen: set[str] = set()
    number = 0
    while True:
        number += 1
        kind = _kind(stream)
        for _ in range(TRIES):
            scene = _scene(kind, split, stream)
            text = caption(scene, stream)
            # Train may repeat a caption: it has more pictures than there are wordings of single objects.
            if split == "train" or text not in seen:
                break
        seen.add(text)
        yield Row(code * 100_000_000 + number, split, scene, text, stream.below(2**32))


def _kind(stream: Stream) -> str:
    draw_ = stream.below(100)
    for kind, share in SHARES:
        if draw_ < share:
            return kind
        draw_ -= share
    raise AssertionError("the shares add up to 100")


def _scene(kind: str, split: str, stream: Stream) -> Scene:
    while True:
        background = stream.pick(tuple(BACKGROUNDS))
        first = _thing(stream)
        if kind != "relation":
            count = 1 if kind == "single" else stream.pick(COUNTS[1:])
            scene = Scene(kind, count, background, first)
        else:
            second = _thing(stream)
            if first.shape == second.shape or first.colour == second.colour:
                continue
            scene = Scene(kind, 2, background, first, second, stream.pick(AXES[1:]))
        if split_of(scene) == split:
            return scene


def _thing(stream: Stream) -> Thing:
    return Thing(stream.pick(SHAPES), stream.pick(tuple(COLOURS)), stream.pick(SIZES))


def manifest_rows(split: str = "val", num: int = 512, seed: int = 0) -> list[dict[str, str | int]]:
    """The columns of a manifest, without drawing a picture; `image_path` is where `write` would put it."""
    return [
        {
            "image_id": row.image_id,
            "caption_id": row.image_id,
            "image_path": f"images/{row.file_name}",
            "caption": row.caption,
        }
        for row in rows(split, num, seed)
    ]


def write(out: Path | str, num: int = 2048, seed: int = 0, splits: Sequence[str] = SPLITS) -> int:
    """Draw `num` pictures of each split under `out`, in COCO's layout; returns the number of pictures.

    Every file appears whole or not at all, annotations after their pictures; a second call writes the same.
    """
    out = Path(out)
    drawn: list[Row] = []
    for split in splits:
        listed = list(rows(split, num, seed))
        for row in listed:
            write_atomically(out / "images" / row.file_name, _png(row), parents=True)
        write_atomically(out / "annotations" / f"captions_{split}.json", _json(_coco(listed, seed)), parents=True)
        drawn += listed
    attributes = [{"image_id": row.image_id, "split": row.split, **row.scene.attributes()} for row in drawn]
    write_atomically(out / "annotations" / "attributes.json", _json({"images": attributes}), parents=True)
    write_atomically(out / "annotations" / "captions.json", _json(_coco(drawn, seed)), parents=True)
    return len(drawn)


def _coco(listed: list[Row], seed: int) -> dict[str, object]:
    return {
        "info": {"description": "t2i-track shapes", "version": "1", "seed": seed},
        "licenses": [{"id": 1, "name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"}],
        "images": [
            {"id": row.image_id, "file_name": row.file_name, "width": SIDE, "height": SIDE, "license": 1}
            for row in listed
        ],
        "annotations": [{"id": row.image_id, "image_id": row.image_id, "caption": row.caption} for row in listed],
    }


def _png(row: Row) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(draw(row.scene, row.seed)).save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def _json(document: object) -> bytes:
    return json.dumps(document, indent=1).encode()
