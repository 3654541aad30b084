"""Whether settings fit a model: what would be ignored, or make nonsense, is refused before its weights are read."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Collection, Mapping
from types import SimpleNamespace
from typing import Any

from t2i_track.errors import ModelError, SettingsError
from t2i_track.images.caching import FIRST
from t2i_track.images.families import (
    FAMILIES,
    Configs,
    Family,
    Guidance,
    family_of,
    is_consistent,
    model_kind,
    require_size,
)
from t2i_track.images.quantizing import require_torchao
from t2i_track.images.schedule import require_schedule
from t2i_track.images.schedulers import (
    require_kind,
    require_taken,
    require_trained,
    resolved,
    scheduler_class,
    set_scheduler,
)
from t2i_track.images.tiling import require_tiles
from t2i_track.images.weighting import require_compel
from t2i_track.schedulers import SCHEDULERS, Kind, network_calls
from t2i_track.settings import (
    EVERY_STEP,
    NO_OFFLOAD,
    UNCOMPILED,
    UNQUANTIZED,
    UNTILED,
    UNWEIGHTED,
    Setting,
    Stage,
    Values,
)

FEW = 8
"""Steps beyond which a model that was distilled to a few of them gains nothing."""
_DISTILLED = re.compile(r"turbo|lightning|schnell|lcm|hyper|flash|distill", re.IGNORECASE)


def require_fit(settings: Values, class_name: str, configs: Configs, negatives: Collection[str | None] = ()) -> None:
    """Refuse what a model of this class and these configurations would ignore or cannot do.

    ``negatives`` are the negative prompts of the prompts, None where one has none of its own.

    Raises:
        ModelError: no such family of models, or its class is not installed.
        SettingsError: names the setting, its value, what ignores it and what works.
    """
    family = family_of(class_name, settings.model)
    require_size(family, settings)
    require_kind(family, configs, settings)
    settings = resolved(configs["scheduler"], settings)
    by = family.guided_by(configs)
    for whose, each in _with_negatives(settings, negatives):
        _require_guided(family, by, each, whose)
    require_trained(configs["scheduler"], settings.scheduler)
    require_taken(settings, configs["scheduler"])
    own = SimpleNamespace()
    set_scheduler(own, configs["scheduler"], settings)
    _require_taken_by_class(settings, pipeline_class(class_name, settings.model), own.scheduler, configs)
    require_schedule(own.scheduler, settings.scheduler, settings.steps)
    _require_weighting(family, settings)
    _require_cached(family, settings)
    _require_compiled(family, settings)
    _require_quantized(settings)
    if settings.vae_tiling != UNTILED:
        side = family.size(configs)
        require_tiles(settings, configs["vae"], (settings.height or side, settings.width or side))


def pipeline_class(name: str, model: str) -> Any:
    """The class in diffusers.

    Raises:
        ModelError: it needs a library that is not installed.
    """
    import diffusers

    found = getattr(diffusers, name, None)
    if not isinstance(found, type) or not hasattr(found, "from_pretrained") or getattr(found, "_backends", None):
        lacking = ", ".join(getattr(found, "_backends", []) or ["a newer diffusers"])
        raise ModelError(f"model '{model}' is a {name}, which needs {lacking}: install what is missing")
    return found


def _with_negatives(settings: Values, negatives: Collection[str | None]) -> list[tuple[str, Values]]:
    """The settings as the rows of a manifest have them: one without a negative prompt of its own, one with.

    Raises:
        SettingsError: the run's negative prompt would be ignored, since every row has its own.
    """
    found = [("", settings)] if not negatives or None in negatives else []
    if not found and settings.negative_prompt:
        raise SettingsError(
            f"negative_prompt {settings.negative_prompt!r:.60} would be ignored: every row of the manifest has its own;"
            " leave the option out"
        )
    first = next(filter(None, negatives), None)
    if first is not None:
        found.append(("the manifest's ", dataclasses.replace(settings, negative_prompt=first)))
    return found


def _require_guided(family: Family, by: Guidance, settings: Values, whose: str) -> None:
    """Refuse what acts on the guided sum alone where there is none; ``whose`` is the negative prompt, in words."""
    if family.true_cfg and settings.true_cfg_scale > 1 and not settings.negative_prompt:
        raise SettingsError(
            f"true_cfg_scale {settings.true_cfg_scale:g} would be ignored: {family.title} guides by it only against a"
            " --negative-prompt; give one (each row of a manifest may have its own), or leave it out"
        )
    if family.guided(settings, by):
        return
    for name, declared, value in settings.used():
        if not declared.needs_guidance:
            continue
        shown = f"{whose if name == 'negative_prompt' else ''}{name} {value!r}"
        if by is Guidance.FREE:
            raise SettingsError(
                f"{shown} would be ignored at guidance {settings.guidance:g}: leave it out, or give a"
                f" --guidance above {family.threshold:g} (in a sweep, exclude that cell)"
            )
        way_on = ", or give a --true-cfg-scale above 1" if family.true_cfg and name == "negative_prompt" else ""
        raise SettingsError(f"{shown} would be ignored: guidance is {by.value} of this model; leave it out{way_on}")


def _require_taken_by_class(settings: Values, made: Any, scheduler: Any, configs: Configs) -> None:
    """Refuse what neither the class's functions nor the scheduler take."""
    places: dict[Stage, tuple[Callable[..., Any], str]] = {
        Stage.ENCODE: (made.encode_prompt, made.__name__),
        Stage.CALL: (made.__call__, made.__name__),
        Stage.SCHEDULER: (scheduler.step, f"scheduler {settings.scheduler}"),
    }
    renamed = family_of(made.__name__, settings.model).guidance
    for name, declared, value in settings.used():
        if declared.passed_as is None:
            continue
        taken = _takes(places[declared.stage][0], declared.passed_as)
        # An argument that is another setting's there is not this one's; a scheduler's goes through the call.
        if name != "guidance" and declared.passed_as == renamed:
            taken = False
        if declared.stage is Stage.SCHEDULER:
            taken = taken and _takes(made.__call__, declared.passed_as)
        if not taken:
            raise SettingsError(
                f"{name} {value!r} would be ignored by {places[declared.stage][1]}: leave it out{_takers(declared)}"
            )
    layers = configs.get("text_encoder", {}).get("num_hidden_layers", settings.clip_skip + 1)
    if settings.clip_skip >= layers:
        raise SettingsError(f"clip_skip {settings.clip_skip} leaves none of the text encoder's {layers} layers")


def _require_weighting(family: Family, settings: Values) -> None:
    """Refuse the weighting of prompts that the family, or another setting, leaves no room for."""
    if settings.prompt_weighting == UNWEIGHTED:
        return
    asked = f"prompt_weighting {settings.prompt_weighting}"
    if not family.weighted:
        can = " and ".join(one.title for one in FAMILIES.values() if one.weighted)
        raise SettingsError(f"{asked} cannot be for {family.title}, only for {can}: leave it out")
    if settings.clip_skip:
        raise SettingsError(f"{asked} would ignore clip_skip {settings.clip_skip}: leave one of them out")
    if settings.offload in ("sequential", "group"):
        raise SettingsError(f"{asked} cannot be with offload {settings.offload}: try --offload model")
    require_compel()


def _require_cached(family: Family, settings: Values) -> None:
    """Refuse a cache that the family has no room for, or that so few steps leave nothing to do."""
    interval = settings.cache_interval
    if interval == EVERY_STEP:
        return
    if not family.cached:
        can = " and ".join(one.title for one in FAMILIES.values() if one.cached)
        raise SettingsError(f"cache_interval {interval} cannot be for {family.title}, only for {can}: leave it out")
    if settings.offload in ("sequential", "group"):
        raise SettingsError(f"cache_interval {interval} cannot be with offload {settings.offload}: try --offload model")
    if network_calls(settings.scheduler, settings.steps) <= FIRST:
        raise SettingsError(
            f"cache_interval {interval} would be ignored with {settings.steps} steps: the first {FIRST} are always"
            " worked out; leave it out, or take more --steps"
        )


def _require_compiled(family: Family, settings: Values) -> None:
    """Refuse to compile what would be compiled for each prompt anew, or in part."""
    asked = f"compile {settings.compile}"
    if settings.compile == UNCOMPILED:
        return
    if not family.compiled:
        raise SettingsError(
            f"{asked} cannot be for {family.title}, whose prompts' lengths are its shapes: leave it out"
        )
    if settings.offload != NO_OFFLOAD:
        raise SettingsError(f"{asked} cannot be with offload {settings.offload}: leave one of them out")
    if settings.cache_interval != EVERY_STEP:
        raise SettingsError(f"{asked} cannot be with cache_interval {settings.cache_interval}: leave one of them out")


def _require_quantized(settings: Values) -> None:
    if settings.quantize != UNQUANTIZED and settings.offload != NO_OFFLOAD:
        raise SettingsError(
            f"quantize {settings.quantize} cannot be with offload {settings.offload}: leave one of them out"
        )
    require_torchao(settings)


def _takes(function: Callable[..., Any], argument: str) -> bool:
    return argument in inspect.signature(function).parameters


def _takers(declared: Setting) -> str:
    """The schedulers that would not ignore it."""
    if declared.stage is not Stage.SCHEDULER or declared.passed_as is None:
        return ""
    found = [name for name in SCHEDULERS if _takes(scheduler_class(name).step, declared.passed_as)]
    return f", or take --scheduler {' or '.join(found)}"


def notes_on_use(settings: Values, class_name: str, configs: Configs) -> list[str]:
    """What must be said of settings that the model takes and was not made for; ``settings`` are resolved."""
    family = family_of(class_name, settings.model)
    by, kind = family.guided_by(configs), model_kind(family, configs)
    found = []
    if by is Guidance.NONE:
        found.append(f"guidance {settings.guidance:g} does nothing: this model was made to do without")
    if (few := few_steps(settings, configs)) and settings.steps > FEW:
        found.append(f"{settings.steps} steps: this model was made for {FEW} or fewer ({few})")
    if few and by is Guidance.FREE and kind is not Kind.CONSISTENCY and family.guided(settings, by):
        found.append(f"guidance {settings.guidance:g}: this model was made to do without ({few})")
    named = SCHEDULERS.get(settings.scheduler)
    if settings.lora and named is not None and named.kind is Kind.CONSISTENCY and kind is not Kind.CONSISTENCY:
        found.append(
            f"scheduler {settings.scheduler} is right only where the LoRA makes a consistency model of this one"
        )
    return found


def few_steps(settings: Values, configs: Configs) -> str:
    """What says that the model was distilled to few steps; empty where nothing does."""
    scheduler: Mapping[str, Any] = configs["scheduler"]
    if is_consistent(configs):
        return "a consistency model"
    if scheduler.get("timestep_spacing") == "trailing" and str(scheduler.get("_class_name")).startswith("Euler"):
        return "its scheduler's trailing timesteps"
    return "its name" if _DISTILLED.search(settings.model.replace("\\", "/").rsplit("/", 1)[-1]) else ""
