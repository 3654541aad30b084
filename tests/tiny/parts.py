"""The parts that several families share: U-Nets, autoencoders, schedulers."""

from __future__ import annotations

from typing import Any

import diffusers as d
from torch import nn


def amplified(module: nn.Module, gain: float = 1.0, **parts: float) -> Any:
    """The module with its matrices multiplied by ``gain``, and all that is below a part of that name by its own.

    Fresh networks hardly listen: softmax over near-equal scores and small gates make the mean of what they are told.
    A picture that neither the prompt nor the guidance moves proves nothing.
    """
    for name, weight in module.named_parameters():
        if weight.dim() > 1:
            weight.data *= gain
        for part in parts.keys() & name.split("."):
            weight.data *= parts[part]
    return module.eval()


def unet(cross: int = 32, *, inputs: int = 4, **more: Any) -> Any:
    net = d.UNet2DConditionModel(
        block_out_channels=(16, 32),
        layers_per_block=1,
        sample_size=8,
        in_channels=inputs,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=cross,
        norm_num_groups=8,
        **{"attention_head_dim": 8, **more},
    )
    return amplified(net, attn2=4.0, cond_proj=20.0)


def vae(latent: int = 4, **more: Any) -> Any:
    """Factor 8, as in all of Stable Diffusion's."""
    net = d.AutoencoderKL(
        block_out_channels=(8, 8, 16, 16),
        latent_channels=latent,
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        **more,
    )
    return amplified(net)


def noise_scheduler(name: str, **more: Any) -> Any:
    """One of diffusers' classes, with the betas of Stable Diffusion."""
    base = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    return getattr(d, name)(**{**base, **more})


def flow_scheduler(**more: Any) -> Any:
    return d.FlowMatchEulerDiscreteScheduler(**more)
