"""`t2i compare` over a thousand stored runs, as a command, against starting Python with the libraries that it needs.

    python -m benchmarks.compare --runs 1000 --repeats 3

The database is made up: a grid of guidance and steps over several seeds, each run with three scores and their 32
replicates. No image is stored, since comparing reads none.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from sqlalchemy.orm import Session

from benchmarks.peers import timed
from t2i_track.db import lineage
from t2i_track.db.models import Run, RunStatus
from t2i_track.metrics.prompts import GROUPS
from t2i_track.workspace import Workspace

LEVELS = 10
"""Values of guidance, and of steps; the rest of the runs are further seeds."""
FEW = "guidance < 4 and steps < 40 and seed = 0"
PEER = "import sqlalchemy.orm, numpy, alembic, click"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Workspace(home=folder / "t2i-data").begin() as session:
            fill(session, args.runs)
        commands = {
            "imports alone": (sys.executable, "-c", PEER),
            "t2i compare, 9 runs": (sys.executable, "-m", "t2i_track", "compare", "--where", FEW),
            f"t2i compare, {args.runs} runs": (sys.executable, "-m", "t2i_track", "compare"),
            "the same as JSON": (sys.executable, "-m", "t2i_track", "compare", "--format", "json"),
        }  # fmt: skip
        taken: dict[str, list[tuple[float, float]]] = {what: [] for what in commands}
        for _ in range(args.repeats):  # in turns, so that all meet the same load
            for what, command in commands.items():
                before = processor()
                taken[what].append((timed(folder, *command), processor() - before))
        alone = [statistics.median(column) for column in zip(*taken["imports alone"], strict=True)]
        for what, times in taken.items():
            wall, busy = (statistics.median(column) for column in zip(*times, strict=True))
            print(
                f"{what}: {wall:.2f} s, {wall / alone[0]:.2f} of the imports;"
                f" processor {busy:.2f} s, {busy / alone[1]:.2f}"
            )


def processor() -> float:
    """Seconds of processor time of all commands so far: on a shared machine the wall says what others do."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def fill(session: Session, runs: int) -> None:
    """Runs as `t2i sweep` and `t2i evaluate` leave them, without their images."""
    numbers = np.random.default_rng(0)
    model = lineage.store_model(session, name="shapes", revision="", weights_sha256="0" * 64, pipeline_class="none")
    manifest = lineage.store_manifest(session, name="made up", sha256="1" * 64, entries=[{"prompt": "a"}])
    protocols = {
        metric: lineage.store_protocol(
            session,
            f"{number:064d}",
            {"metric": metric, "extractor": "shapes", "weights_sha256": "2" * 64, "layer": "features", "resize": "none",
             "n": 256, "reference": "shapes", "reference_sha256": "3" * 64, "reference_n": 2048, "parameters": {},
             "versions": {}},
        )
        for number, metric in enumerate(("fid", "clip", "alignment"))
    }  # fmt: skip
    shared = numbers.normal(size=GROUPS)
    for number in range(runs):
        guidance, steps, seed = number % LEVELS, number // LEVELS % LEVELS, number // LEVELS**2
        run = Run(
            uuid=lineage.new_uuid(), name=f"run-{number}", experiment="many", status=RunStatus.FINISHED, model=model,
            manifest=manifest, guidance=1.0 + guidance, steps=10 * (1 + steps), scheduler="pndm", scheduler_config={},
            negative_prompt="", lora=None, height=64, width=64, dtype="fp32", device="cpu", batch_size=8,
            base_seed=seed, num=256, images_per_prompt=1, settings_sha256=f"{number:064d}", config={}, environment={},
            seconds_per_image=0.01 * (1 + steps),
        )  # fmt: skip
        session.add(run)
        session.flush()
        for name, metric in (("fid", "fid"), ("clip_score", "clip"), ("alignment", "alignment")):
            worse = abs(guidance - 4) + 10 / (1 + steps)
            value = 100 + worse if name == "fid" else 100 - worse
            own = value + 0.05 * (shared + 0.3 * numbers.normal(size=GROUPS))
            values = {"value": value, "ci_low": value - 2, "ci_high": value + 2, "n": 256, "note": None}
            lineage.store_value(session, run, name, protocols[metric], {**values, "replicates": own.tolist()})


if __name__ == "__main__":
    main()
