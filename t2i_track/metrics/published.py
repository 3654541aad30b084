"""Named protocols: how a published number was made, whether a run follows it, and whether its values are in the window.

A protocol is ``t2i_track/protocols/NAME.yaml``, or any file of that form by its path:

    name, description, source    text
    run                          settings that a run must have: a value, or a list of those allowed
    evaluation                   metrics, extractor, clip, reference, reference_sha256 (its hash or how that begins),
                                 n (images; default: all of the run), resize, parameters
    windows                      score: [lowest, highest], what ``gate`` checks
    published                    list of {setting: value, score: value}, for people and for comparisons
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from t2i_track.errors import MetricError
from t2i_track.settings import DECLARED

EVALUATION: Mapping[str, type | None] = {
    "metrics": list,
    **dict.fromkeys(("extractor", "clip", "reference"), str),
    **dict.fromkeys(("reference_sha256", "n"), None),
    "resize": int,
    "parameters": dict,
}
GATED = ("reference_sha256", "n")
"""Of these, what is no choice of an evaluation but what ``gate`` asks of its values."""
FIELDS: Mapping[str, type | None] = {
    **dict.fromkeys(("name", "description", "source"), str),
    **dict.fromkeys(("run", "evaluation", "windows"), dict),
    "published": list,
}
_KINDS: Mapping[type, str] = {str: "text", int: "a whole number", list: "a list", dict: "a mapping"}


@dataclass(frozen=True)
class NamedProtocol:
    name: str
    description: str
    source: str
    run: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    windows: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    published: tuple[Mapping[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Difference:
    setting: str
    expected: Any
    actual: Any

    def __str__(self) -> str:
        expected = f"one of {', '.join(map(str, self.expected))}" if isinstance(self.expected, list) else self.expected
        return f"{self.setting} is {self.actual!r}, not {expected!r}"


@dataclass(frozen=True, slots=True)
class Outside:
    name: str
    value: float | None
    low: float
    high: float
    why: str = ""
    """Why the values that there are do not count."""

    def __str__(self) -> str:
        what = "has no value measured as the protocol says" if self.value is None else f"is {self.value:.6g}"
        why = f" ({self.why})" if self.value is None and self.why else ""
        return f"{self.name} {what}, window {self.low:.10g} to {self.high:.10g}{why}"


def names() -> list[str]:
    folder = resources.files("t2i_track") / "protocols"
    return sorted(Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_protocol(name: str) -> NamedProtocol:
    """By name, or from a file by its path.

    Raises:
        MetricError: no such protocol, or a file that is not of the form above.
    """
    file = resources.files("t2i_track") / "protocols" / f"{name}.yaml" if name in names() else Path(name)
    if not file.is_file():
        raise MetricError(f"no protocol '{name}'; known are {', '.join(names())}, or give a file's path")
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise MetricError(f"protocol '{name}' cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise MetricError(f"protocol '{name}' is not UTF-8 text") from None
    return parse_protocol(text, name)


def parse_protocol(text: str, name: str) -> NamedProtocol:
    """Raises MetricError where the text is not YAML of the form above."""
    from t2i_track.yamltext import NotYaml, yaml_values

    try:
        content = yaml_values(text)
    except NotYaml as error:
        raise MetricError(f"protocol '{name}' {error}") from None
    if not isinstance(content, dict):
        raise MetricError(f"protocol '{name}' is not a mapping of {', '.join(FIELDS)}")
    _check_kinds(content, FIELDS, name)
    run, evaluation, windows = (content.get(part) or {} for part in ("run", "evaluation", "windows"))
    _check_kinds(run, dict.fromkeys(DECLARED), name)
    _check_kinds(evaluation, EVALUATION, name)
    _check_gated(evaluation, name)
    return NamedProtocol(
        content.get("name") or Path(name).stem,
        content.get("description") or "",
        content.get("source") or "",
        run,
        evaluation,
        _windows(windows, name),
        tuple(content.get("published") or ()),
    )


def _check_kinds(values: Mapping[Any, Any], known: Mapping[str, type | None], name: str) -> None:
    """Refuse keys that are not known, and values of another kind than theirs; None is any kind."""
    if unknown := [str(key) for key in values if key not in known]:
        raise MetricError(f"protocol '{name}' may have {', '.join(known)}, not {', '.join(unknown):.200}")
    for key, value in values.items():
        kind = known[key]
        if value is not None and kind is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise MetricError(f"protocol '{name}': {key} must be {_KINDS[kind]}, not {value!r:.60}")


def _check_gated(evaluation: Mapping[str, Any], name: str) -> None:
    sha256, n = evaluation.get("reference_sha256"), evaluation.get("n")
    if sha256 is not None and not (isinstance(sha256, str) and re.fullmatch("[0-9a-f]{8,64}", sha256)):
        raise MetricError(f"protocol '{name}': reference_sha256 is 8 to 64 digits of a hash in quotes, not {sha256!r}")
    if n is not None and not (isinstance(n, int) and n > 0):
        raise MetricError(f"protocol '{name}': n is a number of images, not {n!r}")


def _windows(windows: Any, name: str) -> dict[str, tuple[float, float]]:
    try:
        checked = {str(score): (float(low), float(high)) for score, (low, high) in windows.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise MetricError(f"protocol '{name}': a window is 'score: [lowest, highest]', not {windows!r}") from error
    for score, (low, high) in checked.items():
        if not low <= high:
            raise MetricError(f"protocol '{name}': the window of {score} is empty, {low} to {high}")
    return checked


def check_protocol(protocol: NamedProtocol, run: Mapping[str, Any]) -> list[Difference]:
    """The settings in which a run differs from the protocol; none: it follows.

    Args:
        run: the run's settings by their names in ``Settings``; one that is missing differs.
    """
    return [
        Difference(setting, expected, run.get(setting))
        for setting, expected in protocol.run.items()
        if not any(_same(allowed, run.get(setting)) for allowed in _listed(expected))
    ]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _same(expected: Any, actual: Any) -> bool:
    """Numbers as numbers: 8 and 8.0 are one guidance."""
    if isinstance(expected, int | float) and isinstance(actual, int | float):
        return float(expected) == float(actual)
    return bool(expected == actual)


def gate(
    protocol: NamedProtocol, values: Mapping[str, float], reasons: Mapping[str, str] | None = None
) -> list[Outside]:
    """The scores outside the protocol's windows; a score without a value is outside.

    Args:
        values: of the scores that were measured as the protocol says.
        reasons: for scores without one, why.

    Raises:
        MetricError: the protocol has no windows.
    """
    if not protocol.windows:
        raise MetricError(f"protocol '{protocol.name}' has no windows to check; give one that has")
    return [
        Outside(name, values.get(name), low, high, (reasons or {}).get(name, ""))
        for name, (low, high) in protocol.windows.items()
        if name not in values or not low <= values[name] <= high
    ]
