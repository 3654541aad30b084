"""Model folders and LoRAs that cannot be used, each told in one line that names the file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

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
        (index("{}"), r"its model_index\.json names no pipeline class under _class_name"),
        (index('{"unet": [], "vae": null}'), r"names no pipeline class under _class_name"),
        (index('{"_class_name": ""}'), r"names no pipeline class under _class_name"),
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


def lora(file: Path, layer: str, *, rank: int = 2, width: int | None = None) -> Path:
    shape = dict(load(Settings(device="cpu")).pipe.unet.named_parameters())[f"{layer}.weight"].shape
    out, inner = shape[0], shape[1] if width is None else width
    tensors = {f"unet.{layer}.lora_A.weight": torch.zeros(rank, inner)}
    save_file(tensors | {f"unet.{layer}.lora_B.weight": torch.zeros(out, rank)}, file)
    return file


def attention() -> str:
    names = dict(load(Settings(device="cpu")).pipe.unet.named_modules())
    return next(name for name in names if name.endswith("attn2.to_q"))


def test_a_lora_that_fits_is_loaded(tmp_path: Path) -> None:
    loaded = load(Settings(lora=str(lora(tmp_path / "fits.safetensors", attention())), device="cpu"))
    assert loaded.lora_sha256 is not None


def test_a_lora_of_the_text_encoder_under_its_old_names_is_loaded(tmp_path: Path) -> None:
    width = load(Settings(device="cpu")).pipe.text_encoder.config.hidden_size
    name, file = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj", tmp_path / "text.safetensors"
    save_file({f"{name}.lora_{half}.weight": torch.ones(width, 2) if half == "B" else
               torch.ones(2, width) for half in "AB"}, file)  # fmt: skip
    encoder = load(Settings(lora=str(file), device="cpu")).pipe.text_encoder
    assert [name for name, module in encoder.named_modules() if getattr(module, "lora_A", None)] == [
        "encoder.layers.0.self_attn.q_proj"
    ]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"unet.down_blocks.9.attentions.0.to_q.lora_A.weight": (2, 8)}, r"1 of its 3 tensors fit nothing"),
        ({"transformer.blocks.0.to_q.lora_A.weight": (2, 8)}, r"1 of its 3 tensors fit nothing"),
        ({"text_encoder_2.layers.0.q_proj.lora_A.weight": (2, 8)}, r"1 of its 3 tensors fit nothing"),
    ],
)
def test_a_lora_of_which_something_would_be_left_out_is_refused(
    tmp_path: Path, more: dict[str, Any], message: str
) -> None:
    from safetensors.torch import load_file

    file = lora(tmp_path / "some.safetensors", attention())
    extra = {name: torch.zeros(*shape) for name, shape in more.items()}
    extra |= {name.replace("lora_A", "lora_B"): torch.zeros(8, 2) for name in more}
    save_file(load_file(file) | extra, file)
    with pytest.raises(ModelError, match=message.replace("1 of its 3", "2 of its 4")):
        load(Settings(lora=str(file), device="cpu"))


@pytest.mark.parametrize("name", ["other.weight", "transformer.x.lora_A.weight"])
def test_a_lora_of_another_model_is_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / "other.safetensors"
    save_file({name: torch.zeros(2, 8)}, file)
    with pytest.raises(ModelError, match=r"^LoRA '.*other\.safetensors'"):
        load(Settings(lora=str(file), device="cpu"))


def test_a_lora_of_another_size_is_refused(tmp_path: Path) -> None:
    file = lora(tmp_path / "wide.safetensors", attention(), width=7)
    with pytest.raises(ModelError, match="does not fit the model"):
        load(Settings(lora=str(file), device="cpu"))
