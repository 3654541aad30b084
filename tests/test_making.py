"""MLflow's SQLite store in a fresh folder: made by several processes at once, after some that were killed."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from t2i_track.errors import TrackingError
from t2i_track.tracking import Opening, making, open_run, store

STARTS = 6

FORKS = """
import os, sys
from t2i_track.tracking import Opening, open_run, store
import mlflow.store.tracking.sqlalchemy_store, mlflow.tracking

os.chdir(sys.argv[1])

def start(name):
    child = os.fork()
    if child == 0:
        try:
            open_run(store.resolve("sqlite:///mlflow.db"), Opening("e", name))
            os._exit(0)
        except BaseException as error:
            print(name, repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    return child

def ended(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

children = [start(str(n)) for n in range(int(sys.argv[2]))]
print([ended(child) for child in children])
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mlflow.db"


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch, fresh_mlflow_store: Path) -> None:
    """What MLflow takes seconds for is done at once."""
    monkeypatch.setattr(making, "_fresh", lambda path: shutil.copyfile(fresh_mlflow_store, path))


def uri(path: Path) -> str:
    return f"sqlite:///{path}"


def works(path: Path) -> None:
    found = uri(path)
    store._client.cache_clear()
    assert open_run(found, Opening("e", "works")).experiment == "e"


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def forks(folder: Path, number: int) -> list[int]:
    command = [sys.executable, "-c", FORKS, folder, str(number)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    found: list[int] = eval(done.stdout, {})
    return found


@pytest.mark.slow
def test_several_first_starts_at_once(path: Path) -> None:
    assert forks(path.parent, STARTS) == [0] * STARTS
    assert names(path.parent) == {"mlflow.db"}
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT count(*) FROM runs").fetchone() == (STARTS,)


def half_made(path: Path) -> None:
    """As MLflow leaves it when it is killed between two of its migrations; the next step of them would fail."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE experiments (experiment_id INTEGER, name VARCHAR(256))")
        database.execute("CREATE TABLE runs (run_uuid VARCHAR(32))")
        database.execute("CREATE TABLE alembic_version (version_num VARCHAR(32))")
        database.execute("INSERT INTO alembic_version VALUES ('451aebb31d03')")
        database.commit()
    os.utime(path, (0, 0))


@pytest.mark.usefixtures("copied")
def test_a_half_made_store_is_put_aside(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    half_made(path)
    store.check(uri(path), create=True)
    with pytest.raises(TrackingError, match="it was left half made: the next `t2i generate` makes it anew"):
        store.check(uri(path), create=False)
    works(path)
    assert names(path.parent) == {"mlflow.db", "mlflow.db.half-made"}
    assert f"{path} was left half made by a process that was stopped: it is {path}.half-made now" in caplog.text


def test_a_store_that_another_program_is_making_is_waited_for(path: Path, fresh_mlflow_store: Path) -> None:
    half_made(path)
    os.utime(path)

    def end() -> None:
        time.sleep(0.5)
        shutil.copyfile(fresh_mlflow_store, path)

    other = threading.Thread(target=end)
    other.start()
    works(path)
    other.join()
    assert names(path.parent) == {"mlflow.db"}


@pytest.mark.usefixtures("copied")
@pytest.mark.parametrize("left", ["an empty file", "a journal"])
def test_what_a_killed_start_leaves(path: Path, left: str) -> None:
    """A journal without its database would be played into the new one."""
    if left == "a journal":
        code = (
            "import os, sqlite3, sys; database = sqlite3.connect(sys.argv[1], isolation_level=None);"
            "database.execute('PRAGMA cache_size = 1'); database.execute('CREATE TABLE big (x)');"
            "database.execute('BEGIN');"
            "database.executemany('INSERT INTO big VALUES (?)', [('x' * 4000,)] * 200); os._exit(9)"
        )
        subprocess.run([sys.executable, "-c", code, path], check=False)
        path.unlink()
        assert path.with_name("mlflow.db-journal").stat().st_size > 0
    else:
        path.touch()
        os.utime(path, (0, 0))
    works(path)
    assert names(path.parent) == {"mlflow.db"}


def test_a_whole_store_is_left_alone(path: Path, fresh_mlflow_store: Path) -> None:
    shutil.copyfile(fresh_mlflow_store, path)
    before = path.read_bytes()
    making.make(path)
    assert path.read_bytes() == before


def test_another_programs_database_is_refused(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE images (x)")
    for create in (True, False):
        with pytest.raises(TrackingError, match="it is another program's database, with table images"):
            store.check(uri(path), create=create)


def test_a_process_that_does_not_end_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from filelock import FileLock

    monkeypatch.setattr(making, "PATIENCE", 0.1)
    with (
        FileLock(path.with_name(".mlflow.db.lock")),
        pytest.raises(TrackingError, match="another process has been making the MLflow store"),
    ):
        making.make(path)
