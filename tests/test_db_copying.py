"""A whole database into another: equal, resumable, refused where it is not whole or where other rows are."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Result
from sqlalchemy import create_engine, func, select, text
from sqlalchemy.orm import Session
from test_db import add_image, fresh_postgres, make_run, postgres_server

import t2i_track
from t2i_track.db import copying, sqlite
from t2i_track.db import session as database
from t2i_track.db.copying import Copied, copy
from t2i_track.db.models import Base, Decision, DecisionState, Image, Protocol, Run, RunStatus, RunTag, SweepRun, Worker
from t2i_track.errors import Busy, DatabaseError, Interrupted
from t2i_track.files import alone
from t2i_track.workspace import Workspace

STORED = Path(__file__).parent / "data" / "schema-0004" / "t2i.db"
TABLES = [table.name for table in Base.metadata.sorted_tables]
IMAGES = 30
"""Beside those that were stored: some batches of the smallest size that is tried."""
UNDER_WAY = "is being copied into, or a copy was stopped: the same 't2i db copy --to' goes on"


@pytest.fixture
def source(tmp_path: Path) -> str:
    """Every table of an older version's database, and a run that is being made."""
    path = tmp_path / "source" / "t2i.db"
    path.parent.mkdir()
    shutil.copyfile(STORED, path)
    url = f"sqlite:///{path}"
    database.upgrade(url)
    with opened(url) as session:
        run = make_run(session, name="ünder wäy", error="a 'quoted' % and \\ and \U0001f600", base_seed=2**63 - 1)
        session.add(RunTag(run=run, key="a", value="b"))
        cell = session.scalars(select(SweepRun)).first()
        protocol = session.scalars(select(Protocol)).first()
        assert cell is not None
        assert protocol is not None
        facts = {"metric": "fid", "value": 1.5, "state": DecisionState.AS_GOOD, "estimate": 0.1, "margin": 0.2}
        numbers = {"look": 0, "prompts": 4, "images": 4}
        session.add(Decision(sweep_id=cell.sweep_id, run_id=cell.run_id, protocol_id=protocol.id, **facts, **numbers))
        session.add(Worker(sha256="e" * 64, host="h", process=2**40, device="cpu", environment={"ä": [None, 1.5, {}]}))
        for number in range(IMAGES):
            add_image(session, run, number)
        session.commit()
    sqlite.close_all()
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A place for a database; where a server is, one that is empty."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'target' / 't2i.db'}"
        return
    yield from fresh_postgres(postgres_server(), "copied")


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "BATCH", 7)
    monkeypatch.setattr(copying, "LARGE_BATCH", 2)


class opened(Session):
    """On a database by its address, whose connections end with it."""

    def __init__(self, url: str) -> None:
        self.engine = database.writable_engine(url)
        super().__init__(self.engine)

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.engine.dispose()


def everything(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables."""
    engine = create_engine(url)
    with engine.connect() as connection:
        tables = Base.metadata.sorted_tables
        found = {
            table.name: [tuple(row) for row in connection.execute(select(table).order_by(table.c.id))]
            for table in tables
        }
    engine.dispose()
    return found


def test_every_row_is_there_and_new_ones_can_be_added(source: str, target: str) -> None:
    before = everything(source)
    assert min(map(len, before.values())) > 0, "a table without rows shows nothing"
    copied = copy(source, target)
    assert everything(target) == before == everything(source)
    assert {one.table: one.rows for one in copied.tables} == {name: len(rows) for name, rows in before.items()}
    assert all(len(one.sha256) == 64 for one in copied.tables)
    with opened(target) as session:
        run = make_run(session, uuid="cd" * 16)
        add_image(session, run, 0)
        assert (run.id, session.scalar(select(func.max(Image.id)))) == (
            before["runs"][-1][0] + 1,
            before["images"][-1][0] + 1,
        )


def test_and_back(source: str, target: str, tmp_path: Path) -> None:
    back = f"sqlite:///{tmp_path / 'back.db'}"
    there = copy(source, target)
    assert copy(target, back).tables == there.tables
    assert everything(back) == everything(source)


def test_a_run_that_is_being_made_is_named(source: str, target: str, tmp_path: Path) -> None:
    with opened(source) as session:
        running = session.scalars(select(Run).where(Run.status == RunStatus.RUNNING)).all()
    assert copy(source, target).notes == tuple(
        f"run {run.uuid[:12]} ({run.name}) was being made when the copy began, or was killed: what it made since is"
        f" only in {tmp_path}/source/t2i.db"
        for run in running
    )


def test_what_is_written_meanwhile_is_no_part_of_it(source: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before, insert = everything(source), copying._Copy._insert

    def also_written(self: Any, *batch: Any) -> None:
        insert(self, *batch)
        with opened(source) as session:
            add_image(session, session.scalars(select(Run).where(Run.uuid == "ab" * 16)).one(), next(numbers))
            session.commit()

    numbers = iter(range(1000, 10_000))
    monkeypatch.setattr(copying._Copy, "_insert", also_written)
    copy(source, target)
    assert everything(target) == before
    assert len(everything(source)["images"]) > len(before["images"])


def killed(source: str, target: str, method: str, call: int) -> None:
    """A copy in a process of its own that is killed before the n-th call of a step."""

    def run() -> None:
        original, left = getattr(copying._Copy, method), iter(range(call))

        def counting(*arguments: Any) -> Any:
            if next(left, None) == call - 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments)

        setattr(copying._Copy, method, counting)
        copy(source, target)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


MOMENTS = [("_insert", 1), ("_insert", 6), ("_insert", 14), ("_verify", 1), ("_set_version", 2)]


@pytest.mark.parametrize(("method", "call"), MOMENTS)
def test_a_killed_copy_is_taken_for_no_database_and_goes_on(
    method: str, call: int, source: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(source, target, method, call)
    for use in (database.writable_engine, database.read_engine, database.upgrade):
        with pytest.raises(DatabaseError, match=UNDER_WAY):
            use(target)
    held = sum(map(len, everything(target).values()))
    written: list[int] = []
    insert = copying._Copy._insert

    def counting(self: Any, table: Any, rows: Any) -> None:
        written.append(len(rows))
        insert(self, table, rows)

    monkeypatch.setattr(copying._Copy, "_insert", counting)
    copied = copy(source, target)
    assert everything(target) == everything(source)
    assert held + sum(written) == sum(one.rows for one in copied.tables), "what was there is not copied again"


def test_one_that_was_killed_before_it_began_is_an_empty_database(source: str, target: str) -> None:
    killed(source, target, "_set_version", 1)
    with opened(target) as session:
        assert session.scalar(select(func.count(Run.id))) == 0
    copy(source, target)
    assert everything(target) == everything(source)


def test_one_that_is_interrupted_says_how_to_go_on(source: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(copying._Copy, "_verify", stopped)
    with pytest.raises(Interrupted, match=r"^interrupted; what is copied is kept: the same command goes on$"):
        copy(source, target)
    monkeypatch.undo()
    copy(source, target)
    assert everything(target) == everything(source)


def test_a_source_that_changed_in_between_is_copied_anew(source: str, target: str) -> None:
    killed(source, target, "_verify", 1)
    with opened(source) as session:
        session.execute(text("DELETE FROM images WHERE id = (SELECT max(id) FROM images)"))
        session.execute(text("UPDATE runs SET status = 'finished', error = NULL"))
        session.commit()
    assert copy(source, target).notes == ("the source has changed since a copy of it was stopped: it was copied anew",)
    assert everything(target) == everything(source)


def test_rows_that_are_not_what_was_copied_are_found(source: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    verify = copying._Copy._verify

    def meddled(self: Any, sides: Any) -> None:
        with self._write.begin() as connection:
            connection.execute(text("UPDATE images SET seed = seed + 1 WHERE id = 3"))
        verify(self, sides)

    monkeypatch.setattr(copying._Copy, "_verify", meddled)
    with pytest.raises(
        DatabaseError, match=r"^images in .* is not what was copied \(\d+ rows, of \d+; or other values"
    ):
        copy(source, target)
    with pytest.raises(DatabaseError, match=UNDER_WAY):
        database.read_engine(target)
    monkeypatch.undo()
    copy(source, target)
    assert everything(target) == everything(source)


def test_other_rows_are_left_alone(source: str, target: str) -> None:
    with opened(target) as session:
        make_run(session)
        session.commit()
    before = everything(target)
    with pytest.raises(DatabaseError, match="holds other rows already: name a database with --to that is not there"):
        copy(source, target)
    assert everything(target) == before
    database.read_engine(target).dispose()


def test_a_whole_copy_is_compared_again(source: str, target: str) -> None:
    copied = copy(source, target)
    assert copy(source, target) == Copied(copied.to, copied.tables, ("it was copied before; both were compared again",))


def test_one_copies_at_a_time(source: str, target: str, tmp_path: Path) -> None:
    said = "another process is copying into .*: wait for it to end"
    if target.startswith("sqlite"):
        (tmp_path / "target").mkdir()
        with alone(tmp_path / "target" / "t2i.db.copy.lock"), pytest.raises(Busy, match=said):
            copy(source, target)
        return
    engine = create_engine(target)
    with engine.connect() as connection:
        connection.execute(select(func.pg_advisory_lock(copying._LOCK)))
        with pytest.raises(Busy, match=said):
            copy(source, target)
    engine.dispose()


def test_a_value_that_the_target_cannot_hold_is_named(source: str) -> None:
    with opened(source) as session:
        session.execute(text("UPDATE run_tags SET value = :long"), {"long": "x" * 501})
        session.commit()
    said = r"the rows of run_tags from 1 to 2 \(value too long for type character varying\(500\)\): correct them in"
    made = contextlib.contextmanager(fresh_postgres)
    with made(postgres_server(), "copied") as target, pytest.raises(DatabaseError, match=said):
        copy(source, target)


def test_a_database_is_not_copied_into_itself(source: str, tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "source" / "t2i.db")
    for same in (source, f"sqlite:///{tmp_path}/link.db"):
        with pytest.raises(DatabaseError, match="is the database that is copied from"):
            copy(source, same)
    assert {path.name for path in tmp_path.iterdir()} == {"source", "link.db"}


def test_of_no_database_there_is_no_copy(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="no run database at"):
        copy(f"sqlite:///{tmp_path}/none.db", f"sqlite:///{tmp_path}/copy.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.sqlite_only("the file of a home")
def test_in_python(source: str, tmp_path: Path) -> None:
    copied = t2i_track.copy_database(f"sqlite:///{tmp_path}/copy.db", home=tmp_path / "source")
    assert list(copied.to_frame().table) == TABLES
    assert Workspace(tmp_path / "source").url.database == str(tmp_path / "source" / "t2i.db")  # type: ignore[union-attr]


def test_the_command(source: str, tmp_path: Path, cli: Callable[..., Result]) -> None:
    words = ("db", "copy", "--db-url", source, "--to", f"sqlite:///{tmp_path}/copy.db")
    done = cli(*words)
    assert (done.code, [line.split()[0] for line in done.out.splitlines()[2:]]) == (0, TABLES)
    assert done.err.startswith("note: run ")
    assert cli("runs", "--db-url", f"sqlite:///{tmp_path}/copy.db").out == cli("runs", "--db-url", source).out
    killed(source, f"sqlite:///{tmp_path}/other.db", "_verify", 1)
    for command in (("runs",), ("db", "upgrade"), ("compare",)):
        refused = cli(*command, "--db-url", f"sqlite:///{tmp_path}/other.db")
        assert (refused.code, refused.out, refused.err) == (1, "", f"t2i: {tmp_path}/other.db {UNDER_WAY}\n")
