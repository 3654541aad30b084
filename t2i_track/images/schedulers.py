"""Schedulers by short names: their classes, and what is set on top of a model's own configuration."""

from __future__ import annotations

import json
from typing import Any

# Short name -> diffusers class and what is set on top of the model's own scheduler config.
_SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    # PLMS, as latent diffusion uses it: the Runge-Kutta warm-up is left out (Liu et al. 2022, arXiv:2202.09778).
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "ddim": ("DDIMScheduler", {}),
    "dpm++2m": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "dpm++2m-karras": (
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "dpmsolver++", "solver_order": 2, "use_karras_sigmas": True},
    ),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler-a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
}


def set_scheduler(pipe: Any, model_config: dict[str, Any], name: str) -> dict[str, Any]:
    """Put the named scheduler into the pipeline, made from the model's own scheduler config.

    Returns:
        The scheduler's full configuration (JSON types), for the record.
    """
    import diffusers

    class_name, changes = _SCHEDULERS[name]
    pipe.scheduler = getattr(diffusers, class_name).from_config(model_config, **changes)
    return scheduler_record(pipe.scheduler)


def scheduler_record(scheduler: Any) -> dict[str, Any]:
    """A scheduler's class and configuration without what differs between library versions."""
    config = {key: value for key, value in dict(scheduler.config).items() if not key.startswith("_")}
    record: dict[str, Any] = json.loads(json.dumps(config, default=str))
    return {"class": type(scheduler).__name__, **record}
