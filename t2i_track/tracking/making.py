"""An SQLite store of MLflow's, under its name whole or not at all.

MLflow makes its tables in dozens of steps, each committed by itself. It can neither go on after a kill between them nor
share the work with a second process.
"""

from __future__ import annotations

import logging
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

from filelock import Timeout

from t2i_track.errors import TrackingError
from t2i_track.files import TEMPORARY, alone

log = logging.getLogger(__name__)

QUIET = 10.0
"""Seconds without a change after which no other program, such as `mlflow ui`, is making a store any more."""
PATIENCE = 300.0
"""Seconds to wait for another process of ours that makes it."""
BESIDE = ("-journal", "-wal", "-shm")
"""Files that SQLite keeps beside a database."""


def sqlite_uri(path: Path) -> str:
    """The address of a database file, absolute: a '?' in an address ends the name, and '%' is read as an escape."""
    return "sqlite:///" + str(path.absolute()).replace("%", "%25").replace("?", "%3F")


def make(path: Path) -> None:
    """Make the store if it is not there, or not whole; of several processes at once one does.

    Raises:
        TrackingError: another process has not ended making it.
    """
    if is_whole(path):
        return
    with _alone(path):
        _wait_for_others(path)
        if not is_whole(path):
            _make(path)


def is_whole(path: Path) -> bool:
    """Whether MLflow has ended making it: its last step is the first experiment."""
    return "experiments" in tables(path) and _look(path, "SELECT EXISTS (SELECT 1 FROM experiments)") == [(1,)]


def tables(path: Path) -> set[str]:
    """The tables of a database; none of a file that is empty or not there."""
    if not path.exists():
        return set()
    return {name for (name,) in _look(path, "SELECT name FROM sqlite_master WHERE type = 'table'")}


def _look(path: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path, timeout=QUIET)) as database:
        return database.execute(query).fetchall()


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    name = path.with_name(f".{path.name}.lock")
    try:
        with alone(name, timeout=PATIENCE):
            yield
    except Timeout:
        raise TrackingError(
            f"another process has been making the MLflow store {path} for {PATIENCE:.0f} s: end it, then try again"
        ) from None


def _wait_for_others(path: Path) -> None:
    while path.exists() and not is_whole(path) and time.time() - path.stat().st_mtime < QUIET:
        time.sleep(0.2)


def _make(path: Path) -> None:
    log.warning("making a new MLflow store, %s, which takes some seconds", path)
    for leftover in path.parent.iterdir():  # of a process that was killed
        if leftover.name.startswith(f".{path.name}.") and TEMPORARY in leftover.name:
            leftover.unlink()
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{TEMPORARY}")
    _fresh(temporary)
    if tables(path):  # nothing is in it, but who can be sure
        aside = path.with_name(f"{path.name}.half-made")
        log.warning("%s was left half made by a process that was stopped: it is %s now", path, aside)
        path.replace(aside)
    for ending in BESIDE:  # SQLite would take the journal of an earlier file of that name for this one's
        path.with_name(path.name + ending).unlink(missing_ok=True)
    temporary.replace(path)


def _fresh(path: Path) -> None:
    from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store = cast(Any, SqlAlchemyStore)(sqlite_uri(path), DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH)
    store.engine.dispose()
