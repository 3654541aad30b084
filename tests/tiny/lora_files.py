"""LoRA and textual inversion files for the small pipelines, in the styles of keys that trainers write."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from tiny.single_file import unet_name

RANK = 4
STRENGTH = 0.3
"""Spread of the random numbers: enough to see in the picture."""
UNET = ("to_q", "to_k", "to_v", "to_out.0")
TEXT = ("q_proj", "k_proj", "v_proj", "out_proj")
State = dict[str, Tensor]


def layers(folder: Path, part: str, targets: Iterable[str]) -> dict[str, tuple[int, int]]:
    """The linear layers that end in one of the targets: name -> (out, in), names as on the hub."""
    found = {}
    for file in (folder / part).glob("*.safetensors"):
        with safe_open(file, "pt") as opened:
            for key in sorted(opened.keys()):
                name = key.removesuffix(".weight")
                shape = opened.get_slice(key).get_shape()
                if key.endswith(".weight") and f".{name}".endswith(tuple(f".{target}" for target in targets)):
                    old = f"text_model.{name.removeprefix('text_model.')}" if part.startswith("text") else name
                    found[old] = tuple(shape)
    return found


def pair(shape: tuple[int, int], seed: int) -> tuple[Tensor, Tensor]:
    """(A of (rank, in), B of (out, rank))."""
    generator = torch.Generator().manual_seed(seed)
    out, inner = shape
    return (
        STRENGTH * torch.randn(RANK, inner, generator=generator),
        STRENGTH * torch.randn(out, RANK, generator=generator),
    )


def trained(folder: Path, part: str, targets: Iterable[str]) -> dict[str, tuple[Tensor, Tensor]]:
    """Random adapters for those layers of that part."""
    return {name: pair(shape, seed) for seed, (name, shape) in enumerate(layers(folder, part, targets).items())}


def peft(adapters: dict[str, tuple[Tensor, Tensor]], prefix: str) -> State:
    """diffusers' keys with the component for a prefix; PEFT's own with ``base_model.model``."""
    return {
        f"{prefix}.{name}.lora_{letter}.weight": tensor
        for name, both in adapters.items()
        for letter, tensor in zip("AB", both, strict=True)
    }


def kohya(adapters: dict[str, tuple[Tensor, Tensor]], prefix: str) -> State:
    state = {}
    for name, (down, up) in adapters.items():
        key = f"{prefix}_{name.replace('.', '_')}"
        state |= {
            f"{key}.lora_down.weight": down,
            f"{key}.lora_up.weight": up,
            f"{key}.alpha": torch.tensor(1.0 * RANK),
        }
    return state


def parts(folder: Path) -> dict[str, dict[str, tuple[Tensor, Tensor]]]:
    """Adapters for the U-Net and each CLIP of the folder, by component."""
    texts = sorted(path.name for path in folder.glob("text_encoder*"))
    return {"unet": trained(folder, "unet", UNET)} | {part: trained(folder, part, TEXT) for part in texts}


def diffusers_unet(folder: Path, file: Path) -> None:
    save_file(peft(trained(folder, "unet", UNET), "unet"), file)


def diffusers_all(folder: Path, file: Path) -> None:
    save_file({key: t for part, adapters in parts(folder).items() for key, t in peft(adapters, part).items()}, file)


def kohya_all(folder: Path, file: Path) -> None:
    """SD 1's U-Net by diffusers' names, and ``lora_te``; SDXL's by its original ones, ``lora_te1``, ``lora_te2``."""
    adapters = parts(folder)
    xl = "text_encoder_2" in adapters
    unet = adapters["unet"]
    if xl:
        per_block = json.loads((folder / "unet" / "config.json").read_text())["layers_per_block"]
        unet = {unet_name(name, per_block): both for name, both in unet.items()}
    state = kohya(unet, "lora_unet") | kohya(adapters["text_encoder"], "lora_te1" if xl else "lora_te")
    if xl:
        state |= kohya(adapters["text_encoder_2"], "lora_te2")
    save_file(state, file, metadata={"ss_network_dim": str(RANK), "ss_network_alpha": str(RANK)})


def peft_network(folder: Path, file: Path, part: str = "unet") -> None:
    """As ``save_pretrained`` of a network that PEFT wraps."""
    save_file(peft(trained(folder, part, UNET), "base_model.model"), file)


def transformer(folder: Path, file: Path) -> None:
    save_file(peft(trained(folder, "transformer", UNET), "transformer"), file)


def kohya_flux(folder: Path, file: Path) -> None:
    """By Black Forest Labs' names, in which a block's q, k and v are one layer."""
    outs = layers(folder, "transformer", ["transformer_blocks.0.attn.to_q"])
    out, inner = next(iter(outs.values()))
    fused = {
        "double_blocks.0.img_attn.qkv": pair((3 * out, inner), 1),
        "double_blocks.0.img_attn.proj": pair((out, inner), 2),
        "double_blocks.0.txt_attn.qkv": pair((3 * out, inner), 3),
    }
    save_file(kohya(fused, "lora_unet"), file)


def fits_nothing(folder: Path, file: Path) -> None:
    """Layers of another model."""
    save_file(peft({f"down_blocks.9.attentions.{i}.attn1.to_q": pair((32, 32), i) for i in range(3)}, "unet"), file)


def kohya_fits_nothing(folder: Path, file: Path) -> None:
    save_file(kohya(trained(folder, "unet", UNET), "lora_other"), file)


def fits_in_part(folder: Path, file: Path) -> None:
    """Two layers of the U-Net, and two that are nowhere: 4 of 8 tensors."""
    fitting = dict(list(trained(folder, "unet", ["to_q"]).items())[:2])
    nowhere = {f"down_blocks.9.attentions.{i}.attn1.to_q": pair((32, 32), i) for i in range(2)}
    save_file(peft(fitting | nowhere, "unet"), file)


def wrong_shape(folder: Path, file: Path) -> None:
    """Each layer twice as wide as the model's."""
    wide = {name: pair((out, 2 * inner), 0) for name, (out, inner) in layers(folder, "unet", UNET).items()}
    save_file(peft(wide, "unet"), file)


TOKEN = "<cat-toy>"


def embedding(folder: Path, file: Path, vectors: int = 1) -> None:
    """Textual inversion by the word itself."""
    save_file({TOKEN: _vectors(folder, "text_encoder", vectors)}, file)


def embedding_xl(folder: Path, file: Path) -> None:
    """One for each CLIP, by the names that SDXL's trainers write."""
    save_file({"clip_l": _vectors(folder, "text_encoder", 2), "clip_g": _vectors(folder, "text_encoder_2", 2)}, file)


def _vectors(folder: Path, part: str, number: int) -> Tensor:
    width = json.loads((folder / part / "config.json").read_text())["hidden_size"]
    return torch.randn(number, width, generator=torch.Generator().manual_seed(0))


LORAS: dict[str, tuple[str, Callable[[Path, Path], Any]]] = {
    "sd1-lora-unet": ("sd1", diffusers_unet),
    "sd1-lora": ("sd1", diffusers_all),
    "sd1-lora-kohya": ("sd1", kohya_all),
    "sd1-lora-peft": ("sd1", peft_network),
    "sdxl-lora": ("sdxl", diffusers_all),
    "sdxl-lora-kohya": ("sdxl", kohya_all),
    "sdxl-lora-peft": ("sdxl", peft_network),
    "flux-lora": ("flux-dev", transformer),
    "flux-lora-kohya": ("flux-dev", kohya_flux),
    "flux-lora-peft": ("flux-dev", partial(peft_network, part="transformer")),
    "sd1-lora-nothing": ("sd1", fits_nothing),
    "sd1-lora-kohya-nothing": ("sd1", kohya_fits_nothing),
    "sd1-lora-part": ("sd1", fits_in_part),
    "sd1-lora-wide": ("sd1", wrong_shape),
}
EMBEDDINGS: dict[str, tuple[str, Callable[[Path, Path], Any]]] = {
    "sd1-embedding": ("sd1", embedding),
    "sd1-embedding-long": ("sd1", partial(embedding, vectors=3)),
    "sdxl-embedding": ("sdxl", embedding_xl),
}
