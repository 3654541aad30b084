"""A pipeline's scheduler: the model's own, or another of its kind by its short name."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Mapping, Sequence
from typing import Any

from t2i_track.errors import SettingsError
from t2i_track.images.families import Family, model_kind
from t2i_track.schedulers import MODEL, SCHEDULERS, SIGMAS, Kind
from t2i_track.settings import Values

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
FLOW_TRAINING = {
    "num_train_timesteps": None,
    "use_dynamic_shifting": False,
    "shift_terminal": None,
    "invert_sigmas": False,
}
"""The same for models that are trained to match a flow."""
SHIFTS = ("shift", "flow_shift")
"""What the classes in diffusers call the shift of a flow's noise levels."""
UNREPEATABLE = {"DPMSolverSDEScheduler": None, "FlowMatchEulerDiscreteScheduler": "stochastic_sampling"}
"""Classes that draw one noise for a whole batch, always or where a key of their configuration is true."""


def set_scheduler(pipe: Any, model_config: Mapping[str, Any], settings: Values) -> dict[str, Any]:
    """Put the scheduler of the settings into the pipeline, made from the model's own scheduler config.

    Args:
        pipe: the pipeline.
        model_config: the model's own scheduler configuration, with its ``_class_name``.
        settings: with the scheduler resolved: a short name, or the model's own class.

    Returns:
        The scheduler's full configuration (JSON types), for the record.

    Raises:
        SettingsError: it cannot be made of that configuration.
    """
    name = settings.scheduler
    try:
        pipe.scheduler = _made(model_config, name, settings.sigmas, settings.shift)
    except SettingsError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a configuration by someone else makes the constructors raise
        reason = " ".join(f"{type(error).__name__} {error}".split())[:160]
        raise SettingsError(
            f"scheduler {name} cannot be made of the model's own scheduler configuration ({reason}): take another"
            " --scheduler, or mend the model's scheduler_config.json"
        ) from None
    return scheduler_record(pipe.scheduler)


def _made(model_config: Mapping[str, Any], name: str, sigmas: str | None, shift: float | None) -> Any:
    kind = SCHEDULERS.get(name)
    made = _class(name if kind is None else kind.diffusers)
    config, changes = dict(model_config), {} if kind is None else dict(kind.changes)
    if kind is not None and kind.kind is not Kind.NOISE:
        config = _known(config, made)
    if sigmas is not None:
        changes |= {key: key == SIGMAS[sigmas] for key in SIGMAS.values() if _takes(made, key)}
    if shift is not None:
        changes |= {key: shift for key in SHIFTS if _takes(made, key)}
    return made.from_config(config, **changes)


def _known(config: dict[str, Any], made: Any) -> dict[str, Any]:
    """The configuration with a flow's shift under the class's own name, and nothing that the class would ignore.

    Those of noise schedulers keep such keys: they are in the fingerprints of older runs.
    """
    shift = next((config[key] for key in SHIFTS if key in config), None)
    known = {key: value for key, value in config.items() if _takes(made, key)}
    return known if shift is None else {**known, **{key: shift for key in SHIFTS if _takes(made, key)}}


def resolved(model_config: Mapping[str, Any], settings: Values) -> Values:
    """The settings with ``model`` as the short name of the model's own scheduler, so that both are one fingerprint.

    A scheduler without a short name is called by its class, which is no choice of ``Settings``.
    """
    found = Values(**settings.to_dict())
    if found.scheduler == MODEL:
        found = dataclasses.replace(found, scheduler=own_name(model_config))
    if found.scheduler == "dpm++2m" and found.sigmas == "karras":  # it had a name before it had an option
        return dataclasses.replace(found, scheduler="dpm++2m-karras", sigmas=None)
    return found


def own_name(model_config: Mapping[str, Any]) -> str:
    """The short name under which a model's own scheduler is made as it is, else its class."""
    own = str(model_config.get("_class_name", ""))
    for name, kind in SCHEDULERS.items():
        if kind.diffusers == own and _same(model_config, own, name):
            return name
    return own


def _same(model_config: Mapping[str, Any], own: str, name: str) -> bool:
    try:
        return scheduler_record(_made(model_config, name, None, None)) == scheduler_record(
            _made(model_config, own, None, None)
        )
    except Exception:  # noqa: BLE001 - said where the scheduler is set
        return False


def require_kind(family: Family, configs: Mapping[str, Mapping[str, Any]], settings: Values) -> None:
    """Refuse a scheduler of another kind than the model's: several run without an error, and paint nonsense.

    Raises:
        SettingsError: names the scheduler, the kind, and the schedulers that work.
    """
    kind = SCHEDULERS.get(settings.scheduler)
    own = str(configs["scheduler"].get("_class_name", ""))
    if settings.scheduler in (MODEL, own, _short(own)) and _draws_for_all(configs["scheduler"]):
        raise SettingsError(
            f"scheduler {own} draws one noise for a whole batch, so a picture would depend on its company: take"
            f" --scheduler {' or '.join(working(family, configs, settings))}"
        )
    if kind is None:
        return
    names = working(family, configs, settings)
    if settings.scheduler not in names:
        raise SettingsError(
            f"scheduler {settings.scheduler} is for {kind.kind.value} models, and this one (with {own}) is a"
            f" {model_kind(family, configs).value} model: take --scheduler {' or '.join((MODEL, *names))}"
        )


def _draws_for_all(model_config: Mapping[str, Any]) -> bool:
    own = str(model_config.get("_class_name", ""))
    key = UNREPEATABLE.get(own)
    return own in UNREPEATABLE and (key is None or bool(model_config.get(key)))


def _short(own: str) -> str | None:
    return next((name for name, kind in SCHEDULERS.items() if kind.diffusers == own and not kind.changes), None)


def working(family: Family, configs: Mapping[str, Mapping[str, Any]], settings: Values) -> list[str]:
    """The short names that a model takes."""
    wanted = {model_kind(family, configs)}
    if settings.lora and wanted == {Kind.NOISE}:
        wanted.add(Kind.CONSISTENCY)  # LCM-LoRA and its like make a consistency model of it (arXiv:2311.05556)
    return [
        name
        for name, kind in SCHEDULERS.items()
        if kind.kind in wanted
        and (not family.schedulers or name in family.schedulers)
        and (kind.takes_sigmas or not family.hands_sigmas)
    ]


def require_trained(model_config: Mapping[str, Any], name: str) -> None:
    """Refuse a scheduler that would leave out how the model was trained; diffusers keeps such keys and ignores them.

    Raises:
        SettingsError: names the scheduler, the key with its value, and the schedulers that take it.
    """
    own, kind = str(model_config.get("_class_name", "")), SCHEDULERS.get(name)
    made = _class(name if kind is None else kind.diffusers)
    if made.__name__ != own and not _is_exchanged(own):
        raise SettingsError(
            f"scheduler {name} does not fit this model: it was made for {own}, which asks its network in another way;"
            f" take --scheduler {MODEL}"
        )
    flow = kind is not None and kind.kind is Kind.FLOW
    for key, neutral in (FLOW_TRAINING if flow else TRAINING).items():
        value = model_config.get(key)
        if value is not None and value != neutral and not _takes(made, key):
            alike = [other for other, one in SCHEDULERS.items() if kind is None or one.kind is kind.kind]
            takers = [other for other in alike if _takes(scheduler_class(other), key)]
            raise SettingsError(
                f"scheduler {name} would leave out {key} {value}, with which this model was trained: take --scheduler"
                f" {' or '.join(takers)}"
            )


def _is_exchanged(own: str) -> bool:
    """Whether the model's own scheduler is one that asks its network as others do."""
    import diffusers

    if any(kind.diffusers == own for kind in SCHEDULERS.values()):
        return True  # which of them fit is the question of their kinds
    known = getattr(diffusers, own, None) if own.endswith("Scheduler") else None
    # One that needs a library which is not here is a stand-in without this list.
    return not (isinstance(known, type) and getattr(known, "_compatibles", None) == [])


def require_taken(settings: Values, model_config: Mapping[str, Any]) -> None:
    """Refuse what the scheduler would silently leave out of ``sigmas`` and ``shift``.

    Raises:
        SettingsError: names the setting, its value and the schedulers that take it.
    """
    if settings.sigmas is not None:
        key = SIGMAS[settings.sigmas]
        _require_taker("sigmas", settings, [name for name in SCHEDULERS if _takes(scheduler_class(name), key)])
    if settings.shift is not None:
        flows = [name for name, kind in SCHEDULERS.items() if kind.kind is Kind.FLOW]
        _require_taker("shift", settings, flows)
        if model_config.get("use_dynamic_shifting"):
            raise SettingsError(
                f"shift {settings.shift:g} would be ignored: this model shifts by the size of the picture"
                " (use_dynamic_shifting); leave it out"
            )


def _require_taker(name: str, settings: Values, takers: Sequence[str]) -> None:
    if settings.scheduler not in takers:
        raise SettingsError(
            f"{name} {getattr(settings, name)} would be ignored by scheduler {settings.scheduler}: leave it out, or"
            f" take --scheduler {' or '.join(takers)}"
        )


def _takes(made: Any, key: str) -> bool:
    return key in inspect.signature(made.__init__).parameters


def scheduler_class(name: str) -> Any:
    """The class in diffusers of a short name."""
    return _class(SCHEDULERS[name].diffusers)


def _class(name: str) -> Any:
    import diffusers

    found = getattr(diffusers, name, None)
    if found is None:
        raise SettingsError(f"scheduler {name} is not in the installed diffusers: take another --scheduler")
    return found


def scheduler_record(scheduler: Any) -> dict[str, Any]:
    """A scheduler's class and configuration without what differs between library versions."""
    config = {key: value for key, value in dict(scheduler.config).items() if not key.startswith("_")}
    record: dict[str, Any] = json.loads(json.dumps(config, default=str))
    return {"class": type(scheduler).__name__, **record}
