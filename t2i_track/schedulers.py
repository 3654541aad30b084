"""The schedulers by their short names: all that is known of each, in one record. Data only: ``images`` makes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class SchedulerKind:
    """What a short name stands for."""

    diffusers: str
    """Class in diffusers, made from the model's own scheduler configuration."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """What is set on top of that configuration."""
    sampler: str
    """The name that other tools of the field write into their ``parameters`` text."""
    passes: Literal["n", "n + 1", "2n - 1"] = "n"
    """Calls of the network for n steps."""

    def calls(self, steps: int) -> int:
        """How often the network is called for one picture, each with both halves where guidance is on."""
        return {"n": steps, "n + 1": steps + 1, "2n - 1": 2 * steps - 1}[self.passes]


_DPM = {"algorithm_type": "dpmsolver++", "solver_order": 2}

SCHEDULERS: Mapping[str, SchedulerKind] = {
    # PLMS, as latent diffusion uses it: the Runge-Kutta warm-up is left out (Liu et al. 2022, arXiv:2202.09778).
    "pndm": SchedulerKind(diffusers="PNDMScheduler", changes={"skip_prk_steps": True}, sampler="PLMS", passes="n + 1"),
    "ddim": SchedulerKind(diffusers="DDIMScheduler", sampler="DDIM"),
    "dpm++2m": SchedulerKind(
        diffusers="DPMSolverMultistepScheduler", changes={**_DPM, "use_karras_sigmas": False}, sampler="DPM++ 2M"
    ),
    "dpm++2m-karras": SchedulerKind(
        diffusers="DPMSolverMultistepScheduler",
        changes={**_DPM, "use_karras_sigmas": True},
        sampler="DPM++ 2M Karras",
    ),
    "euler": SchedulerKind(diffusers="EulerDiscreteScheduler", sampler="Euler"),
    "euler-a": SchedulerKind(diffusers="EulerAncestralDiscreteScheduler", sampler="Euler a"),
    "heun": SchedulerKind(diffusers="HeunDiscreteScheduler", sampler="Heun", passes="2n - 1"),
    "lms": SchedulerKind(diffusers="LMSDiscreteScheduler", sampler="LMS"),
    "unipc": SchedulerKind(diffusers="UniPCMultistepScheduler", sampler="UniPC"),
}


def network_calls(scheduler: str, steps: int) -> int:
    """Calls of the network for one picture; ``steps`` for a scheduler that is not known here."""
    kind = SCHEDULERS.get(scheduler)
    return steps if kind is None else kind.calls(steps)
