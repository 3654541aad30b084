"""How a model was trained is kept by its scheduler, or the scheduler is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from t2i_track import assets
from t2i_track.errors import SettingsError
from t2i_track.images.schedule import require_schedule
from t2i_track.images.schedulers import require_trained, set_scheduler
from t2i_track.schedulers import SCHEDULERS

CONFIG = "scheduler/scheduler_config.json"
OWN: dict[str, Any] = json.loads((assets.shapes_sd() / CONFIG).read_text())
ZERO_SNR = {**OWN, "_class_name": "DDIMScheduler", "prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
LACKING = {"pndm", "heun", "lms"}
"""Those that know no zero terminal signal-to-noise ratio (Lin et al. 2023, arXiv:2305.08891)."""


@pytest.mark.parametrize("name", SCHEDULERS)
def test_what_the_embedded_model_and_sd15_were_trained_with_is_kept(name: str, shared_data: Path) -> None:
    require_trained(OWN, name)
    require_trained(json.loads((shared_data / "sd15" / CONFIG).read_text()), name)
    require_trained({**OWN, "prediction_type": "v_prediction", "timestep_spacing": "trailing"}, name)
    require_trained({**ZERO_SNR, "rescale_betas_zero_snr": False}, name)


@pytest.mark.parametrize("name", sorted(LACKING))
def test_zero_terminal_snr_is_not_dropped(name: str) -> None:
    with pytest.raises(SettingsError) as told:
        require_trained(ZERO_SNR, name)
    assert str(told.value) == (
        f"scheduler {name} would leave out rescale_betas_zero_snr True, with which this model was trained: take"
        " --scheduler ddim or dpm++2m or dpm++2m-karras or euler or euler-a or unipc"
    )


@pytest.mark.parametrize("name", sorted(set(SCHEDULERS) - LACKING))
def test_the_schedulers_that_the_message_names_work(name: str) -> None:
    pipe = SimpleNamespace()
    require_trained(ZERO_SNR, name)
    assert set_scheduler(pipe, ZERO_SNR, name)["rescale_betas_zero_snr"]
    require_schedule(pipe.scheduler, name, 20)


@pytest.mark.parametrize("own", ["LCMScheduler", "TCDScheduler", "FlowMatchEulerDiscreteScheduler"])
@pytest.mark.parametrize("name", ["ddim", "euler", "pndm"])
def test_models_that_are_asked_in_another_way_are_refused(own: str, name: str) -> None:
    with pytest.raises(SettingsError, match=f"scheduler {name} does not fit this model: it was made for {own}"):
        require_trained({**OWN, "_class_name": own}, name)


@pytest.mark.parametrize("own", ["DDPMScheduler", "DEISMultistepScheduler", "KDPM2DiscreteScheduler", "Unheard Of", ""])
def test_schedulers_that_diffusers_exchanges_are_exchanged(own: str) -> None:
    require_trained({**OWN, "_class_name": own}, "pndm")


@pytest.mark.parametrize(
    "wrong", [{"beta_schedule": "unheard-of"}, {"num_train_timesteps": "many"}, {"beta_start": [1]}]
)
@pytest.mark.parametrize("name", ["ddim", "euler", "unipc"])
def test_a_configuration_that_makes_no_scheduler_is_one_line(name: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=f"^scheduler {name} cannot be made of the model's own"):
        set_scheduler(SimpleNamespace(), {**OWN, **wrong}, name)


@pytest.mark.parametrize("wrong", [{"prediction_type": "unheard-of"}, {"timestep_spacing": 3}, {"steps_offset": "one"}])
def test_a_configuration_that_fails_at_a_step_is_one_line(wrong: dict[str, Any]) -> None:
    pipe = SimpleNamespace()
    set_scheduler(pipe, {**OWN, **wrong}, "ddim")
    with pytest.raises(SettingsError, match=r"^scheduler ddim cannot do steps 20: it fails .* another --scheduler$"):
        require_schedule(pipe.scheduler, "ddim", 20)


def test_a_name_without_karras_has_none_of_the_models_own() -> None:
    for name, karras in (("dpm++2m", False), ("dpm++2m-karras", True)):
        config = set_scheduler(SimpleNamespace(), {**OWN, "use_karras_sigmas": True}, name)
        assert config["use_karras_sigmas"] is karras


def test_nothing_is_written_of_a_refused_run(cli: Any, tmp_path: Path) -> None:
    copy = tmp_path / "zero"
    shutil.copytree(assets.shapes_sd(), copy)
    (copy / CONFIG).write_text(json.dumps(ZERO_SNR))
    arguments = ("generate", "--model", copy, "--num", "2", "--steps", "2", "--no-evaluate")
    refused = cli(*arguments, "--scheduler", "pndm")
    assert (refused.code, refused.out) == (1, "")
    assert "would leave out rescale_betas_zero_snr True" in refused.err
    assert cli("runs").out.strip() in ("", "no runs yet")
    assert cli(*arguments, "--scheduler", "ddim").code == 0
