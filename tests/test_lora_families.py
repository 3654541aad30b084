"""LoRAs and embeddings of the families: all of each file is in the pipeline, and moves its prediction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file, save_file

from t2i_track.errors import ModelError
from t2i_track.images.adapters import Adapters, find_adapters, put_adapters
from t2i_track.settings import Settings

Tiny = Callable[[str], Path]


def pipe_of(tiny: Tiny, name: str) -> Any:
    return DiffusionPipeline.from_pretrained(tiny(name))


def put(pipe: Any, **given: Any) -> Adapters:
    settings = Settings(**{name: str(value) for name, value in given.items()})
    return put_adapters(pipe, find_adapters(settings, False), settings)


def placed(pipe: Any) -> Counter[str]:
    """Component -> its layers that have a LoRA."""
    return Counter(
        component
        for component, network in pipe.components.items()
        if isinstance(network, torch.nn.Module)
        for module in network.modules()
        if getattr(module, "lora_A", None)
    )


def by_component(file: Path) -> Counter[str]:
    """The same of a file in diffusers' style."""
    return Counter(key.split(".")[0] for key in load_file(file) if "lora_A" in key)


@pytest.mark.parametrize(
    ("name", "same_as"),
    [
        ("sd1-lora", "sd1-lora"),
        ("sd1-lora-kohya", "sd1-lora"),
        ("sd1-lora-unet", "sd1-lora-unet"),
        ("sd1-lora-peft", "sd1-lora-unet"),
        ("sdxl-lora", "sdxl-lora"),
        ("sdxl-lora-kohya", "sdxl-lora"),
        ("flux-lora", "flux-lora"),
        ("flux-lora-peft", "flux-lora"),
    ],
)
def test_all_of_a_file_is_placed(name: str, same_as: str, tiny: Tiny) -> None:
    """Whatever the style of its keys, each layer has what it has in the file in diffusers' style."""
    pipe = pipe_of(tiny, name.split("-")[0].replace("flux", "flux-dev"))
    assert put(pipe, lora=tiny(name)).notes == ()
    assert placed(pipe) == by_component(tiny(same_as))
    for key, tensor in load_file(tiny(same_as)).items():
        component, _, layer = key.partition(".")
        network = getattr(pipe, component)
        # transformers moved the parts of CLIPTextModel up, and left those of CLIPTextModelWithProjection.
        own = layer if hasattr(network, "text_model") else layer.removeprefix("text_model.")
        module = network.get_submodule(own.rpartition(".lora_")[0])
        half = module.lora_A if "lora_A" in key else module.lora_B
        assert torch.equal(half["lora_0"].weight, tensor), key
        assert module.scaling == {"lora_0": 1.0}


def test_joint_projections_of_flux_are_split(tiny: Tiny) -> None:
    """Kohya's files follow the original program, in which a block's q, k and v are one layer."""
    pipe = pipe_of(tiny, "flux-dev")
    assert put(pipe, lora=tiny("flux-lora-kohya")).notes == ()
    assert placed(pipe) == {"transformer": 7}
    fused = load_file(tiny("flux-lora-kohya"))["lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight"]
    attention = pipe.transformer.transformer_blocks[0].attn
    parts = [getattr(attention, name).lora_B["lora_0"].weight for name in ("to_q", "to_k", "to_v")]
    assert torch.equal(torch.cat(parts), fused)


def test_keys_of_sd3(tiny: Tiny, tmp_path: Path) -> None:
    """diffusers', PEFT's, and the flat names that OneTrainer and kohya's scripts write of diffusers' layers."""
    layers = ["transformer_blocks.0.attn.to_q", "transformer_blocks.0.ff.net.2"]
    weights = [pipe_of(tiny, "sd3").transformer.get_submodule(layer).weight.shape for layer in layers]
    styles: dict[str, tuple[Callable[[str], str], str, str]] = {
        "diffusers": (lambda layer: f"transformer.{layer}", "lora_A", "lora_B"),
        "peft": (lambda layer: f"base_model.model.{layer}", "lora_A", "lora_B"),
        "comfy": (lambda layer: f"diffusion_model.{layer}", "lora_down", "lora_up"),
        "kohya": (lambda layer: f"lora_unet_{layer.replace('.', '_')}", "lora_down", "lora_up"),
        "onetrainer": (lambda layer: f"lora_transformer_{layer.replace('.', '_')}", "lora_down", "lora_up"),
    }
    for name, (called, down, up) in styles.items():
        tensors = {}
        for layer, (out, inner) in zip(layers, weights, strict=True):
            tensors[f"{called(layer)}.{down}.weight"] = torch.ones(2, inner)
            tensors[f"{called(layer)}.{up}.weight"] = torch.ones(out, 2)
        save_file(tensors, tmp_path / f"{name}.safetensors")
        pipe = pipe_of(tiny, "sd3")
        assert put(pipe, lora=tmp_path / f"{name}.safetensors").notes == (), name
        assert placed(pipe) == {"transformer": 2}, name


def test_kohyas_names_of_sd3_are_split(tiny: Tiny, tmp_path: Path) -> None:
    """By the original program's names, which diffusers does not know; both sides of a block, with an alpha."""
    pipe = pipe_of(tiny, "sd3")
    attention = pipe.transformer.transformer_blocks[0].attn
    out, inner = attention.to_q.weight.shape
    up = torch.randn(3 * out, 2)
    tensors = {}
    for side in ("x", "context"):
        name = f"lora_unet_joint_blocks_0_{side}_block_attn_qkv"
        tensors[f"{name}.lora_down.weight"] = torch.ones(2, inner)
        tensors[f"{name}.lora_up.weight"] = up.clone()
        tensors[f"{name}.alpha"] = torch.tensor(1.0)
        tensors[f"lora_unet_joint_blocks_0_{side}_block_mlp_fc2.lora_down.weight"] = torch.ones(2, 4 * inner)
        tensors[f"lora_unet_joint_blocks_0_{side}_block_mlp_fc2.lora_up.weight"] = torch.ones(inner, 2)
    name = "lora_unet_joint_blocks_0_x_block_adaLN_modulation_1"
    tensors |= {f"{name}.lora_down.weight": torch.ones(2, inner), f"{name}.lora_up.weight": torch.ones(6 * inner, 2)}
    save_file(tensors, tmp_path / "kohya.safetensors")
    notes = put(pipe, lora=tmp_path / "kohya.safetensors").notes
    assert notes == (f"LoRA kohya.safetensors: 8 of 9 layers fit, 1 is left out: {name}",)
    assert placed(pipe) == {"transformer": 8}
    for names in (("to_q", "to_k", "to_v"), ("add_q_proj", "add_k_proj", "add_v_proj")):
        modules = [getattr(attention, name) for name in names]
        assert torch.equal(torch.cat([module.lora_B["lora_0"].weight for module in modules]), up)
        assert [module.scaling for module in modules] == [{"lora_0": 0.5}] * 3


def test_one_name_that_nobody_knows_leaves_the_others(tiny: Tiny, tmp_path: Path) -> None:
    """diffusers would refuse the whole file, or convert none of it."""
    for source, model in (("sdxl-lora-kohya", "sdxl"), ("flux-lora-kohya", "flux-dev")):
        odd = {f"lora_unet_odd.lora_{half}.weight": torch.ones(2, 2) for half in ("down", "up")}
        save_file(load_file(tiny(source)) | odd, tmp_path / "odd.safetensors")
        pipe, whole = pipe_of(tiny, model), pipe_of(tiny, model)
        (note,) = put(pipe, lora=tmp_path / "odd.safetensors").notes
        put(whole, lora=tiny(source))
        assert note.endswith("layers fit, 1 is left out: lora_unet_odd")
        assert placed(pipe) == placed(whole)


@pytest.mark.parametrize(
    ("model", "lora", "message"),
    [
        ("sd1", "sd1-lora-nothing", r"fits nothing in this model: of 3 layers none has a place \(unet\.down_blocks\.9"),
        ("sd1", "sd1-lora-kohya-nothing", r"fits nothing in this model: of \d+ layers none has a place \(lora_other"),
        ("sd1", "flux-lora", r"fits nothing in this model: of 7 layers none has a place \(transformer\."),
        ("sd1", "flux-lora-kohya", r"fits nothing in this model: of 3 layers none has a place \(lora_unet_double"),
        ("flux-dev", "sd1-lora-unet", r"fits nothing in this model: of 32 layers none has a place \(unet\."),
        ("sd1", "sd1-lora-wide", r"its tensor '\S+' is \[4, \d+\], and unet\.\S+ wants \[4, \d+\]"),
        ("pixart-sigma", "sd1-lora", r"PixArtSigmaPipeline takes no LoRA: leave out --lora"),
    ],
)
def test_what_is_of_another_model_is_refused(model: str, lora: str, message: str, tiny: Tiny) -> None:
    with pytest.raises(ModelError, match=message):
        put(pipe_of(tiny, model), lora=tiny(lora))


def test_what_fits_in_part_is_told(tiny: Tiny) -> None:
    pipe = pipe_of(tiny, "sd1")
    (note,) = put(pipe, lora=tiny("sd1-lora-part")).notes
    assert note == (
        "LoRA sd1-lora-part.safetensors: 2 of 4 layers fit, 2 are left out:"
        " unet.down_blocks.9.attentions.0.attn1.to_q, unet.down_blocks.9.attentions.1.attn1.to_q"
    )
    assert placed(pipe) == {"unet": 2}


def test_a_lora_for_clip_alone_does_nothing_else_in_sdxl(tiny: Tiny, tmp_path: Path) -> None:
    """Text encoders' keys on a model where they fit: the first alone, the second alone."""
    whole = load_file(tiny("sdxl-lora"))
    for component in ("text_encoder", "text_encoder_2"):
        part = {key: tensor for key, tensor in whole.items() if key.startswith(f"{component}.")}
        save_file(part, tmp_path / "part.safetensors")
        pipe = pipe_of(tiny, "sdxl")
        assert put(pipe, lora=tmp_path / "part.safetensors").notes == ()
        assert placed(pipe) == {component: len(part) // 2}


def test_embeddings_of_sdxl_are_words_of_both_encoders(tiny: Tiny) -> None:
    pipe = pipe_of(tiny, "sdxl")
    found = put(pipe, embedding=tiny("sdxl-embedding"))
    assert (found.notes, [word.token for word in found.tokens]) == ((), ["sdxl-embedding"])
    for tokenizer in (pipe.tokenizer, pipe.tokenizer_2):
        assert pipe.maybe_convert_prompt("a sdxl-embedding", tokenizer) == "a sdxl-embedding sdxl-embedding_1"


def test_one_encoder_that_does_not_know_the_word_is_told(tiny: Tiny) -> None:
    pipe = pipe_of(tiny, "sdxl")
    (note,) = put(pipe, embedding=tiny("sd1-embedding")).notes
    assert note == "embedding sd1-embedding.safetensors is for text_encoder: text_encoder_2 reads '<cat-toy>' as words"


def test_a_pipeline_that_takes_no_embedding_is_named(tiny: Tiny) -> None:
    with pytest.raises(ModelError, match="StableDiffusion3Pipeline takes no textual inversion: leave out --embedding"):
        put(pipe_of(tiny, "sd3"), embedding=tiny("sd1-embedding"))
