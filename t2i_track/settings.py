"""The settings of a generation run: one frozen record behind the options, the database row and MLflow's parameters."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from t2i_track.errors import SettingsError

SCHEDULERS = ("pndm", "ddim", "dpm++2m", "dpm++2m-karras", "euler", "euler-a", "heun", "lms", "unipc")
DTYPES = ("fp32", "fp16", "bf16")
CONTIGUOUS = "contiguous"
MEMORY_FORMATS = ("channels-last", CONTIGUOUS)
EMBEDDED_MODEL = "shapes"
SIZE_MULTIPLE = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What a user chooses for a run. ``None`` means: as the model or the machine says, resolved when it is loaded."""

    model: str = EMBEDDED_MODEL
    revision: str | None = None
    lora: str | None = None
    guidance: float = 7.5
    steps: int = 30
    scheduler: str = "pndm"
    seed: int = 42
    negative_prompt: str = ""
    num: int | None = None
    images_per_prompt: int = 1
    height: int | None = None
    width: int | None = None
    batch_size: int = 8
    dtype: str | None = None
    memory_format: str | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        """Refuse impossible values.

        Raises:
            SettingsError: names the setting, its value and what it may be.
        """
        if not math.isfinite(self.guidance):
            raise SettingsError(f"guidance must be a finite number, not {self.guidance}: try --guidance 7.5")
        for name in ("steps", "batch_size", "images_per_prompt", "num"):
            value = getattr(self, name)
            if value is not None and value < 1:
                option = name.replace("_", "-")
                raise SettingsError(f"{name} must be 1 or more, not {value}: give --{option} a positive whole number")
        for name in ("height", "width"):
            value = getattr(self, name)
            if value is not None and (value < SIZE_MULTIPLE or value % SIZE_MULTIPLE):
                near = max(SIZE_MULTIPLE, round(value / SIZE_MULTIPLE) * SIZE_MULTIPLE)
                raise SettingsError(f"{name} must be a positive multiple of {SIZE_MULTIPLE}, not {value}: try {near}")
        if not 0 <= self.seed < 2**63:
            raise SettingsError(f"seed must be in [0, 2**63), not {self.seed}")
        _one_of("scheduler", self.scheduler, SCHEDULERS)
        if self.dtype is not None:
            _one_of("dtype", self.dtype, DTYPES)
        if self.memory_format is not None:
            _one_of("memory format", self.memory_format, MEMORY_FORMATS)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Settings:
        """Settings from stored or written values; unknown keys are refused, with the nearest known one."""
        known = {field.name: field for field in dataclasses.fields(cls)}
        for key in values:
            if key not in known:
                raise SettingsError(f"unknown setting '{key}'{suggestion(key, known)}")
        try:
            return cls(**{key: _coerce(key, value) for key, value in values.items()})
        except (TypeError, ValueError) as error:
            raise SettingsError(str(error)) from None

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resolved:
    """Settings with every open choice made: what decides the pixels, together with prompt and seed."""

    settings: Settings
    weights_sha256: str
    lora_sha256: str | None
    scheduler_config: dict[str, Any]
    height: int
    width: int
    dtype: str
    memory_format: str
    device: str
    manifest_sha256: str
    num: int

    @property
    def fingerprint(self) -> str:
        """sha256 of all that decides the set of images; equal fingerprints mean that the work is the same."""
        chosen = self.settings
        record = {
            "weights": self.weights_sha256,
            "lora": self.lora_sha256,
            "guidance": float(chosen.guidance),
            "steps": chosen.steps,
            "scheduler": chosen.scheduler,
            "scheduler_config": self.scheduler_config,
            "negative_prompt": chosen.negative_prompt,
            "height": self.height,
            "width": self.width,
            "dtype": self.dtype,
            "device": self.device,
            "seed": chosen.seed,
            "manifest": self.manifest_sha256,
            "num": self.num,
            "images_per_prompt": chosen.images_per_prompt,
            "batch_size": chosen.batch_size,
        }
        if self.memory_format != CONTIGUOUS:  # the only one of older runs, whose fingerprints stay as they were
            record["memory_format"] = self.memory_format
        return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def suggestion(word: str, known: Mapping[str, Any] | tuple[str, ...]) -> str:
    """``; did you mean 'x'?`` or the list of what is known, to end an error with."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(known)}"


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise SettingsError(f"unknown {name} '{value}'{suggestion(value, choices)}")


def _coerce(key: str, value: Any) -> Any:
    """A number as its field wants it: YAML and JSON write 12 for 12.0, and the fingerprint must not notice."""
    if value is None:
        return None
    if isinstance(value, bool):
        raise SettingsError(f"{key} cannot be {value}")
    if key == "guidance":
        return _number(key, value, float)
    if key in {"steps", "seed", "num", "images_per_prompt", "height", "width", "batch_size"}:
        return _number(key, value, int)
    if not isinstance(value, str):
        raise SettingsError(f"{key} must be text, not {value!r}")
    return value


def _number(key: str, value: Any, kind: type) -> Any:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise SettingsError(f"{key} must be a number, not {value!r}") from None
    if kind is int:
        if not math.isfinite(number) or number != int(number):
            raise SettingsError(f"{key} must be a whole number, not {value!r}")
        return int(value) if isinstance(value, int | str) and str(value).lstrip("+-").isdigit() else int(number)
    return number
