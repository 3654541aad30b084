"""Model folders that cannot be used, each told in one line that names the file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from t2i_track import assets
from t2i_track.errors import ModelError
from t2i_track.images.loading import check_local, load
from t2i_track.settings import Settings

UNET = "diffusion_pytorch_model.safetensors"
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


def entry(name: str, value: object) -> Callable[[Path], object]:
    """The index has this value."""

    def change(folder: Path) -> None:
        written = json.loads((folder / "model_index.json").read_text())
        (folder / "model_index.json").write_text(json.dumps({**written, name: value}))

    return change


def content(name: str, text: bytes | Callable[[bytes], bytes]) -> Callable[[Path], object]:
    """The file has this content."""

    def change(folder: Path) -> None:
        (folder / name).write_bytes(text if isinstance(text, bytes) else text((folder / name).read_bytes()))

    return change


def gone(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def directory(name: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return change


def dangling(folder: Path) -> None:
    (folder / "vae" / "config.json").unlink()
    (folder / "vae" / "config.json").symlink_to(folder / "nowhere")


def shards(change: Callable[[dict[str, str]], object]) -> Callable[[Path], object]:
    """The U-Net's weights are in one shard, of which the index says something else."""

    def make(folder: Path) -> None:
        file = folder / "unet" / UNET
        places = dict.fromkeys(load_file(file), "diffusion_pytorch_model-00001-of-00001.safetensors")
        file.rename(file.with_name("diffusion_pytorch_model-00001-of-00001.safetensors"))
        change(places)
        file.with_name(f"{UNET}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))

    return make


def lacking(file: str, tensor: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        tensors = {name: kept.clone() for name, kept in load_file(folder / file).items() if name != tensor}
        save_file(tensors, folder / file)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (index("[]"), r"its model_index\.json is a list, not an object"),
        (index("7"), r"its model_index\.json is a int, not an object"),
        (index(""), r"its model_index\.json cannot be read"),
        (index('{"unet": ["diffus'), r"its model_index\.json cannot be read"),
        (index('{"vae": 1, "vae": 2}'), r"its model_index\.json cannot be read \(the key 'vae' is there twice\)"),
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
        (entry("_class_name", ["pipeline", "Mine"]), r"brings code of its own for its pipeline \(Mine of pipeline\)"),
        (entry("unet", ["my_unet", "MyUNet"]), r"brings code of its own for unet \(MyUNet of my_unet\)"),
        (entry("unet", ["os", "getcwd"]), r"brings code of its own for unet \(getcwd of os\)"),
        (entry("unet", ["diffusers"]), r"has \['diffusers'\] for unet, not a library and a class"),
        (entry("unet", ["diffusers", 7]), r"has \['diffusers', 7\] for unet, not a library and a class"),
        (content("unet/diffusers.py", b"raise SystemExit"), r"code of its own for unet \(diffusers\.py\)"),
        (entry("_class_name", "NoSuchPipeline"), r"NoSuchPipeline"),
        (gone("unet/config.json"), r"has no unet/config\.json"),
        (content("unet/config.json", b""), r"unet/config\.json is empty"),
        (content("vae/config.json", b'{"in_channels": 3,'), r"its vae/config\.json cannot be read"),
        (content("vae/config.json", b"[1]"), r"its vae/config\.json is a list, not an object"),
        (content("scheduler/scheduler_config.json", POINTER), r"scheduler/scheduler_config\.json .*'git lfs pull'"),
        (content("tokenizer/merges.txt", b""), r"tokenizer/merges\.txt is empty"),
        (content("tokenizer/vocab.json", POINTER), r"tokenizer/vocab\.json cannot be used: it is a Git LFS pointer"),
        (
            content("tokenizer/tokenizer.json", lambda whole: whole[: len(whole) // 2]),
            r"tokenizer/tokenizer\.json is cut short",
        ),
        (directory("unet/config.json"), r"unet/config\.json is a folder, where a file should be"),
        (directory(f"unet/{UNET}"), rf"unet/{UNET} is a folder, where a file should be"),
        (directory("model_index.json"), r"model_index\.json is a folder, where a file should be"),
        (dangling, r"vae/config\.json is a link to a file that is gone"),
        (gone(f"vae/{UNET}"), rf"has no weights in vae/: it needs {UNET} there"),
        (
            lambda folder: (folder / "unet" / UNET).rename(folder / "unet" / "x.safetensors"),
            r", and has x\.safetensors",
        ),
        (
            shards(lambda places: places.update(x="gone.safetensors")),
            r"names gone\.safetensors, which is not there",
        ),
        (shards(lambda places: places.update(x="../a.safetensors")), r"names \.\./a\.safetensors, which is not there"),
        (
            shards(lambda places: places.update(x=max(places.values()))),
            r"says that x is in .*, which it is not",
        ),
        (shards(lambda places: places.clear()), r"index\.json has no weight_map"),
        (lacking(f"unet/{UNET}", "conv_out.bias"), r"lack 1 tensors of its unet \(conv_out\.bias\)"),
        (lacking(f"vae/{UNET}", "quant_conv.bias"), r"lack 1 tensors of its vae \(quant_conv\.bias\)"),
        (
            lacking("text_encoder/model.safetensors", "final_layer_norm.bias"),
            r"of its text_encoder \(final_layer_norm\.bias",
        ),
    ],
)
def test_folders_that_are_not_whole(model: Path, change: Callable[[Path], object], message: str) -> None:
    change(model)
    with pytest.raises(ModelError, match=message) as told:
        load(Settings(model=str(model), device="cpu"))
    assert "\n" not in str(told.value)


def test_a_whole_folder_is_taken(model: Path) -> None:
    check_local(Settings(model=str(model)))
    (model / "README.md").write_text("")
    (model / "unet" / "convert.py").write_text("raise SystemExit")
    (model / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(POINTER)
    (model / "vae" / "notes").mkdir()
    check_local(Settings(model=str(model)))
    load(Settings(model=str(model), device="cpu"))


def test_a_component_that_is_null_or_a_link_is_no_fault(model: Path, tmp_path: Path) -> None:
    (model / "vae").rename(tmp_path / "shared-vae")
    (model / "vae").symlink_to(tmp_path / "shared-vae")
    entry("image_encoder", [None, None])(model)
    load(Settings(model=str(model), device="cpu"))


def test_a_model_that_runs_code_is_refused_before_it_runs(model: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    entry("_class_name", ["pipeline", "Mine"])(model)
    (model / "pipeline.py").write_text(f"open({str(ran)!r}, 'w')")
    for found in (check_local, load):
        with pytest.raises(ModelError, match="brings code of its own"):
            found(Settings(model=str(model), device="cpu"))
    assert not ran.exists()
