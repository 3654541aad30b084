"""The database as a file: made by several programs at once, killed while it is made, copied when they have ended."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import Warm
from sqlalchemy import create_engine, text
from test_db import fresh_postgres, postgres_server

from t2i_track.db import session as database
from t2i_track.db import sqlite
from t2i_track.errors import DatabaseError, NoDatabase
from t2i_track.workspace import Workspace

WRITE = """
import os, signal, sys
from pathlib import Path
from t2i_track import cli
from t2i_track.db.lineage import store_prompts
from t2i_track.errors import T2IError
from t2i_track.workspace import Workspace

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may have had it ignored, as nohup does

def command(**_):
    workspace = Workspace(Path("home"))
    for number in range(20):
        with workspace.begin() as session:
            store_prompts(session, [f"{number} {'x' * 10000}"])
    ENDING

cli.cli.main = command
cli.run()
"""
ENDINGS = {
    "normally": ("pass", 0),
    "with an error": ("raise T2IError('an error')", 1),
    "with an unexpected error": ("raise RuntimeError('a bug')", 1),
    "by Ctrl-C": ("raise KeyboardInterrupt", 1),
    "by SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM)", 1),
    "by a terminal that is closed": ("os.kill(os.getpid(), signal.SIGHUP)", 1),
    "in a unit of work": ("workspace.begin().__enter__(); raise T2IError('an error')", 1),
}


def prompts(path: Path) -> int:
    """Of the file by itself, in another folder."""
    copied = path.parent / "copied.db"
    shutil.copyfile(path, copied)
    with closing(sqlite3.connect(copied)) as opened:
        return int(opened.execute("SELECT count(*) FROM prompts").fetchone()[0])


def write(folder: Path, ending: str = "pass") -> subprocess.CompletedProcess[str]:
    script = WRITE.replace("ENDING", ending)
    return subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.mark.sqlite_only("the file has all when a program has ended")
@pytest.mark.slow
@pytest.mark.parametrize("ending", ENDINGS)
def test_the_file_alone_is_the_database_when_a_writer_has_ended(ending: str, tmp_path: Path) -> None:
    statement, code = ENDINGS[ending]
    ended = write(tmp_path, statement)
    assert (ended.returncode, "Traceback" in ended.stderr) == (code, False), ended.stderr
    assert prompts(tmp_path / "home" / "t2i.db") == 20


@pytest.mark.sqlite_only("the log beside the file")
@pytest.mark.slow
@pytest.mark.parametrize("moment", ["t2i_track.db.sqlite:close_all", "t2i_track.runs.projection:send"])
@pytest.mark.parametrize("command", [("generate", "--resume", "latest", "--no-evaluate"), ("resync",)], ids="-".join)
def test_a_writer_with_nothing_to_write_folds_in_what_a_killed_one_left(
    command: tuple[str, ...], moment: str, warm: Warm, tmp_path: Path, tracking_uri: str
) -> None:
    words = ["--home", tmp_path / "home"]
    stop = {
        "at": moment,
        "call": 1,
        "when": "before",
        "signals": ["SIGKILL"],
        "pause": 0,
        "told": str(tmp_path / "told"),
    }
    environment = {"OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": tracking_uri}
    made = ["generate", "--num", 2, "--steps", 2, "--no-evaluate", *words]
    killed = warm.run(made, tmp_path, environment, stop=stop)
    assert killed.code == -9, killed.err
    log = tmp_path / "home" / "t2i.db-wal"
    assert log.exists()
    ended = warm.run([*command, *words], tmp_path, environment)
    assert ended.code == 0, ended.err
    assert not log.exists()
    assert not log.with_name("t2i.db-shm").exists()


@pytest.mark.sqlite_only("the file has all when a program has ended")
def test_the_file_alone_is_the_database_though_others_have_it_open(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "home")
    workspace.engine.dispose()
    with workspace.reading() as session, closing(sqlite3.connect(tmp_path / "home" / "t2i.db")) as other:
        assert session.scalar(text("SELECT count(*) FROM prompts")) == 0
        session.rollback()
        assert other.execute("SELECT count(*) FROM prompts").fetchone() == (0,)
        assert write(tmp_path).returncode == 0
        assert prompts(tmp_path / "home" / "t2i.db") == 20


@pytest.mark.sqlite_only("the log beside the file")
def test_a_reader_in_the_middle_does_not_hold_up_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "CHECKPOINT_SECONDS", 0.1)
    workspace = Workspace(tmp_path)
    with workspace.begin() as session:
        session.execute(text("INSERT INTO prompts (text, sha256) VALUES ('a', 'b')"))
    with closing(sqlite3.connect(tmp_path / "t2i.db", isolation_level=None)) as other:
        other.execute("BEGIN")
        assert other.execute("SELECT count(*) FROM prompts").fetchone() == (1,)
        with workspace.begin() as session:
            session.execute(text("INSERT INTO prompts (text, sha256) VALUES ('c', 'd')"))
        sqlite.close_all()
        assert other.execute("SELECT count(*) FROM prompts").fetchone() == (1,)
    with workspace.reading() as session:
        assert session.scalar(text("SELECT count(*) FROM prompts")) == 2


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'home' / 't2i.db'}"
    else:
        yield from fresh_postgres(postgres_server(), "files")


PROGRAMS = multiprocessing.get_context("forkserver")
PROGRAMS.set_forkserver_preload(["t2i_track.db.session", "t2i_track.db.models", "alembic.command", "psycopg"])


def start(url: str, how: str = "writable_engine", gate: Any = None) -> Any:
    program = PROGRAMS.Process(target=use, args=(url, how, gate))
    program.start()
    return program


def use(url: str, how: str, gate: Any) -> None:
    """In another process: at the same instant as the others that wait at the gate."""
    if gate is not None:
        gate.wait(60)
    getattr(database, how)(url)


@pytest.mark.slow
@pytest.mark.parametrize(("before", "how"), [(None, "writable_engine"), (database.REVISIONS[0], "upgrade")])
def test_eight_programs_make_or_upgrade_one_database_at_once(url: str, before: str | None, how: str) -> None:
    if before is not None:
        database.upgrade(url, before)
    gate = PROGRAMS.Barrier(8)
    programs = [start(url, how, gate) for _ in range(8)]
    for program in programs:
        program.join(120)
    assert [program.exitcode for program in programs] == [0] * 8
    engine = database.read_engine(url)
    with engine.connect() as connection:
        assert len(connection.execute(text("SELECT * FROM alembic_version")).all()) == 1
    engine.dispose()


KILLS = int(os.environ.get("T2I_TEST_KILLS", "10")) // 2


@pytest.mark.slow
def test_killed_while_it_is_made(url: str) -> None:
    """From the first instant to the last; the next program finds nothing or all, and works."""
    rng = random.Random(5)
    for _ in range(KILLS):
        program = start(url)
        time.sleep(rng.uniform(0, 0.8))
        program.kill()
        program.join()
        with suppress(NoDatabase):
            database.read_engine(url).dispose()
    database.writable_engine(url).dispose()
    database.read_engine(url).dispose()


@pytest.mark.parametrize("instant", range(1, 42, 4))
def test_stopped_at_any_statement_while_it_is_made(url: str, instant: int) -> None:
    """What a kill leaves: the transaction that had begun is taken back, whichever statement it had come to."""
    from sqlalchemy import Engine, event

    seen = 0

    def count(*_: object) -> None:
        nonlocal seen
        seen += 1
        if seen == instant:
            raise KeyboardInterrupt

    event.listen(Engine, "before_cursor_execute", count)
    try:
        with pytest.raises(KeyboardInterrupt):
            database.writable_engine(url)
    finally:
        event.remove(Engine, "before_cursor_execute", count)
    engine = create_engine(url)
    with engine.connect() as connection:
        tables = database.inspect(connection).get_table_names()
    engine.dispose()
    assert "alembic_version" not in tables or len(tables) > 10
    engine = database.writable_engine(url)
    assert database.schema_version(engine) == database.REVISIONS[-1]
    engine.dispose()


@pytest.mark.sqlite_only("the lock beside the file")
def test_no_lock_is_left(tmp_path: Path) -> None:
    Workspace(tmp_path).engine.dispose()
    assert [path.name for path in tmp_path.iterdir()] == ["t2i.db"]


FOREIGN = {
    "another program's": ("CREATE TABLE users (id int)", "is another program's (it has tables users)"),
    "MLflow's": (
        "CREATE TABLE alembic_version (version_num text); INSERT INTO alembic_version VALUES ('bf29a5ff90ea');"
        "CREATE TABLE runs (run_uuid text); CREATE TABLE metrics (key text)",
        "is another program's (it has tables alembic_version, metrics, runs)",
    ),
}


@pytest.mark.parametrize("whose", FOREIGN)
def test_another_programs_database_is_left_as_it_is(whose: str, tmp_path: Path) -> None:
    path = tmp_path / "t2i.db"
    script, said = FOREIGN[whose]
    with closing(sqlite3.connect(path)) as opened:
        opened.executescript(script)
    before = path.read_bytes()
    url = f"sqlite:///{path}"
    for use in (database.writable_engine, database.read_engine, database.upgrade):
        with pytest.raises(DatabaseError) as raised:
            use(url)
        assert str(raised.value) == f"the database at {path} {said}: choose another --home or --db-url"
    assert path.read_bytes() == before
