"""Pictures that cannot be scored: named, counted, left out where that is asked for; black ones count."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from drawn_pictures import SIDE, draw, items_of, run
from PIL import Image

from t2i_track.errors import BadImages
from t2i_track.metrics.inputs import ImageItem
from t2i_track.metrics.reference import open_reference


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def some(tmp_path: Path) -> list[ImageItem]:
    return items_of(draw(tmp_path / "some", 12, 3))


def spoil(image: ImageItem, how: str) -> ImageItem:
    if how == "truncated":
        image.path.write_bytes(image.path.read_bytes()[:200])
    elif how == "not a picture":
        image.path.write_text("hello")
    elif how == "missing":
        image.path.unlink()
    elif how == "wrong size":
        Image.new("RGB", (32, 64)).save(image.path)
    return replace(image, sha256=hashlib.sha256(how.encode()).hexdigest())


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("truncated", "truncated"),
        ("not a picture", "cannot identify image file"),
        ("missing", "No such file"),
        ("wrong size", "32x64, not 64x64"),
    ],
)
def test_bad_images(some: list[ImageItem], cache: Path, how: str, reason: str) -> None:
    some[4] = spoil(some[4], how)
    with pytest.raises(BadImages, match=f"1 of 12 pictures cannot be scored: 000004.png.*{reason}.*--skip-bad"):
        run(some, cache)
    found = run(some, cache, skip_bad=True)
    assert [r.n for r in found.results] == [11, 11]
    assert found.results[0].protocol.n == 11
    assert found.warnings[0].startswith("1 of 12 pictures were left out: 000004.png")


def test_many_bad_images_are_counted(some: list[ImageItem], cache: Path) -> None:
    spoilt = [replace(spoil(i, "not a picture"), sha256=f"{n:064x}") for n, i in enumerate(some[:7])]
    with pytest.raises(BadImages, match=r"7 of 12 .*000004.png \(.*\) and 2 more; repair"):
        run([*spoilt, *some[7:]], cache)


def test_nothing_readable(some: list[ImageItem], cache: Path) -> None:
    spoilt = [spoil(i, "not a picture") for i in some]
    with pytest.raises(BadImages, match="none of the 12 pictures can be read"):
        run(spoilt, cache, skip_bad=True)


def test_bad_reference_pictures(some: list[ImageItem], tmp_path: Path) -> None:
    folder = draw(tmp_path / "reference", 10, 5)
    (folder / "000003.png").write_text("hello")
    bad = open_reference(folder, tmp_path)
    with pytest.raises(BadImages, match=r"1 of 10 reference pictures cannot be scored: 000003\.png"):
        run(some, tmp_path, metrics=["fid"], reference=bad)
    fid = run(some, tmp_path, metrics=["fid"], reference=bad, skip_bad=True).results[0]
    assert fid.protocol.reference_n == 9
    assert fid.protocol.reference_sha256 != bad.sha256


def test_black_images_count_and_are_reported(some: list[ImageItem], cache: Path) -> None:
    Image.new("RGB", (SIDE, SIDE)).save(some[2].path)
    some[2] = replace(some[2], sha256="0" * 64)
    for _ in range(2):  # from the picture, then from the cache
        found = run(some, cache)
        assert found.warnings == ["1 of 12 pictures are all black, as a safety checker leaves them; they count"]
        assert found.results[0].n == 12
        assert found.results[0].note == (
            "no interval: 12 images in 10 splits score at most 1.2, 5 to a split are needed; 1 all black"
        )
