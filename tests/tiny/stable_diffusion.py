"""Stable Diffusion 1 and 2, its consistency models, and XL: pipelines around a U-Net."""

from __future__ import annotations

from typing import Any

import diffusers as d
import transformers as t

from tiny import tokenizers as tok
from tiny.parts import noise_scheduler, unet, vae
from tiny.text_encoders import clip_text


def sd_parts(**changes: Any) -> dict[str, Any]:
    parts = {
        "vae": vae(),
        "text_encoder": clip_text(),
        "tokenizer": tok.clip(),
        "unet": unet(),
        "scheduler": noise_scheduler("PNDMScheduler", skip_prk_steps=True, set_alpha_to_one=False),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }
    return parts | changes


def sd1() -> Any:
    return d.StableDiffusionPipeline(**sd_parts())


def sd1_safety() -> Any:
    """With the checker that Stable Diffusion 1.5 ships with."""
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker

    both = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    checker = StableDiffusionSafetyChecker(
        t.CLIPConfig(
            text_config=both | {"projection_dim": 32, "vocab_size": 8},
            vision_config=both | {"projection_dim": 32, "image_size": 32, "patch_size": 8},
            projection_dim=32,
        )
    )
    processor = t.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return d.StableDiffusionPipeline(
        **sd_parts(safety_checker=checker, feature_extractor=processor, requires_safety_checker=True)
    )


def sd2_zero_snr() -> Any:
    """As 2.1 trained again with zero terminal SNR: v prediction, rescaled betas, trailing steps, OpenCLIP's GELU."""
    return d.StableDiffusionPipeline(
        **sd_parts(
            unet=unet(attention_head_dim=(2, 4), use_linear_projection=True),
            text_encoder=clip_text(act="gelu"),
            scheduler=noise_scheduler(
                "DDIMScheduler",
                prediction_type="v_prediction",
                rescale_betas_zero_snr=True,
                timestep_spacing="trailing",
                clip_sample=False,
                set_alpha_to_one=False,
            ),
        )
    )


def lcm_parts() -> dict[str, Any]:
    """Distilled: guidance is an input of the network, which is called without an unconditional half."""
    return sd_parts(unet=unet(time_cond_proj_dim=32), scheduler=noise_scheduler("LCMScheduler"))


def sd_lcm() -> Any:
    return d.StableDiffusionPipeline(**lcm_parts())


def lcm_class() -> Any:
    return d.LatentConsistencyModelPipeline(**lcm_parts())


def sdxl_unet(cross: int, pooled: int, ids: int) -> Any:
    return unet(
        cross,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=8 * ids + pooled,
        use_linear_projection=True,
        transformer_layers_per_block=(1, 2),
        attention_head_dim=(2, 4),
    )


def sdxl_parts(**changes: Any) -> dict[str, Any]:
    parts = {
        "vae": vae(sample_size=64),
        "text_encoder": clip_text(),
        "tokenizer": tok.clip(),
        "text_encoder_2": clip_text(with_projection=True, act="gelu"),
        "tokenizer_2": tok.clip(pad_token="!"),
        "unet": sdxl_unet(64, 32, 6),
        "scheduler": noise_scheduler("EulerDiscreteScheduler", timestep_spacing="leading"),
    }
    return parts | changes


def sdxl() -> Any:
    return d.StableDiffusionXLPipeline(**sdxl_parts())


def sdxl_turbo() -> Any:
    """Distilled: made for guidance 0, 1 to 4 steps, trailing."""
    scheduler = noise_scheduler("EulerAncestralDiscreteScheduler", timestep_spacing="trailing")
    return d.StableDiffusionXLPipeline(**sdxl_parts(scheduler=scheduler))


def sdxl_plain_zeros() -> Any:
    """One that encodes a missing negative prompt as an empty one, where SDXL takes zeros."""
    return d.StableDiffusionXLPipeline(**sdxl_parts(), force_zeros_for_empty_prompt=False)


BUILDERS = {
    "sd1": sd1,
    "sd1-safety": sd1_safety,
    "sd2-zero-snr": sd2_zero_snr,
    "sd-lcm": sd_lcm,
    "lcm-class": lcm_class,
    "sdxl": sdxl,
    "sdxl-turbo": sdxl_turbo,
    "sdxl-plain-zeros": sdxl_plain_zeros,
}
