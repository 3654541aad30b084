"""The small random pipelines of the other tests: their pictures must move, or what is equal in them proves nothing."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny as small
import torch

TO = {"qwen-image": "true_cfg_scale"}
"""Names of guidance other than diffusers' usual ``guidance_scale``."""
UNGUIDED = {"flux-schnell"}
MOVED = 20
"""Of 255, somewhere in the picture."""
MEGABYTES = 3


def load(folder: Path) -> Any:
    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(folder, use_safetensors=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe: Any, prompts: list[str], seeds: list[int], **guidance: Any) -> np.ndarray:
    """Pictures of 64 x 64 in four steps, from 0 to 255: (B, 64, 64, 3)."""
    taken = inspect.signature(pipe.__call__).parameters
    fixed = {"use_resolution_binning": False, "clean_caption": False}
    images = pipe(
        prompt=list(prompts),
        num_inference_steps=4,
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


@pytest.mark.parametrize("name", small.FAMILIES)
def test_a_folder_is_small(name: str, tiny: Callable[[str], Path]) -> None:
    size = sum(file.stat().st_size for file in tiny(name).rglob("*") if file.is_file())
    assert size < MEGABYTES * 1_000_000


def test_a_folder_is_made_the_same_again(tmp_path: Path, tiny: Callable[[str], Path]) -> None:
    torch.rand(3)
    again, first = small.build("sd1", tmp_path / "sd1"), tiny("sd1")
    files = [file.relative_to(first) for file in sorted(first.rglob("*")) if file.is_file()]
    assert all((first / file).read_bytes() == (again / file).read_bytes() for file in files)
