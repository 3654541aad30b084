"""Whether a scheduler can do a number of steps: asked of its own timesteps and noise levels, before a run is made."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from t2i_track.errors import SettingsError

TOP_SHARE = 10
"""A schedule has to begin within the last 1 / TOP_SHARE of the training range, or with MOST_SIGNAL: the network is
given pure noise, and takes it for a half-finished picture where the first timestep lies deeper."""
MOST_SIGNAL = 1 / 40
"""The most of a picture that a first timestep may still have in it, as the power of the picture by that of the noise.
Stable Diffusion 1.5 has 1/214 at its last timestep; with leading spacing 50 steps begin at 1/172, 10 at 1/70, 150 at
1/66, 7 and 143 at 1/43, 167 at 1/35, 334 at 1/9."""


def require_schedule(scheduler: Any, name: str, steps: int) -> None:
    """Refuse a number of steps at which the scheduler does not begin with noise, repeats itself, or fails.

    Raises:
        SettingsError: names the scheduler, the number, what is wrong, and the nearest numbers that work.
    """
    reason = _fault(scheduler, steps)
    if reason is None:
        return
    near = " or ".join(str(count) for count in _nearest(scheduler, steps))
    way_on = f"--steps {near} works" if near else "take another --scheduler"
    raise SettingsError(f"scheduler {name} cannot do steps {steps}: {reason}; {way_on}")


def _fault(scheduler: Any, steps: int) -> str | None:
    """What is wrong with so many steps; None where nothing is."""
    try:
        trial = _trial(scheduler, steps)
        return _schedule_fault(trial, steps) or _walk_fault(trial)
    except Exception as error:  # noqa: BLE001 - a configuration by someone else makes them raise all kinds
        return " ".join(f"it fails with {type(error).__name__} {error}".split())[:100]


def _trial(scheduler: Any, steps: int) -> Any:
    """A scheduler of the same configuration, set to so many steps; the pipeline's own is left as it is."""
    trial = type(scheduler).from_config(scheduler.config)
    takes = inspect.signature(trial.set_timesteps).parameters
    # How far a flow is shifted by the size of the picture: any value within the range does here.
    shifted = {"mu": 1.0} if trial.config.get("use_dynamic_shifting") and "mu" in takes else {}
    trial.set_timesteps(steps, **shifted)
    return trial


def _schedule_fault(trial: Any, steps: int) -> str | None:
    import torch

    if is_flow(trial):
        return _flow_fault(trial, steps)
    times, trained = trial.timesteps.double(), int(trial.config.num_train_timesteps)
    if not torch.isfinite(times).all():
        return "its timesteps are not finite"
    first, last = float(times[0]), trained - 1
    if first > last:
        return f"it begins at timestep {first:g}, beyond the {last} that the model was trained to"
    # Few steps begin lower, by one step's length and what rounding it down loses.
    longest = float((times - times.roll(-1))[:-1].max()) if len(times) > 1 else first
    if trained - first >= max(trained / TOP_SHARE, 2 * longest) and not _is_noise(trial, first, longest):
        return f"it begins at timestep {first:g} of {trained}, which is not noise"
    if (times.diff() > 0).any():
        return "its timesteps do not descend"
    levels = _levels(trial)
    if not torch.isfinite(levels).all():
        return "its noise levels are not finite"
    if (distinct := len(levels.unique())) < steps:
        return f"it has only {distinct} noise levels for them"
    return None


def is_flow(scheduler: Any) -> bool:
    """Whether it follows a flow: its noise levels run from 1, which is noise, to 0."""
    return type(scheduler).__name__.startswith("FlowMatch") or bool(scheduler.config.get("use_flow_sigmas"))


def _flow_fault(trial: Any, steps: int) -> str | None:
    import torch

    levels = _levels(trial)
    if not torch.isfinite(levels).all():
        return "its noise levels are not finite"
    if float(levels[0]) < 1 - 1 / TOP_SHARE:
        return f"it begins at noise level {float(levels[0]):.3g} of 1, which is not noise"
    if (distinct := len(levels.unique())) < steps:
        return f"it has only {distinct} noise levels for them"
    return None


def _is_noise(trial: Any, first: float, longest: float) -> bool:
    """Whether hardly anything of a picture is left at the first timestep of a schedule.

    One that takes timestep by timestep is not let off: what it leaves out at the top is a hundred of its own steps, and
    a few more steps have them.
    """
    kept = float(trial.alphas_cumprod[int(first)])
    return longest > 1 and kept <= MOST_SIGNAL * (1 - kept)


def _levels(trial: Any) -> Any:
    """The noise levels between which the scheduler steps: its sigmas above 0, else its timesteps."""
    import torch

    sigmas = getattr(trial, "sigmas", None)
    if sigmas is None:
        return trial.timesteps.double()
    levels = torch.as_tensor(sigmas).double()
    return levels[levels != 0]


def _walk_fault(trial: Any) -> str | None:
    """Walk the schedule over a few numbers of noise, with noise for the network's answer."""
    import torch

    generator = torch.Generator("cpu").manual_seed(0)
    answer = torch.randn((1, 1, 2, 2), generator=generator)
    sample = torch.randn((1, 1, 2, 2), generator=generator) * getattr(trial, "init_noise_sigma", 1.0)
    drawn = {"generator": generator} if "generator" in inspect.signature(trial.step).parameters else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LMS integrates, and says of many steps that it does so inexactly
        for timestep in trial.timesteps:
            if hasattr(trial, "scale_model_input"):  # flows have none
                trial.scale_model_input(sample, timestep)
            sample = trial.step(answer, timestep, sample, return_dict=False, **drawn)[0]
            if not torch.isfinite(sample).all():
                return f"it ends in NaN at timestep {float(timestep):g}"
    return None


def _nearest(scheduler: Any, steps: int) -> Iterator[int]:
    """The next number of steps that works on either side, the smaller one first."""
    trained = int(scheduler.config.num_train_timesteps)
    yield from _first_that_works(scheduler, range(min(steps - 1, trained), 0, -1))
    yield from _first_that_works(scheduler, range(steps + 1, trained + 1))


def _first_that_works(scheduler: Any, counts: Iterable[int]) -> Iterator[int]:
    found = next((count for count in counts if _fault(scheduler, count) is None), None)
    if found is not None:
        yield found
