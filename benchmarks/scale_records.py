"""The records half of `benchmarks.scale`: a database of many runs, and what commands take on it.

The rows are as `t2i generate` and `t2i evaluate` leave them; of the pictures there are no files. An experiment has a
tenth of the runs, and two more runs are large, one whole and one half made.
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from t2i_track.db import lineage
from t2i_track.db.models import MetricValue, Run, RunStatus
from t2i_track.db.types import utc_now
from t2i_track.metrics.prompts import GROUPING, GROUPS
from t2i_track.settings import DECLARED, Settings
from t2i_track.workspace import Workspace

EXPERIMENTS = 10
LARGE = 30_000
"""Images of the two large runs: what the field's protocols ask for."""
MODEL = "0" * 64
SETTINGS = Settings(batch_size=8, dtype="fp32", device="cpu", height=64, width=64, memory_format="contiguous")
# What can be made in order once all rows are there takes a fraction of the time.
_LATER = ("ix_images_prompt_id", "ix_images_record_sha256", "ix_images_sha256", "ix_images_pixels_sha256")


def add_to(parts: Any) -> None:
    parser = parts.add_parser("records", help="a database of many images and runs")
    parser.add_argument("--images", type=int, default=10_000_000)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--home", type=Path, help="where the database is made, or is; default: a folder that goes")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    if args.part is not None:
        PARTS[args.part](Workspace(args.home))  # whatever it imports is imported
        began, before = time.perf_counter(), time.process_time()
        PARTS[args.part](Workspace(args.home))
        print(time.perf_counter() - began, time.process_time() - before)
        return
    with tempfile.TemporaryDirectory() as temporary:
        home = args.home or Path(temporary)
        if not (home / "t2i.db").exists():
            seconds = took(lambda: fill(Workspace(home), args.images, args.runs))
            print(f"filled in {seconds:.0f} s, {(home / 't2i.db').stat().st_size / 1e9:.2f} GB", flush=True)
        measure(home, args.repeats)


def took(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def fill(workspace: Workspace, images: int, runs: int) -> None:
    """Rows of runs and scores one by one, of images by SQL."""
    numbers = np.random.default_rng(0)
    each = images // runs
    prompts = max(each, LARGE)
    with workspace.begin() as session:
        model = lineage.store_model(session, name="shapes", revision="", weights_sha256=MODEL, pipeline_class="SD")
        entries = [{"prompt": f"a picture of {number} things on a table, in the morning"} for number in range(prompts)]
        manifest = lineage.store_manifest(session, name="made up", sha256="1" * 64, entries=entries)
        protocols = [
            lineage.store_protocol(session, f"{number:064d}", protocol(metric, each))
            for number, metric in enumerate(("fid", "clip", "alignment"))
        ]
        session.flush()
        shared = {"model_id": model.id, "manifest_id": manifest.id}
        rows = [run_row(number, runs, each) | shared for number in range(runs)]
        rows += [run_row(runs + number, runs, LARGE) | shared | {"experiment": "large"} for number in range(2)]
        rows[-1] |= {"status": RunStatus.INTERRUPTED, "ended_at": None}
        for chunk in lineage.chunks(rows):
            session.execute(Run.__table__.insert(), chunk)
        common = numbers.normal(size=GROUPS)
        for chunk in lineage.chunks(range(runs)):
            values = [value_row(number, one.id, one.metric, common, numbers) for number in chunk for one in protocols]
            session.execute(MetricValue.__table__.insert(), values)
    path = workspace.home / "t2i.db"
    workspace.engine.dispose()
    with closing(sqlite3.connect(path, isolation_level=None)) as opened:
        add_images(opened, runs, each)


def protocol(metric: str, each: int) -> dict[str, Any]:
    return {
        "metric": metric, "extractor": "shapes", "weights_sha256": "2" * 64, "layer": "features", "resize": "none",
        "n": each, "reference": "shapes", "reference_sha256": "3" * 64, "reference_n": 2048, "parameters": {},
        "versions": {"torch": "2.15.0", "numpy": "2.3.0"},
    }  # fmt: skip


def run_row(number: int, runs: int, each: int) -> dict[str, Any]:
    guidance, steps, seed = 1.0 + number % 10, 10 * (1 + number // 10 % 10), number // 100
    now = utc_now()
    settings = SETTINGS.to_dict() | {"guidance": guidance, "steps": steps, "seed": seed, "num": each}
    versions = {f"library-{place}": f"1.{place}.0" for place in range(20)}
    return {
        "uuid": f"{number:012x}" + f"{number:020x}", "name": f"pndm-g{guidance:g}-s{steps}-seed{seed}",
        "experiment": f"experiment-{number * EXPERIMENTS // runs}", "status": RunStatus.FINISHED, "guidance": guidance,
        "steps": steps, "scheduler": "pndm", "scheduler_config": {"beta_start": 0.00085, "num_train_timesteps": 1000},
        "negative_prompt": "", "height": 64, "width": 64, "dtype": "fp32", "device": "cpu", "batch_size": 8,
        "base_seed": seed, "num": each, "images_per_prompt": 1, "settings_sha256": f"{number:064x}",
        "config": {
            "settings": settings, "outdir": None, "mark_ai": True, "lora_sha256": None, "notes": [], "halves": 2,
            "resolved": {name: settings[name] for name, declared in DECLARED.items() if declared.column is None},
            "cost": {"peak_memory_mb": 900.0, "images_per_second": 3.1},
            "mlflow": {"uri": "sqlite:///mlflow.db", "sent": dict.fromkeys(("run", "images", "scores"), "0" * 16)},
        },
        "environment": {"threads": 1, "versions": versions, "platform": "Linux", "cpu": "a processor"},
        "created_at": now, "started_at": now, "ended_at": now, "seconds_per_image": 0.01 * steps,
        "mlflow_run_id": f"{number:032x}",
    }  # fmt: skip


def value_row(number: int, protocol_id: int, name: str, common: Any, numbers: Any) -> dict[str, Any]:
    guidance, steps = number % 10, 1 + number // 10 % 10
    worse = abs(guidance - 4) + 10 / steps
    value = 100 + worse if name == "fid" else 100 - worse
    own = value + 0.05 * (common + 0.3 * numbers.normal(size=GROUPS))
    return {
        "run_id": number + 1, "name": {"clip": "clip_score"}.get(name, name), "value": value, "ci_low": value - 2,
        "ci_high": value + 2, "n": 1000, "note": None, "protocol_id": protocol_id, "replicates": own.tolist(),
        "grouping": GROUPING, "prompts_sha256": "4" * 64, "parts": None, "created_at": utc_now(),
    }  # fmt: skip


def add_images(opened: sqlite3.Connection, runs: int, each: int) -> None:
    """``each`` images of every run, and those of the two large ones."""
    for setting in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-500000", "temp_store=FILE"):
        opened.execute(f"PRAGMA {setting}")
    made = dict(opened.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index'").fetchall())
    for name in _LATER:
        opened.execute(f"DROP INDEX {name}")
    for first, last, count in ((1, runs, each), (runs + 1, runs + 1, LARGE), (runs + 2, runs + 2, LARGE // 2)):
        for run_id in range(first, last + 1):
            opened.execute("BEGIN") if run_id % 100 == first % 100 else None
            opened.execute(
                """INSERT INTO images (run_id, prompt_id, prompt_index, replicate, seed, path, record_sha256, sha256,
                       pixels_sha256, width, height, tokens, truncated, flagged, seconds, created_at)
                   SELECT runs.id, prompt_id, position, 0, abs(random()) % 4294967296,
                       printf('images/%s/%05d-0-%010d.png', substr(uuid, 1, 12), position, position),
                       lower(hex(randomblob(32))), lower(hex(randomblob(32))), lower(hex(randomblob(32))),
                       64, 64, 12, 0, 0, 0.3, runs.created_at
                   FROM runs JOIN manifest_entries ON manifest_entries.manifest_id = runs.manifest_id
                   WHERE runs.id = ? AND position < ? ORDER BY position""",
                (run_id, count),
            )
            opened.execute("COMMIT") if (run_id + 1) % 100 == first % 100 or run_id == last else None
    for name in _LATER:
        opened.execute(made[name])
    opened.execute("PRAGMA journal_mode=WAL")


def measure(home: Path, repeats: int) -> None:
    workspace = Workspace(home)
    with workspace.reading() as session:
        large = _large(session, RunStatus.FINISHED).uuid[:12]
        first = lineage.list_runs(session, experiment="experiment-0", limit=1)[0]
        image = first.images[0]
    t2i = (sys.executable, "-m", "t2i_track")
    part = (sys.executable, "-m", "benchmarks.scale", "records", "--home", str(home), "--part")
    at = ("--home", str(home))
    commands = {
        "python, with what compare imports": (sys.executable, "-c", "import sqlalchemy.orm, numpy, alembic, click"),
        f"compare --experiment E ({len_of(home)} runs)": (*t2i, "compare", "--experiment", "experiment-3", *at),
        "compare RUN RUN": (*t2i, "compare", first.uuid[:12], f"{1:012x}", *at),
        "runs": (*t2i, "runs", *at),
        "runs --limit 20": (*t2i, "runs", "--limit", "20", *at),
        "runs --experiment E": (*t2i, "runs", "--experiment", "experiment-3", *at),
        "show RUN": (*t2i, "show", first.uuid[:12], *at),
        f"show RUN, of {LARGE}": (*t2i, "show", large, *at),
        "show IMAGE, by its id": (*t2i, "show", str(image.id), *at),
        "show IMAGE, by a hash": (*t2i, "show", image.sha256[:12], *at),
        "show IMAGE, by its path": (*t2i, "show", image.path, *at),
        "db query, a count of all": (*t2i, "db", "query", "SELECT count(*) FROM images", *at),
        **{what: (*part, what) for what in PARTS},
    }
    print("| what | seconds | of the processor | peak MB |\n|---|---|---|---|")
    for what, command in commands.items():
        walls, processors, peaks = zip(*(ended(command) for _ in range(repeats)), strict=True)
        seconds = f"{statistics.median(walls):.2f} | {statistics.median(processors):.2f}"
        print(f"| {what} | {seconds} | {max(peaks) / 1e6:.0f} |", flush=True)


def len_of(home: Path) -> int:
    with closing(sqlite3.connect(home / "t2i.db")) as opened:
        return int(opened.execute("SELECT count(*) FROM runs WHERE experiment = 'experiment-3'").fetchone()[0])


# A process has the memory of the one that started it until it becomes another program, and that counts: a small one
# starts the command and says what it took.
STARTER = """
import resource, subprocess, sys, time
began = time.perf_counter()
done = subprocess.run(sys.argv[1:], capture_output=True, text=True)
wall, used = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
sys.exit(done.stderr[-500:]) if done.returncode else None
own = done.stdout.split() if "--part" in sys.argv else []
print(own[0] if own else wall, own[1] if own else used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)
"""


def ended(command: tuple[str, ...]) -> tuple[float, float, float]:
    """Seconds on the wall and of the processor, and the most resident bytes of a command; a part tells its own seconds,
    without imports."""
    done = subprocess.run([sys.executable, "-S", "-c", STARTER, *command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr}")
    wall, processor, peak = map(float, done.stdout.split())
    return wall, processor, peak


def _large(session: Any, status: RunStatus) -> Run:
    return next(one for one in lineage.list_runs(session, experiment="large") if one.status == status)


def missing(workspace: Workspace) -> None:
    """What a resume asks the database: what is made, what there is to make, and which of it another run has made."""
    from t2i_track.images.sampling import jobs
    from t2i_track.runs.plan import stored_prompts, values_of
    from t2i_track.runs.recorded import run_items
    from t2i_track.runs.reuse import RecordHashes, _made

    with workspace.reading() as session:
        found = _large(session, RunStatus.INTERRUPTED)
        items = run_items(session, workspace, found)
        made, prompts = lineage.made_images(session, found), stored_prompts(session, found)
        negatives, values = lineage.own_negatives(session, found.manifest_id, found.num), values_of(found)
        todo = [
            job
            for job in jobs(prompts, int(values.seed), values.images_per_prompt, negatives)
            if (job.prompt_index, job.replicate) not in made
        ]
        hashes = RecordHashes(found, todo, {"threads": 1}).all()
        taken = [_made(session, [hashes[job] for job in some]) for some in lineage.chunks(todo)]
    assert (len(items), len(todo), sum(map(len, taken))) == (LARGE // 2, LARGE // 2, 0)


def counted(workspace: Workspace) -> None:
    """What the end of a run counts."""
    from t2i_track.runs.tally import tally

    with workspace.reading() as session:
        assert tally(session, _large(session, RunStatus.FINISHED).id).images == LARGE


def told(workspace: Workspace) -> None:
    """What MLflow is told of a run's images, as files."""
    from t2i_track.runs.content import parts

    with workspace.reading() as session, tempfile.TemporaryDirectory() as folder:
        content = parts(session, workspace, _large(session, RunStatus.FINISHED))["images"].content()
        assert content.files is not None
        content.files(Path(folder))


PARTS: dict[str, Callable[[Workspace], None]] = {
    f"resume: what is missing of {LARGE}": missing,
    f"the end of a run: {LARGE} counted": counted,
    f"the end of a run: {LARGE} for MLflow": told,
}
