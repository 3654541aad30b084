"""Folders as the hub ships them: what is chosen of the variants and shards is what is hashed, and what is loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from t2i_track import assets
from t2i_track.errors import ModelError, PickledWeights
from t2i_track.images.loading import check_local, load
from t2i_track.images.variants import Weights, choose
from t2i_track.images.weights import tensors_sha256
from t2i_track.settings import PLAIN, Settings

STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
JUNK = b"not to be read"
Tensors = Mapping[str, torch.Tensor]


def read(file: Path) -> dict[str, torch.Tensor]:
    """In memory of their own: the file will be written over."""
    return {key: tensor.clone() for key, tensor in load_file(file).items()}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The embedded one in fp32, with numbers that half precision rounds."""
    folder = tmp_path / "sd"
    shutil.copytree(assets.shapes_sd(), folder)
    for component in STEMS:
        tensors = read(plain(folder, component))
        save_file({key: tensor.float() * 1.0003 for key, tensor in tensors.items()}, plain(folder, component))
    return folder


def plain(folder: Path, component: str) -> Path:
    return folder / component / f"{STEMS[component]}.safetensors"


def variant(folder: Path, component: str, name: str) -> Path:
    return folder / component / f"{STEMS[component]}.{name}.safetensors"


def only(*components: str, name: str, dtype: torch.dtype = torch.float16) -> Callable[[Path], object]:
    """The components have their weights in this variant alone."""

    def change(folder: Path) -> None:
        for component in components:
            tensors = read(plain(folder, component))
            save_file({key: tensor.to(dtype) for key, tensor in tensors.items()}, variant(folder, component, name))
            plain(folder, component).unlink()

    return change


def beside(*components: str, name: str, dtype: torch.dtype = torch.float16) -> Callable[[Path], object]:
    """The same, with plain weights too, which are not to be read."""

    def change(folder: Path) -> None:
        only(*components, name=name, dtype=dtype)(folder)
        for component in components:
            plain(folder, component).write_bytes(JUNK)

    return change


def junk(component: str, name: str) -> Callable[[Path], object]:
    return lambda folder: variant(folder, component, name).write_bytes(JUNK)


def shard(folder: Path, component: str, infix: str = "", index_infix: str = "", tensors: Tensors | None = None) -> None:
    """In two shards, with their index."""
    tensors = read(plain(folder, component)) if tensors is None else tensors
    names = [f"{STEMS[component]}{infix}-0000{part}-of-00002.safetensors" for part in (1, 2)]
    halves = [dict(list(tensors.items())[part::2]) for part in (0, 1)]
    for name, half in zip(names, halves, strict=True):
        save_file(half, folder / component / name)
    index = {
        "metadata": {},
        "weight_map": {key: name for name, half in zip(names, halves, strict=True) for key in half},
    }
    (folder / component / f"{STEMS[component]}.safetensors.index{index_infix}.json").write_text(json.dumps(index))


def sharded(folder: Path) -> None:
    for component in STEMS:
        shard(folder, component)
        plain(folder, component).unlink()


def fp16_sharded(folder: Path) -> None:
    for component in STEMS:
        tensors = {key: tensor.half() for key, tensor in read(plain(folder, component)).items()}
        shard(folder, component, ".fp16", ".fp16", tensors)
        plain(folder, component).unlink()


def unet_in_shards_beside_one_file(folder: Path) -> None:
    shard(folder, "unet")
    plain(folder, "unet").write_bytes(JUNK)


def text_encoder_in_one_file_beside_shards(folder: Path) -> None:
    shard(folder, "text_encoder")
    for part in (1, 2):
        (folder / "text_encoder" / f"model-0000{part}-of-00002.safetensors").write_bytes(JUNK)


EVERY = tuple(STEMS)
HALF, BRAIN = torch.float16, torch.bfloat16


@pytest.mark.parametrize(
    ("change", "settings", "rounded"),
    [
        (only(*EVERY, name="fp16"), {}, dict.fromkeys(EVERY, HALF)),
        (only(*EVERY, name="bf16", dtype=BRAIN), {}, dict.fromkeys(EVERY, BRAIN)),
        (only(*EVERY, name="non_ema", dtype=torch.float32), {}, {}),
        (only("text_encoder", name="fp16"), {}, {"text_encoder": HALF}),
        (only("unet", name="fp16"), {}, {"unet": HALF}),
        (only("vae", name="anything"), {}, {"vae": HALF}),
        (sharded, {}, {}),
        (fp16_sharded, {}, dict.fromkeys(EVERY, HALF)),
        (unet_in_shards_beside_one_file, {}, {}),
        (text_encoder_in_one_file_beside_shards, {}, {}),
        (junk("unet", "fp16"), {}, {}),
        (junk("unet", "non_ema"), {"dtype": "bf16"}, {}),
        (beside("unet", name="bf16", dtype=BRAIN), {"dtype": "bf16"}, {"unet": BRAIN}),
        (beside("unet", "vae", name="fp16"), {"variant": "fp16"}, dict.fromkeys(("unet", "vae"), HALF)),
        (beside("unet", name="non_ema"), {"variant": "non_ema"}, {"unet": HALF}),
    ],
)
def test_what_is_chosen_is_hashed_and_loaded(
    model: Path, change: Callable[[Path], object], settings: dict[str, Any], rounded: dict[str, torch.dtype]
) -> None:
    before = {component: read(plain(model, component)) for component in STEMS}
    change(model)
    loaded = load(Settings(model=str(model), device="cpu", **settings))
    dtype = {"bf16": BRAIN}.get(loaded.dtype, torch.float32)
    for component, tensors in before.items():
        state = getattr(loaded.pipe, component).state_dict()
        assert len(state) >= len(tensors)
        for key, tensor in tensors.items():
            of = key if key in state else key.removeprefix("text_model.")
            kept = tensor.to(rounded[component]) if component in rounded else tensor
            assert torch.equal(state[of], kept.to(dtype)), f"{component} {key}"
    for component, to in rounded.items():
        before[component] = {key: tensor.to(to) for key, tensor in before[component].items()}
    assert loaded.weights_sha256 == digest(model.parent / "expected", before)


def digest(folder: Path, components: Mapping[str, Tensors]) -> str:
    folder.mkdir()
    for component, tensors in components.items():
        save_file(dict(tensors), folder / f"{component}.safetensors")
    return tensors_sha256((component, folder / f"{component}.safetensors") for component in components)


def test_fp16_of_plain_files_has_the_numbers_of_the_fp16_files(model: Path) -> None:
    def numbers() -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = load(
            Settings(model=str(model), device="cpu", dtype="fp16")
        ).pipe.unet.state_dict()
        return found

    before = numbers()
    only(*EVERY, name="fp16")(model)
    after = numbers()
    assert all(torch.equal(before[key], after[key]) for key in before)


def pick(*names: str, library: str = "diffusers", dtype: str = "fp32", variant: str | None = None) -> Weights:
    found = choose(names, library, where="'m': unet/", dtype=dtype, variant=variant, allow_pickle=False)
    assert found is not None
    return found


D = "diffusion_pytorch_model"
BOTH = (f"{D}.fp16.safetensors", f"{D}.safetensors", f"{D}.bin", f"{D}.non_ema.safetensors")


@pytest.mark.parametrize(
    ("dtype", "asked", "variant"),
    [
        ("fp32", None, PLAIN), ("fp16", None, "fp16"), ("bf16", None, PLAIN), ("fp16", PLAIN, PLAIN),
        ("fp32", "fp16", "fp16"), ("fp16", "non_ema", "non_ema"), ("fp16", "ema", "fp16"),
    ],
)  # fmt: skip
def test_the_variant_of_the_dtype_unless_another_is_asked_for(dtype: str, asked: str | None, variant: str) -> None:
    assert pick(*BOTH, dtype=dtype, variant=asked).variant == variant


def test_names_of_older_shards_and_indexes() -> None:
    shards = tuple(f"{D}-0000{part}-of-00002.fp16.safetensors" for part in (1, 2))
    found = pick(*shards, f"{D}.safetensors.fp16.index.json", "config.json")
    assert (found.files, found.index) == (shards, f"{D}.safetensors.fp16.index.json")
    assert found.plain_name(str(found.index)) == f"{D}.safetensors.index.json"
    assert found.plain_name(shards[0]) == shards[0]


def test_an_index_whose_shards_are_gone_leaves_the_one_file() -> None:
    assert pick(f"{D}.safetensors", f"{D}.safetensors.index.json").files == (f"{D}.safetensors",)


def test_names_that_no_library_looks_at_are_no_weights() -> None:
    names = ("config.json", "openvino_model.bin", "flax_model.msgpack", "lora.safetensors", "model.onnx")
    assert choose(names, "diffusers", where="", dtype="fp32", variant=None, allow_pickle=False) is None


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((f"{D}.ema.safetensors", f"{D}.non_ema.safetensors"), r"unet/ has the variants ema, non_ema: .*--variant"),
        (
            (f"{D}-00001-of-00002.safetensors",),
            r"has shards .* but no diffusion_pytorch_model\.safetensors\.index\.json",
        ),
        ((f"{D}.safetensors.index.json",), r"has none of the shards that its .*index\.json names"),
    ],
)
def test_what_cannot_be_chosen_is_said(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(ModelError, match=message) as told:
        pick(*names)
    assert "\n" not in str(told.value)


def test_pickled_weights_beside_safe_ones_are_left_alone(model: Path) -> None:
    (model / "unet" / f"{D}.bin").write_bytes(JUNK)
    load(Settings(model=str(model), device="cpu"))
    plain(model, "text_encoder").unlink()
    (model / "text_encoder" / "pytorch_model.bin").write_bytes(JUNK)
    with pytest.raises(PickledWeights, match=r"text_encoder/ has only pickled weights \(pytorch_model\.bin\)"):
        check_local(Settings(model=str(model)))
