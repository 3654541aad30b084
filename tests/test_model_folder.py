"""Model folders that cannot be used, each told in one line that names the file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from t2i_track import assets
from t2i_track.errors import ModelError
from t2i_track.images.loading import check_local, load
from t2i_track.settings import Settings

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 1234\n"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "sd"
    shutil.copytree(assets.shapes_sd(), folder)
    return folder


def index(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "model_index.json").write_text(text)


def unet(content: bytes | Callable[[bytes], bytes]) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        file = next((folder / "unet").glob("*.safetensors"))
        file.write_bytes(content if isinstance(content, bytes) else content(file.read_bytes()))

    return change


def renamed(folder: Path) -> None:
    written = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**written, "../elsewhere": ["diffusers", "X"]}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (index("[]"), r"its model_index\.json is a list, not an object"),
        (index("7"), r"its model_index\.json is a int, not an object"),
        (index(""), r"its model_index\.json cannot be read"),
        (index('{"unet": ["diffus'), r"its model_index\.json cannot be read"),
        (index("[" * 100_000), r"its model_index\.json cannot be read"),
        (index("{}"), r"names no text_encoder, unet, vae"),
        (index('{"unet": [], "vae": null}'), r"names no text_encoder, unet, vae"),
        (index(POINTER.decode()), r"model_index\.json cannot be used: it is a Git LFS pointer.*'git lfs pull'"),
        (renamed, r"names '\.\./elsewhere', which is not a folder in it"),
        (lambda folder: shutil.rmtree(folder / "vae"), r"has no folder vae/, which its model_index\.json names"),
        (lambda folder: shutil.rmtree(folder / "scheduler"), r"has no folder scheduler/"),
        (unet(POINTER), r"unet/.*\.safetensors cannot be used: it is a Git LFS pointer.*'git lfs pull'"),
        (lambda folder: (folder / "unet" / "config.json").write_bytes(POINTER), r"unet/config\.json .*'git lfs pull'"),
        (unet(b""), r"unet/.*\.safetensors is cut short, or no \.safetensors file"),
        (unet(b"PK\x03\x04 some zip"), r"unet/.*\.safetensors is cut short"),
        (unet(lambda whole: whole[:-1]), r"unet/.*\.safetensors is cut short"),
        (unet(lambda whole: whole[: len(whole) // 2]), r"unet/.*\.safetensors is cut short"),
        (unet(lambda whole: whole[:100]), r"unet/.*\.safetensors is cut short"),
    ],
)
def test_folders_that_are_not_whole(model: Path, change: Callable[[Path], object], message: str) -> None:
    change(model)
    with pytest.raises(ModelError, match=message) as told:
        load(Settings(model=str(model), device="cpu"))
    assert "\n" not in str(told.value)


def test_a_whole_folder_is_taken(model: Path) -> None:
    check_local(Settings(model=str(model)))
