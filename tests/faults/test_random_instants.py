"""Kill the process at a random instant, resume, and end with what an undisturbed run makes.

T2I_TEST_KILLS sets how often: each costs the start of a process.
"""

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
SWEEP = ["sweep", "--name", "grid", "--guidance", "1,4", "--steps", "4,8", "--num", "24", "--batch-size", "4"]
SWEEP += ["--no-evaluate", "--device", "cpu"]
KILLS = int(os.environ.get("T2I_TEST_KILLS", "5"))


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
        [sys.executable, "-m", "t2i_track", *arguments],
        cwd=folder,
        env={**os.environ, "MLFLOW_TRACKING_URI": uri, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def cells(home: Path) -> list[tuple[Any, ...]]:
    """Every image of every cell of the newest sweep, by what decides it."""
    connection = sqlite3.connect(home / "t2i.db")
    try:
        return connection.execute(
            "SELECT cell, guidance, steps, prompt_index, replicate, images.seed, pixels_sha256 FROM images"
            " JOIN runs ON runs.id = images.run_id JOIN sweep_runs ON sweep_runs.run_id = runs.id ORDER BY 1, 4, 5"
        ).fetchall()
    finally:
        connection.close()


def unfinished(home: Path) -> str | None:
    """A run that a killed process has left behind."""
    connection = sqlite3.connect(home / "t2i.db")
    try:
        found = connection.execute("SELECT uuid FROM runs WHERE status = 'running'").fetchone()
        return None if found is None else str(found[0])
    finally:
        connection.close()


@pytest.mark.timeout(1800)
def test_killed_at_random_instants(cli: Callable[..., Any], tmp_path: Path, tracking_uri: str) -> None:
    from mlflow.tracking import MlflowClient

    folder, home = tmp_path / "work", tmp_path / "work" / "t2i-data"
    assert cli("db", "upgrade").code == 0
    rng = random.Random(11)
    for number in range(KILLS):
        before = len(cells(home))
        left = unfinished(home)
        # Both commands go on with a run that was killed.
        process = start(folder, tracking_uri, *(["generate", "--resume", left] if left and number % 2 else SWEEP))
        # The blow falls somewhere in the cells, or between them, after the process has made something.
        while len(cells(home)) == before and process.poll() is None:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.7))
        process.send_signal(signal.SIGKILL)
        process.wait()
    killed = len(cells(home))
    ended = cli(*SWEEP)
    assert ended.code == 0, ended.err
    assert killed < len(cells(home)) == 4 * 24
    undisturbed = cli(*SWEEP, "--home", tmp_path / "undisturbed")
    assert undisturbed.code == 0, undisturbed.err
    assert cells(home) == cells(tmp_path / "undisturbed")
    assert len(list((home / "images").glob("*/*.png"))) == 4 * 24
    assert not list((home / "images").glob("*/*.tmp"))
    client = MlflowClient(tracking_uri)
    experiment = client.get_experiment_by_name("t2i")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(parents) == 2  # the killed one and the undisturbed one
    for parent in parents:
        children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
        assert sorted(run.data.tags["t2i.cell"] for run in children) == ["0", "1", "2", "3"]


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
