from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from t2i_track.images import png

RECORD = {
    "prompt": "two red stars, 星, 🦊",
    "negative_prompt": "blurred",
    "steps": 30,
    "scheduler": "pndm",
    "guidance": 7.5,
    "seed": 5,
    "width": 4,
    "height": 3,
    "weights_sha256": "0123456789abcdef",
    "model": "folder/shapes-sd",
}
PIXELS = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ((123, 0, 99), "000123-99.png"),
        ((0, 2, 4294967295), "000000.2-4294967295.png"),
        ((10**6, 0, 1), "1000000-1.png"),
    ],
)
def test_file_names(place: tuple[int, int, int], name: str) -> None:
    assert png.file_name(*place) == name


def test_png_carries_its_record(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png.encode(PIXELS, RECORD))
    assert png.read_record(path) == RECORD
    np.testing.assert_array_equal(png.read_pixels(path), PIXELS)
    with Image.open(path) as image:
        assert image.text["parameters"] == (
            "two red stars, 星, 🦊\nNegative prompt: blurred\nSteps: 30, Sampler: PLMS, CFG scale: 7.5, Seed: 5,"
            " Size: 4x3, Model hash: 0123456789, Model: shapes-sd"
        )


def test_a_marked_png_says_in_xmp_that_a_model_made_it(tmp_path: Path) -> None:
    path, plain = tmp_path / "a.png", tmp_path / "plain.png"
    path.write_bytes(png.encode(PIXELS, RECORD, marked=True))
    plain.write_bytes(png.encode(PIXELS, RECORD))
    assert (png.is_marked(path), png.is_marked(plain)) == (True, False)
    assert png.read_record(path) == RECORD
    np.testing.assert_array_equal(png.read_pixels(path), PIXELS)
    with Image.open(path) as image:
        packet = image.info[png.XMP_CHUNK]
        assert image.text["parameters"].startswith(RECORD["prompt"])
    (description,) = ElementTree.fromstring(packet.encode()).iter(
        "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
    )
    assert description.text == "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    assert path.read_bytes().index(b"XML:com.adobe.xmp\0\0\0\0\0") < path.read_bytes().index(b"IDAT"), "uncompressed"


def test_a_picture_of_others_has_no_record(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "b.png")
    Image.fromarray(PIXELS).save(tmp_path / "b.jpg")
    assert png.read_record(tmp_path / "b.png") is None
    assert png.read_record(tmp_path / "b.jpg") is None


def test_pixel_hash_knows_the_shape() -> None:
    assert png.pixels_sha256(PIXELS) != png.pixels_sha256(PIXELS.reshape(4, 3, 3))
