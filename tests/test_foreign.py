"""Records in PNGs from anywhere: bounded, checked value by value, and never a reason to load what nobody named."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL.PngImagePlugin import PngInfo

from t2i_track import assets
from t2i_track.errors import ModelError, NotFound, SettingsError, T2IError
from t2i_track.images import png
from t2i_track.runs import foreign
from t2i_track.runs.reproduce import reproduce
from t2i_track.settings import DECLARED, RECORDED, Settings
from t2i_track.workspace import Workspace

GOOD: dict[str, Any] = {
    "t2i_record": 1, "run": "0" * 32, "guidance": 3.0, "steps": 2, "scheduler": "ddim", "eta": 0.0,
    "guidance_rescale": 0.0, "clip_skip": 0, "model": "shapes", "revision": "", "variant": "plain",
    "model_config": None, "vae": None, "lora": None, "lora_scale": 1.0, "embedding": None, "negative_prompt": "",
    "height": 64, "width": 64, "dtype": "fp32", "memory_format": "channels-last", "batch_size": 1, "device": "cpu",
    "weights_sha256": "a" * 64, "lora_sha256": None, "pipeline_class": "StableDiffusionPipeline",
    "scheduler_config": {}, "base_seed": 42, "manifest_sha256": "b" * 64, "threads": 1, "versions": {},
    "prompt": "a red circle", "prompt_index": 0, "replicate": 0, "seed": 7, "tokens": 5, "truncated": False,
    "pixels_sha256": "c" * 64,
}  # fmt: skip
LATER = {name: declared.neutral for name, declared in DECLARED.items() if declared.later and name in RECORDED}
"""What records lack that are older than a setting."""
NESTED = "[" * 50_000 + "]" * 50_000


def write(path: Path, text: str, *, compressed: bool = False) -> Path:
    from PIL import Image

    info = PngInfo()
    info.add_itxt("t2i", text, zip=compressed)
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(path, pnginfo=info)
    return path


def again(path: Path, **more: Any) -> None:
    reproduce(Workspace(home=path.parent / "none"), str(path), **more)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 10**6}, r"steps must be in \[1, 10000\], not 1000000"),
        ({"steps": "many"}, "steps must be a number, not 'many'"),
        ({"steps": True}, "steps cannot be True"),
        ({"steps": None}, "steps has no value"),
        ({"batch_size": 10**6}, r"batch_size must be in \[1, 4096\]"),
        ({"height": 100_000, "width": 100_000}, "100000 x 100000 is more than 67108864 pixels"),
        ({"height": "64px"}, "height must be a number"),
        ({"guidance": float("nan")}, "guidance must be a finite number"),
        ({"guidance": 10**400}, "guidance must be a number of fewer digits"),
        ({"guidance": [7.5]}, r"guidance must be a number, not \[7.5\]"),
        ({"scheduler": "../x"}, "unknown scheduler"),
        ({"threads": 0}, "threads must be a whole number of 1 or more"),
        ({"threads": "4"}, "threads must be a whole number of 1 or more"),
        ({"prompt": ["a"]}, "prompt must be text"),
        ({"prompt": "\ud800"}, r"prompt cannot be stored \('\\ud800' is not a character\)"),
        ({"prompt": "a cat\0 on a mat"}, r"prompt cannot be stored \(contains a NUL character\)"),
        ({"negative_prompt": "\0"}, r"negative_prompt cannot be stored \(contains a NUL"),
        ({"model": "sha\0pes"}, r"model cannot be stored \(contains a NUL"),
        ({"revision": "\udfff"}, "revision cannot be stored"),
        ({"versions": {"torch": "2\0"}}, "versions cannot be stored"),
        ({"versions": {"to\0rch": "2"}}, "versions cannot be stored"),
        ({"scheduler_config": {"class": [{"x": "\0"}]}}, "scheduler_config cannot be stored"),
        ({"more": "\0"}, "more cannot be stored"),
        ({"mo\0re": 1}, r"the name 'mo\\x00re' cannot be stored"),
        ({"seed": -1}, "seed must be a whole number of 0 or more"),
        ({"seed": 2**64}, "seed must be a whole number"),
        ({"model": ["shapes"]}, "model must be text"),
        ({"weights_sha256": "../../etc"}, "weights_sha256 must be a sha256"),
        ({"versions": {"torch": 2}}, "versions must be an object of texts"),
        ({"scheduler_config": []}, "scheduler_config must be an object"),
        ({"t2i_record": 99}, "t2i_record must be 1"),
        ({"device": 3}, "device must be text"),
    ],
)
def test_values_that_no_run_has(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "x.png", json.dumps(GOOD | change))
    with pytest.raises(SettingsError, match=message) as told:
        again(path)
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 600


@pytest.mark.parametrize(
    ("twice", "key"),
    [
        ('"prompt": "a cat", ', "prompt"),
        ('"steps": 3, ', "steps"),
        ('"more": {"x": 1, "y": [{"z": 1, "z": 1}]}, ', "z"),
        ('"st\\u0065ps": 2, ', "steps"),
    ],
)
def test_a_record_with_a_key_twice_is_refused(tmp_path: Path, twice: str, key: str) -> None:
    path = write(tmp_path / "x.png", "{" + twice + json.dumps(GOOD)[1:])
    with pytest.raises(SettingsError, match=f"no picture can be made of its record: the key '{key}' is there twice"):
        again(path)


def test_texts_that_can_be_stored_are_taken_as_they_are() -> None:
    odd = GOOD | {"prompt": "a\tcat\u0085\x1b[31m \u202e ü 猫 😀", "versions": {"torch": "2\n"}}
    assert foreign.validated(odd) == {**LATER, **odd}


@pytest.mark.parametrize("text", ["[]", '"text"', "3", "null", "{}"])
def test_records_that_are_none(tmp_path: Path, text: str) -> None:
    with pytest.raises(T2IError):
        again(write(tmp_path / "x.png", text))


@pytest.mark.parametrize("text", [NESTED, '{"prompt": ' + NESTED + "}"])
def test_deep_records(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match="nested too deeply"):
        again(write(tmp_path / "x.png", text))


@pytest.mark.parametrize("text", ["{", "9" * 5000, json.dumps(GOOD | {"prompt": "x" * 2**20})])
def test_texts_that_are_no_record(tmp_path: Path, text: str) -> None:
    with pytest.raises(NotFound, match="no record of t2i-track in it that can be read"):
        again(write(tmp_path / "x.png", text))


def test_a_compressed_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = write(tmp_path / "x.png", "0" * 2**26, compressed=True)
    assert path.stat().st_size < 2**18
    with pytest.raises(NotFound, match="no record"):
        again(path)


def resized(path: Path, width: int, height: int) -> Path:
    """The same file with another size in its header."""
    content = path.read_bytes()
    header = b"IHDR" + struct.pack(">II", width, height) + content[24:29]
    path.write_bytes(content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:])
    return path


def test_a_picture_of_another_size_than_its_record_is_not_decoded(tmp_path: Path) -> None:
    path = resized(write(tmp_path / "x.png", json.dumps(true())), 12_000, 10_000)
    found = reproduce(Workspace(home=tmp_path / "none"), str(path))
    assert found.largest_difference is None
    assert found.notes[0] == "the file is 12000 x 10000, not 64 x 64 as it was made"


def test_a_decompression_bomb_is_one_line(tmp_path: Path) -> None:
    path = resized(write(tmp_path / "x.png", json.dumps(GOOD)), 100_000, 100_000)
    with pytest.raises(SettingsError, match=r"is no picture of t2i-track \(Image size \(10000000000 pixels\) exceeds"):
        again(path)


def test_a_picture_cut_short_is_made_again_and_said(tmp_path: Path) -> None:
    path = write(tmp_path / "x.png", json.dumps(true()))
    path.write_bytes(path.read_bytes()[:-40])
    found = reproduce(Workspace(home=tmp_path / "none"), str(path))
    assert any(note.startswith("the file cannot be decoded") for note in found.notes)


def true(**changes: Any) -> dict[str, Any]:
    from t2i_track.images.model_folder import Choice
    from t2i_track.images.source import find
    from t2i_track.images.weights import tensors_sha256

    digest = tensors_sha256(find(Settings(), Choice()).weights())
    return {**GOOD, "weights_sha256": digest, **changes}


@pytest.mark.parametrize("model", ["/etc", "~/models/sd", "./sd", "owner/name", "../sd", "http://127.0.0.1:9/x"])
def test_what_a_record_names_is_not_loaded(tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("t2i_track.images.loading.load", lambda *_, **__: pytest.fail("a model was loaded"))
    path = write(tmp_path / "x.png", json.dumps(GOOD | {"model": model}))
    with pytest.raises(ModelError, match=r"^no run here has used the model of this record .* with --model$"):
        again(path)
    path = write(tmp_path / "y.png", json.dumps(true(lora=model, lora_sha256="d" * 64)))
    with pytest.raises(ModelError, match=r"^no run here has used the lora of this record .* with --lora$"):
        again(path)


def test_other_weights_are_found_out_before_a_model_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("t2i_track.images.loading._load_pipeline", lambda *_: pytest.fail("a model was built"))
    path = write(tmp_path / "x.png", json.dumps(GOOD))
    with pytest.raises(ModelError, match="are not those of the record"):
        again(path)
    with pytest.raises(ModelError, match="are not those of the record"):
        again(path, model=str(assets.shapes_sd()))


def test_more_threads_than_there_are_processors_are_not_made(tmp_path: Path) -> None:
    import torch

    before = torch.get_num_threads()
    try:
        found = reproduce(Workspace(home=tmp_path), str(write(tmp_path / "x.png", json.dumps(true(threads=4096)))))
        assert torch.get_num_threads() < 4096
    finally:
        torch.set_num_threads(before)
    assert found.notes[0].startswith("made with 4096 threads, now with")


def test_a_named_model_is_taken(tmp_path: Path) -> None:
    path = write(tmp_path / "x.png", json.dumps(true(model="somewhere/else", threads=1)))
    found = reproduce(Workspace(home=tmp_path), str(path), model=str(assets.shapes_sd()))
    assert found.prompt == "a red circle"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("../../x"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(GOOD)), VALUES, max_size=4), st.sets(st.sampled_from(sorted(GOOD))))
@settings(max_examples=300, deadline=None)
def test_a_record_is_either_usable_or_refused_in_words(changes: dict[str, Any], gone: set[str]) -> None:
    record = {name: value for name, value in {**GOOD, **changes}.items() if name not in gone or name in changes}
    try:
        found = foreign.validated(record)
    except SettingsError:
        return
    assert 1 <= found["steps"] <= 10_000
    assert 1 <= found["batch_size"] <= 4096
    assert found["height"] * found["width"] <= 2**26
    assert png.encode(np.zeros((8, 8, 3), np.uint8), found)


def test_a_record_of_ours_is_taken_as_it_is() -> None:
    assert foreign.validated(GOOD) == {**LATER, **GOOD}


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 4096, "steps": 10_000},
        {"batch_size": 4096, "steps": 500, "guidance": 1.0},
        {"batch_size": 8, "height": 4096, "width": 4096},
        {"batch_size": 4096, "height": 2048, "width": 2048, "steps": 1},
        {"batch_size": 64, "height": 1024, "width": 1024, "steps": 33},
    ],
)
def test_a_record_whose_values_together_take_days_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = write(tmp_path / "x.png", json.dumps(GOOD | change))
    with pytest.raises(SettingsError, match=rf"asks for batch_size {change['batch_size']} of .* pixels in \d+ steps"):
        again(path)


@pytest.mark.parametrize("name", ["prompt", "negative_prompt"])
@pytest.mark.parametrize("text", ["x" * 900_000, "a red circle " * 10_000])
def test_texts_that_take_minutes_to_count_are_refused(tmp_path: Path, name: str, text: str) -> None:
    path = write(tmp_path / "x.png", json.dumps(GOOD | {name: text}))
    with pytest.raises(SettingsError, match=f"its {name} has {len(text)} characters"):
        again(path)
    foreign.require_bounded(foreign.validated(GOOD | {name: text[:10_000]}))


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 32, "height": 512, "width": 512, "steps": 100},
        {"batch_size": 16, "height": 1024, "width": 1024, "steps": 100},
        {"batch_size": 256, "height": 64, "width": 64, "steps": 1000},
        {"batch_size": 1, "height": 64, "width": 64, "steps": 10_000},
    ],
)
def test_records_of_usual_runs_are_within_bounds(change: dict[str, Any]) -> None:
    foreign.require_bounded(foreign.validated(GOOD | change))


def test_a_run_of_the_home_may_be_as_large_as_it_was(
    tmp_path: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from t2i_track.prompts.manifest import from_prompts
    from t2i_track.runs.generate import Generator
    from t2i_track.runs.plan import Plan
    from t2i_track.settings import Settings
    from t2i_track.tracking import Tracker

    workspace = Workspace(home=tmp_path / "home")
    chosen = Settings(steps=2, batch_size=2, device="cpu")
    plan = Plan(settings=chosen, manifest=from_prompts(["a", "b"]), experiment="tests")
    with Tracker(tracking_uri, workspace.outbox) as tracker:
        made = Generator(workspace, tracker).generate(plan)
    monkeypatch.setattr(foreign, "MOST_WORK", 1)
    picture = next(Path(made.folder).glob("*.png"))
    assert reproduce(workspace, str(picture)).equal
    with pytest.raises(SettingsError, match="asks for batch_size 2"):
        reproduce(Workspace(home=tmp_path / "other"), str(picture))
