"""Kill the process at a random instant, resume, and end with what an undisturbed run makes."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ARGUMENTS = ["--num", "24", "--steps", "6", "--batch-size", "4", "--no-evaluate", "--device", "cpu"]
KILLS = int(os.environ.get("T2I_TEST_KILLS", "3"))


def images(home: Path, name: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(home / "t2i.db")
    try:
        return connection.execute(
            "SELECT prompt_index, replicate, images.seed, pixels_sha256 FROM images JOIN runs ON runs.id = run_id"
            " WHERE runs.name = ? ORDER BY 1, 2",
            (name,),
        ).fetchall()
    finally:
        connection.close()


def start(folder: Path, uri: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "t2i_track", "generate", *arguments],
        cwd=folder,
        env={**os.environ, "MLFLOW_TRACKING_URI": uri, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )


@pytest.mark.timeout(1800)
def test_killed_at_random_instants(
    cli: Callable[..., Any], tmp_path: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    folder, home = tmp_path / "work", tmp_path / "work" / "t2i-data"
    undisturbed = cli("generate", *ARGUMENTS, "--run-name", "undisturbed")
    assert undisturbed.code == 0, undisturbed.err
    rng = random.Random(7)
    process = start(folder, tracking_uri, *ARGUMENTS, "--run-name", "killed")
    while not images(home, "killed") and process.poll() is None:
        time.sleep(0.02)
    for _ in range(KILLS):
        time.sleep(rng.uniform(0, 1.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        before = len(images(home, "killed"))
        process = start(folder, tracking_uri, "--resume", "killed")
        # The next blow falls somewhere after the resumed process has begun to work, or has ended.
        while len(images(home, "killed")) == before and process.poll() is None:
            time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    resumed = cli("generate", "--resume", "killed", "--format", "json")
    assert resumed.code == 0, resumed.err
    record = json.loads(resumed.out)
    assert record["images"] == 24
    assert images(home, "killed") == images(home, "undisturbed")
    written = sorted(path.name for path in Path(folder / record["folder"]).iterdir())
    assert len(written) == 24
    assert all(name.endswith(".png") for name in written)
    client = MlflowClient(tracking_uri)
    experiment = client.get_experiment_by_name("t2i")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.info.run_name for run in runs) == ["killed", "undisturbed"]
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_ctrl_c_ends_cleanly(cli: Callable[..., Any], tmp_path: Path, tracking_uri: str) -> None:
    (tmp_path / "work" / "t2i-data").mkdir()
    home = tmp_path / "work" / "t2i-data"
    assert cli("db", "upgrade").code == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "t2i_track", "generate", *ARGUMENTS, "--num", "64", "--run-name", "stopped"],
        cwd=tmp_path / "work",
        env={**os.environ, "MLFLOW_TRACKING_URI": tracking_uri, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not images(home, "stopped") and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "interrupted; what is made is kept. Go on with: t2i generate --resume" in errors
    assert "Traceback" not in errors
    listed = cli("runs", "--status", "interrupted", "--format", "json")
    assert [row["name"] for row in json.loads(listed.out)] == ["stopped"]
