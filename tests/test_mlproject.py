"""`mlflow run .` as a user types it, in the current environment."""

from __future__ import annotations

import os
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
