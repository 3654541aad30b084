"""The schedulers by their short names: all that is known of each, in one record. Data only: ``images`` makes them."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


class Kind(enum.StrEnum):
    """What a scheduler takes the network's answer for. One of another kind runs on a model, and paints nonsense."""

    NOISE = "noise"
    """Noise, or velocity, of a diffusion (Ho et al. 2020, arXiv:2006.11239)."""
    FLOW = "flow"
    """The velocity of a flow from noise to data (Lipman et al. 2023, arXiv:2210.02747)."""
    CONSISTENCY = "consistency"
    """As noise, of networks that were distilled to jump to the end (Song et al. 2023, arXiv:2303.01469)."""


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
    kind: Kind = Kind.NOISE
    takes_sigmas: bool = True
    """Whether a pipeline can hand it its noise levels, as those of Flux, Qwen-Image, Z-Image and Lumina 2 do."""

    def calls(self, steps: int) -> int:
        """How often the network is called for one picture, each with both halves where guidance is on."""
        return {"n": steps, "n + 1": steps + 1, "2n - 1": 2 * steps - 1}[self.passes]


MODEL = "model"
"""The scheduler that the model comes with; resolved to a short name, or its class, once the model is known."""

_DPM = {"algorithm_type": "dpmsolver++", "solver_order": 2}
_FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}

SCHEDULERS: Mapping[str, SchedulerKind] = {
    # PLMS, as latent diffusion uses it: the Runge-Kutta warm-up is left out (Liu et al. 2022, arXiv:2202.09778).
    "pndm": SchedulerKind(diffusers="PNDMScheduler", changes={"skip_prk_steps": True}, sampler="PLMS", passes="n + 1"),
    "ddim": SchedulerKind(diffusers="DDIMScheduler", sampler="DDIM"),
    "ddpm": SchedulerKind(diffusers="DDPMScheduler", sampler="DDPM"),
    "dpm++2m": SchedulerKind(
        diffusers="DPMSolverMultistepScheduler", changes={**_DPM, "use_karras_sigmas": False}, sampler="DPM++ 2M"
    ),
    "dpm++2m-karras": SchedulerKind(
        diffusers="DPMSolverMultistepScheduler",
        changes={**_DPM, "use_karras_sigmas": True},
        sampler="DPM++ 2M Karras",
    ),
    # Not DPMSolverSDEScheduler: it draws one noise for a whole batch, so an image would depend on its company.
    "dpm++2m-sde": SchedulerKind(
        diffusers="DPMSolverMultistepScheduler",
        changes={**_DPM, "algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": False},
        sampler="DPM++ 2M SDE",
    ),
    "deis": SchedulerKind(diffusers="DEISMultistepScheduler", sampler="DEIS"),
    "euler": SchedulerKind(diffusers="EulerDiscreteScheduler", sampler="Euler"),
    "euler-a": SchedulerKind(diffusers="EulerAncestralDiscreteScheduler", sampler="Euler a"),
    "heun": SchedulerKind(diffusers="HeunDiscreteScheduler", sampler="Heun", passes="2n - 1"),
    "lms": SchedulerKind(diffusers="LMSDiscreteScheduler", sampler="LMS"),
    "unipc": SchedulerKind(diffusers="UniPCMultistepScheduler", sampler="UniPC"),
    "lcm": SchedulerKind(diffusers="LCMScheduler", sampler="LCM", kind=Kind.CONSISTENCY),
    "tcd": SchedulerKind(diffusers="TCDScheduler", sampler="TCD", kind=Kind.CONSISTENCY),
    "flow-euler": SchedulerKind(diffusers="FlowMatchEulerDiscreteScheduler", sampler="Euler", kind=Kind.FLOW),
    "flow-heun": SchedulerKind(
        diffusers="FlowMatchHeunDiscreteScheduler",
        sampler="Heun",
        passes="2n - 1",
        kind=Kind.FLOW,
        takes_sigmas=False,
    ),
    "flow-dpm++": SchedulerKind(
        diffusers="DPMSolverMultistepScheduler",
        changes={**_DPM, **_FLOW},
        sampler="DPM++ 2M",
        kind=Kind.FLOW,
        takes_sigmas=False,
    ),
    "flow-unipc": SchedulerKind(diffusers="UniPCMultistepScheduler", changes=_FLOW, sampler="UniPC", kind=Kind.FLOW),
}

SIGMAS = {"karras": "use_karras_sigmas", "exponential": "use_exponential_sigmas", "beta": "use_beta_sigmas"}
"""Spacings of the noise levels, and the key of a scheduler's configuration that asks for each."""


def network_calls(scheduler: str, steps: int) -> int:
    """Calls of the network for one picture; ``steps`` for a scheduler that is not known here."""
    kind = SCHEDULERS.get(scheduler)
    return steps if kind is None else kind.calls(steps)
