"""Pictures of every kind to RGB: 16 bits, alpha, palettes, CMYK, EXIF; and what cannot be said in 8 bits is refused."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from t2i_track.images import png
from t2i_track.metrics.inputs import ImageItem, common_size, file_key, read
from t2i_track.pictures import UnreadablePicture, decode, is_plain, size_of

RNG = np.random.default_rng(1)
DEEP = RNG.integers(0, 65536, (12, 16), dtype=np.uint16)
HIGH = (DEEP >> 8).astype(np.uint8)
GRAY = np.stack([HIGH] * 3, axis=2)
COLOURS = RNG.integers(0, 256, (12, 16, 3), dtype=np.uint8)


def pixels(path: Path) -> np.ndarray[Any, Any]:
    return np.asarray(decode(path))


def png_of(path: Path, values: np.ndarray[Any, Any], colour: int, *, depth: int = 16) -> Path:
    """A PNG that Pillow cannot write: gray (0), RGB (2), gray and alpha (4) or RGBA (6) of 16 bits."""
    height, width = values.shape[:2]
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values.reshape(height, -1))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    )
    return path


def tiff_of(path: Path, tags: dict[int, tuple[int, int]], data: bytes) -> Path:
    """A TIFF of one strip that Pillow cannot write; tag -> (type, value)."""
    tags = {**tags, 273: (4, 8), 279: (4, len(data))}
    entries = b"".join(
        struct.pack("<HHI", tag, kind, 1) + struct.pack("<I" if kind == 4 else "<HH", value, *([0] * (kind == 3)))
        for tag, (kind, value) in sorted(tags.items())
    )
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory)
    return path


def gray_tiff(path: Path, *, photometric: int = 1, bits: int = 16, data: bytes | None = None) -> Path:
    height, width = DEEP.shape
    tags = {256: (3, width), 257: (3, height), 258: (3, bits), 259: (3, 1), 262: (3, photometric), 277: (3, 1)}
    return tiff_of(path, {**tags, 278: (3, height)}, DEEP.astype("<u2").tobytes() if data is None else data)


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.TIFF", "x.pgm"])
def test_sixteen_bits_of_gray_are_scaled_and_not_clipped(name: str, tmp_path: Path) -> None:
    Image.fromarray(DEEP).save(tmp_path / name)
    assert (pixels(tmp_path / name) == GRAY).all()
    assert (read(tmp_path / name, (16, 12)).pixels == GRAY).all()
    assert (png.read_pixels(tmp_path / name) == GRAY).all()


def test_sixteen_bits_of_colour_too(tmp_path: Path) -> None:
    colour = RNG.integers(0, 65536, (12, 16, 3), dtype=np.uint16)
    assert (pixels(png_of(tmp_path / "x.png", colour, 2)) == colour >> 8).all()
    opaque = np.dstack([colour, np.full((12, 16), 65535, np.uint16)])
    assert (pixels(png_of(tmp_path / "y.png", opaque, 6)) == colour >> 8).all()
    white = np.dstack([DEEP, np.zeros((12, 16), np.uint16)])
    assert (pixels(png_of(tmp_path / "z.png", white, 4)) == 255).all()


def test_tiffs_that_other_programs_write(tmp_path: Path) -> None:
    assert (pixels(gray_tiff(tmp_path / "x.tif")) == GRAY).all()
    assert (pixels(gray_tiff(tmp_path / "x.tif", photometric=0)) == 255 - GRAY).all()
    Image.fromarray(DEEP.astype(">u2")).save(tmp_path / "b.tif")
    assert (pixels(tmp_path / "b.tif") == GRAY).all()


def test_the_same_picture_of_8_and_16_bits_is_equal(tmp_path: Path) -> None:
    for times in (256, 257):
        png_of(tmp_path / "deep.png", HIGH.astype(np.uint16) * times, 0)
        Image.fromarray(HIGH).save(tmp_path / "flat.png")
        assert (pixels(tmp_path / "deep.png") == pixels(tmp_path / "flat.png")).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_lies_on_white(mode: str, tmp_path: Path) -> None:
    whole = Image.fromarray(np.dstack([COLOURS, np.full((12, 16), 255, np.uint8)]), "RGBA")
    whole.paste((10, 200, 30, 0), (0, 0, 4, 4))
    picture = whole.convert(mode) if mode != "P" else whole.quantize(64)
    picture.save(tmp_path / "x.png")
    assert (pixels(tmp_path / "x.png")[:4, :4] == 255).all()
    assert not is_plain(tmp_path / "x.png")
    opaque = Image.fromarray(np.dstack([COLOURS, np.full((12, 16), 255, np.uint8)]), "RGBA").convert(mode)
    opaque.save(tmp_path / "y.png")
    assert (pixels(tmp_path / "y.png") == np.asarray(opaque.convert("RGB"))).all()
    assert is_plain(tmp_path / "y.png")


def test_a_transparent_colour_lies_on_white(tmp_path: Path) -> None:
    picture = Image.fromarray(COLOURS)
    picture.putpixel((0, 0), (1, 2, 3))
    picture.save(tmp_path / "x.png", transparency=(1, 2, 3))
    assert pixels(tmp_path / "x.png")[0, 0].tolist() == [255, 255, 255]
    assert (pixels(tmp_path / "x.png").reshape(-1, 3)[1:] == COLOURS.reshape(-1, 3)[1:]).all()


@pytest.mark.parametrize("ending", ["jpg", "webp", "png", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_stand_upright(ending: str, orientation: int, tmp_path: Path) -> None:
    upright = Image.fromarray(np.kron(COLOURS[:3, :4], np.ones((16, 16, 1), np.uint8)))
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"x.{ending}"
    stored.save(path, exif=exif, quality=95)
    assert decode(path).size == size_of(path) == upright.size
    assert common_size([ImageItem(path, "")]) == upright.size
    near = np.abs(pixels(path).astype(int) - np.asarray(upright).astype(int))
    assert np.median(near) < 6


@pytest.mark.parametrize(
    ("mode", "ending"),
    [("RGB", "png"), ("L", "jpg"), ("1", "png"), ("P", "png"), ("P", "bmp"), ("CMYK", "jpg"), ("CMYK", "tif"),
     ("YCbCr", "tif"), ("RGB", "webp"), ("RGB", "jfif"), ("RGB", "ppm")],
)  # fmt: skip
def test_ordinary_pictures_are_what_they_were(mode: str, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{ending}"
    Image.fromarray(COLOURS).convert(mode).save(path)
    with Image.open(path) as image:
        assert (pixels(path) == np.asarray(image.convert("RGB"))).all()
    assert is_plain(path)


def several(path: Path, image: Image.Image) -> None:
    image.save(path, save_all=True, append_images=[image.rotate(90), image.rotate(180)])


@pytest.mark.parametrize(
    ("name", "write", "reason"),
    [
        ("x.png", lambda path: path.write_bytes(b""), "an empty file"),
        ("x.png", lambda path: path.write_text("hello"), "cannot identify image file"),
        ("x.jpg", lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid x"), "git lfs pull"),
        ("x.png", lambda path: None, "No such file or directory"),
        ("x.png", lambda path: path.mkdir(), "Is a directory"),
        ("x.tif", lambda path: Image.fromarray(DEEP.astype(np.int32)).save(path), "(I) have no agreed range"),
        ("x.tif", lambda path: Image.fromarray(DEEP.astype(np.float32)).save(path), "(F) have no agreed range"),
        ("x.tif", lambda path: several(path, Image.fromarray(COLOURS)), "it has 3 frames"),
        ("x.webp", lambda path: several(path, Image.fromarray(COLOURS)), "it has 3 frames"),
        ("x.png", lambda path: several(path, Image.fromarray(COLOURS)), "it has 3 frames"),
    ],
)
def test_what_cannot_be_said_in_rgb_is_refused(
    name: str, write: Callable[[Path], Any], reason: str, tmp_path: Path
) -> None:
    write(tmp_path / name)
    with pytest.raises(UnreadablePicture) as caught:
        decode(tmp_path / name)
    assert reason in str(caught.value)
    assert name not in str(caught.value)


@given(st.data())
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_spoilt_file_is_a_picture_or_a_reason(tmp_path: Path, data: st.DataObject) -> None:
    ending = data.draw(st.sampled_from(["png", "jpg", "tif", "webp", "bmp", "ppm"]))
    path = tmp_path / f"x.{ending}"
    if not path.exists():
        Image.fromarray(COLOURS).save(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    broken = tmp_path / f"broken.{ending}"
    broken.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    file_key(broken)
    try:
        found = decode(broken)
    except UnreadablePicture:
        return
    assert found.mode == "RGB"


def test_files_that_were_decoded_otherwise_have_another_key(tmp_path: Path) -> None:
    """So that features of clipped pixels that are in a cache, and scores of them, are not taken for these."""
    Image.fromarray(DEEP).save(tmp_path / "deep.png")
    Image.fromarray(HIGH).save(tmp_path / "flat.png")
    (tmp_path / "copy.png").write_bytes((tmp_path / "deep.png").read_bytes())
    from t2i_track.metrics.cache import sha256

    assert file_key(tmp_path / "flat.png") == sha256(tmp_path / "flat.png")
    assert file_key(tmp_path / "deep.png") == file_key(tmp_path / "copy.png") != sha256(tmp_path / "deep.png")
