"""Experiment files (YAML): the settings that are held, and the axes that vary. `generate` reads one cell of them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from t2i_track.errors import SettingsError
from t2i_track.settings import Settings, suggestion

AXES = ("guidance", "steps", "scheduler", "seed", "model", "lora", "negative_prompt", "height", "width")


class Experiment(BaseModel):
    """One experiment file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = "sweep"
    experiment: str = "t2i"
    description: str = ""
    manifest: str | None = None
    prompts: list[str] = Field(default_factory=list)
    settings: dict[str, Any] = Field(default_factory=dict)
    axes: dict[str, list[Any]] = Field(default_factory=dict)
    zip: bool = False
    """Run the axes side by side, cell i taking the i-th value of each, rather than every combination."""
    exclude: list[dict[str, Any]] = Field(default_factory=list)
    """Cells to leave out: every rule is a set of axis values, and a cell that has them all is excluded."""
    evaluate: bool | None = None
    reference: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Experiment:
        for name, values in self.axes.items():
            _known_axis(name)
            if not values:
                raise ValueError(f"axis '{name}' has no values")
            if name in self.settings:
                raise ValueError(f"'{name}' is both a setting and an axis: keep one of them")
            keys = [_plain(name, value) for value in values]
            twice = next((value for value, key in zip(values, keys, strict=True) if keys.count(key) > 1), None)
            if twice is not None:
                raise ValueError(f"axis '{name}' has {twice!r} twice")
        lengths = {name: len(values) for name, values in self.axes.items()}
        if self.zip and len(set(lengths.values())) > 1:
            raise ValueError(f"zip wants axes of one length, not {lengths}")
        for rule in self.exclude:
            for name in rule:
                if name not in self.axes:
                    raise ValueError(
                        f"exclude names '{name}', which is not an axis{suggestion(name, tuple(self.axes))}"
                    )
        if self.manifest is not None and self.prompts:
            raise ValueError("'manifest' and 'prompts' exclude each other: keep one of them")
        Settings.from_mapping(self.settings)
        return self

    @property
    def size(self) -> int:
        """Cells before `exclude`."""
        lengths = [len(values) for values in self.axes.values()]
        if self.zip:
            return lengths[0] if lengths else 1
        total = 1
        for length in lengths:
            total *= length
        return total

    def cells(self) -> Iterator[Settings]:
        """The settings of every cell, the last axis varying fastest.

        Raises:
            SettingsError: a value that its setting cannot have.
        """
        names = list(self.axes)
        combine = zip if self.zip else itertools.product
        combinations: Any = combine(*self.axes.values()) if names else [()]
        for values in combinations:
            cell = dict(zip(names, values, strict=True))
            if not any(self._matches(cell, rule) for rule in self.exclude):
                yield Settings.from_mapping({**self.settings, **cell})

    def _matches(self, cell: dict[str, Any], rule: dict[str, Any]) -> bool:
        return all(_plain(name, cell[name]) == _plain(name, value) for name, value in rule.items())

    def varied(self) -> dict[str, list[Any]]:
        return self.axes

    def single(self) -> dict[str, Any]:
        """Defaults for `t2i generate`: the settings and the first value of each axis."""
        found = {**self.settings, **{name: values[0] for name, values in self.axes.items()}}
        found["experiment"] = self.experiment
        for name in ("manifest", "evaluate", "reference"):
            if getattr(self, name) is not None:
                found[name] = getattr(self, name)
        if self.prompts:
            found["prompts"] = self.prompts
        return found

    def spec(self) -> dict[str, Any]:
        """What decides the cells, as JSON types: equal specs are the same sweep."""
        record: dict[str, Any] = json.loads(self.model_dump_json(exclude={"description"}))
        return record


def load(path: Path) -> Experiment:
    """Read an experiment file.

    Raises:
        SettingsError: no such file, not YAML, an unknown key (with the nearest known one), an impossible value.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"cannot read experiment file {path} ({error.strerror})") from None
    except UnicodeDecodeError:
        raise SettingsError(f"experiment file {path} is not UTF-8 text") from None
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        raise SettingsError(f"experiment file {path} is not YAML{line} ({getattr(error, 'problem', error)})") from None
    if not isinstance(values, dict):
        raise SettingsError(f"experiment file {path} holds no keys: see experiments/baseline.yaml for one that does")
    experiment = build(values, str(path))
    if experiment.manifest is not None:
        # A path inside a file is relative to the file, so that the file works from any folder.
        experiment = experiment.model_copy(update={"manifest": str(path.parent / experiment.manifest)})
    return experiment


def build(values: dict[str, Any], source: str) -> Experiment:
    """Validate the content of an experiment file, or what the command line's axes make of it."""
    try:
        return Experiment.model_validate(values)
    except SettingsError as error:
        raise SettingsError(f"{source}: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise SettingsError(
                f"{source}: unknown key '{place}'{suggestion(place, tuple(Experiment.model_fields))}"
            ) from None
        message = first["msg"].removeprefix("Value error, ")
        where = f"{place}: " if place else ""
        value = "" if isinstance(first.get("input"), dict) else f" (found {first.get('input')!r})"
        raise SettingsError(f"{source}: {where}{message}{value}") from None


def _known_axis(name: str) -> None:
    if name not in AXES:
        raise ValueError(f"'{name}' is not an axis{suggestion(name, AXES)}")


def _plain(name: str, value: Any) -> Any:
    """A value as its setting reads it, so that 12 and 12.0 are one guidance."""
    return getattr(Settings.from_mapping({name: value}), name)
