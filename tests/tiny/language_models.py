"""Transformers told by a language model: Sana, Lumina 2, Qwen-Image, Z-Image, CogView4, Flux 2."""

from __future__ import annotations

import inspect
from typing import Any

import diffusers as d

from tiny import tokenizers as tok
from tiny.parts import amplified, flow_scheduler, vae
from tiny.text_encoders import gemma2, glm, mistral3, qwen2_5_vl, qwen3, qwen3_causal


def default(pipeline: type, name: str) -> Any:
    """The default of an argument of the pipeline's call."""
    return inspect.signature(pipeline.__call__).parameters[name].default


def sana() -> Any:
    transformer = d.SanaTransformer2DModel(
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=8,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=16,
        sample_size=32,
    )
    blocks = ("ResBlock",) * 5 + ("EfficientViTBlock",)
    autoencoder = d.AutoencoderDC(
        in_channels=3,
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=blocks,
        decoder_block_types=blocks,
        encoder_block_out_channels=(8,) * 6,
        decoder_block_out_channels=(8,) * 6,
        encoder_qkv_multiscales=((),) * 5 + ((5,),),
        decoder_qkv_multiscales=((),) * 5 + ((5,),),
        encoder_layers_per_block=(1,) * 6,
        decoder_layers_per_block=[1] * 6,
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=0.41407,
    )
    return d.SanaPipeline(
        transformer=amplified(transformer, 2.0),
        vae=amplified(autoencoder),
        scheduler=flow_scheduler(shift=3.0),
        text_encoder=gemma2(),
        tokenizer=tok.add_phrases(tok.gemma(), default(d.SanaPipeline, "complex_human_instruction")),
    )


def lumina2() -> Any:
    transformer = d.Lumina2Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        hidden_size=24,
        num_layers=2,
        num_refiner_layers=1,
        num_attention_heads=3,
        num_kv_heads=1,
        multiple_of=16,
        ffn_dim_multiplier=None,
        axes_dim_rope=(4, 2, 2),
        axes_lens=(512, 128, 128),
        cap_feat_dim=16,
    )
    pipe = d.Lumina2Pipeline(
        transformer=amplified(transformer, 2.0),
        vae=vae(shift_factor=0.1159, scaling_factor=0.3611),
        scheduler=flow_scheduler(shift=6.0),
        text_encoder=gemma2(3),
        tokenizer=tok.gemma(),
    )
    tok.add_phrases(pipe.tokenizer, [f"{pipe.system_prompt} <Prompt Start> "])
    return pipe


def qwen_image() -> Any:
    transformer = d.QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=3,
        joint_attention_dim=16,
        guidance_embeds=False,
        axes_dims_rope=(8, 4, 4),
    )
    autoencoder = d.AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 2, 2, 2],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
    return d.QwenImagePipeline(
        transformer=amplified(transformer, 2.0),
        vae=amplified(autoencoder, conv_out=3.0),
        scheduler=flow_scheduler(use_dynamic_shifting=True),
        text_encoder=qwen2_5_vl(),
        tokenizer=tok.qwen2(),
    )


def z_image() -> Any:
    transformer = d.ZImageTransformer2DModel(
        all_patch_size=(2,),
        all_f_patch_size=(1,),
        in_channels=4,
        dim=32,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        qk_norm=True,
        cap_feat_dim=16,
        rope_theta=256.0,
        t_scale=1000.0,
        axes_dims=[8, 4, 4],
        axes_lens=[1024, 64, 64],
    )
    return d.ZImagePipeline(
        transformer=amplified(transformer, 2.0),
        vae=vae(shift_factor=0.0, scaling_factor=1.0),
        scheduler=flow_scheduler(shift=3.0),
        text_encoder=qwen3(),
        tokenizer=tok.qwen2(),
    )


def cogview4() -> Any:
    transformer = d.CogView4Transformer2DModel(
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        text_embed_dim=16,
        time_embed_dim=8,
        condition_dim=4,
        sample_size=8,
        rope_axes_dim=(16, 16),
    )
    return d.CogView4Pipeline(
        transformer=amplified(transformer, 2.0),
        vae=vae(),
        scheduler=flow_scheduler(use_dynamic_shifting=True, base_shift=0.25, max_shift=0.75, base_image_seq_len=256),
        text_encoder=glm(),
        tokenizer=tok.llama(1024, side="left"),
    )


def flux2_parts(text_encoder: Any, tokenizer: Any, *, guidance_embeds: bool) -> dict[str, Any]:
    """The text is three layers of the language model side by side."""
    transformer = d.Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=48,
        timestep_guidance_channels=16,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=guidance_embeds,
    )
    autoencoder = d.AutoencoderKLFlux2(
        block_out_channels=(8, 8, 16, 16),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
    )
    return {
        "transformer": amplified(transformer, 2.0, norm_q=3.0, norm_k=3.0, norm_added_q=3.0, norm_added_k=3.0),
        "vae": amplified(autoencoder),
        "scheduler": flow_scheduler(use_dynamic_shifting=True, shift=3.0),
        "text_encoder": text_encoder,
        "tokenizer": tokenizer,
    }


def flux2() -> Any:
    """Distilled: guidance is an input of the network."""
    layers = max(default(d.Flux2Pipeline, "text_encoder_out_layers"))
    return d.Flux2Pipeline(**flux2_parts(mistral3(layers), tok.pixtral(), guidance_embeds=True))


def flux2_klein() -> Any:
    """Of a size for people's own machines; its base model has guidance with an empty negative prompt."""
    layers = max(default(d.Flux2KleinPipeline, "text_encoder_out_layers"))
    return d.Flux2KleinPipeline(**flux2_parts(qwen3_causal(layers), tok.qwen2(), guidance_embeds=False))


BUILDERS = {
    "sana": sana,
    "lumina2": lumina2,
    "qwen-image": qwen_image,
    "z-image": z_image,
    "cogview4": cogview4,
    "flux2": flux2,
    "flux2-klein": flux2_klein,
}
