"""The families of pipelines: what one code path needs to know of each class, in one record. Data only, no torch.

All else is read from the signatures of ``encode_prompt`` and ``__call__``. docs/models.md says how to add one.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from t2i_track.errors import ModelError, SettingsError
from t2i_track.schedulers import Kind
from t2i_track.settings import Values

Configs = Mapping[str, Mapping[str, Any]]
"""The configuration of each component of a model by the component's name, as its folder or its pipeline has it."""

PAGE = "docs/models.md"


class Guidance(enum.StrEnum):
    """How a model is guided by its prompt."""

    FREE = "classifier-free"
    """A second pass without the prompt, or with the negative one (Ho & Salimans 2022, arXiv:2207.12598)."""
    INPUT = "an input of the network"
    """Distilled into it (Meng et al. 2023, arXiv:2210.03142): no second pass, and every value makes other pictures."""
    NONE = "none"
    """Distilled away: every value makes the same picture."""


PAIR = ("prompt_embeds", "negative_prompt_embeds")
POOLED = (*PAIR, "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
MASKED = (
    "prompt_embeds", "prompt_attention_mask", "negative_prompt_embeds", "negative_prompt_attention_mask",
)  # fmt: skip
MASKS_LAST = (
    "prompt_embeds", "negative_prompt_embeds", "prompt_attention_mask", "negative_prompt_attention_mask",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Family:
    """One pipeline class."""

    title: str
    """What people call it."""
    kind: Kind
    """Of the schedulers that its networks are made for, unless the model itself says otherwise."""
    outputs: tuple[str | None, ...] = PAIR
    """What ``encode_prompt`` returns, in order, by the names under which ``__call__`` takes it; None: it does not."""
    encodings: tuple[tuple[str, Mapping[str, Any]], ...] = (("", {}),)
    """The calls of ``encode_prompt``: what ends the names of their outputs, and the arguments of each alone."""
    negative_apart: bool = False
    """``encode_prompt`` knows no negative prompt: it is encoded as a prompt, by a second call."""
    unnamed_negative: str | None = None
    """The negative prompt of guidance where none is given and the class would leave guidance out."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of ``encode_prompt`` and ``__call__`` that are not their defaults, so that what is asked is made."""
    guidance: str = "guidance_scale"
    """The argument that is our guidance."""
    threshold: float = 1.0
    """Classifier-free guidance is on above it."""
    guided_by: Callable[[Configs], Guidance] = lambda _: Guidance.FREE
    true_cfg: bool = False
    """Besides its guidance it has classifier-free guidance under the name ``true_cfg_scale``; needs a negative."""
    padded: bool = False
    """Rows are padded to one length: ``encode_prompt`` pads to the longest of its own batch."""
    lists: bool = False
    """``__call__`` takes lists of embeddings, each of its own length."""
    hands_sigmas: bool = False
    """``__call__`` hands the scheduler its noise levels, so only schedulers that take them work."""
    schedulers: tuple[str, ...] = ()
    """The only schedulers that work; empty: all of the kind."""
    size: Callable[[Configs], int]
    """Pixels of a side where none is asked for."""
    multiple: int = 8
    """Height and width must be multiples of it."""
    written: Callable[[Any, str], str] = lambda _, prompt: prompt
    """(pipeline, prompt) -> the text that its tokenizer gets, the family's own words around the prompt included."""
    window: int | None = None
    """Tokens that its longest encoder reads, where neither the class nor its tokenizers say so."""
    weighted: bool = False
    """Its prompts' words can be weighted (``weighting``): all of what it reads of a prompt is CLIP's last layers."""
    cached: bool = False
    """Its class says which pass of the network is which, as a cache needs that keeps something from step to step."""
    compiled: bool = True
    """Its network is called with tensors of the same shapes for all prompts."""
    micro_conditioning: bool = False
    """Picture sizes are inputs of the network (Podell et al. 2023, arXiv:2307.01952, section 2.2)."""

    def guided(self, settings: Values, by: Guidance) -> bool:
        """Whether a picture with these settings takes a second pass for each step."""
        if self.true_cfg and settings.true_cfg_scale > 1 and settings.negative_prompt:
            return True
        return by is Guidance.FREE and settings.guidance > self.threshold

    def call_arguments(self, settings: Values) -> dict[str, Any]:
        """What is set on top of the defaults of ``__call__`` and is no setting."""
        if not self.micro_conditioning:
            return dict(self.arguments)
        size = (settings.height, settings.width)
        return {**self.arguments, "original_size": size, "target_size": size, "crops_coords_top_left": (0, 0)}


def _factor(vae: Mapping[str, Any]) -> int:
    """Pixels of a side for one latent."""
    widths = vae.get("block_out_channels") or vae["encoder_block_out_channels"]
    return int(2 ** (len(widths) - 1))


def _trained(network: str) -> Callable[[Configs], int]:
    return lambda configs: int(configs[network]["sample_size"]) * _factor(configs["vae"])


def _always(side: int) -> Callable[[Configs], int]:
    return lambda _: side


def _by_unet(configs: Configs) -> Guidance:
    return Guidance.FREE if configs["unet"].get("time_cond_proj_dim") is None else Guidance.INPUT


def _by_embedding(configs: Configs) -> Guidance:
    return Guidance.INPUT if configs["transformer"].get("guidance_embeds") else Guidance.NONE


def _by_distillation(configs: Configs) -> Guidance:
    return Guidance.NONE if configs.get("pipeline", {}).get("is_distilled") else Guidance.FREE


def _as_asked(pipe: Any, prompt: str) -> str:
    """Z-Image's chat template around the prompt."""
    messages = [{"role": "user", "content": prompt}]
    return str(
        pipe.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, enable_thinking=True)
    )


def _after_system_prompt(pipe: Any, prompt: str) -> str:
    return f"{pipe.system_prompt} <Prompt Start> {prompt}"


_UNCHANGED = {"clean_caption": False, "use_resolution_binning": False}
"""The prompt as it is written and the size as it is asked for: by default these classes change both."""

FAMILIES: Mapping[str, Family] = {
    "StableDiffusionPipeline": Family(
        title="Stable Diffusion 1.x, 2.x", kind=Kind.NOISE, guided_by=_by_unet, size=_trained("unet"), weighted=True,
    ),
    "LatentConsistencyModelPipeline": Family(
        title="Latent consistency models", kind=Kind.CONSISTENCY, guided_by=lambda _: Guidance.INPUT,
        schedulers=("lcm",), size=_trained("unet"),
    ),
    "StableDiffusionXLPipeline": Family(
        title="Stable Diffusion XL, Turbo, Lightning", kind=Kind.NOISE, outputs=POOLED, guided_by=_by_unet,
        size=_trained("unet"), weighted=True, micro_conditioning=True,
    ),
    "StableDiffusion3Pipeline": Family(
        title="Stable Diffusion 3, 3.5", kind=Kind.FLOW, outputs=POOLED, size=_trained("transformer"), multiple=16
    ),
    "FluxPipeline": Family(
        title="Flux.1 dev, schnell", kind=Kind.FLOW, outputs=("prompt_embeds", "pooled_prompt_embeds", None),
        negative_apart=True, guided_by=_by_embedding, true_cfg=True, hands_sigmas=True, size=_always(1024),
        multiple=16, cached=True,
    ),
    "PixArtSigmaPipeline": Family(
        title="PixArt-Sigma", kind=Kind.NOISE, outputs=MASKED, arguments=_UNCHANGED, size=_trained("transformer")
    ),
    "SanaPipeline": Family(
        title="Sana", kind=Kind.FLOW, outputs=MASKED, arguments=_UNCHANGED, size=_trained("transformer"), multiple=32
    ),
    "Lumina2Pipeline": Family(
        title="Lumina-Image 2", kind=Kind.FLOW, outputs=MASKED, hands_sigmas=True, size=_always(1024), multiple=16,
        written=_after_system_prompt, compiled=False,
    ),
    "AuraFlowPipeline": Family(
        title="AuraFlow", kind=Kind.FLOW, outputs=MASKED, size=_always(1024), multiple=16
    ),
    "HunyuanDiTPipeline": Family(
        title="Hunyuan-DiT", kind=Kind.NOISE, outputs=MASKS_LAST,
        encodings=(("", {"text_encoder_index": 0}), ("_2", {"text_encoder_index": 1})),
        arguments={"use_resolution_binning": False}, size=_trained("transformer"), window=256,
    ),
    "QwenImagePipeline": Family(
        title="Qwen-Image", kind=Kind.FLOW, outputs=("prompt_embeds", "prompt_embeds_mask"), guidance="true_cfg_scale",
        # As its model card asks for where there is nothing to name: without one the class drops its guidance.
        negative_apart=True, unnamed_negative=" ", padded=True, hands_sigmas=True, size=_always(1024), multiple=16,
        cached=True,
    ),
    "ZImagePipeline": Family(
        title="Z-Image", kind=Kind.FLOW, threshold=0.0, lists=True, hands_sigmas=True, size=_always(1024), multiple=16,
        written=_as_asked, compiled=False,
    ),
    "ChromaPipeline": Family(
        title="Chroma", kind=Kind.FLOW,
        outputs=(
            "prompt_embeds", None, "prompt_attention_mask", "negative_prompt_embeds", None,
            "negative_prompt_attention_mask",
        ),
        hands_sigmas=True, size=_always(1024), multiple=16,
    ),
    "Flux2Pipeline": Family(
        title="Flux.2 dev", kind=Kind.FLOW, outputs=("prompt_embeds", None), guided_by=lambda _: Guidance.INPUT,
        hands_sigmas=True, size=_always(1024), multiple=16,
    ),
    "Flux2KleinPipeline": Family(
        title="Flux.2 klein", kind=Kind.FLOW, outputs=("prompt_embeds", None), negative_apart=True,
        guided_by=_by_distillation, hands_sigmas=True, size=_always(1024), multiple=16, cached=True,
    ),
}  # fmt: skip

REFUSED: Mapping[str, str] = {
    "IFPipeline": "DeepFloyd IF makes its pictures in three stages, of pixels and not of latents",
    "KandinskyV22CombinedPipeline": "Kandinsky 2.2 hides its schedulers in its parts, where --scheduler has no effect",
    "KandinskyV22Pipeline": "it is the second half of Kandinsky 2.2, which takes the embeddings of the first",
    "CogView4Pipeline": "its embeddings are as long as the longest prompt beside them, so company would move pictures",
    "StableCascadeCombinedPipeline": "Stable Cascade has two networks, each with steps and guidance of its own",
}
"""Left out on purpose, and why."""
_PURPOSES = {
    "Inpaint": "it fills holes in a given picture",
    "Img2Img": "it changes a given picture (as refiners do)",
    "ControlNet": "it follows a given drawing",
    "Upscale": "it enlarges a given picture",
    "Adapter": "it follows a given drawing",
    "Kontext": "it changes a given picture",
    "Edit": "it changes a given picture",
    "InstructPix2Pix": "it changes a given picture",
    "Fill": "it fills holes in a given picture",
    "Video": "it makes films",
}
"""A part of a class's name, and what such a pipeline does."""


def family_of(class_name: Any, model: str) -> Family:
    """The family of a pipeline class.

    Raises:
        ModelError: it is none that can be run; the message says why, and where it is written how to add one.
    """
    if isinstance(class_name, str) and (family := FAMILIES.get(class_name)) is not None:
        return family
    shown = f"{class_name!r:.80}" if not isinstance(class_name, str) else class_name[:80]
    reason = REFUSED.get(shown) or next((why for part, why in _PURPOSES.items() if part in shown), None)
    if reason is not None:
        raise ModelError(f"model '{model}' is a {shown}, which is not run here: {reason}; see {PAGE} for what is")
    raise ModelError(
        f"model '{model}' is a {shown}, and no family of models here has that class: {PAGE} lists them, and says how"
        " to add one"
    )


def model_kind(family: Family, configs: Configs) -> Kind:
    """The kind of schedulers that the model takes: its network's, its own scheduler's, else its family's."""
    return Kind.CONSISTENCY if is_consistent(configs) else family.kind


def is_consistent(configs: Configs) -> bool:
    """Whether it is a consistency model: by an input of its network, or by its own scheduler."""
    distilled = configs.get("unet", {}).get("time_cond_proj_dim") is not None
    return distilled or configs.get("scheduler", {}).get("_class_name") in ("LCMScheduler", "TCDScheduler")


def require_size(family: Family, settings: Values) -> None:
    """Raises SettingsError where a side is no multiple that the family can make: several would round it in silence."""
    for name in ("height", "width"):
        side = getattr(settings, name)
        if side is not None and side % family.multiple:
            near = max(family.multiple, round(side / family.multiple) * family.multiple)
            raise SettingsError(
                f"{name} must be a multiple of {family.multiple} for {family.title}, not {side}: try {near}"
            )
