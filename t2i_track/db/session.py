"""Engines and schema versions: opened for writing (migrated when fresh) or so that nothing can be written."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from t2i_track.errors import DatabaseError, SchemaTooNew, SchemaTooOld

REVISIONS = ("0001", "0002", "0003")
"""All schema versions in order; the last is this code's. A test compares them with the migration scripts."""

BUSY_SECONDS = 30

# What a read-only SQLite connection may do; everything else, ATTACH among it, is refused by the engine itself.
_READ_ACTIONS = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
    sqlite3.SQLITE_TRANSACTION,
}
_READ_PRAGMAS = {
    "table_info",
    "table_xinfo",
    "table_list",
    "index_list",
    "index_info",
    "foreign_key_list",
    "user_version",
}


def writable_engine(url: str) -> Engine:
    """An engine on a database whose schema is this code's; a fresh one is created.

    Raises:
        SchemaTooOld, SchemaTooNew: the schema is another version's.
        DatabaseError: the URL or the place it names is of no use.
    """
    _make_folder(_parse(url))
    engine = _engine(url)
    with _closed_on_error(engine), _explained(url):
        version = schema_version(engine)
        if version is None:
            upgrade(url)
        else:
            require_current(version, url)
    return engine


def read_engine(url: str) -> Engine:
    """An engine that can only read: the database engine itself refuses writes, and nothing is created or migrated.

    Raises:
        DatabaseError: there is no database yet; SchemaTooOld, SchemaTooNew as above.
    """
    engine = any_read_engine(url)
    with _closed_on_error(engine):
        with _explained(url):
            version = schema_version(engine)
        if version is None:
            raise DatabaseError(f"no run database at {_shown(_parse(url))}: make a first run with 't2i generate'")
        require_current(version, url)
    return engine


def any_read_engine(url: str) -> Engine:
    """A read-only engine, whatever the schema's version."""
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite_read_engine(parsed)
    return _engine(url).execution_options(postgresql_readonly=True)


def sessions(engine: Engine) -> sessionmaker[Session]:
    return sessionmaker(engine, expire_on_commit=False)


def schema_version(engine: Engine) -> str | None:
    """The revision in the database; None for a database that has no tables of ours."""
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        row = connection.execute(text("SELECT version_num FROM alembic_version")).first()
        return None if row is None else str(row[0])


def require_current(version: str, url: str) -> None:
    head = REVISIONS[-1]
    if version == head:
        return
    where = _shown(_parse(url))
    if version in REVISIONS:
        raise SchemaTooOld(f"{where} has schema {version}, this version needs {head}: run 't2i db upgrade'")
    raise SchemaTooNew(
        f"{where} has schema {version}, this version knows up to {head}: install a newer t2i-track to use it"
    )


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the schema to a revision, one transaction for each migration.

    Raises:
        SchemaTooNew: the database was written by newer code.
    """
    from alembic import command

    _make_folder(_parse(url))
    engine = _engine(url)
    if engine.dialect.name == "sqlite":
        # Where SQLite cannot alter a table, Alembic makes it anew and drops the old one, and with the keys enforced
        # the rows that point at it would be deleted too (ON DELETE CASCADE). `migrations/env.py` checks them after.
        event.listen(engine, "connect", lambda opened, _record: opened.execute("PRAGMA foreign_keys=OFF"))
    with _explained(url), _closed_on_error(engine), engine.connect() as connection:
        version = schema_version(engine)
        if version is not None and version not in REVISIONS:
            require_current(version, url)
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


def alembic_config() -> Any:
    """Alembic's configuration for the packed migrations (installed) or the checkout's."""
    from alembic.config import Config

    package = Path(__file__).resolve().parents[1]
    packed = package / "migrations"
    config = Config()
    config.set_main_option(
        "script_location", str(packed if packed.is_dir() else package.parent / "migrations").replace("%", "%%")
    )
    return config


def _make_folder(url: URL) -> None:
    if url.get_backend_name() != "sqlite" or not url.database:
        return
    folder = Path(url.database).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatabaseError(f"cannot make {folder} ({error.strerror}): choose another --home or --db-url") from None


def _engine(url: str) -> Engine:
    parsed = _parse(url)
    try:
        if parsed.get_backend_name() != "sqlite":
            return create_engine(parsed, pool_pre_ping=True)
        engine = create_engine(parsed, connect_args={"timeout": BUSY_SECONDS})
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise DatabaseError(
            f"no driver for {_shown(parsed)} ({error}): install it, or choose another --db-url"
        ) from None
    event.listen(engine, "connect", _sqlite_pragmas)
    event.listen(engine, "begin", _begin_immediate)
    return engine


def _sqlite_pragmas(connection: Any, _record: Any) -> None:
    # sqlite3's own transaction control would start transactions late and commit before DDL.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def _begin_immediate(connection: Any) -> None:
    """Take the write lock at the start: a transaction that reads, then writes, could not wait for it later."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _sqlite_read_engine(parsed: URL) -> Engine:
    database = parsed.database
    if not database or database == ":memory:" or not Path(database).is_file():
        raise DatabaseError(f"no run database at {_shown(parsed)}: make a first run with 't2i generate'")
    path = Path(database).resolve()
    uri = f"file:{quote(str(path))}?mode=ro"
    # A WAL database in a folder that cannot be written has no place for its shared-memory file; without a log beside
    # it nothing can change under us, which is what `immutable` asks for.
    if not os.access(path.parent, os.W_OK) and not path.with_name(path.name + "-wal").exists():
        uri += "&immutable=1"

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, check_same_thread=False)
        connection.execute("PRAGMA query_only=ON")
        connection.set_authorizer(_authorize_reads)
        return connection

    return create_engine("sqlite://", creator=connect)


def _authorize_reads(action: int, first: str | None, second: str | None, _db: str | None, _trigger: str | None) -> int:
    if action in _READ_ACTIONS:
        return sqlite3.SQLITE_OK
    pragma = (first or "").lower() if action == sqlite3.SQLITE_PRAGMA else ""
    # SQLAlchemy asks for the isolation level when it connects; setting one has a second argument.
    if pragma in _READ_PRAGMAS or (pragma == "read_uncommitted" and second is None):
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


def _parse(url: str) -> URL:
    try:
        return make_url(url)
    except ArgumentError:
        raise DatabaseError(f"'{url}' is not a database URL: write it as sqlite:///path/to/t2i.db") from None


def _shown(url: URL) -> str:
    """The address for a message: the file, or the URL without its password."""
    return url.database or "memory" if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=True)


@contextmanager
def _closed_on_error(engine: Engine) -> Iterator[None]:
    try:
        yield
    except BaseException:
        engine.dispose()
        raise


@contextmanager
def _explained(url: str) -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        raise DatabaseError(
            f"cannot use the database at {_shown(_parse(url))} ({reason}): check --home or --db-url"
        ) from None
