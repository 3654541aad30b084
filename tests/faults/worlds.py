"""Folders in which a command is stopped, what a user does then, and everything that may not differ afterwards."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import homes
from sqlalchemy.exc import DBAPIError

from t2i_track.errors import NoDatabase
from t2i_track.images import png

Command = tuple[str, ...]
SMALL = ("--num", "4", "--steps", "2", "--batch-size", "2", "--no-evaluate", "--device", "cpu")
GENERATE: Command = ("generate", *SMALL, "--run-name", "small")
RESUME: Command = ("generate", "--resume", "latest", "--no-evaluate")
EVALUATE: Command = ("evaluate", "latest", "--metrics", "alignment,clip,vendi", "--device", "cpu")
SWEEP: Command = ("sweep", *SMALL, "--name", "grid", "--guidance", "1,3")
ROUNDS: Command = (
    *("sweep", "--name", "rounds", "--guidance", "1,3", "--until-decided", "--within", "0.2", "--max-num", "40"),
    *("--steps", "2", "--scheduler", "ddim", "--batch-size", "8", "--no-evaluate", "--device", "cpu"),
)
"""Two looks, at 32 and at 40 prompts: the first decides one of the settings, the second the other."""
RESYNC: Command = ("resync",)
UPGRADE: Command = ("db", "upgrade")
HOME = "t2i-data"
"""The home folder, in the folder of a world."""


@dataclass(frozen=True)
class World:
    """A command that is stopped, in a folder where others have been run before."""

    command: Command
    before: tuple[tuple[Command, dict[str, Any]], ...] = ()
    """What is run before, with where it is stopped, if it is."""
    undisturbed: tuple[Command, ...] | None = None
    """What ends in the same way with nothing stopped; None: ``before`` and the command."""
    store: bool = True
    """Whether MLflow's store is there already."""
    home: str | None = None
    """A folder of ``tests/data`` that is the home folder."""


def stop(at: str, call: int = 1, when: str = "before") -> dict[str, Any]:
    return {"at": at, "call": call, "when": when, "signals": ["SIGKILL"], "pause": 0}


WORLDS = {
    "first start": World(GENERATE, store=False),
    "fresh schema": World(UPGRADE),
    "upgrade": World(UPGRADE, home="schema-0001"),
    "generate": World(GENERATE),
    "resume": World(RESUME, before=((GENERATE, stop("t2i_track.db.lineage:add_images", 2)),), undisturbed=(GENERATE,)),
    "evaluate": World(EVALUATE, before=((GENERATE, {}),)),
    "sweep": World(SWEEP),
    "rounds": World(ROUNDS),
    "resync": World(RESYNC, before=((GENERATE, stop("t2i_track.runs.projection:send")),), undisturbed=(GENERATE,)),
}


def onward(folder: Path, command: Command) -> Command:
    """What a user types after the command was stopped: the same again, but for a run that has begun."""
    if command != GENERATE:
        return command
    try:
        return RESUME if homes.rows(folder / HOME, "SELECT * FROM runs") else command
    except (NoDatabase, DBAPIError):  # no file, or no table
        return command


def mlflow_rows(path: Path, query: str) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
        database.row_factory = sqlite3.Row
        return [dict(row) for row in database.execute(query)]


TIMES = {"created_at", "started_at", "ended_at", "seconds", "seconds_per_image"}
"""Columns of which only whether they are empty must be equal."""
OWN = {"uuid", "mlflow_run_id", "sha256"}
"""Columns that name a run, and of a picture's file, which holds the run's name; they are checked by themselves."""
TIMED = ("progress/", "system/")
"""Metrics of MLflow that measure time and load while a run is made."""
COST = "cost/"
"""Those that say what it cost: only which there are must be equal, but for the last process's."""
ITS_PROCESS = {"images_per_second", "start_seconds"}
"""What only the process that made pictures, or loaded the model, has measured."""


def state(folder: Path) -> dict[str, Any]:
    """All that must be equal after two ways to the same end."""
    home = folder / HOME
    # A kept hash of a file is found by the file's place, which is another one in each world.
    apart = (folder / "tmp", home / "cache" / "hashes")
    files = [path for path in folder.rglob("*") if not any(path.is_relative_to(place) for place in apart)]
    names = _names(home, folder / "mlflow.db")
    _require_sound(home)
    return {
        "files": sorted(_named(str(path.relative_to(folder)), names) for path in files),
        "database": {name: list(_table(home, name, names)) for name in homes.tables(home)},
        "mlflow": _mlflow(folder / "mlflow.db", names),
        "artifacts": Counter(
            (_named(str(path.relative_to(folder)), names), png.pixels_sha256(png.read_pixels(path)))
            for path in files
            if path.is_relative_to(folder / "mlruns") and path.suffix in {".png", ".webp"}
        ),
    }


def _names(home: Path, mlflow: Path) -> dict[str, str]:
    """What a run is called by, for its ids, which are drawn anew for each run."""
    found: dict[str, str] = {}
    for table in ("runs", "sweeps"):
        for row in homes.rows(home, f"SELECT * FROM {table}"):
            found |= {row["uuid"][:length]: f"<{row['name']}>" for length in (8, 12, None)}
    if mlflow.exists():
        for row in mlflow_rows(mlflow, "SELECT run_uuid, name FROM runs"):
            found |= {row["run_uuid"]: f"<MLflow {row['name']}>"}
    return found


def _named(text: str, names: dict[str, str]) -> str:
    text = re.sub(r"timestamp\+\d+\+[0-9a-f-]{36}", "timestamp", text)
    for own in sorted(names, key=len, reverse=True):
        text = text.replace(own, names[own])
    return text


def _table(home: Path, table: str, names: dict[str, str]) -> Iterator[dict[str, Any]]:
    for row in homes.rows(home, f"SELECT * FROM {table} ORDER BY 1"):
        for name in TIMES & row.keys():
            row[name] = row[name] is not None
        for name in OWN & row.keys():
            row[name] = names.get(row[name], "")
        for name in {"config", "spec"} & row.keys():
            row[name] = _settled(json.loads(row[name]))
        row.pop("environment", None)
        yield {name: _named(value, names) if isinstance(value, str) else value for name, value in row.items()}


def _settled(config: dict[str, Any]) -> str:
    """A run's configuration with the names of what was sent and what it cost, without their values."""
    for name in ("cost", "mlflow"):
        if name in config:
            config[name] = sorted(set(config[name].get("sent", config[name])) - ITS_PROCESS)
    return json.dumps(config, sort_keys=True)


def _require_sound(home: Path) -> None:
    """Each picture's row names a file with that content, and each file has a row."""
    images = {row["path"]: row for row in homes.rows(home, "SELECT path, sha256, pixels_sha256 FROM images")}
    there = {path.relative_to(home).as_posix(): path for path in home.glob("images/*/*.png")}
    stored = (home / "README.md").exists()  # a home of ``tests/data``, which keeps some of its pictures only
    assert images.keys() == there.keys() or (stored and images.keys() > there.keys())
    for name, path in there.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == images[name]["sha256"]
        assert png.pixels_sha256(png.read_pixels(path)) == images[name]["pixels_sha256"]


def _mlflow(path: Path, names: dict[str, str]) -> dict[str, Any]:
    if not path.exists():
        return {}
    queries = {
        "experiments": "SELECT name, lifecycle_stage FROM experiments ORDER BY 1",
        "runs": "SELECT run_uuid, status, lifecycle_stage, end_time IS NULL AS open FROM runs",
        "params": "SELECT run_uuid, key, value FROM params",
        "tags": "SELECT run_uuid, key, value FROM tags",
        "latest": "SELECT run_uuid, key, value FROM latest_metrics",
        "metrics": "SELECT run_uuid, key, count(*) AS points FROM metrics GROUP BY 1, 2",
        "inputs": "SELECT name, digest, destination_id AS run FROM datasets JOIN inputs ON source_id = dataset_uuid",
    }
    found = {kind: sorted(_plain(mlflow_rows(path, query), names)) for kind, query in queries.items()}
    assert not [run for run in found["runs"] if "RUNNING" in run]
    return found


def _plain(found: Iterable[dict[str, Any]], names: dict[str, str]) -> Iterator[str]:
    for row in found:
        key = str(row.get("key", ""))
        if key.startswith(COST):
            row = {name: value for name, value in row.items() if name not in ("value", "points")}
        if not key.startswith(TIMED) and key.removeprefix(COST) not in ITS_PROCESS:
            yield _named(json.dumps(row), names)


Runner = Callable[..., Any]


class Stage:
    """One folder, always the same since MLflow stores whole paths, that is put back to how it was before."""

    def __init__(self, folder: Path, run: Runner, store: Path) -> None:
        self.folder, self._run, self._store = folder / "work", run, store
        self._kept = folder / "kept"
        self._ends: dict[tuple[Any, ...], tuple[dict[str, Any], float]] = {}

    def run(self, command: Command, **stopped: Any) -> Any:
        (self.folder / "tmp").mkdir(exist_ok=True)
        env = {"MLFLOW_TRACKING_URI": "sqlite:///mlflow.db", "OMP_NUM_THREADS": "1", "TMPDIR": str(self.folder / "tmp")}
        return self._run(command, self.folder, env, **stopped)

    def set_up(self, name: str) -> None:
        """The folder as it is before the command of that world."""
        world, kept = WORLDS[name], self._kept / name
        if not kept.exists():
            self._begin(world)
            for command, where in world.before:
                told = {"stop": where | {"told": str(self.folder / "tmp" / "told")}} if where else {}
                code = self.run(command, **told).code
                assert code == (-9 if where else 0)
            shutil.rmtree(self.folder / "tmp", ignore_errors=True)
            shutil.copytree(self.folder, kept)
            homes.copy_rows(self.folder / HOME, kept / HOME)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)
            shutil.copytree(kept, self.folder)
            homes.copy_rows(kept / HOME, self.folder / HOME)

    def undisturbed(self, name: str) -> dict[str, Any]:
        """How that world ends when nothing is stopped."""
        return self._end(name)[0]

    def seconds(self, name: str) -> float:
        """For which the last command of that then runs."""
        return self._end(name)[1]

    def _end(self, name: str) -> tuple[dict[str, Any], float]:
        world = WORLDS[name]
        commands = world.undisturbed or (*(command for command, _ in world.before), world.command)
        if (commands, world.home) not in self._ends:
            self._begin(replace(world, store=True))
            for command in commands:
                begun = time.monotonic()
                ended = self.run(command)
                assert ended.code == 0, ended.err
            seconds = time.monotonic() - begun
            self._ends[commands, world.home] = state(self.folder), seconds
        return self._ends[commands, world.home]

    def _begin(self, world: World) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        homes.forget_database(self.folder / HOME)
        self.folder.mkdir(parents=True)
        if world.store:
            shutil.copyfile(self._store, self.folder / "mlflow.db")
        if world.home is not None:
            homes.copy_home(homes.STORED / world.home, self.folder / HOME)
