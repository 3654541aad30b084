"""A pipeline's scheduler, by its short name."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from t2i_track.errors import SettingsError
from t2i_track.schedulers import SCHEDULERS

TRAINING = {
    "num_train_timesteps": None,
    "beta_start": None,
    "beta_end": None,
    "beta_schedule": None,
    "trained_betas": None,
    "prediction_type": "epsilon",
    "timestep_spacing": None,
    "rescale_betas_zero_snr": False,
}
"""Keys of a scheduler's configuration that say how the model was trained or is to be asked, and the value at which a
scheduler that does not know them does the same."""


def folder_config(folder: Path) -> dict[str, Any] | None:
    """The configuration of a model folder's own scheduler as its pipeline would have it, without the model.

    None where there is none that can be read: loading the model says what is wrong.
    """
    import diffusers

    try:
        stored = diffusers.DDIMScheduler.load_config(folder, subfolder="scheduler")
        return dict(getattr(diffusers, stored["_class_name"]).from_config(stored).config)
    except Exception:  # noqa: BLE001 - whatever a broken file makes the constructors raise
        return None


def named_scheduler(model_config: Mapping[str, Any], name: str) -> Any:
    """The scheduler of that short name, made from the model's own scheduler config.

    Raises:
        SettingsError: it cannot be made of that configuration.
    """
    try:
        return scheduler_class(name).from_config(model_config, **SCHEDULERS[name].changes)
    except Exception as error:  # noqa: BLE001 - whatever a configuration by someone else makes the constructors raise
        reason = " ".join(f"{type(error).__name__} {error}".split())[:160]
        raise SettingsError(
            f"scheduler {name} cannot be made of the model's own scheduler configuration ({reason}): take another"
            " --scheduler, or mend the model's scheduler_config.json"
        ) from None


def set_scheduler(pipe: Any, model_config: dict[str, Any], name: str) -> dict[str, Any]:
    """Put the named scheduler into the pipeline, made from the model's own scheduler config.

    Returns:
        The scheduler's full configuration (JSON types), for the record.

    Raises:
        SettingsError: it cannot be made of that configuration.
    """
    pipe.scheduler = named_scheduler(model_config, name)
    return scheduler_record(pipe.scheduler)


def require_trained(model_config: Mapping[str, Any], name: str) -> None:
    """Refuse a scheduler that would leave out how the model was trained; diffusers keeps such keys and ignores them.

    Raises:
        SettingsError: names the scheduler, the key with its value, and the schedulers that take it.
    """
    own = str(model_config.get("_class_name", ""))
    if _is_of_another_kind(own):
        raise SettingsError(
            f"scheduler {name} does not fit this model: it was made for {own}, which asks its network in another way"
            f" than {', '.join(SCHEDULERS)}; take a model without it"
        )
    for key, neutral in TRAINING.items():
        value = model_config.get(key)
        if value is not None and value != neutral and not _takes(name, key):
            takers = [other for other in SCHEDULERS if _takes(other, key)]
            raise SettingsError(
                f"scheduler {name} would leave out {key} {value}, with which this model was trained: take --scheduler"
                f" {' or '.join(takers)}"
            )


def _is_of_another_kind(own: str) -> bool:
    """Whether diffusers knows the model's own scheduler and none to exchange it for: of distilled models (LCM, TCD),
    flow matching and others."""
    import diffusers

    known = getattr(diffusers, own, None) if own.endswith("Scheduler") else None
    # One that needs a library which is not here is a stand-in without this list.
    return isinstance(known, type) and getattr(known, "_compatibles", None) == []


def _takes(name: str, key: str) -> bool:
    return key in inspect.signature(scheduler_class(name).__init__).parameters


def scheduler_class(name: str) -> Any:
    import diffusers

    return getattr(diffusers, SCHEDULERS[name].diffusers)


def scheduler_record(scheduler: Any) -> dict[str, Any]:
    """A scheduler's class and configuration without what differs between library versions."""
    config = {key: value for key, value in dict(scheduler.config).items() if not key.startswith("_")}
    record: dict[str, Any] = json.loads(json.dumps(config, default=str))
    return {"class": type(scheduler).__name__, **record}
