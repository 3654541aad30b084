"""The embedded model as one file, with the names that tensors have in checkpoints of Stable Diffusion 1."""

from __future__ import annotations

import re
from pathlib import Path

from safetensors.torch import load_file, save_file

UNET = (
    (r"time_embedding\.linear_1", "time_embed.0"), (r"time_embedding\.linear_2", "time_embed.2"),
    (r"^conv_in\.", "input_blocks.0.0."), (r"^conv_norm_out\.", "out.0."), (r"^conv_out\.", "out.2."),
    (r"mid_block\.resnets\.0", "middle_block.0"), (r"mid_block\.resnets\.1", "middle_block.2"),
    (r"norm1\.(?=\w+$)", "in_layers.0."), (r"conv1\.", "in_layers.2."), (r"norm2\.(?=\w+$)", "out_layers.0."),
    (r"conv2\.", "out_layers.3."), (r"time_emb_proj\.", "emb_layers.1."), (r"conv_shortcut\.", "skip_connection."),
)  # fmt: skip
VAE = (
    (r"down_blocks\.(\d)\.resnets\.", r"down.\1.block."),
    (r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample"),
    (r"mid_block\.resnets\.0", "mid.block_1"), (r"mid_block\.resnets\.1", "mid.block_2"),
    (r"conv_shortcut", "nin_shortcut"), (r"conv_norm_out", "norm_out"),
)  # fmt: skip
LAYERS = 1
LEVELS = 3


def write(folder: Path, file: Path) -> None:
    """All weights of the folder's components in one file."""
    names = {
        "unet/diffusion_pytorch_model": lambda key: "model.diffusion_model." + unet(key),
        "vae/diffusion_pytorch_model": lambda key: "first_stage_model." + vae(key),
        "text_encoder/model": lambda key: "cond_stage_model.transformer.text_model." + key,
    }
    tensors = {}
    for name, named in names.items():
        tensors |= {named(key): tensor for key, tensor in load_file(folder / f"{name}.safetensors").items()}
    save_file(tensors, file)


def unet(key: str) -> str:
    """A tensor's name in the checkpoint; a level has a resnet and an attention in each block, and then a sampler."""
    if key.startswith(attention := "mid_block.attentions.0."):
        return "middle_block.1." + key.removeprefix(attention)
    found = re.match(r"(down|up)_blocks\.(\d)\.(resnets|attentions|downsamplers|upsamplers)\.(\d)\.", key)
    if found is None:
        return _replaced(key, UNET)
    down, level, kind, layer = found[1] == "down", int(found[2]), found[3], int(found[4])
    rest = key[found.end() :]
    if kind == "downsamplers":
        return f"input_blocks.{(level + 1) * (LAYERS + 1)}.0.op.{rest.removeprefix('conv.')}"
    if kind == "upsamplers":
        return f"output_blocks.{level * (LAYERS + 1) + LAYERS}.{2 if level == 1 else 1}.{rest}"
    block = level * (LAYERS + 1) + layer + down
    where = f"{'input' if down else 'output'}_blocks.{block}.{int(kind == 'attentions')}."
    return where + (rest if kind == "attentions" else _replaced(rest, UNET))


def vae(key: str) -> str:
    """The same of the VAE, whose decoder counts its levels from the last."""
    if found := re.match(r"decoder\.up_blocks\.(\d)\.", key):
        rest = key[found.end() :].replace("resnets.", "block.").replace("upsamplers.0", "upsample")
        key = f"decoder.up.{LEVELS - 1 - int(found[1])}.{rest}"
    return _replaced(key, VAE)


def _replaced(key: str, pairs: tuple[tuple[str, str], ...]) -> str:
    for old, new in pairs:
        key = re.sub(old, new, key)
    return key
