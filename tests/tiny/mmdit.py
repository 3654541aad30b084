"""Transformers with two streams, pictures and words, told by CLIP and T5: SD 3, Flux, Chroma, AuraFlow."""

from __future__ import annotations

from typing import Any

import diffusers as d

from tiny import tokenizers as tok
from tiny.parts import amplified, flow_scheduler, vae
from tiny.text_encoders import clip_text, t5_encoder, umt5_encoder

NO_QUANT = {"use_quant_conv": False, "use_post_quant_conv": False}
FLUX_LATENTS = {"shift_factor": 0.1159, "scaling_factor": 0.3611}


def sd3() -> Any:
    transformer = d.SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=32,
        joint_attention_dim=64,
        pooled_projection_dim=64,
        out_channels=4,
        pos_embed_max_size=96,
    )
    return d.StableDiffusion3Pipeline(
        transformer=amplified(transformer),
        scheduler=flow_scheduler(shift=3.0),
        vae=vae(shift_factor=0.0609, scaling_factor=1.5305, **NO_QUANT),
        text_encoder=clip_text(with_projection=True),
        tokenizer=tok.clip(),
        text_encoder_2=clip_text(with_projection=True, act="gelu"),
        tokenizer_2=tok.clip(pad_token="!"),
        text_encoder_3=t5_encoder(64),
        tokenizer_3=tok.t5(256),
    )


def flux(*, guidance_embeds: bool, **scheduler: Any) -> Any:
    transformer = d.FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=guidance_embeds,
    )
    return d.FluxPipeline(
        transformer=amplified(transformer, 2.0),
        scheduler=flow_scheduler(**scheduler),
        vae=vae(**FLUX_LATENTS, **NO_QUANT),
        text_encoder=clip_text(),
        tokenizer=tok.clip(),
        text_encoder_2=t5_encoder(),
        tokenizer_2=tok.t5(512),
    )


def flux_dev() -> Any:
    """Distilled: guidance is an input of the network."""
    return flux(guidance_embeds=True, shift=3.0, use_dynamic_shifting=True)


def flux_schnell() -> Any:
    """Distilled to 1 to 4 steps: no guidance at all."""
    return flux(guidance_embeds=False, shift=1.0, use_dynamic_shifting=False)


def chroma() -> Any:
    """Flux without CLIP and without distillation: guidance with a negative prompt."""
    transformer = d.ChromaTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        axes_dims_rope=(4, 4, 8),
        approximator_num_channels=8,
        approximator_hidden_dim=32,
        approximator_layers=1,
    )
    return d.ChromaPipeline(
        transformer=amplified(transformer, 2.0),
        scheduler=flow_scheduler(use_beta_sigmas=True),
        vae=vae(**FLUX_LATENTS, **NO_QUANT),
        text_encoder=t5_encoder(),
        tokenizer=tok.t5(512),
    )


def aura_flow() -> Any:
    transformer = d.AuraFlowTransformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_mmdit_layers=1,
        num_single_dit_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=32,
        joint_attention_dim=32,
        out_channels=4,
        pos_embed_max_size=256,
    )
    return d.AuraFlowPipeline(
        transformer=amplified(transformer, 2.0),
        vae=vae(),
        scheduler=flow_scheduler(shift=1.73),
        text_encoder=umt5_encoder(),
        tokenizer=tok.llama(),
    )


BUILDERS = {
    "sd3": sd3,
    "flux-dev": flux_dev,
    "flux-schnell": flux_schnell,
    "chroma": chroma,
    "aura-flow": aura_flow,
}
