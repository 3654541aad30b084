"""Transformers that predict noise: PixArt-Sigma, HunyuanDiT."""

from __future__ import annotations

from typing import Any

import diffusers as d

from tiny import tokenizers as tok
from tiny.parts import amplified, noise_scheduler, vae
from tiny.text_encoders import bert, t5_encoder


def pixart_sigma() -> Any:
    transformer = d.PixArtTransformer2DModel(
        sample_size=8,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_channels=32,
        in_channels=4,
        out_channels=8,
        cross_attention_dim=32,
        norm_type="ada_norm_single",
        use_additional_conditions=False,
    )
    return d.PixArtSigmaPipeline(
        transformer=amplified(transformer, 2.0),
        vae=vae(),
        scheduler=d.DPMSolverMultistepScheduler(),
        text_encoder=t5_encoder(),
        tokenizer=tok.t5(),
    )


def hunyuan_dit() -> Any:
    transformer = d.HunyuanDiT2DModel(
        sample_size=16,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=3,
        in_channels=4,
        cross_attention_dim=32,
        cross_attention_dim_t5=32,
        pooled_projection_dim=16,
        hidden_size=24,
        activation_fn="gelu-approximate",
    )
    return d.HunyuanDiTPipeline(
        transformer=amplified(transformer, 2.0),
        vae=vae(),
        scheduler=noise_scheduler("DDPMScheduler", beta_end=0.02, prediction_type="v_prediction"),
        text_encoder=bert(),
        tokenizer=tok.bert(),
        text_encoder_2=t5_encoder(),
        tokenizer_2=tok.t5(256),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


BUILDERS = {"pixart-sigma": pixart_sigma, "hunyuan-dit": hunyuan_dit}
