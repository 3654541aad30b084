"""Transformers trained by flow matching: SD 3, Flux, Sana, Lumina 2, AuraFlow, Qwen-Image, Z-Image."""

from __future__ import annotations

import inspect
from typing import Any

import diffusers as d
import transformers as t

from tiny import tokenizers as tok
from tiny.parts import amplified, clip_text, flow_scheduler, gemma_encoder, t5_encoder, vae


def default(pipeline: type, name: str) -> Any:
    """The default of an argument of the pipeline's call."""
    return inspect.signature(pipeline.__call__).parameters[name].default


NO_QUANT = {"use_quant_conv": False, "use_post_quant_conv": False}


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
        vae=vae(shift_factor=0.1159, scaling_factor=0.3611, **NO_QUANT),
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
        text_encoder=gemma_encoder(),
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
        text_encoder=gemma_encoder(3),
        tokenizer=tok.gemma(),
    )
    tok.add_phrases(pipe.tokenizer, [f"{pipe.system_prompt} <Prompt Start> "])
    return pipe


def aura_flow() -> Any:
    text = t.UMT5EncoderModel(
        t.UMT5Config(
            vocab_size=tok.VOCABULARY,
            d_model=32,
            d_kv=8,
            d_ff=64,
            num_layers=2,
            num_heads=4,
            is_encoder_decoder=False,
        )
    )
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
        text_encoder=amplified(text),
        tokenizer=tok.llama(),
    )


def qwen_image() -> Any:
    text = t.Qwen2_5_VLForConditionalGeneration(
        t.Qwen2_5_VLConfig(
            text_config={
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
                "vocab_size": tok.VOCABULARY,
                "max_position_embeddings": 4096,
                "rope_scaling": {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"},
            },
            vision_config={
                "depth": 1,
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_heads": 2,
                "out_hidden_size": 16,
            },
            vision_end_token_id=2,
            vision_start_token_id=1,
            vision_token_id=0,
        )
    )
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
        text_encoder=amplified(text),
        tokenizer=tok.qwen2(),
    )


def qwen3_encoder() -> Any:
    config = t.Qwen3Config(
        vocab_size=tok.VOCABULARY,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=1024,
    )
    return amplified(t.Qwen3Model(config))


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
        text_encoder=qwen3_encoder(),
        tokenizer=tok.qwen2(),
    )


BUILDERS = {
    "sd3": sd3,
    "flux-dev": flux_dev,
    "flux-schnell": flux_schnell,
    "sana": sana,
    "lumina2": lumina2,
    "aura-flow": aura_flow,
    "qwen-image": qwen_image,
    "z-image": z_image,
}
