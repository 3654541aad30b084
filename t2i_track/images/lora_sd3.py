"""Names of Stable Diffusion 3's original program, by which kohya's scripts call its layers; diffusers has no table."""

from __future__ import annotations

import re

_LAYER = re.compile(r"lora_unet_joint_blocks_(?P<block>\d+)_(?P<side>x|context)_block_(?P<part>\w+)")
_PARTS = {
    "x": {
        "attn_qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
        "attn_proj": ("attn.to_out.0",),
        "attn2_qkv": ("attn2.to_q", "attn2.to_k", "attn2.to_v"),
        "attn2_proj": ("attn2.to_out.0",),
        "mlp_fc1": ("ff.net.0.proj",),
        "mlp_fc2": ("ff.net.2",),
    },
    "context": {
        "attn_qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
        "attn_proj": ("attn.to_add_out",),
        "mlp_fc1": ("ff_context.net.0.proj",),
        "mlp_fc2": ("ff_context.net.2",),
    },
}
"""Of either side of a block: its layers in diffusers, where those of a joint projection are one below the other.

Modulations are left out: that of the last block has its halves in another order there.
"""


def diffusers_names(layer: str) -> tuple[str, ...]:
    """The layers of diffusers that are this one of the original program; none where it is not one of them."""
    found = _LAYER.fullmatch(layer)
    parts = () if found is None else _PARTS[found["side"]].get(found["part"], ())
    return tuple(f"transformer.transformer_blocks.{found['block']}.{part}" for part in parts) if found else ()
