"""Text encoders: CLIP, T5 and its kin, BERT, and language models."""

from __future__ import annotations

from typing import Any

import transformers as t

from tiny import tokenizers as tok
from tiny.parts import amplified


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


def t5_config(hidden: int) -> dict[str, Any]:
    return {
        "vocab_size": tok.VOCABULARY,
        "d_model": hidden,
        "d_kv": 8,
        "d_ff": 64,
        "num_layers": 2,
        "num_heads": 4,
        "is_encoder_decoder": False,
        "use_cache": False,
    }


def t5_encoder(hidden: int = 32) -> Any:
    return amplified(t.T5EncoderModel(t.T5Config(**t5_config(hidden), feed_forward_proj="gated-gelu")))


def umt5_encoder() -> Any:
    return amplified(t.UMT5EncoderModel(t.UMT5Config(**t5_config(32))))


def bert() -> Any:
    config = t.BertConfig(
        vocab_size=tok.VOCABULARY,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=77,
    )
    return amplified(t.BertModel(config))


def llm(layers: int, **more: Any) -> dict[str, Any]:
    """Sizes that the configurations of language models share."""
    sizes = {
        "vocab_size": tok.VOCABULARY,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 4096,
    }
    return sizes | more


def gemma2(layers: int = 2) -> Any:
    return amplified(t.Gemma2Model(t.Gemma2Config(**llm(layers, intermediate_size=32, num_key_value_heads=1))))


def qwen3(layers: int = 2) -> Any:
    return amplified(t.Qwen3Model(t.Qwen3Config(**llm(layers))))


def qwen3_causal(layers: int) -> Any:
    return amplified(t.Qwen3ForCausalLM(t.Qwen3Config(**llm(layers))))


def glm(layers: int = 2) -> Any:
    return amplified(t.GlmModel(t.GlmConfig(**llm(layers, pad_token_id=0))), embed_tokens=20.0)


def qwen2_5_vl() -> Any:
    rope = {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"}
    config = t.Qwen2_5_VLConfig(
        text_config=llm(2, rope_scaling=rope),
        vision_config={"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16},
        vision_end_token_id=2,
        vision_start_token_id=1,
        vision_token_id=0,
    )
    return amplified(t.Qwen2_5_VLForConditionalGeneration(config))


def mistral3(layers: int) -> Any:
    vision = {"model_type": "pixtral", "image_size": 32, "patch_size": 8}
    config = t.Mistral3Config(
        text_config=llm(layers, model_type="mistral"),
        vision_config=llm(1) | vision,
        spatial_merge_size=2,
    )
    return amplified(t.Mistral3ForConditionalGeneration(config), 2.0)
