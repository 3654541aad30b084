"""The embedded data set: grammar, splits, drawing, and files."""

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from t2i_track.shapes import (
    BACKGROUNDS,
    COLOURS,
    HEADS,
    SHAPES,
    SIZES,
    SPLITS,
    Scene,
    Stream,
    Thing,
    caption,
    draw,
    manifest_rows,
    parse,
    rows,
    scenes,
    split_of,
    write,
)
from t2i_track.shapes.drawing import LAYOUTS

THINGS = st.builds(Thing, st.sampled_from(SHAPES), st.sampled_from(list(COLOURS)), st.sampled_from(SIZES))
ALONE = st.builds(
    lambda n, background, thing: Scene("single" if n == 1 else "count", n, background, thing),
    st.integers(1, 4),
    st.sampled_from(list(BACKGROUNDS)),
    THINGS,
)
RELATIONS = st.builds(
    lambda background, pair, axis: Scene("relation", 2, background, *pair, axis),
    st.sampled_from(list(BACKGROUNDS)),
    st.tuples(THINGS, THINGS).filter(lambda p: p[0].shape != p[1].shape and p[0].colour != p[1].colour),
    st.sampled_from(["horizontal", "vertical"]),
)
SCENES = st.one_of(ALONE, RELATIONS)


@given(SCENES, st.integers(0, 2**32))
def test_parse_is_the_inverse_of_caption(scene, seed):
    text = caption(scene, Stream(seed))
    assert parse(text) == scene
    assert parse(f"  {text.upper()}. ") == scene
    assert len(text.split()) >= 5


@given(SCENES)
def test_attributes_keep_the_whole_scene(scene):
    assert Scene.from_attributes(scene.attributes()) == scene
    named = [names[label] for names, label in zip(HEADS.values(), scene.labels(), strict=True)]
    assert named == list(scene.attributes().values())


def test_a_left_of_b_is_b_right_of_a():
    left = parse("a small red circle to the left of a large blue star on a white background")
    right = parse("a white background with one big blue star right of one little red circle")
    assert left == right
    assert left.first == Thing("circle", "red", "small")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a photo of a cat",
        "two small red circle on a white background",
        "a small red circles on a white background",
        "there are a small red circle on a white background",
        "a small red circle on a purple background",
        "two small red circles above a large blue star on a white background",
        "a small red circle above a large red star on a white background",
    ],
)
def test_other_texts_are_not_parsed(text):
    assert parse(text) is None


@pytest.mark.parametrize(
    ("kind", "count", "background", "message"),
    [
        ("single", 2, "white", "count 2 is not one of 1"),
        ("count", 1, "white", "count 1 is not one of 2, 3, 4"),
        ("relation", 2, "white", "axis 'none' is not one of horizontal, vertical"),
        ("single", 1, "purple", "background 'purple' is not one of white"),
    ],
)
def test_impossible_scenes_are_refused(kind, count, background, message):
    with pytest.raises(ValueError, match=message):
        Scene(kind, count, background, Thing("circle", "red", "small"))


@pytest.mark.parametrize("split", SPLITS)
def test_a_longer_draw_starts_with_the_shorter_one(split):
    assert list(rows(split, 20, 3)) == list(rows(split, 50, 3))[:20]
    assert all(split_of(scene) == split for scene in scenes(split, 200))


def test_validation_captions_are_unique():
    listed = [row.caption for row in rows("val", 1024)]
    assert len(set(listed)) == len(listed)


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="'test' is not one of train, val, reference"):
        rows("test", 1)


def test_pictures_are_the_same_everywhere():
    drawn = b"".join(draw(row.scene, row.seed).tobytes() for split in SPLITS for row in rows(split, 40))
    assert hashlib.sha256(drawn).hexdigest() == "074609eb17431932bb6cd8cd76d338ba686983b9b0ee6ec5667cce0fdc2982d6"


def test_a_picture_depends_on_its_seed():
    scene = Scene("single", 1, "white", Thing("circle", "red", "small"))
    assert np.array_equal(draw(scene, 1), draw(scene, 1))
    assert not np.array_equal(draw(scene, 1), draw(scene, 2))


@pytest.mark.parametrize("background", BACKGROUNDS)
@pytest.mark.parametrize("colour", COLOURS)
def test_every_object_stands_out(background, colour):
    gap = sum(abs(a - b) for a, b in zip(BACKGROUNDS[background], COLOURS[colour], strict=True))
    assert gap >= 150


@given(SCENES, st.integers(0, 2**32))
def test_every_scene_can_be_drawn(scene, seed):
    picture = draw(scene, seed)
    assert picture.shape == (64, 64, 3)
    assert picture.dtype == np.uint8
    ground = np.array(BACKGROUNDS[scene.background])
    objects = np.abs(picture.astype(int) - ground).sum(2) > 80
    assert objects.sum() > 100 * scene.count


def test_layouts_have_as_many_places_as_objects():
    assert all(len(places) == count for count, layouts in LAYOUTS.items() for places in layouts)


def test_the_files_are_coco(tmp_path):
    assert write(tmp_path, 6, seed=1) == 18
    document = json.loads((tmp_path / "annotations" / "captions.json").read_text())
    assert set(document) == {"info", "licenses", "images", "annotations"}
    attributes = json.loads((tmp_path / "annotations" / "attributes.json").read_text())["images"]
    described = {entry["image_id"]: entry for entry in attributes}
    words = {entry["image_id"]: entry["caption"] for entry in document["annotations"]}
    for image in document["images"]:
        with Image.open(tmp_path / "images" / image["file_name"]) as picture:
            assert (picture.size, picture.mode) == ((64, 64), "RGB")
        scene = parse(words[image["id"]])
        assert scene.attributes().items() <= described[image["id"]].items()
    assert not list(tmp_path.rglob("*.tmp"))


def test_writing_again_changes_nothing(tmp_path):
    write(tmp_path, 4, splits=["val"])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    write(tmp_path, 4, splits=["val"])
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_manifest_rows_point_at_the_files(tmp_path):
    write(tmp_path, 5, splits=["val"])
    listed = manifest_rows(num=5)
    assert list(listed[0]) == ["image_id", "caption_id", "image_path", "caption"]
    assert all((tmp_path / row["image_path"]).exists() for row in listed)
