"""Several drivers at once: a process that has imported what takes seconds to import, and forks one for each.

Its arguments are the number of drivers, of runs of each, the home folder and the database's address. A driver makes
runs with the embedded model, all of the same prompts in an order of its own; all begin at the same instant. What it
says goes to the file `err-N`. MLflow is one that takes everything at once: its stores would take most of the time.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

PARTS = (
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
    "transformers.models.clip.modeling_clip",
    "t2i_track.runs.generate",
    "psycopg",
)
PROMPTS = 40


def main() -> None:
    drivers, runs, home, url = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:5]
    for name in PARTS:
        importlib.import_module(name)
    gate, opened = os.pipe()
    children = [start(number, runs, Path(home), url, gate, opened) for number in range(drivers)]
    os.close(opened)  # the end of the file is the signal
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    print(codes)


def start(number: int, runs: int, home: Path, url: str, gate: int, opened: int) -> int:
    if child := os.fork():
        return child
    os.close(opened)
    os.dup2(os.open(f"err-{number}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    try:
        os.read(gate, 1)
        drive(number, runs, home, url)
        sys.stderr.flush()
    except BaseException:  # noqa: BLE001 - a child must not go on as its parent does
        traceback.print_exc()
        os._exit(1)
    from t2i_track.db.sqlite import close_all

    close_all()
    os._exit(0)


class Tracker:
    """MLflow's side, to which nothing is told; what is written of it into the database is written."""

    uri, limit = "sqlite:////mlflow.db", 0.0

    def __init__(self, outbox: Path) -> None:
        self.outbox = outbox

    def later(self, _run_id: str, job: Callable[[], object]) -> None:
        job()

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_, **__: None


def drive(number: int, runs: int, home: Path, url: str) -> None:
    from t2i_track import tracking
    from t2i_track.prompts import manifest
    from t2i_track.runs.generate import Generator
    from t2i_track.runs.plan import Plan
    from t2i_track.settings import Settings
    from t2i_track.tracking import RunInfo
    from t2i_track.workspace import Workspace

    tracking.open_run = lambda _uri, opening, **_: RunInfo(opening.tag[1], opening.name, opening.experiment, None)
    tracking.write = lambda *_: []
    workspace = Workspace(home, url)
    generator = Generator(workspace, Tracker(workspace.outbox))  # type: ignore[arg-type]
    turned = manifest.from_prompts([f"prompt {(place + 5 * number) % PROMPTS}" for place in range(PROMPTS)])
    for run in range(runs):
        settings = Settings(num=4, steps=2, guidance=1.0 + run, seed=number, batch_size=2, device="cpu")
        generator.generate(Plan(settings=settings, manifest=turned, experiment="many", run_name=f"run {number}-{run}"))


if __name__ == "__main__":
    main()
