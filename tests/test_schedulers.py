"""How a model was trained is kept by its scheduler, or the scheduler is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from t2i_track import assets
from t2i_track.errors import SettingsError
from t2i_track.images.families import FAMILIES
from t2i_track.images.schedule import require_schedule
from t2i_track.images.schedulers import (
    own_name,
    require_kind,
    require_taken,
    require_trained,
    resolved,
    set_scheduler,
)
from t2i_track.schedulers import SCHEDULERS, SIGMAS, Kind
from t2i_track.settings import Settings

CONFIG = "scheduler/scheduler_config.json"
OWN: dict[str, Any] = json.loads((assets.shapes_sd() / CONFIG).read_text())
ZERO_SNR = {**OWN, "_class_name": "DDIMScheduler", "prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
NOISE = [name for name, kind in SCHEDULERS.items() if kind.kind is Kind.NOISE]
LACKING = {"pndm", "heun", "lms", "deis"}
"""Those that know no zero terminal signal-to-noise ratio (Lin et al. 2023, arXiv:2305.08891)."""


@pytest.mark.parametrize("name", NOISE)
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
        " --scheduler ddim or ddpm or dpm++2m or dpm++2m-karras or dpm++2m-sde or euler or euler-a or unipc"
    )


@pytest.mark.parametrize("name", sorted(set(NOISE) - LACKING))
def test_the_schedulers_that_the_message_names_work(name: str) -> None:
    pipe = SimpleNamespace()
    require_trained(ZERO_SNR, name)
    assert set_scheduler(pipe, ZERO_SNR, Settings(scheduler=name))["rescale_betas_zero_snr"]
    require_schedule(pipe.scheduler, name, 20)


@pytest.mark.parametrize("own", ["ScoreSdeVeScheduler", "IPNDMScheduler", "VQDiffusionScheduler"])
@pytest.mark.parametrize("name", ["ddim", "euler", "pndm"])
def test_models_that_are_asked_in_another_way_are_refused(own: str, name: str) -> None:
    with pytest.raises(SettingsError, match=f"scheduler {name} does not fit this model: it was made for {own}"):
        require_trained({**OWN, "_class_name": own}, name)


SD1 = FAMILIES["StableDiffusionPipeline"]


def configs(own: str, **scheduler: Any) -> dict[str, Any]:
    return {"unet": {}, "vae": {}, "scheduler": {**OWN, "_class_name": own, **scheduler}}


@pytest.mark.parametrize(
    ("family", "own", "kind"),
    [
        ("StableDiffusionPipeline", "LCMScheduler", "consistency"),
        ("StableDiffusionPipeline", "TCDScheduler", "consistency"),
        ("StableDiffusion3Pipeline", "FlowMatchEulerDiscreteScheduler", "flow"),
        ("SanaPipeline", "DPMSolverMultistepScheduler", "flow"),
    ],
)
@pytest.mark.parametrize("name", ["ddim", "euler", "pndm"])
def test_schedulers_of_another_kind_are_refused(family: str, own: str, kind: str, name: str) -> None:
    with pytest.raises(SettingsError) as told:
        require_kind(FAMILIES[family], configs(own), Settings(scheduler=name))
    assert str(told.value).startswith(
        f"scheduler {name} is for noise models, and this one (with {own}) is a {kind} model: take --scheduler model or "
    )


@pytest.mark.parametrize("name", ["lcm", "tcd", "flow-euler", "flow-heun"])
def test_a_noise_model_takes_noise_schedulers(name: str) -> None:
    with pytest.raises(SettingsError, match=r"^scheduler .* is for (consistency|flow) models, and this one"):
        require_kind(SD1, configs("PNDMScheduler"), Settings(scheduler=name))
    for fits in NOISE:
        require_kind(SD1, configs("PNDMScheduler"), Settings(scheduler=fits))


@pytest.mark.parametrize("name", ["lcm", "tcd"])
def test_a_lora_can_make_a_consistency_model_of_it(name: str) -> None:
    require_kind(SD1, configs("PNDMScheduler"), Settings(scheduler=name, lora="lcm.safetensors"))


@pytest.mark.parametrize("name", ["flow-heun", "flow-dpm++"])
def test_pipelines_that_hand_out_noise_levels_refuse_what_takes_none(name: str) -> None:
    own = configs("FlowMatchEulerDiscreteScheduler")
    with pytest.raises(SettingsError, match=r"take --scheduler model or flow-euler or flow-unipc$"):
        require_kind(FAMILIES["FluxPipeline"], own, Settings(scheduler=name))
    require_kind(FAMILIES["StableDiffusion3Pipeline"], own, Settings(scheduler=name))


def test_one_noise_for_a_batch_is_refused() -> None:
    for own in (configs("DPMSolverSDEScheduler"), configs("FlowMatchEulerDiscreteScheduler", stochastic_sampling=True)):
        with pytest.raises(SettingsError, match=r"draws one noise for a whole batch, so a picture would depend on its"):
            require_kind(SD1, own, Settings())
    require_kind(FAMILIES["SanaPipeline"], configs("FlowMatchEulerDiscreteScheduler"), Settings())
    require_kind(SD1, configs("DPMSolverSDEScheduler"), Settings(scheduler="euler"))


@pytest.mark.parametrize("name", NOISE)
def test_a_models_own_scheduler_has_its_short_name(name: str) -> None:
    """So that `model` and `pndm` on Stable Diffusion 1.5 are one fingerprint."""
    kind = SCHEDULERS[name]
    own = {**OWN, **kind.changes, "_class_name": kind.diffusers}
    assert own_name(own) == name
    assert resolved(own, Settings()).scheduler == name
    assert resolved(own, Settings(scheduler="heun")).scheduler == "heun"
    pipe = SimpleNamespace()
    assert set_scheduler(pipe, own, Settings(scheduler=name)) == set_scheduler(pipe, own, resolved(own, Settings()))


@pytest.mark.parametrize(
    ("own", "change"), [("KDPM2DiscreteScheduler", {}), ("PNDMScheduler", {"skip_prk_steps": False})]
)
def test_one_without_a_short_name_is_called_by_its_class(own: str, change: dict[str, Any]) -> None:
    config = {**OWN, "_class_name": own, **change}
    assert own_name(config) == own
    assert set_scheduler(SimpleNamespace(), config, resolved(config, Settings()))["class"] == own


def test_karras_has_one_fingerprint_under_both_its_names() -> None:
    asked = resolved(OWN, Settings(scheduler="dpm++2m", sigmas="karras"))
    assert (asked.scheduler, asked.sigmas) == ("dpm++2m-karras", None)
    assert resolved(OWN, Settings(scheduler="euler", sigmas="karras")).sigmas == "karras"


@pytest.mark.parametrize("sigmas", SIGMAS)
@pytest.mark.parametrize("name", ["euler", "dpm++2m", "heun", "lms", "unipc", "deis"])
def test_spacings_of_the_noise_levels_are_what_is_asked(name: str, sigmas: str) -> None:
    pipe = SimpleNamespace()
    require_taken(Settings(scheduler=name, sigmas=sigmas), OWN)
    record = set_scheduler(pipe, OWN, Settings(scheduler=name, sigmas=sigmas))
    assert [key for key in SIGMAS.values() if record[key]] == [SIGMAS[sigmas]]
    plain = SimpleNamespace()
    set_scheduler(plain, OWN, Settings(scheduler=name))
    pipe.scheduler.set_timesteps(10), plain.scheduler.set_timesteps(10)
    assert not torch.equal(pipe.scheduler.sigmas, plain.scheduler.sigmas)


@pytest.mark.parametrize("name", ["pndm", "ddim", "euler-a", "lcm"])
def test_spacings_that_a_scheduler_would_ignore_are_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=rf"^sigmas karras would be ignored by scheduler {name}: leave it out, or"):
        require_taken(Settings(scheduler=name, sigmas="karras"), OWN)


FLOWS = [name for name, kind in SCHEDULERS.items() if kind.kind is Kind.FLOW]


@pytest.mark.parametrize("name", FLOWS)
def test_a_flows_shift_goes_with_it(name: str) -> None:
    """Under the name that the class has for it, of the model's own or as it is asked for."""
    own = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
    pipe = SimpleNamespace()
    for asked, shift in ((Settings(scheduler=name), 3.0), (Settings(scheduler=name, shift=7.0), 7.0)):
        record = set_scheduler(pipe, own, asked)
        assert [record[key] for key in ("shift", "flow_shift") if key in record] == [shift]
        require_schedule(pipe.scheduler, name, 10)
        sigmas = pipe.scheduler.sigmas if hasattr(pipe.scheduler, "sigmas") else None
        assert sigmas is not None
    with pytest.raises(SettingsError, match=r"^shift 7.0 would be ignored by scheduler ddim: leave it out, or take"):
        require_taken(Settings(scheduler="ddim", shift=7.0), OWN)
    with pytest.raises(SettingsError, match=r"^shift 7 would be ignored: this model shifts by the size of the picture"):
        require_taken(Settings(scheduler=name, shift=7.0), {**own, "use_dynamic_shifting": True})


@pytest.mark.parametrize("own", ["DDPMScheduler", "DEISMultistepScheduler", "KDPM2DiscreteScheduler", "Unheard Of", ""])
def test_schedulers_that_diffusers_exchanges_are_exchanged(own: str) -> None:
    require_trained({**OWN, "_class_name": own}, "pndm")


@pytest.mark.parametrize(
    "wrong", [{"beta_schedule": "unheard-of"}, {"num_train_timesteps": "many"}, {"beta_start": [1]}]
)
@pytest.mark.parametrize("name", ["ddim", "euler", "unipc"])
def test_a_configuration_that_makes_no_scheduler_is_one_line(name: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=f"^scheduler {name} cannot be made of the model's own"):
        set_scheduler(SimpleNamespace(), {**OWN, **wrong}, Settings(scheduler=name))


@pytest.mark.parametrize("wrong", [{"prediction_type": "unheard-of"}, {"timestep_spacing": 3}, {"steps_offset": "one"}])
def test_a_configuration_that_fails_at_a_step_is_one_line(wrong: dict[str, Any]) -> None:
    pipe = SimpleNamespace()
    set_scheduler(pipe, {**OWN, **wrong}, Settings(scheduler="ddim"))
    with pytest.raises(SettingsError, match=r"^scheduler ddim cannot do steps 20: it fails .* another --scheduler$"):
        require_schedule(pipe.scheduler, "ddim", 20)


def test_a_name_without_karras_has_none_of_the_models_own() -> None:
    for name, karras in (("dpm++2m", False), ("dpm++2m-karras", True)):
        config = set_scheduler(SimpleNamespace(), {**OWN, "use_karras_sigmas": True}, Settings(scheduler=name))
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
