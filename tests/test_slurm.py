"""What `experiments/slurm/sweep.sbatch` does when Slurm signals it.

Slurm, Ray and t2i are stand-ins here; `python -m benchmarks.slurm.trial` tries the script on real ones.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "experiments" / "slurm" / "sweep.sbatch"
PROGRAMS = {
    "python": "exit 0",
    "sleep": "exec /bin/sleep 0.02",
    # Each writes down how it was called; a file says that it has begun, or lets it go on.
    "scontrol": 'echo "scontrol $*" >>calls; echo "   NodeAddr=10.0.0.1 NodeHostName=node1"',
    "srun": 'echo "srun $*" >>calls; while [ "$1" != bash ]; do shift; done; SLURM_NODEID=0 exec "$@"',
    "ray": (
        'if [ "$1" = health-check ]; then [ -e head ]; exit; fi\n'
        'echo "ray $*" >>calls; [ -e broken ] && exit 1\n'
        "[ -e slow ] || touch head\n"
        "touch raying; until [ -e finish ]; do sleep 1; done"
    ),
    "t2i": (
        'echo "t2i $*" >>calls\n'
        'trap \'echo "t2i stopped" >>calls; exit "${STATUS_AT_STOP:-1}"\' TERM\n'
        "touch working; until [ -e finish ]; do sleep 1; done\n"
        'exit "${STATUS:-0}"'
    ),
}


class Job:
    """The script in a folder of its own, as Slurm would run it."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.folder = folder
        programs = folder / "bin"
        programs.mkdir()
        for name, body in PROGRAMS.items():
            program = programs / name
            program.write_text(f"#!/bin/bash\n{body}\n")
            program.chmod(0o755)
        slurm = {
            "SLURM_JOB_ID": "12345",
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_GPUS_ON_NODE": "4",
            "SLURM_CPUS_PER_TASK": "16",
            "SLURM_SUBMIT_DIR": str(folder),
            "SLURMD_NODENAME": "node1",
        }
        with (folder / "told").open("w") as told:
            self.process = subprocess.Popen(
                ["bash", SCRIPT, "guidance.yaml", "--num", "64"],
                cwd=folder,
                env={"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", **slurm, **variables},
                stderr=told,
                start_new_session=True,
            )

    def until(self, name: str) -> None:
        end = time.monotonic() + 60
        while not (self.folder / name).exists():
            assert time.monotonic() < end, f"no {name}"
            assert self.process.poll() is None, name
            time.sleep(0.02)

    def signal(self, number: signal.Signals) -> None:
        """To the shell alone, as `--signal=B:` and `scancel --batch` do."""
        self.process.send_signal(number)

    def end(self) -> int:
        """Its exit status; what it leaves running is ended, as Slurm does."""
        status = self.process.wait(60)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        return status

    @property
    def calls(self) -> list[str]:
        return [line for line in (self.folder / "calls").read_text().splitlines() if line.startswith(("t2i", "scont"))]


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Callable[..., Job]]:
    jobs: list[Job] = []

    def started(*files: str, **variables: str) -> Job:
        for name in files:
            (tmp_path / name).touch()
        jobs.append(Job(tmp_path, **variables))
        return jobs[-1]

    yield started
    (tmp_path / "finish").touch()  # the rest ends by itself
    for each in jobs:
        each.end()


SHOWN = "scontrol show node node1"
SWEPT = "t2i sweep guidance.yaml --num 64 --address auto --workers 8"
REQUEUED = "scontrol requeue 12345"


def test_a_sweep_that_finishes(job: Callable[..., Job]) -> None:
    one = job()
    one.until("working")
    (one.folder / "finish").touch()
    assert one.end() == 0
    assert one.calls == [SHOWN, SWEPT]
    called = (one.folder / "calls").read_text()
    assert "--head --node-ip-address=10.0.0.1 --port=22345" in called
    assert "--ntasks-per-node=1 --cpus-per-task=16 bash" in called
    assert "--num-cpus=16" in called


def test_the_time_is_up(job: Callable[..., Job]) -> None:
    one = job()
    one.until("working")
    one.signal(signal.SIGUSR1)
    assert one.end() == 0
    assert one.calls == [SHOWN, SWEPT, "t2i stopped", REQUEUED]


def test_the_time_is_up_before_ray_is(job: Callable[..., Job]) -> None:
    one = job("slow")
    one.until("raying")
    one.signal(signal.SIGUSR1)
    assert one.end() == 0
    assert one.calls == [SHOWN, REQUEUED]


def test_a_sweep_that_finishes_when_it_is_told_is_not_requeued(job: Callable[..., Job]) -> None:
    one = job(STATUS_AT_STOP="0")
    one.until("working")
    one.signal(signal.SIGUSR1)
    assert one.end() == 0
    assert one.calls == [SHOWN, SWEPT, "t2i stopped"]


def test_a_job_that_is_cancelled_is_not_requeued(job: Callable[..., Job]) -> None:
    """Slurm sends SIGTERM to the sweep itself; a second one would end it without order."""
    one = job(STATUS="1")
    one.until("working")
    one.signal(signal.SIGTERM)
    (one.folder / "finish").touch()
    assert one.end() == 1
    assert one.calls == [SHOWN, SWEPT]


def test_a_sweep_that_fails_is_not_requeued(job: Callable[..., Job]) -> None:
    one = job("finish", "head", STATUS="2")
    assert one.end() == 2
    assert one.calls == [SHOWN, SWEPT]


def test_a_sweep_that_never_ends_is_not_requeued_for_ever(job: Callable[..., Job]) -> None:
    one = job(SLURM_RESTART_COUNT="50")
    one.until("working")
    one.signal(signal.SIGUSR1)
    assert one.end() == 1
    assert one.calls == [SHOWN, SWEPT, "t2i stopped"]
    assert (one.folder / "told").read_text().splitlines()[
        -1
    ] == "not finished after 50 restarts: the same sbatch goes on"


def test_ray_does_not_start(job: Callable[..., Job]) -> None:
    one = job("broken", RAY_AT_MOST="0")
    assert one.end() == 1
    assert one.calls == [SHOWN]
    assert (one.folder / "told").read_text() == "Ray did not start on 10.0.0.1: what it said stands above\n"


def test_ray_that_fails_once_is_started_again(job: Callable[..., Job]) -> None:
    one = job("broken")
    one.until("calls")
    (one.folder / "broken").unlink()
    one.until("working")
    (one.folder / "finish").touch()
    assert one.end() == 0
    assert one.calls == [SHOWN, SWEPT]
