"""One file with the names of the original Stable Diffusion 1.x (CompVis), as sites of fine-tuned models offer it.

diffusers reads that layout (``loaders/single_file_utils.py``) and has nothing that writes it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

UNET = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
MIDDLE = {"resnets.0": "0", "attentions.0": "1", "resnets.1": "2"}
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
PREFIXES = {"unet": "model.diffusion_model", "vae": "first_stage_model", "text_encoder": "cond_stage_model.transformer"}


def unet_name(name: str, layers: int) -> str:
    """The original name of a U-Net's tensor or layer; ``layers`` is its ``layers_per_block``."""
    place = re.match(r"(down|up|mid)_blocks?\.(?:(\d+)\.)?(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.", name)
    if place is None:
        layer, _, rest = name.rpartition(".")
        return f"{UNET[layer]}.{rest}"
    side, block, kind, index = place.groups()
    rest = name[place.end() :]
    if side == "mid":
        old = f"middle_block.{MIDDLE[f'{kind}.{index}']}"
    else:
        first = int(block) * (layers + 1) + (1 if side == "down" else 0)
        number = first + (layers if kind.endswith("samplers") else int(index))
        old = f"{'input' if side == 'down' else 'output'}_blocks.{number}"
        old += {"resnets": ".0", "attentions": ".1", "downsamplers": ".0", "upsamplers": ".2"}[kind]
    if kind == "resnets":
        layer, _, rest = rest.partition(".")
        return f"{old}.{RESNET[layer]}.{rest}"
    return f"{old}.{rest.replace('conv.', 'op.') if kind == 'downsamplers' else rest}"


def vae_name(name: str, blocks: int) -> str:
    """The original name of an autoencoder's tensor; ``blocks`` is how many it has going down."""
    name = re.sub(r"down_blocks\.(\d+)\.resnets\.(\d+)", r"down.\1.block.\2", name)
    name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d+)\.", lambda found: f"up.{blocks - 1 - int(found[1])}.", name)
    name = re.sub(r"resnets\.(\d+)", r"block.\1", name.replace("upsamplers.0", "upsample"))
    name = re.sub(r"mid_block\.block\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}", name)
    if "mid_block.attentions.0" in name:
        for new, old in ATTENTION.items():
            name = name.replace(f".{new}.", f".{old}.")
    name = name.replace("mid_block.attentions.0", "mid.attn_1")
    return name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")


def write(source: Path, file: Path) -> Path:
    """The weights of a Stable Diffusion 1.x folder in one file."""
    unet, vae = (json.loads((source / part / "config.json").read_text()) for part in ("unet", "vae"))
    tensors: dict[str, Tensor] = {}
    for part, prefix in PREFIXES.items():
        for name, tensor in load_file(next((source / part).glob("*.safetensors"))).items():
            if part == "unet":
                old = unet_name(name, unet["layers_per_block"])
            elif part == "vae":
                old = vae_name(name, len(vae["block_out_channels"]))
                if ".attn_1." in old and tensor.dim() == 2:
                    tensor = tensor[:, :, None, None]
            else:
                old = f"text_model.{name.removeprefix('text_model.')}"
            tensors[f"{prefix}.{old}"] = tensor.contiguous()
    save_file(tensors, file)
    return file
