"""Drawing captions from COCO's annotations: real ones where they are at hand, and hostile ones."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from t2i_track.errors import ManifestError, SettingsError
from t2i_track.prompts import coco, manifest
from t2i_track.prompts.coco import COLUMNS, Summary, sample

Document = dict[str, list[dict[str, Any]]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six images, 10.jpg to 15.jpg."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(10, 16):
        (folder / f"{number}.jpg").touch()
    return folder


def document() -> Document:
    """Two captions for each image; the caption of id 100 + n is of image 10 + n // 2."""
    images = [{"id": number, "file_name": f"{number}.jpg", "license": 1} for number in range(10, 16)]
    captions = [{"id": 100 + n, "image_id": 10 + n // 2, "caption": f"caption {n} has five words"} for n in range(12)]
    return {"images": images, "annotations": captions}


def draw(root: Path, content: object = None, **options: Any) -> tuple[list[dict[str, str]], Summary]:
    path, out = root.parent / "captions.json", root.parent / "out.csv"
    path.write_text(json.dumps(document() if content is None else content), "utf-8")
    summary = sample(path, root, out, **options)
    with out.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file)), summary


def test_one_caption_of_each_image(root: Path) -> None:
    rows, summary = draw(root)
    assert summary == Summary(6, 6, 12, missing=0, short=0, out_csv=root.parent / "out.csv")
    assert sorted(row["image_id"] for row in rows) == ["10", "11", "12", "13", "14", "15"]
    for row in rows:
        assert row["image_path"] == f"images/{row['image_id']}.jpg"
        assert row["caption"] == f"caption {int(row['caption_id']) - 100} has five words"
        assert int(row["image_id"]) == 10 + (int(row["caption_id"]) - 100) // 2


def test_the_draw_is_fixed(root: Path) -> None:
    """The same file and seed give the same manifest in every version, or published manifests cannot be made again.

    The expected order was worked out apart, with SplitMix64 in plain integers (its first output from a state of 0 is
    0xE220A8397B1DCDAF).
    """
    rows, _ = draw(root, seed=42)
    assert [row["caption_id"] for row in rows] == ["101", "109", "103", "107", "111", "105"]


def test_a_larger_draw_begins_with_the_smaller_one(root: Path) -> None:
    draws = [draw(root, k=k)[0] for k in (1, 3, 6, 50)]
    for smaller, larger in itertools.pairwise(draws):
        assert larger[: len(smaller)] == smaller


def test_the_order_of_the_file_does_not_matter(root: Path) -> None:
    expected, _ = draw(root, k=4)
    shuffled = document()
    for seed, rows in enumerate(shuffled.values()):
        random.Random(seed).shuffle(rows)
    assert draw(root, dict(reversed(shuffled.items())), k=4)[0] == expected


def test_blocks_do_not_change_the_order(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, _ = draw(root)
    for block in (1, 2, 5):
        monkeypatch.setattr(coco, "BLOCK", block)
        assert draw(root)[0] == expected


def test_seeds_draw_differently(root: Path) -> None:
    orders = {tuple(row["caption_id"] for row in draw(root, seed=seed)[0]) for seed in range(20)}
    assert len(orders) == 20


def test_every_caption_has_the_same_chance(root: Path) -> None:
    first = [draw(root, seed=seed, k=1)[0][0]["caption_id"] for seed in range(600)]
    counts = [first.count(str(100 + n)) for n in range(12)]
    assert 30 < min(counts) <= max(counts) < 75  # 50 each; a fair draw passes these limits in 99 % of all sets of seeds


def test_all_captions_of_an_image(root: Path) -> None:
    rows, summary = draw(root, captions_per_image="all")
    assert sorted(int(row["caption_id"]) for row in rows) == list(range(100, 112))
    assert (summary.kept, summary.images) == (12, 6)
    assert len(draw(root, captions_per_image="all", k=7)[0]) == 7


def test_short_captions_are_left_out(root: Path) -> None:
    content = document()
    content["annotations"][0]["caption"] = " only   four words\nhere "
    rows, summary = draw(root, content, captions_per_image="all")
    assert "100" not in {row["caption_id"] for row in rows}
    assert (summary.kept, summary.short) == (11, 1)
    assert len(draw(root, content, captions_per_image="all", min_len=4)[0]) == 12


def test_missing_images_are_counted_and_left_out(root: Path) -> None:
    (root / "12.jpg").unlink()
    (root / "13.jpg").unlink()
    (root / "13.jpg").mkdir()
    rows, summary = draw(root)
    assert sorted(row["image_id"] for row in rows) == ["10", "11", "14", "15"]
    assert (summary.kept, summary.missing) == (4, 2)
    rows, summary = draw(root, allow_missing=True, captions_per_image="all")
    assert (summary.kept, summary.images, summary.missing) == (12, 6, 2)
    assert {row["image_path"] for row in rows if row["image_id"] == "12"} == {"images/12.jpg"}


def test_captions_keep_their_characters_but_not_their_spaces(root: Path) -> None:
    content = document()
    captions = ["  Ein  Café\u00a0mit “Gästen” \n", 'a "quoted", comma\tand more words\r\n']
    for row, caption in zip(content["annotations"], captions, strict=False):
        row["caption"] = caption
    rows, _ = draw(root, content, captions_per_image="all", min_len=4)
    found = {row["caption_id"]: row["caption"] for row in rows}
    assert found["100"] == "Ein Café mit “Gästen”"
    assert found["101"] == 'a "quoted", comma and more words'
    loaded = manifest.load(root.parent / "out.csv")
    assert loaded.prompts == [row["caption"] for row in rows]
    assert loaded.entries[0].image_path == str(root / f"{rows[0]['image_id']}.jpg")


def test_images_outside_the_manifests_folder_are_absolute(root: Path, tmp_path: Path) -> None:
    (tmp_path / "captions.json").write_text(json.dumps(document()))
    out = tmp_path / "deep" / "er" / "out.csv"
    sample(tmp_path / "captions.json", root, out, k=1)
    assert out.read_text().splitlines()[0] == ",".join(COLUMNS)
    entry = manifest.load(out).entries[0]
    assert entry.image_path == f"{root}/{entry.image_id}.jpg"
    sample(tmp_path / "captions.json", root / ".." / "images", out, k=1)
    assert manifest.load(out).entries[0] == entry


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../out.jpg", "leads out"),
        ("a/../../out.jpg", "leads out"),
        ("..\\out.jpg", "leads out"),
        ("..", "not a file name"),
        ("", "not a file name"),
        ("a\0b.jpg", "not a file name"),
        ("/etc/passwd", "absolute"),
        ("C:\\x.jpg", "absolute"),
        ("C:x.jpg", "absolute"),
        ("\\\\server\\share\\x.jpg", "absolute"),
    ],
)
def test_names_that_lead_out_are_refused(name: str, reason: str, root: Path) -> None:
    content = document()
    content["images"][3]["file_name"] = name
    with pytest.raises(ManifestError, match="image 13 is refused") as caught:
        draw(root, content, allow_missing=True)
    assert reason in str(caught.value)
    assert not (root.parent / "out.csv").exists()


def test_windows_names_are_found(root: Path) -> None:
    (root / "train").mkdir()
    (root / "train" / "x.jpg").touch()
    (root / "a\\b.jpg").touch()
    content = document()
    content["images"][0]["file_name"] = "train\\x.jpg"
    content["images"][1]["file_name"] = "a\\b.jpg"
    content["images"][2]["file_name"] = "train\\none.jpg"
    rows, summary = draw(root, content)
    assert (summary.kept, summary.missing) == (5, 1)
    paths = {row["image_id"]: row["image_path"] for row in rows}
    assert (paths["10"], paths["11"]) == ("images/train/x.jpg", "images/a\\b.jpg")
    assert all(Path(entry.image_path or "").is_file() for entry in manifest.load(summary.out_csv).entries)


def test_annotations_packed_by_gzip(root: Path, tmp_path: Path) -> None:
    expected, _ = draw(root)
    path, out = tmp_path / "captions.json.gz", tmp_path / "out.csv"
    path.write_bytes(gzip.compress(json.dumps(document()).encode()))
    sample(path, root, out)
    assert [entry.caption_id for entry in manifest.load(out).entries] == [row["caption_id"] for row in expected]
    for content in (json.dumps(document()).encode(), gzip.compress(json.dumps(document()).encode())[:-20], b""):
        path.write_bytes(content)
        with pytest.raises(ManifestError, match=r"captions\.json\.gz: not"):
            sample(path, root, out)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 10**30, 1e308, "\\", [[[[]]]]])
@pytest.mark.parametrize("table", ["images", "annotations", "info"])
def test_fields_that_are_not_read_may_hold_anything(table: str, value: object, root: Path) -> None:
    expected, _ = draw(root)
    content: dict[str, Any] = document()
    if table == "info":
        content = {"info": {"x": value}, **content}
    else:
        content[table][3]["x"] = {"y": value}
    assert draw(root, content)[0] == expected


@pytest.mark.parametrize(
    "value", ["NaN", "-Infinity", "1e999", "1" + "0" * 5000, "1" * 40, "[" * 100_000 + "]" * 100_000]
)
def test_values_that_are_read_are_numbers_in_range(value: str, root: Path, tmp_path: Path) -> None:
    path = tmp_path / "captions.json"
    path.write_text(json.dumps(document()).replace('"id": 103,', f'"id": {value},'))
    with pytest.raises(ManifestError, match=r"'id' must be a whole number below|not COCO's JSON") as caught:
        sample(path, root, tmp_path / "out.csv")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("link", ["file", "folder", "dangling"])
def test_links_that_lead_out_are_refused(link: str, root: Path, tmp_path: Path) -> None:
    content = document()
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "x.jpg").touch()
    target = tmp_path / ("nothing.jpg" if link == "dangling" else "private" if link == "folder" else "private/x.jpg")
    (root / "link").symlink_to(target)
    content["images"][0]["file_name"] = "link/x.jpg" if link == "folder" else "link"
    with pytest.raises(ManifestError, match="image 10 is refused: a link leads out of --images-root"):
        draw(root, content)


def test_links_inside_and_a_linked_root_are_fine(root: Path, tmp_path: Path) -> None:
    (root / "train").mkdir()
    (root / "train" / "x.jpg").touch()
    (root / "link.jpg").symlink_to(root / "train" / "x.jpg")
    (tmp_path / "linked").symlink_to(root)
    content = document()
    content["images"][0]["file_name"] = "link.jpg"
    content["images"][1]["file_name"] = "train/x.jpg"
    assert draw(root, content)[1].kept == 6
    assert sample(tmp_path / "captions.json", tmp_path / "linked", tmp_path / "out.csv").kept == 6


def changed(table: str, **values: Any) -> Document:
    content = document()
    content[table][1] = {key: value for key, value in (content[table][1] | values).items() if value is not ...}
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "a JSON object is needed, not list"),
        ({"images": []}, "has no 'annotations': is it one of COCO's"),
        ({"annotations": []}, "has no 'images'"),
        ({"images": [], "annotations": []}, "it has no captions"),
        ({"images": [], "annotations": {"a": 1}}, "its annotations must be a list, not {'a': 1}"),
        ({"images": [], "annotations": [3]}, "each annotation must be an object, not 3"),
        (changed("annotations", caption=...), "annotation 101 has no 'caption': is it one of COCO's"),
        (changed("annotations", caption=7), "annotation 101: 'caption' must be text, not 7"),
        (
            changed("annotations", image_id="10"),
            "annotation 101: 'image_id' must be a whole number below 2**63, not '10'",
        ),
        (changed("annotations", id=True), "annotation True: 'id' must be a whole number below 2**63, not True"),
        (changed("annotations", id=2**63), "'id' must be a whole number below 2**63, not 9223372036854775808"),
        (changed("annotations", id=100), "the annotation id 100 is there more than once"),
        (changed("annotations", image_id=99), "a caption is of the image 99, which is not among the file's images"),
        (changed("annotations", caption="nul\0 a b c d"), "annotation 101: contains a NUL character"),
        (changed("images", id=10), "the image id 10 is there more than once"),
        (changed("images", file_name=...), "image 11 has no 'file_name'"),
        (changed("images", file_name=None), "image 11: 'file_name' must be text, not None"),
    ],
)
def test_wrong_annotations_are_one_clear_line(content: object, message: str, root: Path) -> None:
    with pytest.raises(ManifestError) as caught:
        draw(root, content, captions_per_image="all")
    assert message in str(caught.value)
    assert str(root.parent / "captions.json") in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_what_is_not_there_is_named(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    with pytest.raises(ManifestError, match=r"none\.json: there are no such annotations"):
        sample(tmp_path / "none.json", root, out)
    with pytest.raises(ManifestError, match="cannot be read: Is a directory"):
        sample(tmp_path, root, out)
    with pytest.raises(ManifestError, match=r"nowhere: there is no such folder: check --images-root"):
        draw(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match=r"none of its 6 images is in .*empty: check --images-root"):
        draw(tmp_path / "empty")
    with pytest.raises(ManifestError, match="no caption has 9 words"):
        draw(root, min_len=9)
    (tmp_path / "captions.json").write_text('{"images": [')
    with pytest.raises(ManifestError, match=r"not COCO's JSON \(unexpected end of data.*\): is the download complete"):
        sample(tmp_path / "captions.json", root, out)


@pytest.mark.parametrize("options", [{"k": 0}, {"min_len": 0}, {"seed": -1}])
def test_numbers_out_of_range(options: dict[str, int], root: Path) -> None:
    with pytest.raises(SettingsError, match=r"^--(k|min-len|seed) -?\d: must be [01] or more$"):
        draw(root, **options)


def test_a_csv_that_cannot_be_written(root: Path, tmp_path: Path) -> None:
    (tmp_path / "captions.json").write_text(json.dumps(document()))
    for out, reason in [(root / "10.jpg" / "x.csv", "Not a directory|File exists"), (root, "Is a directory")]:
        with pytest.raises(ManifestError, match=f"cannot be written: ({reason}): give another --out-csv"):
            sample(tmp_path / "captions.json", root, out)
    with pytest.raises(ManifestError, match="would replace the annotations"):
        sample(tmp_path / "captions.json", root, tmp_path / "captions.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["captions.json", "images"]


def test_a_failed_write_leaves_the_old_manifest(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(root, k=2)
    before = (root.parent / "out.csv").read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ManifestError, match="No space left on device"):
        draw(root, k=6)
    assert (root.parent / "out.csv").read_bytes() == before
    assert [path.name for path in root.parent.glob(".*")] == []


@pytest.mark.parametrize("part", ["train2017", "val2017"])
def test_real_captions(part: str, shared_data: Path, tmp_path: Path) -> None:
    tiny_coco = shared_data / "tiny_coco"
    annotations = tiny_coco / "annotations" / f"captions_{part}.json"
    summary = sample(annotations, tiny_coco / part, tmp_path / "one.csv", k=1000)
    assert (summary.kept, summary.images, summary.captions, summary.missing) == (50, 50, 250, 0)
    entries = manifest.load(tmp_path / "one.csv").entries
    captions = {row["id"]: row["caption"] for row in json.loads(annotations.read_text())["annotations"]}
    for entry in entries:
        assert entry.caption_id is not None
        assert entry.prompt == " ".join(captions[int(entry.caption_id)].split())
        assert Path(entry.image_path or "").is_file()
    every = sample(annotations, tiny_coco / part, tmp_path / "all.csv", captions_per_image="all", min_len=1)
    assert every.kept == 250


@pytest.mark.parametrize(
    "text",
    [
        '{"id": 100, "image_id": 10, "caption": "a b c d e", "caption": "f g h i j"}',
        '{"id": 100, "id": 101, "image_id": 10, "caption": "a b c d e"}',
        '{"id": 100, "image_id": 10, "image_id": 11, "caption": "a b c d e"}, {"id": NaN}',
    ],
)
def test_a_key_twice_in_a_record_is_named(text: str, root: Path) -> None:
    path = root.parent / "captions.json"
    path.write_text(f'{{"images": {json.dumps(document()["images"])}, "annotations": [{text}]}}')
    with pytest.raises(
        ManifestError, match=r"captions\.json: the key '(caption|id|image_id)' is there twice: keep one"
    ):
        sample(path, root, root.parent / "out.csv")


def test_a_pointer_of_git_lfs_is_named(root: Path) -> None:
    path = root.parent / "captions.json"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 1\n")
    with pytest.raises(ManifestError, match="only a pointer of Git LFS: run `git lfs pull`"):
        sample(path, root, root.parent / "out.csv")


@pytest.mark.parametrize("name", ["a\0.jpg", "\ud800.jpg", "", ".. "])
def test_a_name_that_no_file_has_is_refused_also_where_files_may_be_missing(name: str, root: Path) -> None:
    content = document()
    content["images"][0]["file_name"] = name
    with pytest.raises(ManifestError, match="of image 10 is refused: it is not a file name"):
        draw(root, content, allow_missing=True)
    content["images"][0]["file_name"] = "ü 猫\n.jpg"
    rows, _ = draw(root, content, allow_missing=True)
    assert "images/ü 猫\n.jpg" in {row["image_path"] for row in rows}
