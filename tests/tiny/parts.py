"""The parts that several families share: U-Nets, autoencoders, text encoders, schedulers."""

from __future__ import annotations

from typing import Any

import diffusers as d
import transformers as t
from torch import nn

from tiny import tokenizers as tok

SIDE = 64
"""Pixels that the tests ask for: latents of 8 x 8 behind an autoencoder of factor 8."""


def amplified(module: nn.Module, gain: float = 1.0, **parts: float) -> Any:
    """The module with its matrices multiplied by ``gain``, and those below the part ``name`` once more by its own.

    Fresh networks hardly listen: softmax over near-equal scores and small gates make the mean of what they are told.
    A picture that neither the prompt nor the guidance moves proves nothing.
    """
    for name, weight in module.named_parameters():
        if weight.dim() > 1:
            weight.data *= gain
            for part, more in parts.items():
                if f".{part}." in f".{name}.":
                    weight.data *= more
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


def clip_text(hidden: int = 32, *, projection: int = 32, with_projection: bool = False, act: str = "quick_gelu") -> Any:
    config = t.CLIPTextConfig(
        vocab_size=tok.CLIP_VOCABULARY,
        bos_token_id=tok.CLIP_START,
        eos_token_id=tok.CLIP_END,
        pad_token_id=tok.CLIP_END,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=3,
        num_attention_heads=4,
        projection_dim=projection,
        max_position_embeddings=77,
        hidden_act=act,
    )
    return amplified((t.CLIPTextModelWithProjection if with_projection else t.CLIPTextModel)(config))


def t5_encoder(hidden: int = 32) -> Any:
    config = t.T5Config(
        vocab_size=tok.VOCABULARY,
        d_model=hidden,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        is_encoder_decoder=False,
        use_cache=False,
    )
    return amplified(t.T5EncoderModel(config))


def gemma_encoder(layers: int = 2) -> Any:
    config = t.Gemma2Config(
        vocab_size=tok.VOCABULARY,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=2048,
    )
    return amplified(t.Gemma2Model(config))


def noise_scheduler(name: str, **more: Any) -> Any:
    """One of diffusers' classes, with the betas of Stable Diffusion."""
    base = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    return getattr(d, name)(**{**base, **more})


def flow_scheduler(**more: Any) -> Any:
    return d.FlowMatchEulerDiscreteScheduler(**more)
