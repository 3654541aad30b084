"""Which numbers of steps each scheduler can do, with the embedded model's configuration and Stable Diffusion 1.5's."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from t2i_track import assets
from t2i_track.errors import SettingsError
from t2i_track.images.schedule import require_schedule
from t2i_track.images.schedulers import scheduler_class
from t2i_track.schedulers import SCHEDULERS, Kind

NOISE = [name for name, kind in SCHEDULERS.items() if kind.kind is Kind.NOISE]
FAST = sorted(set(NOISE) - {"lms"})
"""Those whose step is only sums; LMS integrates its coefficients, half a second for a hundred steps."""
LEADING: dict[str, Any] = json.loads((assets.shapes_sd() / "scheduler" / "scheduler_config.json").read_text())
BY_SIGMA = {"euler", "euler-a", "heun"}
"""They step between real numbers, so that a linear spacing has room for more steps than the model was trained with."""


def scheduler(name: str, config: dict[str, Any]) -> Any:
    return scheduler_class(name).from_config(config, **SCHEDULERS[name].changes)


def works(name: str, config: dict[str, Any], steps: int) -> bool:
    try:
        require_schedule(scheduler(name, config), name, steps)
    except SettingsError:
        return False
    return True


def sd15(shared_data: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((shared_data / "sd15" / "scheduler" / "scheduler_config.json").read_text())
    return config


@pytest.mark.parametrize("name", NOISE)
def test_usual_numbers_of_steps_work(name: str, shared_data: Path) -> None:
    for steps in (2, 3, 4, 7, 9, 10, 15, 20, 25, 28, 30, 50, 60, 100):
        assert works(name, LEADING, steps), steps
        assert works(name, sd15(shared_data), steps), steps


@pytest.mark.parametrize("name", sorted(set(FAST) - {"dpm++2m", "dpm++2m-karras", "dpm++2m-sde", "deis", "unipc"}))
@pytest.mark.parametrize(("steps", "good"), [(1, 2), (501, 500), (600, 901), (900, 901), (334, 333), (1001, 999)])
def test_steps_that_do_not_begin_with_noise(name: str, steps: int, good: int) -> None:
    """Leading spacing counts up from 0 in whole strides: what is left over is missing at the top."""
    with pytest.raises(
        SettingsError, match=rf"^scheduler {re.escape(name)} cannot do steps {steps}: .* works$"
    ) as told:
        require_schedule(scheduler(name, LEADING), name, steps)
    assert re.search(rf"\b{good}\b", str(told.value).split(";")[-1])
    assert works(name, LEADING, good)


def test_the_message_has_the_nearest_numbers() -> None:
    with pytest.raises(SettingsError) as told:
        require_schedule(scheduler("pndm", LEADING), "pndm", 501)
    assert str(told.value) == (
        "scheduler pndm cannot do steps 501: it begins at timestep 501 of 1000, which is not noise;"
        " --steps 500 or 901 works"
    )


@pytest.mark.parametrize("name", sorted(set(FAST) - {"dpm++2m", "dpm++2m-karras", "dpm++2m-sde", "deis", "unipc"}))
@pytest.mark.parametrize(
    ("steps", "first", "good"),
    [(143, 853, True), (147, 877, True), (150, 895, True), (300, 898, True), (167, 831, False), (202, 805, False)],
)
def test_steps_that_begin_a_little_lower_with_hardly_a_picture(name: str, steps: int, first: int, good: bool) -> None:
    """As much noise as seven steps begin with: 150 steps are usual, and what they leave out at the top is noise too."""
    own = scheduler(name, LEADING)
    own.set_timesteps(steps)
    assert float(own.timesteps[0]) == first
    assert works(name, LEADING, steps) is good
    seven = scheduler(name, LEADING)
    seven.set_timesteps(7)
    assert (first >= float(seven.timesteps[0])) is good


def test_the_noise_is_read_off_the_models_own_schedule() -> None:
    """The same first timestep is noise to one model and half a picture to another."""
    for beta_end, good in ((0.012, True), (0.02, True), (0.009, False)):
        assert works("ddim", LEADING | {"beta_end": beta_end}, 150) is good, beta_end
    assert works("ddim", LEADING | {"beta_end": 0.009}, 50), "the model was trained to no more noise"


@pytest.mark.parametrize("name", ["dpm++2m", "unipc"])
def test_steps_that_end_in_nan(name: str, shared_data: Path) -> None:
    assert not works(name, LEADING, 999)
    assert works(name, LEADING, 499)
    for steps in (1000, 1001, 2000):
        assert not works(name, sd15(shared_data), steps), steps
    assert works(name, sd15(shared_data), 999)


@pytest.mark.parametrize("name", FAST)
def test_more_steps_than_the_model_was_trained_with(name: str, shared_data: Path) -> None:
    assert works(name, LEADING, 1001) is (name == "dpm++2m-karras")
    assert works(name, LEADING, 2000) is False
    assert works(name, sd15(shared_data), 2000) is (name in BY_SIGMA)


@pytest.mark.parametrize("name", FAST)
@given(steps=st.integers(1, 1100))
@hypothesis_settings(max_examples=8, deadline=None)
def test_what_is_taken_begins_with_noise_and_ends_finite(name: str, steps: int) -> None:
    """Told from the scheduler's own steps towards one picture: taken numbers arrive there, from noise."""
    if not works(name, LEADING, steps):
        return
    own = scheduler(name, LEADING)
    own.set_timesteps(steps)
    first = float(own.timesteps[0])
    kept = float(own.alphas_cumprod[min(int(first), 999)])
    assert kept / (1 - kept) < 1 / 40 or steps < 7, "of the picture is left at the first timestep"
    assert len(own.timesteps) == SCHEDULERS[name].calls(steps)
    if steps > 500:
        return  # solvers of higher order amplify the answers of this walk where steps are as close as the training's
    picture = torch.full((1, 1, 2, 2), 0.5)
    sample = torch.randn((1, 1, 2, 2), generator=torch.Generator().manual_seed(steps)) * own.init_noise_sigma
    assert torch.isfinite(walk(own, sample, picture)).all()


def walk(own: Any, sample: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
    """The scheduler's steps with the answers of a network that knows the picture."""
    more = {"generator": torch.Generator().manual_seed(0)} if "Ancestral" in type(own).__name__ else {}
    for timestep in own.timesteps:
        own.scale_model_input(sample, timestep)
        answer = (sample - picture) / max(float(sample.std()), 1e-3)
        sample = own.step(answer, timestep, sample, return_dict=False, **more)[0]
    return sample


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trained_betas": [float("nan")] * 1000}, "not finite|NaN"),
        ({"num_train_timesteps": 10, "beta_end": 0.9}, "cannot do steps 30"),
    ],
)
def test_configurations_that_cannot_be_walked(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        require_schedule(scheduler("euler", LEADING | change), "euler", 30)


def test_the_pipelines_own_scheduler_is_left_alone() -> None:
    own = scheduler("ddim", LEADING)
    own.set_timesteps(7)
    require_schedule(own, "ddim", 30)
    assert len(own.timesteps) == 7
