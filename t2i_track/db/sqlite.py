"""SQLite: a file that is written by several processes at once, or read so that nothing can be written."""

from __future__ import annotations

import atexit
import logging
import os
import sqlite3
import weakref
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL

from t2i_track.db.address import path_of, where
from t2i_track.db.ownership import has_ours
from t2i_track.db.types import dumps, loads
from t2i_track.errors import DatabaseError, NoDatabase
from t2i_track.filesystems import shared_filesystem

log = logging.getLogger(__name__)

BUSY_SECONDS = 30
"""For which a transaction waits for another to end."""
CHECKPOINT_SECONDS = 2
"""For which the end of a program waits for another that is reading."""

# What a read-only connection may do; everything else, ATTACH among it, is refused by the engine itself.
_READ_ACTIONS = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
_READ_PRAGMAS = {"table_info", "table_xinfo", "table_list", "index_list", "index_info", "foreign_key_list"}
_READ_SETTINGS = {"user_version", "read_uncommitted"}
"""Read without an argument; SQLAlchemy asks for the last when it connects. With one they would be set."""

_open: weakref.WeakSet[Engine] = weakref.WeakSet()


def writing_engine(url: URL) -> Engine:
    """An engine whose transactions take the write lock when they begin."""
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS}, json_serializer=dumps, json_deserializer=loads)
    event.listen(engine, "connect", partial(_set_up, url))
    event.listen(engine, "begin", _begin_immediate)
    if not _open:
        atexit.register(close_all)
    _open.add(engine)
    return engine


def _set_up(url: URL, connection: Any, _record: Any) -> None:
    # sqlite3's own transaction control would start transactions late and commit before DDL.
    connection.isolation_level = None
    cursor = connection.cursor()
    if _network(url) is not None:
        cursor.execute("PRAGMA locking_mode=EXCLUSIVE")
    # Before the file is made ours: a journal mode is written into it.
    has_ours((name for (name,) in cursor.execute("SELECT name FROM sqlite_master WHERE type = 'table'")), url)
    if _network(url) is None:
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
    else:
        _set_rollback_journal(cursor)
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


@cache
def _network(url: URL) -> str | None:
    """The network file system that the file is on; said once."""
    path = path_of(url)
    kind = None if path is None else shared_filesystem(path.parent)
    if kind is not None:
        log.warning(
            "%s is on a network file system (%s): only one command at a time may write it, and none while another"
            " machine does; put --home on a local disk, or use PostgreSQL (--db-url)", path, kind
        )  # fmt: skip
    return kind


def _set_rollback_journal(cursor: Any) -> None:
    """The write-ahead log is memory that all programs on one machine share; between machines nothing shares it."""
    # Held exclusively since its first page was read, a file that has a log was opened without that memory.
    mode = cursor.execute("PRAGMA journal_mode=DELETE").fetchone()[0]
    cursor.execute("PRAGMA locking_mode=NORMAL")
    cursor.execute("SELECT count(*) FROM sqlite_master").fetchone()  # gives up the lock
    cursor.execute("PRAGMA synchronous=FULL")
    if mode != "delete":
        raise DatabaseError(
            "the database is on a network file system and another command is using it: let it end first"
        )


def _begin_immediate(connection: Any) -> None:
    """Take the write lock at the start: a transaction that reads, then writes, could not wait for it later."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def close_all() -> None:
    """Put all that the engines of this process have written into the files themselves, so that each can be copied.

    SQLite does so when the last connection is closed, but not where a program ends without closing it, and not while
    another one has the file open.
    """
    for engine in list(_open):
        engine.dispose()
        path = path_of(engine.url)
        if path is not None and path.is_file():
            _checkpoint(path)
        _open.discard(engine)


def _checkpoint(path: Path) -> None:
    try:
        connection = sqlite3.connect(path, timeout=CHECKPOINT_SECONDS)
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            connection.close()
    except sqlite3.Error:
        # Another program is at work: it does the same when it ends, and until then the log beside the file has it all.
        return


def reading_engine(url: URL, *, snapshot: bool = False) -> Engine:
    """An engine that can only read.

    Args:
        url: of the file.
        snapshot: all reads of a transaction are of one instant; else each statement sees what is there.

    Raises:
        NoDatabase: there is no such file.
    """
    path = path_of(url)
    assert path is not None
    if not path.exists():
        raise NoDatabase(f"no run database at {where(url)}: make a first run with 't2i generate'")
    if not path.is_file():
        raise DatabaseError(f"{where(url)} is not a file: choose another --home or --db-url")
    uri = _read_uri(path.resolve())

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, check_same_thread=False)
        connection.execute("PRAGMA query_only=ON")
        connection.set_authorizer(_authorize_snapshots if snapshot else _authorize_reads)
        if snapshot:
            connection.isolation_level = None
        return connection

    engine = create_engine(url, creator=connect, json_serializer=dumps, json_deserializer=loads)
    if snapshot:
        event.listen(engine, "begin", lambda opened: opened.exec_driver_sql("BEGIN"))
    return engine


def _read_uri(path: Path) -> str:
    uri = f"file:{quote(str(path))}?mode=ro"
    log = path.with_name(path.name + "-wal")
    # A database in a folder that cannot be written has no place for the shared memory of its log; without a log beside
    # it, or with an empty one, nothing can change under us, which is what `immutable` asks for.
    unlogged = not log.exists() or log.stat().st_size == 0
    return f"{uri}&immutable=1" if unlogged and not os.access(path.parent, os.W_OK) else uri


def _authorize_reads(action: int, first: str | None, second: str | None, _db: str | None, _trigger: str | None) -> int:
    if action in _READ_ACTIONS:
        return sqlite3.SQLITE_OK
    pragma = (first or "").lower() if action == sqlite3.SQLITE_PRAGMA else ""
    allowed = pragma in _READ_PRAGMAS or (pragma in _READ_SETTINGS and second is None)
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def _authorize_snapshots(action: int, *named: Any) -> int:
    return sqlite3.SQLITE_OK if action == sqlite3.SQLITE_TRANSACTION else _authorize_reads(action, *named)
