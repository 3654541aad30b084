from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from t2i_track.errors import SettingsError
from t2i_track.runs.grid import MOST_CELLS, build, load
from t2i_track.runs.sweep import cells_of, experiment_from, require_yes

ROOT = Path(__file__).resolve().parents[1]


def settings(values: dict[str, Any]) -> list[tuple[float, int]]:
    return [(cell.guidance, cell.steps) for cell in build(values, "test").cells()]


def test_a_grid_varies_the_last_axis_fastest() -> None:
    assert settings({"axes": {"guidance": [1, 7.5], "steps": [10, 30]}}) == [(1, 10), (1, 30), (7.5, 10), (7.5, 30)]


def test_zip_goes_side_by_side() -> None:
    assert settings({"axes": {"guidance": [1, 7.5], "steps": [10, 30]}, "zip": True}) == [(1, 10), (7.5, 30)]


def test_side_by_side_a_value_may_come_again() -> None:
    assert settings({"axes": {"guidance": [1, 7.5], "steps": [30, 30]}, "zip": True}) == [(1, 30), (7.5, 30)]


def test_exclude_leaves_cells_out() -> None:
    axes = {"guidance": [1, 7.5], "steps": [10, 30]}
    assert settings({"axes": axes, "exclude": [{"guidance": 1.0, "steps": 30}]}) == [(1, 10), (7.5, 10), (7.5, 30)]
    assert settings({"axes": axes, "exclude": [{"steps": 30}]}) == [(1, 10), (7.5, 10)]


def test_no_axes_is_one_cell() -> None:
    assert settings({"settings": {"guidance": 3}}) == [(3, 30)]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"axes": {"guidence": [1]}}, "'guidence' is not an axis; did you mean 'guidance'?"),
        ({"axis": {"guidance": [1]}}, "unknown key 'axis'; did you mean 'axes'?"),
        ({"settings": {"step": 3}}, "unknown setting 'step'; did you mean 'steps'?"),
        ({"axes": {"steps": [10, 0]}}, "steps must be in [1, 10000], not 0"),
        ({"axes": {"steps": []}}, "axis 'steps' has no values"),
        ({"axes": {"guidance": [12, 12.0]}}, "axis 'guidance' has 12 twice"),
        ({"axes": {"guidance": 12}}, "axes.guidance must be a list, not 12"),
        ({"axes": [1]}, "axes must be a mapping of names to values, not [1]"),
        ({"axes": {"num": [1, 2]}}, "'num' cannot vary within a sweep: put it under 'settings'"),
        ({"prompts": ["a", 3]}, "an entry of prompts must be text, not 3"),
        ({"zip": "no"}, "zip must be true or false, not 'no'"),
        ({"name": 3}, "name must be text, not 3"),
        ({"settings": {"manifest": "a.csv"}}, "'manifest' belongs at the top level of the file, not under 'settings'"),
        ({"axes": {"reference": ["a"]}}, "'reference' belongs at the top level of the file, not under 'axes'"),
        ({"guidance": 3}, "'guidance' is a setting: it belongs under 'settings', or under 'axes' with a list"),
        ({"axes": {"steps": [1]}, "settings": {"steps": 2}}, "'steps' is both a setting and an axis"),
        ({"axes": {"steps": [1], "seed": [1, 2]}, "zip": True}, "zip wants axes of one length"),
        ({"axes": {"steps": [1]}, "exclude": [{"guidance": 1}]}, "exclude names 'guidance', which is not an axis"),
        ({"manifest": "a.csv", "prompts": ["b"]}, "exclude each other"),
        ({"axes": {5: [1]}}, "axes has 5 where the name of a setting belongs"),
        ({"settings": {None: 1}}, "settings has None where the name of a setting belongs"),
        ({"axes": {"steps": [2, 3]}, "exclude": [{2.5: 2}]}, "exclude has 2.5 where the name of a setting belongs"),
        ({"settings": {True: 1}}, "settings has True where the name of a setting belongs"),
        ({"manifest": " "}, "manifest ' ' is empty: give one, or leave it out"),
        ({"reference": ""}, "reference '' is empty: give one, or leave it out"),
        ({"axes": {"scheduler": ["eular"]}}, "unknown scheduler 'eular'; did you mean 'euler'?"),
    ],
)
def test_wrong_files_say_what_and_where(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as error:
        build(values, "file.yaml")
    assert str(error.value).startswith("file.yaml: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["baseline", "guidance", "steps", "schedulers"])
def test_the_shipped_experiments_load(name: str) -> None:
    experiment = load(ROOT / "experiments" / f"{name}.yaml")
    assert experiment.name == name
    assert len(list(experiment.cells())) == experiment.size
    assert experiment.single()["experiment"] == name


def test_a_manifest_is_relative_to_its_file(tmp_path: Path) -> None:
    (tmp_path / "e.yaml").write_text("manifest: prompts.txt\n")
    assert load(tmp_path / "e.yaml").manifest == str(tmp_path / "prompts.txt")


@pytest.mark.parametrize("text", ["- 1\n", "", "a: [\n", "\x00"])
def test_files_that_are_no_experiment(tmp_path: Path, text: str) -> None:
    (tmp_path / "e.yaml").write_text(text)
    with pytest.raises(SettingsError, match=r"e\.yaml"):
        load(tmp_path / "e.yaml")


LAUGHS = "\n".join(
    ["prompts: [a]", "description: &a0 x"] + [f"k{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("settings: {guidance: 2024-13-45}", "has a value that is none (month must be in 1..12"),
        ("settings: {guidance: 2024-01-01}", "guidance must be a number, not datetime.date(2024, 1, 1)"),
        (f"settings: {{seed: {'9' * 5000}}}", "has a value that is none"),
        (f"settings: {{guidance: {'9' * 400}}}", "guidance must be a number of fewer digits"),
        ("settings: {guidance: .nan}", "guidance must be a finite number, not nan"),
        ("axes: {guidance: [1, .inf]}", "guidance must be a finite number, not inf"),
        ("settings: {guidance: 1e400}", "guidance must be a finite number"),
        ("settings: " + "[" * 3000 + "]" * 3000, "nested too deeply"),
        (LAUGHS, "its aliases unfold to over 100000 values"),
        ("settings: &a {guidance: *a}", "its aliases unfold to over"),
        ("settings: {steps: 3}\nsettings: {steps: 4}", "at line 2 (the key 'settings' is there twice)"),
        ("settings:\n  steps: 3\n  steps: 4", "at line 3 (the key 'steps' is there twice)"),
        ("settings: {steps: 20.5}", "steps must be a whole number, not 20.5"),
    ],
)
def test_values_that_yaml_or_a_setting_cannot_hold(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "e.yaml").write_text(text)
    with pytest.raises(SettingsError) as error:
        list(load(tmp_path / "e.yaml").cells())
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_aliases_and_merges_of_a_person_are_read(tmp_path: Path) -> None:
    (tmp_path / "e.yaml").write_text(
        "settings: &base {steps: 20.0, num: 2}\naxes: {guidance: &two [1, 2]}\nexclude: []\n"
    )
    assert [(cell.steps, cell.guidance) for cell in load(tmp_path / "e.yaml").cells()] == [(20, 1), (20, 2)]


def test_the_command_line_replaces_the_file(tmp_path: Path) -> None:
    path = tmp_path / "e.yaml"
    path.write_text("name: x\nsettings: {steps: 30}\naxes: {guidance: [1, 2]}\n")
    experiment = experiment_from(path, {"settings": {"num": 4}}, {"guidance": ["7.5"], "steps": ["5", "6"]}, False)
    assert experiment.settings == {"num": 4, "guidance": "7.5"}
    assert experiment.axes == {"steps": ["5", "6"]}
    assert experiment.name == "x"


def test_large_grids_want_yes() -> None:
    experiment = build({"axes": {"seed": list(range(100)), "steps": list(range(1, 101))}}, "test")
    with pytest.raises(SettingsError, match=r"10000 cells \(100 seed x 100 steps\).*--yes"):
        require_yes(experiment, yes=False)
    require_yes(experiment, yes=True)


BILLION = list(range(1, 1001))


@pytest.mark.parametrize(
    ("values", "count"),
    [
        (
            {"axes": {"seed": BILLION, "steps": BILLION, "guidance": BILLION}},
            "1000000000 cells (1000 seed x 1000 steps",
        ),
        ({"axes": {"seed": list(range(2_000_000))}}, "2000000 cells (2000000 seed)"),
        ({"axes": {"seed": [1], "steps": list(range(1, 100_001))}, "zip": True}, "100000 cells (1 seed beside 100000"),
        ({"axes": {"seed": BILLION, "steps": [8] * 11}, "exclude": [{"steps": 8}]}, "11000 cells (1000 seed x 11"),
        ({"axes": {"seed": list(range(MOST_CELLS + 1))}}, "10001 cells (10001 seed)"),
    ],
)
def test_more_cells_than_can_be_listed_are_refused_at_once(values: dict[str, Any], count: str) -> None:
    """Before any cell is made and any value is looked at: one of these would take hours."""
    begun = time.process_time()
    with pytest.raises(SettingsError) as error:
        build(values, "file.yaml")
    assert time.process_time() - begun < 0.5
    assert str(error.value).startswith(f"file.yaml: {count}")
    assert str(error.value).endswith(
        "are more than the 10,000 that a sweep may have: take fewer values, or several sweeps"
    )


@pytest.mark.parametrize("exclude", [[], [{"seed": seed} for seed in range(1, MOST_CELLS)]])
def test_the_largest_sweep_is_listed_soon(exclude: list[dict[str, Any]]) -> None:
    """Also with a rule for nearly every cell."""
    begun = time.process_time()
    experiment = build({"axes": {"seed": list(range(MOST_CELLS))}, "exclude": exclude}, "test")
    assert len(list(experiment.cells())) == MOST_CELLS - len(exclude)
    assert time.process_time() - begun < 10


def test_a_cell_that_cannot_be_made_may_be_excluded() -> None:
    axes = {"guidance": [1, 3], "negative_prompt": ["", "blurred"]}
    cells = list(build({"axes": axes, "exclude": [{"guidance": 1.0, "negative_prompt": "blurred"}]}, "test").cells())
    assert [(cell.guidance, cell.negative_prompt) for cell in cells] == [(1, ""), (3, ""), (3, "blurred")]


def test_exclude_may_not_leave_nothing() -> None:
    from t2i_track.prompts.manifest import from_prompts

    experiment = build({"axes": {"steps": [1]}, "exclude": [{"steps": 1}]}, "test")
    with pytest.raises(SettingsError, match="has no cells"):
        cells_of(experiment, from_prompts(["a"]))


@pytest.mark.parametrize("key", ["name", "experiment", "description", "manifest", "reference"])
@pytest.mark.parametrize(("text", "reason"), [("a\0b", "contains a NUL character"), ("\ud800", "is not a character")])
def test_texts_that_cannot_be_stored_are_refused(key: str, text: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=rf"^here: {key} .* cannot be stored \(.*{reason}\): take that out$"):
        build({key: text, "axes": {"guidance": [1, 2]}}, "here")
    assert getattr(build({key: "naïve 名\x1b", "axes": {"guidance": [1, 2]}}, "here"), key) == "naïve 名\x1b"


@pytest.mark.parametrize("key", ["name", "experiment"])
@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_empty_names_are_refused(key: str, text: str) -> None:
    with pytest.raises(SettingsError, match=f"^here: {key} .* is empty: give one, or leave it out$"):
        build({key: text, "axes": {"guidance": [1, 2]}}, "here")
