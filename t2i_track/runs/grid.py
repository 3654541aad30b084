"""Experiment files (YAML): the settings that are held, and the axes that vary. `generate` reads one cell of them."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, get_args, get_origin

from t2i_track.errors import CompareError, SettingsError
from t2i_track.runs.until_decided import OF_ADAPTIVE, budget_of, resolutions
from t2i_track.settings import AXES, DECLARED, Settings, suggestion
from t2i_track.texts import unstorable
from t2i_track.yamltext import NotYaml, yaml_values

MOST_CELLS = 10_000
"""More cells than this are refused before any is made: to list a billion takes hours."""


def _about(kind: Any, words: str) -> dict[str, Any]:
    return {"kind": kind, "help": words}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """One experiment file; every key declares what it holds and what it is for."""

    name: str = field(
        default="sweep", metadata=_about(str, "Name of the sweep; on the command line, by default, that of its axes.")
    )
    experiment: str | None = field(
        default=None, metadata=_about(str, "MLflow experiment of the runs; left out: as for `t2i generate`.")
    )
    description: str = field(default="", metadata=_about(str, "For readers of the file; changes nothing."))
    manifest: str | None = field(default=None, metadata=_about(str, "Prompt file; its path is relative to this file."))
    prompts: list[str] = field(
        default_factory=list, metadata=_about(list[str], "The prompts themselves, instead of `manifest`.")
    )
    settings: dict[str, Any] = field(
        default_factory=dict, metadata=_about(dict, "Settings that all cells have in common.")
    )
    axes: dict[str, list[Any]] = field(
        default_factory=dict,
        metadata=_about(dict[str, list[Any]], "Settings that vary, each with the list of its values."),
    )
    zip: bool = field(
        default=False, metadata=_about(bool, "Run the axes side by side, cell i taking the i-th value of each.")
    )
    exclude: list[dict[str, Any]] = field(
        default_factory=list,
        metadata=_about(list[dict[str, Any]], "Cells to leave out: those that have all values of one of these rules."),
    )
    evaluate: bool | None = field(
        default=None, metadata=_about(bool, "Whether to score the runs; left out: where it costs next to nothing.")
    )
    reference: str | None = field(
        default=None,
        metadata=_about(str, "What to score against: `shapes`, a folder, a manifest, an .npz, or `run:RUN`."),
    )
    until_decided: bool = field(
        default=False,
        metadata=_about(
            bool, "Make images in rounds, of the settings that may still be the best ([adaptive.md](adaptive.md))."
        ),
    )
    within: str | None = field(
        default=None,
        metadata=_about(str, "With `until_decided`: how much worse than the best still counts as good: 0.02, or 2%."),
    )
    budget: str | None = field(
        default=None, metadata=_about(str, "With `until_decided`: at most so much: `2000images`, `90min`, `1h`.")
    )
    max_num: int | None = field(
        default=None,
        metadata=_about(int, "With `until_decided`: the most prompts a setting; left out: all, at most 2048."),
    )
    search: dict[str, Any] = field(
        default_factory=dict,
        metadata=_about(dict, "With `until_decided`: axes to refine, each with the step to stop at."),
    )
    by: str | None = field(
        default=None,
        metadata=_about(str, "With `until_decided`: the score that decides; left out: alignment, else KID."),
    )

    def __post_init__(self) -> None:
        """Refuse what does not fit together.

        Raises:
            SettingsError: names the key, its value and what it may be.
        """
        _check_texts(self)
        if self.size > MOST_CELLS:
            raise SettingsError(
                f"{self.counted} are more than the {MOST_CELLS:,} that a sweep may have: take fewer values, or several"
                " sweeps"
            )
        for name, values in self.axes.items():
            _check_axis(name, values, self.settings)
            if not self.zip:  # side by side, a value may come again beside another one
                _check_twice(name, values)
        lengths = {name: len(values) for name, values in self.axes.items()}
        if self.zip and len(set(lengths.values())) > 1:
            raise SettingsError(f"zip wants axes of one length, not {lengths}")
        for rule in self.exclude:
            for name in rule:
                if name not in self.axes:
                    near = suggestion(name, tuple(self.axes))
                    raise SettingsError(f"exclude names '{name}', which is not an axis{near}")
        _check_adaptive(self)
        if self.manifest is not None and self.prompts:
            raise SettingsError("'manifest' and 'prompts' exclude each other: keep one of them")
        Settings.from_mapping({**self._needed(), **self.settings})

    def _needed(self) -> dict[str, Any]:
        """A value for each axis without which one of the settings would be ignored."""
        needs = {DECLARED[name].needs for name in self.settings if name in DECLARED}
        return {name: next(filter(None, values), None) for name, values in self.axes.items() if name in needs}

    @property
    def size(self) -> int:
        """Cells before `exclude`."""
        lengths = [len(values) for values in self.axes.values()]
        if self.zip:
            return max(lengths, default=1)
        return math.prod(lengths)

    @property
    def counted(self) -> str:
        """``10000 cells (100 seed x 100 steps)``."""
        by = " beside " if self.zip else " x "
        return f"{self.size} cells ({by.join(f'{len(values)} {name}' for name, values in self.axes.items())})"

    def cells(self) -> Iterator[Settings]:
        """The settings of every cell, the last axis varying fastest.

        Raises:
            SettingsError: a value that its setting cannot have.
        """
        names = list(self.axes)
        combine = zip if self.zip else itertools.product
        combinations: Any = combine(*self.axes.values()) if names else [()]
        rules = self._rules()
        for values in combinations:
            cell = dict(zip(names, values, strict=True))
            # Left out before it is looked at as a whole: a cell that cannot be made may be excluded.
            plain = {name: _plain(name, cell[name]) for name in {name for rule in rules for name in rule}}
            if not any(tuple(plain[name] for name in rule) in left_out for rule, left_out in rules.items()):
                yield Settings.from_mapping({**self.settings, **cell})

    def _rules(self) -> dict[tuple[str, ...], set[tuple[Any, ...]]]:
        """The names in rules of `exclude` -> their values."""
        found: dict[tuple[str, ...], set[tuple[Any, ...]]] = {}
        for rule in self.exclude:
            found.setdefault(tuple(rule), set()).add(tuple(_plain(name, value) for name, value in rule.items()))
        return found

    def varied(self) -> dict[str, list[Any]]:
        return self.axes

    def single(self) -> dict[str, Any]:
        """Defaults for `t2i generate`: the settings and the first value of each axis."""
        found = {**self.settings, **{name: values[0] for name, values in self.axes.items()}}
        for name in ("experiment", "manifest", "evaluate", "reference"):
            if getattr(self, name) is not None:
                found[name] = getattr(self, name)
        if self.prompts:
            found["prompts"] = self.prompts
        return found

    def spec(self) -> dict[str, Any]:
        """What decides the cells, as JSON types: equal specs are the same sweep."""
        record = {name: value for name, value in dataclasses.asdict(self).items() if name != "description"}
        for name in ("until_decided", *OF_ADAPTIVE):
            if not record[name]:  # not known to sweeps of earlier versions
                del record[name]
        found: dict[str, Any] = json.loads(json.dumps(record, default=str))
        return found


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
        values = yaml_values(text)
    except NotYaml as error:
        raise SettingsError(f"experiment file {path} {error}") from None
    if not isinstance(values, dict):
        raise SettingsError(f"experiment file {path} holds no keys: see experiments/baseline.yaml for one that does")
    experiment = build(values, str(path))
    if experiment.manifest is not None:
        # A path inside a file is relative to the file, so that the file works from any folder.
        experiment = dataclasses.replace(experiment, manifest=str(path.parent / experiment.manifest))
    return experiment


def build(values: Mapping[str, Any], source: str) -> Experiment:
    """Validate the content of an experiment file, or what the command line's axes make of it.

    Raises:
        SettingsError: an unknown key or one in a wrong place, a value of a wrong kind, an impossible setting.
    """
    try:
        if isinstance(values.get("within"), int | float):
            values = {**values, "within": str(values["within"])}
        for key, value in values.items():
            _check_key(key, value)
        for place in ("settings", "axes"):
            for name in values.get(place) or {}:
                _check_place(place, name)
        for rule in values.get("exclude") or []:
            for name in rule:
                _check_place("exclude", name)
        return Experiment(**{key: value for key, value in values.items() if value is not None})
    except SettingsError as error:
        raise SettingsError(f"{source}: {error}") from None


KEYS = {key.name: key for key in dataclasses.fields(Experiment)}


def _check_key(key: str, value: Any) -> None:
    if key not in KEYS:
        if key in DECLARED:
            raise SettingsError(f"'{key}' is a setting: it belongs under 'settings', or under 'axes' with a list")
        raise SettingsError(f"unknown key '{key}'{suggestion(str(key), tuple(KEYS))}")
    kind = KEYS[key].metadata["kind"]
    outer, inner = get_origin(kind) or kind, get_args(kind)
    _check_kind(key, value, outer)
    if outer is list and value is not None:
        for item in value:
            _check_kind(f"an entry of {key}", item, get_origin(inner[0]) or inner[0])
    elif inner and value is not None:
        for name, item in value.items():
            _check_kind(f"{key}.{name}", item, get_origin(inner[1]) or inner[1])


_KINDS = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    list: "a list",
    dict: "a mapping of names to values",
}


def _check_kind(what: str, value: Any, kind: type) -> None:
    if value is not None and not isinstance(value, kind):
        raise SettingsError(f"{what} must be {_KINDS[kind]}, not {value!r}")


def _check_place(place: str, name: Any) -> None:
    """A key that is no name, or one of the file's top level, written among the settings."""
    if not isinstance(name, str):
        raise SettingsError(f"{place} has {name!r:.60} where the name of a setting belongs")
    if name in KEYS and name not in DECLARED:
        raise SettingsError(f"'{name}' belongs at the top level of the file, not under '{place}'")


def _check_texts(experiment: Experiment) -> None:
    for key in KEYS:
        value = getattr(experiment, key)
        if isinstance(value, str) and (reason := unstorable(value)):
            raise SettingsError(f"{key} {value!r:.60} cannot be stored ({reason}): take that out")
    for key in ("name", "experiment", "manifest", "reference"):
        if (value := getattr(experiment, key)) is not None and not value.strip():
            raise SettingsError(f"{key} {value!r} is empty: give one, or leave it out")


def _check_adaptive(experiment: Experiment) -> None:
    if not experiment.until_decided:
        if told := [key for key in OF_ADAPTIVE if getattr(experiment, key)]:
            raise SettingsError(f"'{told[0]}' is of sweeps that go on until they are decided: add until_decided")
        return
    budget_of(experiment.budget)
    if experiment.within is not None:
        from t2i_track.ranking.margin import read_margin

        try:
            read_margin(experiment.within, experiment.by)
        except CompareError as error:
            raise SettingsError(str(error).removeprefix("--")) from None
    if experiment.by is not None:
        from t2i_track.metrics.registry import deciding

        if experiment.by not in (known := deciding()):
            raise SettingsError(f"a sweep cannot be decided by '{experiment.by}': choose one of {', '.join(known)}")
    if experiment.max_num is not None:
        if experiment.max_num < 1:
            raise SettingsError(f"max_num must be at least 1, not {experiment.max_num}")
        if "num" in experiment.settings:
            raise SettingsError("'num' and 'max_num' exclude each other: until_decided takes max_num")
    if experiment.size < 2:
        raise SettingsError("until_decided compares settings: give an axis of two values or more")
    resolutions(experiment.search, experiment.axes, experiment.zip)


def _check_axis(name: str, values: list[Any], settings: Mapping[str, Any]) -> None:
    if name not in AXES:
        if name in DECLARED:
            raise SettingsError(f"'{name}' cannot vary within a sweep: put it under 'settings'")
        raise SettingsError(f"'{name}' is not an axis{suggestion(name, AXES)}")
    if not values:
        raise SettingsError(f"axis '{name}' has no values")
    if name in settings:
        raise SettingsError(f"'{name}' is both a setting and an axis: keep one of them")


def _check_twice(name: str, values: list[Any]) -> None:
    keys = [_plain(name, value) for value in values]
    counts = Counter(keys)
    twice = next((value for value, key in zip(values, keys, strict=True) if counts[key] > 1), None)
    if twice is not None:
        raise SettingsError(f"axis '{name}' has {twice!r} twice")


def _plain(name: str, value: Any) -> Any:
    """A value as its setting reads it, so that 12 and 12.0 are one guidance."""
    declared = DECLARED[name]
    read = declared.read(name, value)
    if read is not None:
        declared.check(name, read)
    return read
