"""Pipelines that make no picture of a prompt alone, or are left out on purpose: they are refused by their class."""

from __future__ import annotations

from typing import Any

import diffusers as d
import transformers as t

from tiny import tokenizers as tok
from tiny.parts import unet, vae
from tiny.stable_diffusion import sd_parts, sdxl_parts, sdxl_unet
from tiny.text_encoders import clip_text, t5_encoder


def inpaint() -> Any:
    return d.StableDiffusionInpaintPipeline(**sd_parts(unet=unet(inputs=9)))


def img2img() -> Any:
    return d.StableDiffusionImg2ImgPipeline(**sd_parts())


def controlnet() -> Any:
    parts = sd_parts()
    control = d.ControlNetModel.from_unet(parts["unet"], conditioning_embedding_out_channels=(8, 16, 16, 16))
    return d.StableDiffusionControlNetPipeline(**parts, controlnet=control)


def upscale() -> Any:
    parts = sd_parts(unet=unet(inputs=7, num_class_embeds=1000), vae=vae(scaling_factor=0.08333))
    del parts["requires_safety_checker"]
    return d.StableDiffusionUpscalePipeline(**parts, low_res_scheduler=d.DDPMScheduler())


def sdxl_refiner() -> Any:
    parts = sdxl_parts(text_encoder=None, tokenizer=None, unet=sdxl_unet(32, 32, 5))
    return d.StableDiffusionXLImg2ImgPipeline(**parts, requires_aesthetics_score=True)


def deepfloyd_if() -> Any:
    """In pixels, without an autoencoder, each network twice: the variance is learned."""
    pixels = d.UNet2DConditionModel(
        sample_size=32,
        layers_per_block=1,
        block_out_channels=(16, 32),
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        in_channels=3,
        out_channels=6,
        cross_attention_dim=32,
        encoder_hid_dim=32,
        attention_head_dim=8,
        addition_embed_type="text",
        addition_embed_type_num_heads=2,
        cross_attention_norm="group_norm",
        resnet_time_scale_shift="scale_shift",
        act_fn="gelu",
        norm_num_groups=8,
    )
    return d.IFPipeline(
        unet=pixels,
        text_encoder=t5_encoder(),
        tokenizer=tok.t5(77),
        scheduler=d.DDPMScheduler(beta_schedule="squaredcos_cap_v2", variance_type="learned_range"),
        safety_checker=None,
        feature_extractor=None,
        watermarker=None,
        requires_safety_checker=False,
    )


def kandinsky22() -> Any:
    """A prior from words to a picture's embedding, and a decoder of that, with a scheduler each."""
    decoder = d.UNet2DConditionModel(
        in_channels=4,
        out_channels=8,
        addition_embed_type="image",
        block_out_channels=(16, 32),
        sample_size=8,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        layers_per_block=1,
        encoder_hid_dim=32,
        encoder_hid_dim_type="image_proj",
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=8,
        resnet_time_scale_shift="scale_shift",
    )
    autoencoder = d.VQModel(
        block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
        latent_channels=4,
        norm_num_groups=8,
        num_vq_embeddings=12,
        vq_embed_dim=4,
        norm_type="spatial",
    )
    vision = {"hidden_size": 32, "image_size": 32, "projection_dim": 32, "patch_size": 8, "intermediate_size": 64}
    return d.KandinskyV22CombinedPipeline(
        unet=decoder,
        movq=autoencoder,
        scheduler=d.DDPMScheduler(),
        prior_prior=d.PriorTransformer(num_attention_heads=2, attention_head_dim=8, embedding_dim=32, num_layers=1),
        prior_image_encoder=t.CLIPVisionModelWithProjection(
            t.CLIPVisionConfig(**vision, num_attention_heads=4, num_hidden_layers=1)
        ),
        prior_text_encoder=clip_text(with_projection=True),
        prior_tokenizer=tok.clip(),
        prior_scheduler=d.UnCLIPScheduler(variance_type="fixed_small_log", prediction_type="sample"),
        prior_image_processor=t.CLIPImageProcessor(),
    )


BUILDERS = {
    "inpaint": inpaint,
    "img2img": img2img,
    "controlnet": controlnet,
    "upscale": upscale,
    "sdxl-refiner": sdxl_refiner,
    "deepfloyd-if": deepfloyd_if,
    "kandinsky22": kandinsky22,
}
