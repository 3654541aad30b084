"""What `runs`, `show`, `compare` and `evaluate` print of a real run, piped and on a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from t2i_track.db import lineage
from t2i_track.runs.generate import Generator
from t2i_track.runs.launch import open_manifest
from t2i_track.runs.plan import Plan
from t2i_track.settings import Settings
from t2i_track.tracking import Tracker
from t2i_track.workspace import Workspace

HOSTILE = "a \x1b[2Jsmall red star\x07 on a [bold]white[/bold] background"
ANSI = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")

pytestmark = pytest.mark.slow  # starts the command anew for each look


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, fresh_mlflow_store: Path) -> Path:
    """Three runs of two images: guidance 3 and 12 in `guidance`, another in `steps`."""
    folder = tmp_path_factory.mktemp("shown")
    workspace = Workspace(home=folder / "t2i-data")
    shutil.copyfile(fresh_mlflow_store, folder / "mlflow.db")
    with Tracker(f"sqlite:///{folder / 'mlflow.db'}", workspace.outbox) as tracker:
        generator = Generator(workspace, tracker)
        for guidance, experiment in ((3.0, "guidance"), (12.0, "guidance"), (7.5, "steps")):
            settings = Settings(guidance=guidance, steps=2, batch_size=2, device="cpu")
            manifest = open_manifest(None, [HOSTILE, "a blue circle"])
            generator.generate(Plan(settings=settings, manifest=manifest, experiment=experiment))
    with workspace.begin() as session:
        run = lineage.find_run(session, "latest")
        protocol = lineage.store_protocol(session, "0" * 64, {
            "metric": "fid", "extractor": "shapes", "weights_sha256": "2" * 64, "layer": "features", "resize": "none",
            "n": 2, "reference": "shapes", "reference_sha256": "3" * 64, "reference_n": 2048, "parameters": {},
            "versions": {},
        })  # fmt: skip
        values = {"value": 12.5, "ci_low": 10.0, "ci_high": 15.0, "n": 2, "note": "two are few", "replicates": None}
        lineage.store_value(session, run, "fid", protocol, values)
    return workspace.home


def piped(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "t2i_track", *arguments, "--home", str(home)], capture_output=True, text=True
    )


def on_terminal(home: Path, *arguments: str, columns: int = 80, **env: str) -> str:
    """What the command writes to a terminal of that width."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "LINES": "50", "TERM": "xterm-256color", **env}
    command = [sys.executable, "-m", "t2i_track", *arguments, "--home", str(home)]
    process = subprocess.Popen(command, stdout=theirs, stderr=subprocess.DEVNULL, env=environment)
    os.close(theirs)
    written = b""
    while select.select([ours], [], [], 60)[0]:
        try:
            some = os.read(ours, 65536)
        except OSError:  # Linux: the other end is closed
            break
        if not some:
            break
        written += some
    os.close(ours)
    assert process.wait() == 0
    return written.decode().replace("\r\n", "\n")


def test_a_run_is_shown_in_sections(home: Path) -> None:
    lines = piped(home, "show", "latest").stdout.splitlines()
    titles = [line for line in lines if line and not line.startswith(" ")]
    assert titles == ["pndm-g7.5-s2-seed42", "Settings", "Model", "Prompts", "Scores", "Environment", "Pictures"]
    assert "  guidance           7.5" in lines
    assert "  memory format      channels-last" in lines
    assert "  fid     12.5  [10.0, 15.0]       2  [1]" in lines
    assert "  [1] two are few" in lines
    assert "  images  2 of 2" in lines
    assert not any("{" in line or "None" in line for line in lines)
    assert max(len(line) for line in lines if not line.startswith("  command")) < 300


def test_an_image_is_shown_in_sections(home: Path) -> None:
    lines = piped(home, "show", "1").stdout.splitlines()
    titles = [line for line in lines if line and not line.startswith(" ")]
    assert titles == ["image 1", "Prompt", "Made with", "Same prompt and seed in other runs", "File", "Parameters"]
    assert "  prompt  a \\x1b[2Jsmall red star\\x07 on a [bold]white[/bold] background" in lines
    assert max(len(line) for line in lines if not line.startswith("  command")) < 300


@pytest.mark.parametrize("columns", [80, 160])
@pytest.mark.parametrize(
    "arguments", [["show", "latest"], ["show", "1"], ["runs"], ["compare", "--by", "seconds-per-image"]]
)
def test_a_terminal_is_never_overrun(home: Path, arguments: list[str], columns: int) -> None:
    text = on_terminal(home, *arguments, columns=columns)
    assert "\x1b[2J" not in text
    assert "\x07" not in text
    assert max(len(line) for line in ANSI.sub("", text).splitlines()) <= columns


def test_colours_are_for_terminals_that_want_them(home: Path) -> None:
    assert "\x1b[32mfinished" in on_terminal(home, "runs")
    assert "\x1b[3" not in on_terminal(home, "runs", NO_COLOR="1")
    assert "\x1b" not in piped(home, "runs").stdout


@pytest.mark.parametrize(
    ("arguments", "guidance"),
    [
        (["--where", "guidance > 5"], [7.5, 12.0]),
        (["--where", "guidance > 5 and experiment = 'guidance'"], [12.0]),
        (["--where", "guidance > 1", "--limit", "2"], [7.5, 12.0]),
        (["--experiment", "guidance", "--where", "guidance < 10"], [3.0]),
        (["--experiment", "", "--status", "failed"], []),
    ],
)
def test_runs_takes_conditions(home: Path, arguments: list[str], guidance: list[float]) -> None:
    done = piped(home, "runs", *arguments, "--format", "json")
    assert [row["guidance"] for row in json.loads(done.stdout)] == guidance, done.stderr


@pytest.mark.parametrize("command", ["runs", "compare"])
def test_an_unknown_experiment_names_the_nearest(home: Path, command: str) -> None:
    done = piped(home, command, "--experiment", "guidence")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "t2i: no experiment 'guidence'; there is guidance\n"


def test_an_unreadable_condition_is_one_line(home: Path) -> None:
    done = piped(home, "runs", "--where", "guidnce > 1")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
