"""Fingerprints and named protocols."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from t2i_track.errors import MetricError
from t2i_track.metrics.protocol import ProtocolRecord
from t2i_track.metrics.published import check_protocol, gate, load_protocol, names, parse_protocol

RECORD = ProtocolRecord(
    "fid", "shapes", "ab" * 32, "features", "64x64", 256, "shapes", "cd" * 32, 2048, {}, {"torch": "2"}
)
MLPERF = {
    "guidance": 8.0,
    "steps": 20,
    "scheduler": "euler",
    "num": 5000,
    "images_per_prompt": 1,
    "height": 1024,
    "width": 1024,
    "negative_prompt": "normal quality, low quality, worst quality, low res, blurry, nsfw, nude",
}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("metric", "kid"),
        ("weights_sha256", "00" * 32),
        ("layer", "768"),
        ("resize", "32x32"),
        ("n", 255),
        ("reference_sha256", "00" * 32),
        ("reference_n", 100),
        ("parameters", {"isc_splits": 10}),
        ("versions", {"torch": "3"}),
    ],
)
def test_every_field_changes_the_fingerprint(field: str, value: object) -> None:
    assert dataclasses.replace(RECORD, **{field: value}).fingerprint != RECORD.fingerprint


def test_the_reference_s_name_does_not() -> None:
    assert dataclasses.replace(RECORD, reference="/elsewhere").fingerprint == RECORD.fingerprint


def test_fingerprint_is_stable() -> None:
    assert RECORD.fingerprint == "98c63298224d5ae3be8b68c8de6bdc05c55e6524cd5353785a366824a463cef1"


def test_the_named_protocols() -> None:
    assert names() == ["bk-sdm-30k", "mlperf-sdxl", "sd-v1-card", "shapes"]
    assert [load_protocol(name).name for name in names()] == names()


def test_published_values_of_the_card() -> None:
    card = load_protocol("sd-v1-card")
    assert [row["guidance"] for row in card.published] == card.run["guidance"] == [1.5, 2, 3, 4, 5, 6, 7, 8]
    assert [row["fid"] for row in card.published] == [22.4, 17.4, 15.6, 16.4, 17.6, 18.8, 19.9, 20.9]


def test_a_run_that_follows() -> None:
    assert check_protocol(load_protocol("mlperf-sdxl"), MLPERF) == []


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("guidance", 7.5, "guidance is 7.5, not 8"),
        ("scheduler", "pndm", "scheduler is 'pndm', not 'euler'"),
        ("num", 16, "num is 16, not 5000"),
    ],
)
def test_which_setting_differs(setting: str, value: object, message: str) -> None:
    found = check_protocol(load_protocol("mlperf-sdxl"), {**MLPERF, setting: value})
    assert [str(difference) for difference in found] == [message]


@pytest.mark.parametrize(("guidance", "follows"), [(1.5, True), (8, True), (7.5, False)])
def test_one_of_several_values(guidance: float, follows: bool) -> None:
    run = {**load_protocol("sd-v1-card").run, "guidance": guidance}
    assert (check_protocol(load_protocol("sd-v1-card"), run) == []) is follows


def test_a_missing_setting_differs() -> None:
    run = {name: value for name, value in MLPERF.items() if name != "steps"}
    assert [str(d) for d in check_protocol(load_protocol("mlperf-sdxl"), run)] == ["steps is None, not 20"]


def test_gate() -> None:
    protocol = load_protocol("mlperf-sdxl")
    assert gate(protocol, {"fid": 23.4, "clip_score": 31.75}) == []
    assert [str(o) for o in gate(protocol, {"fid": 23.96})] == [
        "fid is 23.96, window 23.01085758 to 23.95007626",
        "clip_score has no value measured as the protocol says, window 31.68631873 to 31.81331801",
    ]


def test_why_no_value_counts_is_said() -> None:
    found = gate(load_protocol("mlperf-sdxl"), {"fid": 23.4}, {"fid": "", "clip_score": "31.7 does not count"})
    assert [str(one) for one in found] == [
        "clip_score has no value measured as the protocol says, window 31.68631873 to 31.81331801 (31.7 does not count)"
    ]


@pytest.mark.parametrize("value", [23.01085758, 23.95007626])
def test_the_window_s_ends_are_inside(value: float) -> None:
    assert gate(load_protocol("mlperf-sdxl"), {"fid": value, "clip_score": 31.7}) == []


def test_a_value_that_is_not_a_number_is_outside() -> None:
    assert len(gate(load_protocol("mlperf-sdxl"), {"fid": float("nan"), "clip_score": 31.7})) == 1


def test_a_protocol_without_windows_is_no_gate() -> None:
    with pytest.raises(MetricError, match="has no windows"):
        gate(load_protocol("shapes"), {})


def test_unknown_name() -> None:
    with pytest.raises(MetricError, match="no protocol 'sd-v3'; known are bk-sdm-30k, mlperf-sdxl"):
        load_protocol("sd-v3")


def test_a_file_of_one_s_own(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine\nrun: {steps: 30}\nwindows: {fid: [0, 40]}\n")
    mine = load_protocol(str(tmp_path / "mine.yaml"))
    assert (mine.name, mine.run, mine.windows) == ("mine", {"steps": 30}, {"fid": (0.0, 40.0)})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "is not YAML"),
        ("- 1", "is not a mapping"),
        ("run: {stepz: 3}", "stepz"),
        ("runs: {}", "runs"),
        ("windows: {fid: 3}", "a window is"),
        ("windows: {fid: [3, 2]}", "is empty"),
        ("evaluation: {reference_sha256: 12345678}", "8 to 64 digits of a hash in quotes, not 12345678"),
        ("evaluation: {n: none}", "n is a number of images, not 'none'"),
        ("run: 3", "run must be a mapping, not 3"),
        ("run: {steps: 3}\nrun: {steps: 4}", r"at line 2 \(the key 'run' is there twice\)"),
        ("run:\n  steps: 3\n  steps: 4", r"at line 3 \(the key 'steps' is there twice\)"),
        ("evaluation: {n: 3, n: 4}", r"at line 1 \(the key 'n' is there twice\)"),
        ("{1: a, x: b}", "may have name, .*, not 1, x"),
        ("published: 5", "published must be a list, not 5"),
        ("name: [a]", "name must be text"),
        ("windows: [fid]", "windows must be a mapping"),
        ("evaluation: {metrics: fid}", "metrics must be a list, not 'fid'"),
        ("evaluation: {parameters: 3}", "parameters must be a mapping, not 3"),
        ("evaluation: {resize: true}", "resize must be a whole number, not True"),
        ("evaluation: {n: 2024-13-45}", "has a value that is none"),
        ("run: " + "[" * 3000, "nested too deeply"),
    ],
)
def test_bad_files(text: str, message: str) -> None:
    with pytest.raises(MetricError, match=message):
        parse_protocol(text, "bad")


def test_files_that_cannot_be_read_as_text(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(MetricError, match=r"x\.yaml' is not UTF-8 text"):
        load_protocol(str(tmp_path / "x.yaml"))
    (tmp_path / "x.yaml").write_text("name: ünï 猫\n")
    assert load_protocol(str(tmp_path / "x.yaml")).name == "ünï 猫"
