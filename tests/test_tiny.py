"""The small random pipelines of the other tests: their pictures must move, or what is equal in them proves nothing."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny as small
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tiny import lora_files, variants

TO = {"qwen-image": "true_cfg_scale"}
"""Names of guidance other than diffusers' usual ``guidance_scale``."""
UNGUIDED = {"flux-schnell"}
MOVED = 20
"""Of 255, somewhere in the picture."""
MEGABYTES = 3


def load(folder: Path, **how: Any) -> Any:
    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(folder, **{"use_safetensors": True, "dtype": torch.float32, **how})
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe: Any, prompts: list[str], seeds: list[int], steps: int = 4, **guidance: Any) -> np.ndarray:
    """Pictures of 64 x 64, from 0 to 255: (B, 64, 64, 3)."""
    taken = inspect.signature(pipe.__call__).parameters
    fixed = {"use_resolution_binning": False, "clean_caption": False}
    images = pipe(
        prompt=list(prompts),
        num_inference_steps=steps,
        height=64,
        width=64,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        output_type="np",
        **{name: value for name, value in fixed.items() if name in taken},
        **guidance,
    ).images
    return np.asarray(images, dtype=np.float64) * 255


@pytest.mark.parametrize("name", small.FAMILIES)
def test_prompt_guidance_and_seed_move_the_picture(name: str, tiny: Callable[[str], Path]) -> None:
    pipe = load(tiny(name))
    guidance = TO.get(name, "guidance_scale")
    more = {"negative_prompt": [" "] * 3} if guidance == "true_cfg_scale" else {}
    prompts, seeds = ["a small red circle", "two large blue squares", "a small red circle"], [1, 1, 2]
    strong, weak = (draw(pipe, prompts, seeds, **{guidance: value}, **more) for value in (7.5, 1.0))
    moved = {
        "prompt": np.abs(strong[1] - strong[0]).max(),
        "seed": np.abs(strong[2] - strong[0]).max(),
        "guidance": np.abs(strong - weak).max(axis=(1, 2, 3)).min(),
    }
    if name in UNGUIDED:
        assert moved.pop("guidance") == 0
    assert min(moved.values()) >= MOVED, moved
    assert strong.shape == (3, 64, 64, 3)
    assert ((strong <= 0) | (strong >= 255)).mean() < 0.1, "the picture is saturated"


@pytest.mark.parametrize("name", small.BUILDERS)
def test_a_folder_is_small(name: str, tiny: Callable[[str], Path]) -> None:
    assert json.loads((tiny(name) / "model_index.json").read_text())["_class_name"].endswith("Pipeline")
    size = sum(file.stat().st_size for file in tiny(name).rglob("*") if file.is_file())
    assert size < MEGABYTES * 1_000_000


def test_a_folder_is_made_the_same_again(tmp_path: Path, tiny: Callable[[str], Path]) -> None:
    torch.rand(3)
    again, first = small.build("sd1", tmp_path), tiny("sd1")
    files = [file.relative_to(first) for file in sorted(first.rglob("*")) if file.is_file()]
    assert all((first / file).read_bytes() == (again / file).read_bytes() for file in files)


VARIANT = {
    "fp16-only": "fp16",
    "fp16-sharded": "fp16",
    "bf16-only": "bf16",
    "non-ema-only": "non_ema",
    "mixed-text": "fp16",
    "mixed-unet": "fp16",
}
"""What diffusers has to be told."""


def far(one: Any, other: Any) -> float:
    """The largest difference of two pipelines' weights."""
    pairs = [
        (weight, getattr(other, part).get_parameter(name))
        for part in ("unet", "vae", "text_encoder")
        for name, weight in getattr(one, part).named_parameters()
    ]
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


@pytest.mark.parametrize("name", variants.WHOLE)
def test_a_variant_is_the_same_model(name: str, tiny: Callable[[str], Path]) -> None:
    pickled = name.startswith("pickled")
    pipe = load(tiny(name), variant=VARIANT.get(name), use_safetensors=None if pickled else True)
    assert far(pipe, load(tiny("sd1"))) < (1e-2 if name in VARIANT else 1e-9)


def test_a_single_file_is_the_same_model(tiny: Callable[[str], Path]) -> None:
    from diffusers import StableDiffusionPipeline

    file, folder = tiny("single-file"), tiny("sd1")
    assert far(StableDiffusionPipeline.from_single_file(str(file), config=str(folder)), load(folder)) == 0


@pytest.mark.parametrize("name", variants.BROKEN)
def test_a_broken_folder_is_broken(name: str, tiny: Callable[[str], Path]) -> None:
    with pytest.raises((OSError, ValueError, AttributeError, KeyError, TypeError, SafetensorError)):
        load(tiny(name))


@pytest.mark.parametrize("base", ["sd1", "sdxl"])
def test_a_lora_is_the_same_in_each_style(base: str, tiny: Callable[[str], Path]) -> None:
    """PEFT's own style has the U-Net alone, below a prefix that diffusers does not know."""
    without, named, kohya = (adapted(tiny, base, lora) for lora in (None, f"{base}-lora", f"{base}-lora-kohya"))
    assert np.abs(named - without).max() >= MOVED
    assert np.abs(named - kohya).max() < 1
    unet = {key for key in load_file(tiny(f"{base}-lora")) if key.startswith("unet.")}
    assert {key.replace("base_model.model", "unet") for key in load_file(tiny(f"{base}-lora-peft"))} == unet


@pytest.mark.parametrize("name", ["flux-lora", "flux-lora-kohya"])
def test_a_lora_moves_a_picture_of_flux(name: str, tiny: Callable[[str], Path]) -> None:
    assert np.abs(adapted(tiny, "flux-dev", name) - adapted(tiny, "flux-dev", None)).max() >= MOVED


def adapted(tiny: Callable[[str], Path], base: str, lora: str | None) -> np.ndarray:
    """A picture of that pipeline with that LoRA."""
    pipe = load(tiny(base))
    if lora:
        pipe.load_lora_weights(str(tiny(lora)))
    return draw(pipe, ["a red circle"], [1], steps=2)


@pytest.mark.parametrize(("name", "adapted"), [("sd1-lora-kohya-nothing", 0), ("sd1-lora-part", 2)])
def test_a_lora_that_diffusers_takes_without_an_error(name: str, adapted: int, tiny: Callable[[str], Path]) -> None:
    pipe = load(tiny("sd1"))
    pipe.load_lora_weights(str(tiny(name)))
    assert sum(hasattr(module, "lora_A") for module in pipe.unet.modules()) == adapted


@pytest.mark.parametrize(("name", "message"), [("sd1-lora-nothing", "not found"), ("sd1-lora-wide", "size mismatch")])
def test_a_lora_that_diffusers_refuses(name: str, message: str, tiny: Callable[[str], Path]) -> None:
    with pytest.raises((ValueError, RuntimeError), match=message):
        load(tiny("sd1")).load_lora_weights(str(tiny(name)))


@pytest.mark.parametrize("name", ["sd1-embedding", "sd1-embedding-long"])
def test_an_embedding_moves_the_picture(name: str, tiny: Callable[[str], Path]) -> None:
    pipe = load(tiny("sd1"))
    prompt = [f"a photo of {lora_files.TOKEN}"]
    without = draw(pipe, prompt, [1], steps=2)
    pipe.load_textual_inversion(str(tiny(name)))
    assert np.abs(draw(pipe, prompt, [1], steps=2) - without).max() >= MOVED


def test_an_embedding_for_sdxl_is_one_for_each_encoder(tiny: Callable[[str], Path]) -> None:
    vectors = load_file(tiny("sdxl-embedding"))
    pipe = load(tiny("sdxl"))
    prompt = [f"a photo of {lora_files.TOKEN}"]
    without = draw(pipe, prompt, [1], steps=2)
    for key, part in (("clip_l", ""), ("clip_g", "_2")):
        encoder, tokenizer = getattr(pipe, f"text_encoder{part}"), getattr(pipe, f"tokenizer{part}")
        pipe.load_textual_inversion(vectors[key], lora_files.TOKEN, text_encoder=encoder, tokenizer=tokenizer)
    assert np.abs(draw(pipe, prompt, [1], steps=2) - without).max() >= MOVED
