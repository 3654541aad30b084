"""Which MLflow experiment a run goes into: an option, its variable, a file, MLflow's variables, the default."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from t2i_track.errors import Missing, SettingsError
from t2i_track.runs import sweep as sweeping
from t2i_track.runs.grid import Experiment
from t2i_track.runs.launch import experiment_name
from t2i_track.tracking import Tracker
from t2i_track.workspace import Workspace


@pytest.fixture
def number(tracking_uri: str) -> str:
    return str(MlflowClient(tracking_uri).create_experiment("theirs"))


def test_the_order(tracking_uri: str, number: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert experiment_name(None, "sqlite:////no/such/store.db") == "t2i"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", number)
    assert experiment_name(None, tracking_uri) == "theirs"
    assert experiment_name("given", "sqlite:////no/such/store.db") == "given"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "theirs")
    assert experiment_name(None, tracking_uri) == "theirs"
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "new")
    assert experiment_name(None, "sqlite:////no/such/store.db") == "new"


def test_variables_that_are_of_no_experiment(tracking_uri: str, number: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "77")
    with pytest.raises(Missing, match=r"MLFLOW_EXPERIMENT_ID is 77, and MLflow at .* has no such experiment: unset it"):
        experiment_name(None, tracking_uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", number)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    with pytest.raises(SettingsError, match=f"is 'mine', and MLFLOW_EXPERIMENT_ID {number} is 'theirs': unset one"):
        experiment_name(None, tracking_uri)


def test_a_sweep_without_one(tracking_uri: str, number: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same sweep again goes on; the same cells in another experiment are another sweep."""
    workspace = Workspace(home=tmp_path / "home")
    settings = {"steps": 2, "num": 1, "device": "cpu"}
    experiment = Experiment(prompts=["one big red circle"], settings=settings, evaluate=False)
    client, sweeps = MlflowClient(tracking_uri), []
    for name in ("a", "a", "b"):
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", name)
        with Tracker(tracking_uri, workspace.outbox) as tracker:
            done = sweeping.run_sweep(workspace, tracker, experiment, fresh=False, allow_pickle=False)
        parent = client.get_run(done.mlflow_run_id)
        assert client.get_experiment(parent.info.experiment_id).name == name
        sweeps.append(done.sweep)
    assert sweeps[0] == sweeps[1] != sweeps[2]


def test_the_command_line(cli: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "work" / "file.yaml").write_text("experiment: filed\nsettings: {steps: 2}\n")
    arguments = ["generate", "--prompt", "x", "--steps", 2, "--no-evaluate", "--format", "json"]
    mlflows = {"MLFLOW_EXPERIMENT_NAME": "theirs"}
    ours = {**mlflows, "T2I_GENERATE_EXPERIMENT": "ours"}
    for more, env, expected in (
        ([], {}, "t2i"),
        ([], mlflows, "theirs"),
        (["--config", "file.yaml"], mlflows, "filed"),
        ([], ours, "ours"),
        (["--experiment", "given"], ours, "given"),
    ):
        done = cli(*arguments, *more, env=env)
        assert done.code == 0, done.err
        assert json.loads(done.out)["experiment"] == expected
