from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from t2i_track.errors import SettingsError
from t2i_track.settings import DECLARED, Resolved, Settings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"guidance": float("nan")}, "guidance must be a finite number, not nan"),
        ({"guidance": "high"}, "guidance must be a number, not 'high'"),
        ({"guidance": True}, "guidance cannot be True"),
        ({"steps": 0}, "steps must be in [1, 10000], not 0"),
        ({"steps": 2.5}, "steps must be a whole number, not 2.5"),
        ({"batch_size": -1}, "batch_size must be in [1, 4096], not -1"),
        ({"seed": 1e308}, "seed must be in [0, 9223372036854775807], not 1e+308"),
        ({"steps": 10**300}, "steps must be in [1, 10000], not 1e+300"),
        (
            {"height": 12345678901234567890123456789},
            "height must be a positive multiple of 8, not 1.23e+28: try 1.23e+28",
        ),
        ({"guidance": ["x"] * 1000}, "guidance must be a number, not ['x', 'x'"),
        ({"steps": "x" * 1000}, "steps must be a number, not 'xxx"),
        ({"height": 500}, "height must be a positive multiple of 8, not 500: try 496"),
        ({"width": 0}, "width must be a positive multiple of 8, not 0: try 8"),
        ({"seed": -1}, "seed must be in"),
        ({"scheduler": "eular"}, "unknown scheduler 'eular'; did you mean 'euler'?"),
        ({"dtype": "float"}, "unknown dtype 'float'"),
        ({"guidence": 3}, "unknown setting 'guidence'; did you mean 'guidance'?"),
        ({"negative_prompt": 3}, "negative_prompt must be text, not 3"),
    ],
)
def test_impossible_values_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match="^" + re.escape(message)):
        Settings.from_mapping(values)


@pytest.mark.parametrize("written", [12, 12.0, "12", "1.2e1"])
def test_numbers_are_read_as_written(written: object) -> None:
    assert Settings.from_mapping({"guidance": written}).guidance == 12.0


def test_large_seeds_keep_every_digit() -> None:
    assert Settings.from_mapping({"seed": str(2**63 - 1)}).seed == 2**63 - 1


def test_round_trip() -> None:
    settings = Settings(guidance=3, negative_prompt="blurred", num=7)
    assert Settings.from_mapping(settings.to_dict()) == settings


def resolved(**changes: Any) -> Resolved:
    own = {name: changes.pop(name) for name in list(changes) if name in DECLARED}
    values = {"height": 64, "width": 64, "dtype": "fp32", "memory_format": "channels-last", "device": "cpu", "num": 8}
    found = Resolved(
        settings=Settings(**{**values, **own}),
        weights_sha256="w",
        lora_sha256=None,
        scheduler_config={"class": "PNDMScheduler"},
        manifest_sha256="m",
    )
    return dataclasses.replace(found, **changes)


@pytest.mark.parametrize(
    "change",
    [
        {"guidance": 8.0},
        {"steps": 31},
        {"seed": 43},
        {"negative_prompt": "x"},
        {"batch_size": 4},
        {"images_per_prompt": 2},
        {"weights_sha256": "v"},
        {"lora_sha256": "l"},
        {"scheduler_config": {"class": "DDIMScheduler"}},
        {"manifest_sha256": "n"},
        {"memory_format": "contiguous"},
        {"num": 9},
        {"dtype": "fp16"},
    ],
)
def test_all_that_decides_the_images_is_in_the_fingerprint(change: dict[str, Any]) -> None:
    assert resolved(**change).fingerprint != resolved().fingerprint


def test_an_integer_guidance_has_the_fingerprint_of_its_float() -> None:
    assert resolved(guidance=7).fingerprint == resolved(guidance=7.0).fingerprint
