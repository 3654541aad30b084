"""`mlflow run .` as a user types it, in the current environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from mlflow.tracking import MlflowClient

ROOT = Path(__file__).resolve().parents[1]


def test_entry_points_are_commands() -> None:
    project = yaml.safe_load((ROOT / "MLproject").read_text())
    assert set(project["entry_points"]) == {"main", "sweep", "evaluate", "compare", "data"}
    assert project["conda_env"] == "conda.yaml"


@pytest.mark.slow
@pytest.mark.parametrize("typed", ["1.2e1"])
def test_mlflow_run(tmp_path: Path, tracking_uri: str, typed: str) -> None:
    """One MLflow run: the one that `mlflow run` opened, with the parameter as it was typed."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": tracking_uri,
        "T2I_HOME": str(tmp_path / "home"),
        "T2I_GENERATE_EVALUATE": "false",
        "OMP_NUM_THREADS": "1",
    }
    command = [
        "mlflow",
        "run",
        ".",
        "--env-manager",
        "local",
        "-P",
        f"guidance={typed}",
        "-P",
        "steps=2",
        "-P",
        "num=3",
    ]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    client = MlflowClient(tracking_uri)
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert len(runs) == 1
    assert runs[0].info.status == "FINISHED"
    assert runs[0].data.params["guidance"] == typed
    assert runs[0].data.metrics["guidance"] == 12.0
    assert runs[0].data.metrics["cost/images"] == 3
    assert len(list((tmp_path / "home" / "images").glob("*/*.png"))) == 3


@pytest.mark.slow
@pytest.mark.parametrize("project", ["a folder", "a zip"])
def test_the_home_is_where_mlflow_run_was_typed(tmp_path: Path, tracking_uri: str, project: str) -> None:
    """And not in the project's folder, which is a temporary one where MLflow has fetched it."""
    (tmp_path / "project").mkdir()
    (tmp_path / "here").mkdir()
    text = (ROOT / "MLproject").read_text().replace("conda_env: conda.yaml", "")
    (tmp_path / "project" / "MLproject").write_text(text)
    uri = str(tmp_path / "project")
    if project == "a zip":
        uri = Path(shutil.make_archive(str(tmp_path / "archive"), "zip", tmp_path / "project")).as_uri()
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": tracking_uri,
        "T2I_GENERATE_EVALUATE": "false",
        "OMP_NUM_THREADS": "1",
    }
    command = ["mlflow", "run", uri, "--env-manager", "local", "-P", "steps=2", "-P", "num=1", "-P", "batch_size=1"]
    done = subprocess.run(
        command, cwd=tmp_path / "here", env=environment, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
    home = tmp_path / "here" / "t2i-data"
    assert f"home folder: {home}" in done.stderr.splitlines()
    assert len(list(home.glob("images/*/*.png"))) == 1
    assert [entry.name for entry in (tmp_path / "project").iterdir()] == ["MLproject"]
    client = MlflowClient(tracking_uri)
    (run,) = client.search_runs(["0"])
    assert run.info.status == "FINISHED"
