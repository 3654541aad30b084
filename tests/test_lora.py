"""LoRAs in a pipeline: every style of keys, what fits counted there, and each refused that would be ignored."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from t2i_track.errors import ModelError, PickledWeights
from t2i_track.images.adapter_files import LORA, adapter_files
from t2i_track.images.loading import LoadedPipeline, check_local, load
from t2i_track.settings import Settings

UNET = ("to_q", "to_out.0", "conv1", "ff.net.2")
TEXT = ("q_proj", "out_proj", "fc1")
Key = tuple[str, str]
"""A component, and a layer of it."""
Update = tuple[Tensor, Tensor, float]
"""A of (rank, in), B of (out, rank), alpha."""


@pytest.fixture(scope="module")
def shapes() -> dict[Key, tuple[int, ...]]:
    """Layers of the embedded model that a LoRA may change, with their weights' shapes."""
    pipe = load(Settings(device="cpu")).pipe
    return {
        (component, name): tuple(module.weight.shape)
        for component, endings in (("unet", UNET), ("text_encoder", TEXT))
        for name, module in getattr(pipe, component).named_modules()
        if name.endswith(endings)
    }


@pytest.fixture(scope="module")
def updates(shapes: dict[Key, tuple[int, ...]]) -> dict[Key, Update]:
    """Random updates of ranks 2 and 3 and alphas of 1 to 3."""
    generator = torch.Generator().manual_seed(0)
    found = {}
    for number, (key, (out, inner, *kernel)) in enumerate(shapes.items()):
        rank = 2 + number % 2
        down = torch.randn(rank, inner, *kernel, generator=generator)
        up = torch.randn(out, rank, *[1] * len(kernel), generator=generator)
        found[key] = down * 0.1, up * 0.1, float(1 + number % 3)
    return found


def diffusers(key: Key, update: Update) -> dict[str, Tensor]:
    name = f"{key[0]}.{key[1]}"
    return {f"{name}.lora_A.weight": update[0], f"{name}.lora_B.weight": update[1], f"{name}.alpha": alpha(update)}


def older(key: Key, update: Update) -> dict[str, Tensor]:
    """As diffusers wrote them before PEFT, when ``CLIPTextModel`` had a ``text_model``."""
    component, name = key
    for now, then in (("q_proj", "to_q_lora"), ("out_proj", "to_out_lora"), ("fc1", "fc1.lora_linear_layer")):
        name = name.replace(now, then) if component == "text_encoder" else name
    for now, then in (("to_q", "processor.to_q_lora"), ("to_out.0", "processor.to_out_lora")):
        name = name.replace(now, then) if component == "unet" else name
    name = name if "_lora" in name or "lora_" in name else f"{name}.lora"
    name = f"text_encoder.text_model.{name}" if component == "text_encoder" else f"unet.{name}"
    return {
        f"{name}.down.weight": update[0],
        f"{name}.up.weight": update[1],
        f"{name}.down.weight.alpha": alpha(update),
    }


def kohya(key: Key, update: Update) -> dict[str, Tensor]:
    name = {"unet": "lora_unet_", "text_encoder": "lora_te_text_model_"}[key[0]] + key[1].replace(".", "_")
    return {f"{name}.lora_down.weight": update[0], f"{name}.lora_up.weight": update[1], f"{name}.alpha": alpha(update)}


def kohya_flat(key: Key, update: Update) -> dict[str, Tensor]:
    return {name.replace("lora_te_text_model_", "lora_te1_"): tensor for name, tensor in kohya(key, update).items()}


def alpha(update: Update) -> Tensor:
    return torch.tensor(update[2])


Style = Callable[[Key, Update], dict[str, Tensor]]


def write(file: Path, style: Style, updates: Mapping[Key, Update], **more: Tensor) -> Path:
    tensors = {name: tensor for key, update in updates.items() for name, tensor in style(key, update).items()}
    save_file({**tensors, **more}, file)
    return file


def loaded(*files: Path | str, **settings: Any) -> LoadedPipeline:
    return load(Settings(lora=";".join(map(str, files)), device="cpu", **settings))


def layers(pipe: Any) -> Iterator[tuple[Key, Any]]:
    """The layers that have a LoRA, looked for over all of the pipeline's networks."""
    for component, network in pipe.components.items():
        if isinstance(network, torch.nn.Module):
            for name, module in network.named_modules():
                if getattr(module, "lora_A", None):
                    yield (component, name), module


@pytest.mark.parametrize("style", [diffusers, older, kohya, kohya_flat])
def test_each_style_of_keys_is_the_same_lora(style: Style, updates: dict[Key, Update], tmp_path: Path) -> None:
    made = loaded(write(tmp_path / "a.safetensors", style, updates))
    assert made.adapters.notes == ()
    placed = dict(layers(made.pipe))
    assert placed.keys() == updates.keys()
    for key, (down, up, scale) in updates.items():
        assert torch.equal(placed[key].lora_A["lora_0"].weight, down)
        assert torch.equal(placed[key].lora_B["lora_0"].weight, up)
        assert placed[key].scaling == {"lora_0": scale / down.shape[0]}, key


def test_a_network_as_peft_saves_it(updates: dict[Key, Update], tmp_path: Path) -> None:
    """Without a component's name, its alpha in the configuration beside it."""
    unet = {key: update for key, update in updates.items() if key[0] == "unet"}
    style: Style = lambda key, update: {  # noqa: E731
        f"base_model.model.{key[1]}.lora_A.weight": update[0],
        f"base_model.model.{key[1]}.lora_B.weight": update[1],
    }
    file = write(tmp_path / "adapter_model.safetensors", style, unet)
    plain = adapter_files(LORA, [str(file)], False)[0].sha256
    said = {"r": 2, "lora_alpha": 8, "rank_pattern": {}, "alpha_pattern": {"conv1": 6}, "peft_type": "LORA"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(said))
    placed = dict(layers(loaded(tmp_path).pipe))
    assert placed.keys() == unet.keys()
    for key, (down, _, _) in unet.items():
        assert placed[key].scaling["lora_0"] == (6 if key[1].endswith("conv1") else 8) / down.shape[0]
    assert adapter_files(LORA, [str(file)], False)[0].sha256 != plain, "another scale is another LoRA"


@pytest.mark.parametrize(
    ("said", "scale"),
    [
        ({"r": 2, "lora_alpha": 8}, 4.0),
        ({"r": 2, "lora_alpha": 2}, 1.0),
        ({"r": 2, "lora_alpha": 2, "use_rslora": True}, 2**0.5),
        ({"r": 2, "lora_alpha": 2, "alpha_pattern": {"to_q": 3}}, 1.5),
    ],
)
def test_scales_that_diffusers_writes_into_the_header(
    said: dict[str, Any], scale: float, updates: dict[Key, Update], tmp_path: Path
) -> None:
    key = next(key for key in updates if key[1].endswith("to_q") and updates[key][0].shape[0] == 2)
    tensors = {name: tensor for name, tensor in diffusers(key, updates[key]).items() if "alpha" not in name}
    save_file(tensors, tmp_path / "plain.safetensors")
    header = {"lora_adapter_metadata": json.dumps({f"unet.{name}": value for name, value in said.items()})}
    save_file(tensors, tmp_path / "said.safetensors", metadata=header)
    made = loaded(tmp_path / "said.safetensors")
    assert dict(layers(made.pipe))[key].scaling == {"lora_0": pytest.approx(scale)}
    plain = adapter_files(LORA, [str(tmp_path / "plain.safetensors")], False)[0].sha256
    assert (made.adapters.lora_sha256 == plain) == (scale == 1.0)


def test_several_are_put_in_with_their_scales(updates: dict[Key, Update], tmp_path: Path) -> None:
    """The second does not change the tensors of the first, in text encoders too."""
    first = write(tmp_path / "first.safetensors", diffusers, updates)
    unet = {key: update for key, update in updates.items() if key[0] == "unet"}
    second = write(tmp_path / "second.safetensors", kohya, unet)
    made = loaded(f"{first}:0.5", f"{second}:-1", lora_scale=2.0)
    for key, module in layers(made.pipe):
        own = updates[key][2] / updates[key][0].shape[0]
        both = {"lora_0": own, "lora_1": -2 * own} if key[0] == "unet" else {"lora_0": own}
        assert module.scaling == both
        assert module.active_adapters == ["lora_0", "lora_1"]
        assert all(torch.equal(module.lora_A[name].weight, updates[key][0]) for name in both)
    assert len(set(made.adapters.lora_files)) == 2
    assert made.adapters.lora_sha256 not in made.adapters.lora_files


def test_a_half_lora_is_computed_in_the_precision_of_the_run(updates: dict[Key, Update], tmp_path: Path) -> None:
    file = write(tmp_path / "a.safetensors", diffusers, updates)
    save_file({name: tensor.half() for name, tensor in load_file(file).items()}, file)
    assert {module.lora_A["lora_0"].weight.dtype for _, module in layers(loaded(file).pipe)} == {torch.float32}


NOWHERE: dict[str, list[str]] = {
    "unet.down_blocks.9.attentions.0.to_q": ["unet.down_blocks.9.attentions.0.to_q"],
    "transformer.blocks.0.to_q": ["transformer.blocks.0.to_q"],
    "text_encoder_2.layers.0.q_proj": ["text_encoder_2.layers.0.q_proj"],
    "lora_te2_text_model_encoder_layers_0_mlp_fc1": ["lora_te2_text_model_encoder_layers_0_mlp_fc1"],
    "lora_other_mid_block_attentions_0_proj_in": ["lora_other_mid_block_attentions_0_proj_in"],
}


@pytest.mark.parametrize("name", NOWHERE)
@pytest.mark.parametrize("style", [diffusers, kohya])
def test_what_fits_in_part_is_counted(name: str, style: Style, updates: dict[Key, Update], tmp_path: Path) -> None:
    some = dict(list(updates.items())[:5])
    more = {f"{name}.lora_down.weight": torch.ones(2, 8), f"{name}.lora_up.weight": torch.ones(8, 2)}
    made = loaded(write(tmp_path / "some.safetensors", style, some, **more))
    assert dict(layers(made.pipe)).keys() == some.keys()
    (note,) = made.adapters.notes
    assert note.startswith("LoRA some.safetensors: 5 of 6 layers fit, 1 is left out: ")
    assert note.split(": ")[-1].split(".")[-1].replace("_", "") in name.replace(".", "").replace("_", "")


def test_other_tensors_beside_a_lora_are_told(updates: dict[Key, Update], tmp_path: Path) -> None:
    more = {f"unet.conv_out.{name}": torch.ones(4) for name in ("diff", "diff_b")}
    made = loaded(write(tmp_path / "more.safetensors", diffusers, updates, **more))
    named = "unet.conv_out.diff, unet.conv_out.diff_b"
    assert made.adapters.notes == (f"LoRA more.safetensors: tensors that are no LoRA's are left out: {named}",)


@pytest.mark.parametrize("name", NOWHERE)
def test_what_fits_nothing_is_refused(name: str, tmp_path: Path) -> None:
    file = tmp_path / "other.safetensors"
    save_file({f"{name}.lora_down.weight": torch.ones(2, 8), f"{name}.lora_up.weight": torch.ones(8, 2)}, file)
    with pytest.raises(
        ModelError, match=r"^LoRA '.*other\.safetensors' fits nothing in this model: of 1 layer none has a place \("
    ):
        loaded(file)


def test_another_size_is_refused_with_both_shapes(updates: dict[Key, Update], tmp_path: Path) -> None:
    key = next(key for key in updates if key[1].endswith("to_q"))
    down, up, scale = updates[key]
    rank, inner = down.shape
    file = write(tmp_path / "wide.safetensors", kohya, {key: (torch.cat([down, down], 1), up, scale)})
    wrong = rf"its tensor 'lora_unet_\S+to_q\.lora_down\.weight' is \[{rank}, {2 * inner}\]"
    with pytest.raises(ModelError, match=rf"{wrong}, and unet\.\S+\.to_q wants \[{rank}, {inner}\]"):
        loaded(file)


def changed(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda tensors: {key: change(tensor) if name in key else tensor for key, tensor in tensors.items()}


def with_value(value: float) -> Callable[[Tensor], Tensor]:
    return lambda tensor: torch.full_like(tensor, value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed("lora_B", with_value(float("nan"))), r"its tensor 'unet\.\S+lora_B\.weight' has values that are not"),
        (changed("lora_A", with_value(float("inf"))), r"its tensor 'unet\.\S+lora_A\.weight' has values that are not"),
        (changed("alpha", with_value(float("nan"))), r"its tensor 'unet\.\S+alpha' has values that are not finite"),
        (
            changed("alpha", lambda _: torch.ones(2)),
            r"its tensor 'unet\.\S+alpha' is \[2\], not one number",
        ),
        (changed("lora_A", lambda _: torch.tensor(1.0)), r"its tensor 'unet\.\S+' is \[\], not a matrix"),
        (
            changed("lora_A", lambda down: down[:0]),
            r"its tensor 'unet\.\S+' is \[0, \d+.*\], not a matrix",
        ),
        (lambda _: {}, r"has 0 tensors \(nothing else is in it\)"),
        (
            lambda _: {"<cat>": torch.ones(1, 8)},
            r"has 1 tensors \(none of a LoRA, the first is '<cat>'\): .*--embedding",
        ),
        (
            lambda _: {"model.diffusion_model.out.2.bias": torch.ones(4)},
            r"has 1 tensors \(none of a LoRA, the first is 'model\.diffusion_model\.out\.2\.bias'\): .*--model",
        ),
        (
            lambda tensors: {key: tensor for key, tensor in tensors.items() if "lora_B" not in key},
            r"has 'unet\.\S+lora_A\.weight' without its up half",
        ),
        (lambda tensors: {**tensors, "x.hada_w1_a": torch.ones(2, 2)}, r"is a LoHa adapter \(tensor 'x\.hada_w1_a'\)"),
        (lambda tensors: {**tensors, "x.lokr_w1": torch.ones(2, 2)}, r"is a LoKr adapter \(tensor 'x\.lokr_w1'\)"),
        (lambda tensors: {**tensors, "x.dora_scale": torch.ones(2)}, r"is a DoRA adapter \(tensor 'x\.dora_scale'\)"),
    ],
)
def test_what_is_no_lora_is_named(
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]], message: str, updates: dict[Key, Update], tmp_path: Path
) -> None:
    file = write(tmp_path / "a.safetensors", diffusers, dict(list(updates.items())[:1]))
    save_file(change(load_file(file)), file)
    with pytest.raises(ModelError, match=rf"^LoRA '.*a\.safetensors'.*{message}") as told:
        loaded(file)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"a\.safetensors is cut short, or no \.safetensors file"),
        (b"PK\x03\x04 some zip", r"a\.safetensors is cut short"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n", r"Git LFS pointer.*git lfs pull"),
    ],
)
def test_files_that_are_not_whole(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=message):
        loaded(tmp_path / "a.safetensors")


def test_a_pipeline_that_takes_none_says_so(updates: dict[Key, Update], tmp_path: Path) -> None:
    from t2i_track.images.lora import load_loras

    file = write(tmp_path / "a.safetensors", diffusers, updates)
    with pytest.raises(ModelError, match=r"^SimpleNamespace takes no LoRA: leave out --lora '.*a\.safetensors'"):
        load_loras(SimpleNamespace(), adapter_files(LORA, [str(file)], False))


def test_a_folder_has_its_usual_file_or_one(updates: dict[Key, Update], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no \.safetensors file in it"):
        check_local(Settings(lora=str(tmp_path)))
    first = write(tmp_path / "b.safetensors", diffusers, dict(list(updates.items())[:1]))
    assert adapter_files(LORA, [str(tmp_path)], False)[0].path == first
    write(tmp_path / "a.safetensors", diffusers, updates)
    with pytest.raises(ModelError, match=r"has 2 \.safetensors files \(a\.safetensors, b\.safetensors\): name one"):
        check_local(Settings(lora=f"{tmp_path}:0.5"))
    usual = write(tmp_path / "pytorch_lora_weights.safetensors", diffusers, updates)
    assert adapter_files(LORA, [str(tmp_path)], False)[0].path == usual


def test_all_that_are_missing_are_named(tmp_path: Path) -> None:
    (tmp_path / "here.safetensors").touch()
    given = f"{tmp_path}/gone.safetensors:0.5;{tmp_path}/here.safetensors;loras/lost.safetensors"
    with pytest.raises(
        ModelError, match=r"no LoRA file '\S+/gone\.safetensors' \(1 of 3\), 'loras/lost\.safetensors' \(3 of 3\): "
    ):
        check_local(Settings(lora=given))
    with pytest.raises(ModelError, match=r"no LoRA file 'a\.safetensors,b\.safetensors': .*in a sweep, repeat"):
        check_local(Settings(lora="a.safetensors,b.safetensors"))


def test_pickles_are_loaded_where_that_is_allowed(updates: dict[Key, Update], tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    torch.save(load_file(write(tmp_path / "a.safetensors", diffusers, updates)), file)
    with pytest.raises(PickledWeights, match=r"a\.bin' is not \.safetensors: convert it, or pass --allow-pickle"):
        check_local(Settings(lora=str(file)))
    made = load(Settings(lora=str(file), device="cpu"), allow_pickle=True)
    assert dict(layers(made.pipe)).keys() == updates.keys()


def test_ids_of_the_hub(updates: dict[Key, Update], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``owner/name`` has its usual file or the only one, ``owner/name/file.safetensors`` that one."""
    file = write(tmp_path / "a.safetensors", diffusers, updates)
    asked: list[tuple[str, str]] = []
    hub = SimpleNamespace(
        list_repo_files=lambda _: ["README.md", "a.safetensors"],
        hf_hub_download=lambda repository, name: asked.append((repository, name)) or file,
    )
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    monkeypatch.chdir(tmp_path)
    for place in ("owner/name", "owner/name/sub/b.safetensors"):
        (found,) = adapter_files(LORA, [place], False)
        assert (found.path, found.place) == (file, place)
    assert asked == [("owner/name", "a.safetensors"), ("owner/name", "sub/b.safetensors")]
    (tmp_path / "owner").mkdir()
    with pytest.raises(ModelError, match="no LoRA file 'owner/name'"):
        adapter_files(LORA, ["owner/name"], False)
    with pytest.raises(ModelError, match=r"no LoRA file 'loras/b\.safetensors'"):
        adapter_files(LORA, ["loras/b.safetensors"], False)


def test_a_hub_that_does_not_answer_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(list_repo_files=fails, hf_hub_download=fails))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"LoRA 'owner/name' is not here, and cannot be had .*ConnectionError: no ro"):
        adapter_files(LORA, ["owner/name"], False)
