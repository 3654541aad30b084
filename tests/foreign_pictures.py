"""Pictures as other programs write them, in their published shapes, with odd prompts and broken ones among them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

PROMPTS = ("a red cat", "一只猫坐在垫子上", "قطة على سجادة", 'a "quoted" cat, (blue:1.2)', "a cat 😀 on a mat")
GUIDANCES = (4, 7.5)


def pixels(seed: int, side: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8))


def png(path: Path, number: int, texts: dict[str, str], side: int = 64) -> Path:
    """A picture with these texts, each picture with pixels of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    info = PngInfo()
    for name, text in texts.items():
        info.add_text(name, text) if text.isascii() else info.add_itxt(name, text)
    pixels(number, side).save(path, pnginfo=info)
    return path


def a1111(prompt: str, seed: int, guidance: float, *, steps: int = 20, sampler: str = "DPM++ 2M") -> dict[str, str]:
    """AUTOMATIC1111's web UI, 1.9 and later."""
    return {
        "parameters": f"{prompt}\nNegative prompt: blurry\nSteps: {steps}, Sampler: {sampler}, Schedule type: Karras,"
        f" CFG scale: {guidance}, Seed: {seed}, Size: 64x64, Model hash: 6ce0161689, Model: v1-5-pruned-emaonly,"
        " Version: v1.10.1"
    }


def comfyui(prompt: str, seed: int, guidance: float, *, workflow: bool = True) -> dict[str, str]:
    """ComfyUI's default graph: KSampler 3, checkpoint 4, texts 6 and 7; without a workflow as its API leaves it."""
    sampled = {"seed": seed, "steps": 20, "cfg": guidance, "sampler_name": "euler_ancestral", "scheduler": "normal"}
    links = {"denoise": 1, "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}
    graph = {
        "3": {"class_type": "KSampler", "inputs": sampled | links},
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd_xl_base_1.0.safetensors"}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": prompt, "clip": ["4", 1]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "watermark", "clip": ["4", 1]}},
    }
    drawn = {
        "links": [
            [1, 4, 0, 3, 0, "MODEL"], [2, 5, 0, 3, 3, "LATENT"], [3, 4, 1, 6, 0, "CLIP"],
            [4, 6, 0, 3, 1, "CONDITIONING"],
            [5, 4, 1, 7, 0, "CLIP"], [6, 7, 0, 3, 2, "CONDITIONING"],
        ]
    }  # fmt: skip
    return {"prompt": json.dumps(graph), **({"workflow": json.dumps(drawn)} if workflow else {})}


def fooocus(prompt: str, seed: int, guidance: float) -> dict[str, str]:
    said: dict[str, Any] = {
        "adm_guidance": "(1.5, 0.8, 0.3)", "base_model": "juggernautXL_v8", "base_model_hash": "aeb7e9e689",
        "full_negative_prompt": ["deformed"], "full_prompt": [prompt], "guidance_scale": guidance, "loras": [],
        "metadata_scheme": "fooocus", "negative_prompt": "deformed", "performance": "Speed", "prompt": prompt,
        "prompt_expansion": "", "refiner_model": "None", "resolution": "(64, 64)", "sampler": "dpmpp_2m_sde_gpu",
        "scheduler": "karras", "seed": str(seed), "sharpness": 2, "steps": 30, "styles": "[]", "vae": "Default",
        "version": "Fooocus v2.5.5",
    }  # fmt: skip
    return {"fooocus_scheme": "fooocus", "parameters": json.dumps(said)}


def invokeai(prompt: str, seed: int, guidance: float) -> dict[str, str]:
    said = {
        "app_version": "5.4.2", "generation_mode": "txt2img", "positive_prompt": prompt, "negative_prompt": "",
        "width": 64, "height": 64, "seed": seed, "rand_device": "cpu", "cfg_scale": guidance, "steps": 25,
        "scheduler": "dpmpp_2m_k", "model": {"key": "a1", "hash": "blake3:1", "name": "Dreamshaper 8", "base": "sd-1"},
    }  # fmt: skip
    return {"invokeai_metadata": json.dumps(said), "invokeai_graph": "{}"}


def novelai(prompt: str, seed: int, guidance: float) -> dict[str, str]:
    said = {
        "prompt": prompt, "steps": 28, "height": 64, "width": 64, "scale": guidance, "uncond_scale": 1.0, "seed": seed,
        "n_samples": 1, "noise_schedule": "native", "sampler": "k_euler_ancestral", "uc": "lowres",
    }  # fmt: skip
    return {
        "Title": "AI generated image", "Description": prompt, "Software": "NovelAI",
        "Source": "Stable Diffusion XL 9CC2F394", "Comment": json.dumps(said),
    }  # fmt: skip


def swarmui(prompt: str, seed: int, guidance: float) -> dict[str, str]:
    said = {
        "prompt": prompt, "negativeprompt": "", "model": "OfficialStableDiffusion/sd_xl_base_1.0", "seed": seed,
        "steps": 20, "cfgscale": guidance, "aspectratio": "1:1", "width": 64, "height": 64, "sampler": "euler",
        "scheduler": "karras", "swarm_version": "0.9.4.0",
    }  # fmt: skip
    return {"parameters": json.dumps({"sui_image_params": said, "sui_extra_data": {"date": "2025-01-01"}})}


TOOLS = {"a1111": a1111, "comfyui": comfyui, "fooocus": fooocus, "invokeai": invokeai, "novelai": novelai}
TOOLS |= {"swarmui": swarmui}
MADE = len(TOOLS) * 6 + 4
"""Whole pictures of ``outputs``."""


def outputs(folder: Path) -> Path:
    """A folder of 40 whole pictures of six programs and two scripts, and of what is none: five files."""
    number = 0
    for tool, texts in TOOLS.items():
        for guidance in GUIDANCES:
            for prompt in PROMPTS[:3]:
                number += 1
                png(folder / tool / f"{number:05d}.png", number, texts(prompt, 100 + number % 3, guidance))
    for name in ("a", "b"):
        said = {"prompt": PROMPTS[3], "guidance_scale": 5.0, "num_inference_steps": 30, "seed": 7, "model_id": "org/sd"}
        png(folder / "diffusers" / f"{name}.png", 80 + ord(name), {})
        (folder / "diffusers" / f"{name}.json").write_text(json.dumps(said | {"seed": ord(name)}), encoding="utf-8")
    for row, caption in enumerate(PROMPTS[:2]):
        png(folder / "old" / f"{row:06d}.png", 90 + row, {})
        with (folder / "old" / "coco.csv").open("a", encoding="utf-8") as file:
            if row == 0:
                file.write("image_id,caption_id,image_path,caption\n")
            file.write(f"{4000 + row},{70 + row},/photos/{row}.jpg,{caption}\n")
    whole = (folder / "a1111" / "00001.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").touch()
    (folder / "page.png").write_text("<html>", encoding="utf-8")
    (folder / "clip.mp4").write_bytes(b"\0" * 64)
    (folder / "notes.txt").write_text("nothing", encoding="utf-8")
    return folder
