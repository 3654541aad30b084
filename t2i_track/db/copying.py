"""A whole database into another: every row under its own key, in batches, compared when it is there.

Until then the target's schema version is ``COPYING``, so that no other command takes what is there for the whole. A
batch is a transaction and keys go up, so what a stopped copy has left is the beginning of each table: the next one
compares that with the source, and goes on behind it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from filelock import Timeout
from sqlalchemy import JSON as Json
from sqlalchemy import Connection, Engine, LargeBinary, Row, Table, delete, func, insert, select, text, update
from sqlalchemy.engine import URL
from sqlalchemy.exc import DataError, IntegrityError

from t2i_track.db.address import Address, parse, path_of, reason, where
from t2i_track.db.models import Base, Run, RunStatus
from t2i_track.db.ownership import VERSION_TABLE
from t2i_track.db.session import (
    COPYING,
    REVISIONS,
    any_writable_engine,
    explained,
    require_current,
    schema_version,
    snapshot_engine,
)
from t2i_track.errors import Busy, DatabaseError, Interrupted
from t2i_track.files import alone
from t2i_track.notebook import Shown
from t2i_track.progress import progress

log = logging.getLogger(__name__)

BATCH = 5000
LARGE_BATCH = 100
"""Of tables whose rows hold JSON or bytes: a mean over 30,000 prompts has a quarter of a megabyte of parts."""
_LOCK = int.from_bytes(b"t2icopy!")
"""Held on a PostgreSQL server while a database is copied into; any number, always the same."""


@dataclass(frozen=True)
class CopiedTable:
    table: str
    rows: int
    sha256: str
    """Over its rows in the order of their keys, equal on both sides."""


@dataclass(frozen=True)
class Copied(Shown):
    """What was copied, and found to be equal on both sides."""

    to: str
    tables: tuple[CopiedTable, ...]
    notes: tuple[str, ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        return [asdict(one) for one in self.tables]

    def lines(self) -> Sequence[str]:
        return self.notes


def copy(source: Address, target: Address) -> Copied:
    """Copy every row of a database into a fresh one, and compare both; only read the first.

    What is copied is the source as it was at one instant. Stopped at any other, the same call goes on.

    Raises:
        DatabaseError: the target holds other rows, or cannot take some; the source is not there, or of another schema.
        Busy: another process is copying there. Interrupted: Ctrl-C; what is there stays.
    """
    ours, theirs = parse(source), parse(target)
    _require_two(ours, theirs)
    with ExitStack() as held:
        read = held.enter_context(_snapshot(ours))
        held.enter_context(_alone(theirs))
        with explained(theirs):
            write = any_writable_engine(theirs)
        held.callback(write.dispose)
        try:
            return _Copy(read, write, ours, theirs).made()
        except KeyboardInterrupt:
            raise Interrupted("interrupted; what is copied is kept: the same command goes on") from None


def _require_two(source: URL, target: URL) -> None:
    paths = [path.resolve() for url in (source, target) if (path := path_of(url)) is not None]
    places = [url.set(username=None, password=None, query={}) for url in (source, target)]
    if places[0] == places[1] or (len(paths) == 2 and paths[0] == paths[1]):
        raise DatabaseError(f"{where(target)} is the database that is copied from: name another with --to")


@contextmanager
def _snapshot(url: URL) -> Iterator[Connection]:
    """One transaction that sees the source as it is now, whatever is written meanwhile."""
    engine = snapshot_engine(url)
    try:
        with explained(url), engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


@contextmanager
def _alone(url: URL) -> Iterator[None]:
    """One process at a time copies into a database."""
    path = path_of(url)
    with ExitStack() as held:
        busy = Busy(f"another process is copying into {where(url)}: wait for it to end")
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                held.enter_context(alone(path.with_name(path.name + ".copy.lock"), timeout=0))
            except Timeout:
                raise busy from None
            except OSError as error:
                raise DatabaseError(f"cannot write {path.parent} ({error.strerror}): name another with --to") from None
            yield
            return
        engine = any_writable_engine(url)
        held.callback(engine.dispose)
        with explained(url):
            connection = held.enter_context(engine.connect())  # which holds it until it is closed, or killed
            if not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": _LOCK}):
                raise busy
            connection.commit()
        yield


class _Rows:
    """The rows of a table on one side in the order of their keys, counted and hashed as they are read."""

    def __init__(self, table: Table, url: URL) -> None:
        self._table = table
        self._url = url
        heavy = any(isinstance(column.type, Json | LargeBinary) for column in table.columns)
        self._batch = LARGE_BATCH if heavy else BATCH
        self._hash = hashlib.sha256()
        self.count = 0
        self._last: int | None = None

    def read(self, connection: Connection, until: int | None = None) -> Iterator[Sequence[Row[Any]]]:
        """Batches from where the last call ended."""
        key = self._table.c.id
        query = select(self._table).order_by(key).limit(self._batch)
        if until is not None:
            query = query.where(key <= until)
        while True:
            with explained(self._url):
                rows = connection.execute(query if self._last is None else query.where(key > self._last)).all()
            if not rows:
                return
            for row in rows:
                # Values as the models have them, whatever the engine keeps them in: times with their zone, JSON read.
                self._hash.update(repr(tuple(row)).encode("utf-8", "surrogatepass"))
            self.count += len(rows)
            self._last = rows[-1].id
            yield rows

    @property
    def found(self) -> tuple[int, str]:
        return self.count, self._hash.hexdigest()


def _said(error: DataError | IntegrityError, url: URL) -> str:
    """What the engine complains of, without the value, which may be a whole text."""
    return getattr(getattr(error.orig, "diag", None), "message_primary", None) or reason(error, url)


def _count(connection: Connection, table: Table) -> int:
    return connection.scalar(select(func.count()).select_from(table)) or 0


class _Copy:
    def __init__(self, read: Connection, write: Engine, source: URL, target: URL) -> None:
        self._read = read
        self._write = write
        self._source = source
        self._target = target
        self._tables = Base.metadata.sorted_tables
        """Each behind those that it refers to."""

    def made(self) -> Copied:
        with explained(self._target):
            version = schema_version(self._write)
        if version != COPYING:
            require_current(version, self._target)
            if self._holds_rows():
                return self._whole_already()
            self._set_version(COPYING)
        notes = [*self._running()]
        sides = self._left()
        if sides is None:
            notes.append("the source has changed since a copy of it was stopped: it was copied anew")
            log.warning("the source has changed since the copy was stopped: it begins anew")
            self._clear()
            sides = self._fresh()
        self._carry(sides)
        self._verify(sides)
        self._set_version(REVISIONS[-1])
        return self._told(sides, notes)

    def _told(self, sides: dict[Table, tuple[_Rows, _Rows]], notes: Sequence[str]) -> Copied:
        tables = (CopiedTable(table.name, *ours.found) for table, (ours, _) in sides.items())
        return Copied(where(self._target), tuple(tables), tuple(notes))

    def _fresh(self) -> dict[Table, tuple[_Rows, _Rows]]:
        return {table: (_Rows(table, self._source), _Rows(table, self._target)) for table in self._tables}

    def _left(self) -> dict[Table, tuple[_Rows, _Rows]] | None:
        """Both sides as far as a stopped copy has come; None where what it left is no longer what the source has."""
        sides = self._fresh()
        with explained(self._target), self._write.connect() as there:
            last = {table: there.scalar(select(func.max(table.c.id))) for table in self._tables}
            held = sum(_count(there, table) for table in self._tables)
            with progress("comparing what is there", held, unit="rows") as show:
                for table, (ours, theirs) in sides.items():
                    if last[table] is None:
                        continue
                    for _ in ours.read(self._read, until=last[table]):
                        pass
                    for _ in theirs.read(there):
                        show(sum(side.count for _, side in sides.values()))
                    if ours.found != theirs.found:
                        return None
        return sides

    def _carry(self, sides: dict[Table, tuple[_Rows, _Rows]]) -> None:
        """Copy what is behind what was there, each batch in a transaction of its own."""
        with explained(self._source):
            total = sum(_count(self._read, table) for table in self._tables)
        before = sum(ours.count for ours, _ in sides.values())
        with progress(f"copying to {where(self._target)}", total, before, unit="rows") as show:
            done = before
            for table, (ours, _) in sides.items():
                for rows in ours.read(self._read):
                    self._insert(table, rows)
                    done += len(rows)
                    show(done)

    def _insert(self, table: Table, rows: Sequence[Row[Any]]) -> None:
        with explained(self._target):
            try:
                with self._write.begin() as connection:
                    if connection.dialect.name == "postgresql":
                        from t2i_track.db.postgres import copy_in

                        copy_in(connection, table, rows)
                    else:
                        connection.execute(insert(table), [row._asdict() for row in rows])
            except (DataError, IntegrityError) as error:
                raise DatabaseError(
                    f"{where(self._target)} does not take the rows of {table.name} from {rows[0].id} to {rows[-1].id}"
                    f" ({_said(error, self._target)}): correct them in {where(self._source)}, then the same command"
                    " goes on"
                ) from None

    def _verify(self, sides: dict[Table, tuple[_Rows, _Rows]]) -> None:
        """Read back what was written, and compare it with what was read."""
        total = sum(ours.count for ours, _ in sides.values())
        done = sum(theirs.count for _, theirs in sides.values())
        with (
            progress(f"verifying {where(self._target)}", total, done, unit="rows") as show,
            explained(self._target),
            self._write.connect() as there,
        ):
            for table, (ours, theirs) in sides.items():
                for rows in theirs.read(there):
                    done += len(rows)
                    show(done)
                if ours.found != theirs.found:
                    raise DatabaseError(
                        f"{table.name} in {where(self._target)} is not what was copied ({theirs.count} rows, of"
                        f" {ours.count}; or other values): let no other program write there, then the same command"
                        " copies it anew"
                    )

    def _whole_already(self) -> Copied:
        """Of a target that holds rows: the whole copy that it may be, as where one was killed after its last commit."""
        with explained(self._target), self._write.connect() as there:
            sides = self._fresh()
            rows = [(_count(self._read, table), _count(there, table)) for table in self._tables]
            same, done = all(ours == theirs for ours, theirs in rows), 0
            with progress("comparing what is there", sum(map(sum, rows)), unit="rows") as show:
                for ours, theirs in sides.values() if same else ():
                    for side, connection in ((ours, self._read), (theirs, there)):
                        for batch in side.read(connection):
                            done += len(batch)
                            show(done)
                    same = same and ours.found == theirs.found
        if not same:
            raise DatabaseError(
                f"{where(self._target)} holds other rows already: name a database with --to that is not there yet, or"
                " is empty"
            )
        return self._told(sides, ["it was copied before; both were compared again"])

    def _holds_rows(self) -> bool:
        with explained(self._target), self._write.connect() as there:
            return any(there.execute(select(table.c.id).limit(1)).first() for table in self._tables)

    def _running(self) -> Iterator[str]:
        runs = select(Run.uuid, Run.name).where(Run.status == RunStatus.RUNNING).order_by(Run.id)
        for uuid, name in self._read.execute(runs):
            yield (
                f"run {uuid[:12]} ({name}) was being made when the copy began, or was killed: what it made since is"
                f" only in {where(self._source)}"
            )

    def _clear(self) -> None:
        for table in reversed(self._tables):
            with explained(self._target), self._write.begin() as connection:
                connection.execute(delete(table))

    def _set_version(self, version: str) -> None:
        with explained(self._target), self._write.begin() as connection:
            if version != COPYING and connection.dialect.name == "postgresql":
                self._set_sequences(connection)
            connection.execute(update(VERSION_TABLE).values(version_num=version))

    def _set_sequences(self, connection: Connection) -> None:
        """Rows that are added later begin behind those that came with their keys."""
        for table in self._tables:
            last = connection.scalar(select(func.max(table.c.id)))
            if last is not None:
                connection.execute(select(func.setval(func.pg_get_serial_sequence(table.name, "id"), last)))
