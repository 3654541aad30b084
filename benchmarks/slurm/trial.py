"""`experiments/slurm/sweep.sbatch` on a real Slurm of three nodes: signalled, requeued, a node lost, and still whole.

    python -m benchmarks.slurm.trial

A sweep of 2 x 2 settings is made by one process, then by the script: Slurm's signal before the time limit is sent while
pictures are made, the job goes back into the queue and starts again, one of its nodes fails, and it ends. Its pictures,
rows, files and MLflow runs must then be those of the one process.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from mlflow.tracking import MlflowClient
from sqlalchemy import select

from benchmarks.peers import write_manifest
from benchmarks.slurm.cluster import PARTITION, cluster, wait_for
from t2i_track.db.models import Image, Run, Sweep
from t2i_track.workspace import Workspace

SCRIPT = Path(__file__).parents[2] / "experiments" / "slurm" / "sweep.sbatch"
GUIDANCE, STEPS = ("1", "5"), ("10", "20")
CELLS = len(GUIDANCE) * len(STEPS)
NODES = 3
LONGEST = 600.0
"""Seconds that a sweep may take."""


class Side:
    """A home folder and its MLflow store, which both ways of making the sweep have of their own."""

    def __init__(self, folder: Path, manifest: Path) -> None:
        folder.mkdir()
        self.folder, self.home = folder, folder / "home"
        self.tracking_uri = f"sqlite:///{folder / 'mlflow.db'}"
        self.options = ["--guidance", ",".join(GUIDANCE), "--steps", ",".join(STEPS), "--manifest", str(manifest)]
        self.options += ["--batch-size", "4", "--no-evaluate"]

    @property
    def environment(self) -> dict[str, str]:
        """Of one thread, since the number of threads moves rounding."""
        own = {"T2I_HOME": str(self.home), "MLFLOW_TRACKING_URI": self.tracking_uri, "OMP_NUM_THREADS": "1"}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**{name: os.environ[name] for name in os.environ if not name.startswith("T2I_")}, "PATH": path, **own}

    def pictures(self) -> int:
        return len(list(self.home.glob("images/*/*.png")))

    def rows(self) -> list[tuple[Any, ...]]:
        """What decides a picture, and its pixels."""
        query = select(Run.guidance, Run.steps, Image.prompt_index, Image.replicate, Image.seed, Image.pixels_sha256)
        with Workspace(self.home).reading() as session:
            return sorted(tuple(row) for row in session.execute(query.join(Image, Image.run_id == Run.id)))

    def files(self) -> list[str]:
        """The names of all files but the cache's, a run's folder named by its settings."""
        with Workspace(self.home).reading() as session:
            folders = {run.uuid[:12]: f"{run.guidance:g}-{run.steps}" for run in session.scalars(select(Run))}
        found = (path.relative_to(self.home) for path in self.home.rglob("*") if path.is_file())
        names = (path.as_posix() for path in found if path.parts[0] != "cache")
        return sorted(re.sub("|".join(folders), lambda match: folders[match[0]], name) for name in names)

    def statuses(self) -> Counter[str]:
        """Of the sweep and its runs in the database."""
        with Workspace(self.home).reading() as session:
            return Counter(each.status.value for table in (Sweep, Run) for each in session.scalars(select(table)))

    def mlflow_statuses(self) -> Counter[str]:
        client = MlflowClient(self.tracking_uri)
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        return Counter(run.info.status for run in client.search_runs(experiments))


class Job:
    """The script as Slurm runs it."""

    def __init__(self, side: Side, slurm: dict[str, str]) -> None:
        self.log = side.folder / "job.out"
        self._environment = {**side.environment, "SLURM_CONF": slurm["SLURM_CONF"], "WORKERS": str(NODES)}
        # Here are no GPUs, and a time limit in whole minutes would be waited for: the signal is sent by hand.
        here = [f"--partition={PARTITION}", f"--nodes={NODES}", "--gres=none", "--cpus-per-task=1", "--mem=0"]
        workers = ["--gpus-per-worker", "0", "--cpus-per-worker", "1"]
        self.number = self.slurm(
            "sbatch", "--parsable", *here, f"--output={self.log}", f"--chdir={side.folder}",
            str(SCRIPT), *side.options, *workers,
        )  # fmt: skip

    def slurm(self, *command: str) -> str:
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def shown(self, name: str) -> str:
        found = re.search(rf"\b{name}=(\S+)", self.slurm("scontrol", "show", "job", self.number))
        assert found is not None, name
        return found[1]

    def leftovers(self) -> list[str]:
        """Processes and folders that Ray had for the job; the folder of the node that failed is of nobody's."""
        name = f"ray-{self.number}-"
        shutil.rmtree(f"/tmp/{name}{NODES - 1}", ignore_errors=True)
        lines = []
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):  # it has ended
                lines.append(process.read_bytes().replace(b"\0", b" ").decode())
        return [line[:80] for line in lines if name in line] + [str(path) for path in Path("/tmp").glob(f"{name}*")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=int, default=16, help="prompts of each of the four runs")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the cluster is taken down
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="trial-") as name:
        folder = Path(name)
        manifest = write_manifest(folder / "prompts.csv", args.num)
        alone, cells = Side(folder / "alone", manifest), Side(folder / "slurm", manifest)
        began = time.monotonic()
        command = [sys.executable, "-m", "t2i_track", "sweep", *alone.options]
        subprocess.run(command, cwd=alone.folder, env=alone.environment, check=True, capture_output=True)
        print(f"one process: {alone.pictures()} pictures in {time.monotonic() - began:.0f} s")
        (folder / "cluster").mkdir()
        with cluster(folder / "cluster", NODES) as slurm:
            job = Job(cells, slurm)
            try:
                carried_out(job, cells, args.num)
            finally:
                print(re.sub("^", "    | ", job.log.read_text() if job.log.exists() else "no output", flags=re.M))
            compare(job, cells, alone)


def carried_out(job: Job, side: Side, num: int) -> None:
    """Signal, requeue, lose a node, end."""
    began = time.monotonic()

    def said(what: str) -> None:
        print(f"{time.monotonic() - began:4.0f} s, {side.pictures()} pictures: {what}", flush=True)

    def ended(state: str) -> bool:
        found = job.shown("JobState")
        assert found in {"PENDING", "RUNNING", "COMPLETING", state}, found
        return found == state

    wait_for("a quarter of the pictures", lambda: ended("RUNNING") and side.pictures() >= num, LONGEST)
    said("signal")
    job.slurm("scancel", "--signal=USR1", "--batch", job.number)
    wait_for("the requeue", lambda: ended("PENDING") and job.shown("Restarts") == "1", LONGEST)
    kept = side.pictures()
    said(f"requeued; in the database {len(side.rows())} pictures, {dict(side.statuses())}")
    assert 0 < len(side.rows()) <= kept < num * CELLS  # of files without a row the worker was ended with its answer
    assert set(side.statuses()) <= {"finished", "interrupted"}
    wait_for("more pictures", lambda: side.pictures() >= kept + num // 2, LONGEST)
    said("a node fails")
    job.slurm("scontrol", "update", f"nodename=node{NODES}", "state=down", "reason=trial")
    wait_for("the end", lambda: ended("COMPLETED"), LONGEST)
    said("ended")


def compare(job: Job, side: Side, alone: Side) -> None:
    """The sweep of the job with that of one process.

    Raises:
        AssertionError: where they differ.
    """
    rows = side.rows()
    assert rows == alone.rows()
    assert len({row[:4] for row in rows}) == len(rows)
    assert side.files() == alone.files(), set(side.files()) ^ set(alone.files())
    assert side.statuses() == alone.statuses() == {"finished": CELLS + 1}
    assert side.mlflow_statuses() == alone.mlflow_statuses() == {"FINISHED": CELLS + 1}
    wait_for("the end of Ray", lambda: not job.leftovers())
    print(
        f"equal: {len(rows)} pictures and rows, {len(side.files())} files, {CELLS + 1} MLflow runs; nothing left over"
    )


if __name__ == "__main__":
    main()
