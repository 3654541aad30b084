"""What a user names as a reference: a folder as people have it, a manifest, a file of statistics."""

from __future__ import annotations

import gzip
import os
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from t2i_track.errors import BadImages, MetricError
from t2i_track.metrics.evaluate import evaluate
from t2i_track.metrics.folder import look_through
from t2i_track.metrics.inputs import ImageItem
from t2i_track.metrics.measurable import default_metrics, too_small_for
from t2i_track.metrics.reference import Reference, open_reference


def picture(path: Path, shade: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16), (shade % 256, 80, 200)).save(path)
    return path


def names(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in look_through(folder).pictures]


def test_a_folder_for_each_class_with_an_editor_s_copies(tmp_path: Path) -> None:
    for n in range(6):
        path = picture(tmp_path / "ab"[n // 3] / f"{n}.png", n)
        if n < 3:
            shutil.copytree(path.parent, path.parent / ".ipynb_checkpoints", dirs_exist_ok=True,
                            ignore=lambda *_: [".ipynb_checkpoints"])  # fmt: skip
    found = open_reference(tmp_path, tmp_path / "cache")
    assert found.n == 6
    assert found.said == (
        "6 pictures used, 3 files left out (3 hidden: a/.ipynb_checkpoints/0.png, a/.ipynb_checkpoints/1.png,"
        " a/.ipynb_checkpoints/2.png)"
    )


@pytest.mark.parametrize(
    ("stray", "reason"),
    [
        (".DS_Store", "hidden"),
        ("._0.png", "hidden"),
        (".0.png.swp", "hidden"),
        (".thumbs/0.png", "hidden"),
        (".git/x/0.png", "hidden"),
        ("__MACOSX/0.png", "of the system"),
        ("@eaDir/0.jpg", "of the system"),
        ("Thumbs.db", "of the system"),
        ("DESKTOP.INI", "of the system"),
        ("0.png~", "editors' copies"),
        ("0 copy.png", "editors' copies"),
        ("0 copy 2.png", "editors' copies"),
        ("0 - Copy.png", "editors' copies"),
        ("0 - Copy (3).png", "editors' copies"),
        ("0 (copy).png", "editors' copies"),
        ("0-Copy1.png", "editors' copies"),
        ("captions.csv", "not pictures by their ending"),
        ("0.png.txt", "not pictures by their ending"),
        ("0.svg", "not pictures by their ending"),
        ("noending", "not pictures by their ending"),
    ],
)
def test_what_is_no_picture_is_left_out_and_said(stray: str, reason: str, tmp_path: Path) -> None:
    picture(tmp_path / "0.png")
    picture(tmp_path / "1.png")
    (tmp_path / stray).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(tmp_path / "0.png", tmp_path / stray)
    found = look_through(tmp_path)
    assert found.said() == f"2 pictures used, 1 file left out (1 {reason}: {stray})"
    assert [path.name for path in found.pictures] == ["0.png", "1.png"]


@pytest.mark.parametrize(
    "name", ["x.tif", "x.TIFF", "x.JFIF", "x.jpe", "x.webp", "x.BMP", "x.PNG", "a hard copy.png", "x~1.png", "x y.JPG",
             "back\\slash.png", "neue\nzeile.png", "猫.png", "x.ppm", "copy.png", "-rf.png"],
)  # fmt: skip
def test_what_is_a_picture_is_used(name: str, tmp_path: Path) -> None:
    (folder := tmp_path / "r").mkdir()
    Image.new("RGB", (4, 4)).save(folder / name)
    assert names(folder) == [name]
    found = open_reference(folder, tmp_path / "cache")
    assert (found.n, found.said) == (1, "1 picture used, 0 files left out")


def test_names_that_are_no_text(tmp_path: Path) -> None:
    picture(tmp_path / "0.png")
    shutil.copyfile(tmp_path / "0.png", os.path.join(os.fsencode(tmp_path), b"\xff.png"))  # noqa: PTH118 (bytes)
    assert open_reference(tmp_path, tmp_path / "cache").n == 2


def test_pictures_beside_folders_are_used_and_counted_apart(tmp_path: Path) -> None:
    for name in ("top.png", "b/0.png", "b/1.png", "a/2.png", "x.png/3.png"):
        picture(tmp_path / name)
    assert names(tmp_path) == ["a/2.png", "b/0.png", "b/1.png", "top.png", "x.png/3.png"]
    assert look_through(tmp_path).said() == "5 pictures used (1 beside the 3 folders a, b, x.png), 0 files left out"


def test_equal_pictures_are_counted(tmp_path: Path) -> None:
    for n in (1, 2, 2, 2):
        picture(tmp_path / "r" / f"{len(list(tmp_path.rglob('*.png')))}.png", n)
    found = open_reference(tmp_path / "r", tmp_path / "cache")
    assert found.said == "4 pictures used, 0 files left out; 2 of the pictures are equal to another"


def test_links(tmp_path: Path) -> None:
    picture(tmp_path / "elsewhere" / "0.png")
    folder = tmp_path / "reference"
    picture(folder / "1.png")
    (folder / "broken.png").symlink_to(tmp_path / "nothing.png")
    (folder / "linked.png").symlink_to(tmp_path / "elsewhere" / "0.png")
    (folder / "class").symlink_to(tmp_path / "elsewhere")
    (folder / "class2").symlink_to(tmp_path / "elsewhere")
    (folder / "loop").symlink_to(folder)
    os.mkfifo(folder / "pipe.png")
    assert names(folder) == ["1.png", "class/0.png", "linked.png"]
    said = look_through(folder).said()
    assert "4 files left out (1 broken links: broken.png;" in said
    assert "2 in folders that links show again: class2, loop" in said
    assert "1 no files: pipe.png" in said


@pytest.mark.parametrize("fill", [lambda folder: None, lambda folder: (folder / "x.csv").touch()])
def test_a_folder_without_pictures(fill: Callable[[Path], Any], tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    fill(tmp_path / "f")
    with pytest.raises(MetricError, match=r"has no pictures: 0 pictures used, [01] files? left out.*; name another"):
        open_reference(tmp_path / "f", tmp_path / "cache")


def test_the_hash_of_ordinary_folders_stays(tmp_path: Path) -> None:
    """Over the hashes of the files in order of their paths, as scores that are stored have it."""
    from t2i_track.metrics.cache import sha256
    from t2i_track.metrics.protocol import digest

    for folder in ("flat", "deep/b", "deep/a"):
        for n in range(3):
            picture(tmp_path / folder / f"{n}.png", 3 * n)
    for folder in ("flat", "deep"):
        paths = sorted((tmp_path / folder).rglob("*.png"))
        assert open_reference(tmp_path / folder, tmp_path / "c").sha256 == digest([sha256(path) for path in paths])


def test_bad_pictures_are_named_by_their_own_path(tmp_path: Path) -> None:
    """Pictures of several folders have one name, and two bad files may be equal."""
    for n in range(4):
        picture(tmp_path / "r" / "ab"[n // 2] / f"{n % 2}.png", n)
    for bad in ("a/1.png", "b/0.png"):
        (tmp_path / "r" / bad).write_text("hello")
    ours = [ImageItem(picture(tmp_path / "o" / f"{n}.png", 9 * n), f"{n:064x}") for n in range(4)]
    reference = open_reference(tmp_path / "r", tmp_path / "cache")
    expected = (
        r"2 of 4 reference pictures cannot be scored: a/1.png \(cannot identify image file\), b/0.png \(cannot id"
    )
    with pytest.raises(BadImages, match=expected):
        evaluate(ours, metrics=["fid"], reference=reference, cache_dir=tmp_path / "cache")
    found = evaluate(ours, metrics=["fid"], reference=reference, cache_dir=tmp_path / "cache", skip_bad=True)
    assert found.results[0].protocol.reference_n == 2


def small(number: int, tmp_path: Path) -> Reference:
    for n in range(number):
        picture(tmp_path / f"{number}" / f"{n}.png", n)
    return open_reference(tmp_path / f"{number}", tmp_path / "cache")


@pytest.mark.parametrize(
    ("metric", "number"), [("fid", 1), ("kid", 1), ("cmmd", 1), ("fid_infinity", 1), ("prc", 3), ("dc", 5)]
)
def test_a_reference_that_is_too_small_is_refused_before_a_picture_is_opened(
    metric: str, number: int, tmp_path: Path
) -> None:
    ours = [ImageItem(tmp_path / "nowhere.png", f"{n:064x}") for n in range(12)]
    reference = small(number, tmp_path)
    message = rf"^{metric} needs a reference of {number + 1} pictures, and '.*' has {number} pictures?: add pictures"
    options: dict[str, Any] = {"clip": "shapes", "cache_dir": tmp_path / "cache", "size": (16, 16)}
    with pytest.raises(MetricError, match=message):
        evaluate(ours, metrics=["is", metric], reference=reference, **options)
    with pytest.raises(BadImages, match="12 of 12 pictures cannot be scored"):
        evaluate(ours, metrics=["is", metric], reference=small(number + 1, tmp_path), **options)


def test_metrics_that_a_small_reference_does_not_allow_are_said(tmp_path: Path) -> None:
    ours = [ImageItem(tmp_path / f"{n}.png", f"{n:064x}", f"prompt {n}") for n in range(12)]
    few = replace(small(4, tmp_path), label="r")
    assert "dc" not in default_metrics("shapes", few, None, ours)
    assert "prc" in default_metrics("shapes", few, None, ours)
    assert too_small_for("shapes", few, None, ours) == [
        "not measured: dc needs a reference of 6 pictures, and 'r' has 4 pictures"
    ]
    with pytest.raises(MetricError, match=r"fid needs a reference of 2 pictures, and .* has 1 picture: add pictures"):
        default_metrics("shapes", small(1, tmp_path), None, ours)
    assert too_small_for("shapes", small(6, tmp_path), None, ours) == []


def test_a_manifest_says_what_it_names(tmp_path: Path) -> None:
    picture(tmp_path / "p" / "0.png")
    picture(tmp_path / "p" / "1.png", 9)
    (tmp_path / "m.csv").write_text("image_path,caption\np/0.png,a\np/0.png,b\np/1.png,c\n,d\n")
    found = open_reference(tmp_path / "m.csv", tmp_path / "c")
    assert found.said == "2 pictures used of 4 rows (1 name none, 1 name one again)"
    (tmp_path / "metadata.jsonl").write_text(
        '{"file_name":"p/0.png","text":"a"}\n{"file_name":"p\\\\1.png","text":"b"}\n'
    )
    again = open_reference(tmp_path / "metadata.jsonl", tmp_path / "c")
    assert again.sha256 == found.sha256
    assert again.said == "2 pictures used of 2 rows"
    (tmp_path / "m.json.gz").write_bytes(gzip.compress(b'[{"file_name":"p/0.png","text":"a"}]'))
    assert open_reference(tmp_path / "m.json.gz", tmp_path / "c").n == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.csv", "caption,x\na,b\n", r"names no pictures: it has no column image_path \(or file_name\) with the path"),
        ("m.jsonl", '{"text": "a"}', "names no pictures: it has no column image_path"),
        ("m.txt", "a", "names no pictures: it has no column image_path"),
        ("m.csv", "image_path,caption\nnone.png,b\n", r"1 reference pictures are missing, the first is .*none\.png"),
        ("m.PNG", "x", "is one picture; name its folder"),
    ],
)
def test_what_names_no_pictures(name: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(MetricError, match=message):
        open_reference(tmp_path / name, tmp_path / "c")


def zipped(path: Path, **members: bytes) -> None:
    with zipfile.ZipFile(path, "w") as file:
        for name, data in members.items():
            file.writestr(f"{name}.npy", data)


def cut(path: Path) -> None:
    np.savez(path, mu=np.zeros(40), sigma=np.eye(40))
    content = bytearray(path.read_bytes())
    content[200:2000] = os.urandom(1800)
    path.write_bytes(bytes(content))


def single(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


HEADER = b"{'descr': '<f8', 'fortran_order': False, 'shape': (999999999999,), }"
HUGE = b"\x93NUMPY\x01\x00v\x00" + HEADER.ljust(117) + b"\n"


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_bytes(b"PK\3\4junk"), "is not an .npz with mu and sigma, for an .npz is a zip file"),
        (lambda path: path.write_bytes(b""), "is a zip file and this is none"),
        (lambda path: path.write_text("version https://git-lfs"), "is a zip file and this is none"),
        (single, "is a zip file and this is none"),
        (lambda path: zipped(path), "it has no mu, its arrays are none; name another"),
        (lambda path: zipped(path, mu=b"hello", sigma=b"hello"), "mu holds .*, not real numbers"),
        (lambda path: zipped(path, mu=HUGE, sigma=HUGE), "is not an .npz with mu and sigma"),
        (cut, "is not an .npz with mu and sigma"),
        (lambda path: np.savez(path, mu=np.zeros(3)), "it has no sigma, its arrays are 'mu'; name another"),
        (lambda path: np.savez(path, arr_0=np.zeros((9, 3))), "it has no mu, its arrays are 'arr_0'; name another"),
        (
            lambda path: np.savez(path, mu=np.zeros(3), sigma=np.eye(2)),
            r"mu of shape \(3,\) and sigma of shape \(2, 2\)",
        ),
        (lambda path: np.savez(path, mu=np.zeros((1, 3)), sigma=np.eye(3)), r"mu of shape \(1, 3\)"),
        (lambda path: np.savez(path, mu=np.float64(0), sigma=np.eye(1)), r"mu of shape \(\)"),
        (lambda path: np.savez(path, mu=np.zeros(0), sigma=np.zeros((0, 0))), r"mu of shape \(0,\)"),
        (lambda path: np.savez(path, mu=np.array(["a"]), sigma=np.eye(1)), "mu holds <U1, not real numbers"),
        (lambda path: np.savez(path, mu=np.zeros(2), sigma=np.eye(2) * 1j), "sigma holds complex128, not real numbers"),
        (lambda path: np.savez(path, mu=np.array([np.nan, 0]), sigma=np.eye(2)), "mu has values that are not finite"),
        (
            lambda path: np.savez(path, mu=np.zeros(2), sigma=np.full((2, 2), np.inf)),
            "sigma has values that are not finite",
        ),
        (lambda path: np.savez(path, mu=np.zeros(2), sigma=np.triu(np.ones((2, 2)))), "sigma is not symmetric"),
        (lambda path: np.savez(path, mu=np.zeros(2), sigma=np.diag([2.0, -3.0])), r"a variance below 0 \(-3\)"),
        (
            lambda path: np.savez(path, mu=np.zeros(2), sigma=np.eye(2), n=np.zeros(2)),
            "n, the number of pictures, is ar",
        ),
        (lambda path: np.savez(path, mu=np.zeros(2), sigma=np.eye(2), n=np.nan), "n, the number of pictures, is ar"),
        (lambda path: np.savez(path, mu=np.zeros(2), sigma=np.eye(2), n="many"), "n, the number of pictures, is ar"),
    ],
)
def test_files_of_statistics_that_are_none(write: Callable[[Path], Any], message: str, tmp_path: Path) -> None:
    write(tmp_path / "x.npz")
    with pytest.raises(MetricError, match=message) as caught:
        open_reference(tmp_path / "x.npz", tmp_path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_files_of_statistics_that_are_good(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", mu=np.zeros(3, np.float32), sigma=np.eye(3), n=np.array([50]), other=np.zeros(1))
    found = open_reference(tmp_path / "x.npz", tmp_path)
    assert (found.n, found.statistics is not None) == (50, True)
    np.savez_compressed(tmp_path / "Y.NPZ".lower(), mu=np.zeros(3), sigma=np.eye(3))
    assert open_reference(tmp_path / "y.npz", tmp_path).n is None


@pytest.mark.parametrize("name", ["features.npy", "stats.PKL", "inception.pt", "stats.mat"])
def test_arrays_that_are_no_reference(name: str, tmp_path: Path) -> None:
    with (tmp_path / name).open("wb") as file:
        np.save(file, np.zeros((9, 3)))
    with pytest.raises(MetricError, match=r"ends in \.\w+: of arrays a reference is an \.npz with mu and sigma, as"):
        open_reference(tmp_path / name, tmp_path / "c")
    features = np.random.default_rng(0).normal(size=(9, 3))
    np.savez(tmp_path / "as_said", mu=features.mean(0), sigma=np.cov(features.T))
    assert open_reference(tmp_path / "as_said.npz", tmp_path / "c").statistics is not None
