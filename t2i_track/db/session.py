"""Engines and schema versions: opened for writing (migrated when fresh) or so that nothing can be written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, false, inspect, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.orm import ORMExecuteState, Session, sessionmaker, with_loader_criteria

from t2i_track.db import sqlite
from t2i_track.db.address import Address, parse, path_of, reason, where
from t2i_track.db.models import Run
from t2i_track.db.outages import waited
from t2i_track.db.ownership import VERSIONS, has_ours
from t2i_track.db.types import dumps, loads
from t2i_track.errors import DatabaseError, NoDatabase, SchemaTooNew, SchemaTooOld
from t2i_track.files import alone

REVISIONS = ("0001", "0002", "0003", "0004", "0005")
"""All schema versions in order; the last is this code's. A test compares them with the migration scripts."""

COPYING = "copying"
"""The schema version of a database while rows are copied into it (``copying``): no version's, so that none uses it."""

_BROKEN_VALUES = (
    "is not among the defined enum values",
    "Couldn't parse",
    "Invalid isoformat",
    "fromisoformat: argument",
)
_CONNECT_SECONDS = "10"
_ADVISORY_LOCK = int.from_bytes(b"t2itrack")
"""Held on a PostgreSQL server while a schema is made or brought up to date; any number, always the same."""


def writable_engine(address: Address) -> Engine:
    """An engine on a database whose schema is this code's; a fresh one is created.

    Raises:
        SchemaTooOld, SchemaTooNew: the schema is another version's.
        DatabaseError: the address or the place it names is of no use, or holds another program's tables.
    """
    engine = any_writable_engine(address)
    with _closed_on_error(engine), explained(address):
        require_current(schema_version(engine), address)
    return engine


def any_writable_engine(address: Address) -> Engine:
    """The same, whatever the version of a schema that is there."""
    url = parse(address)
    path = path_of(url)
    if path is not None and not (path.is_file() and path.stat().st_size):
        upgrade(url)  # before anything else of this process opens the file, since it is made under a lock
    engine = _engine(url)
    with _closed_on_error(engine), explained(url):
        if waited(lambda: schema_version(engine), url) is None:
            upgrade(url)
    return engine


def read_engine(address: Address) -> Engine:
    """An engine that can only read: the database engine itself refuses writes, and nothing is created or migrated.

    Raises:
        NoDatabase: there is no database yet; SchemaTooOld, SchemaTooNew, DatabaseError as above.
    """
    return _required(any_read_engine(address), address)


def snapshot_engine(address: Address) -> Engine:
    """A read-only engine, each of whose transactions sees the database as it was at one instant.

    Raises:
        NoDatabase, SchemaTooOld, SchemaTooNew, DatabaseError: as above.
    """
    url = parse(address)
    if path_of(url) is not None:
        return _required(sqlite.reading_engine(url, snapshot=True), url)
    return _required(any_read_engine(url).execution_options(isolation_level="REPEATABLE READ"), url)


def _required(engine: Engine, address: Address) -> Engine:
    """The engine, if the schema is this code's."""
    with _closed_on_error(engine), explained(address):
        version = waited(lambda: schema_version(engine), address)
        if version is None:
            raise NoDatabase(f"no run database at {where(address)}: make a first run with 't2i generate'")
        require_current(version, address)
    return engine


def any_read_engine(address: Address) -> Engine:
    """A read-only engine, whatever the schema's version."""
    url = parse(address)
    if path_of(url) is not None:
        return sqlite.reading_engine(url)
    with _driver(url):
        from t2i_track.db.postgres import reading_engine

        return reading_engine(_with_timeout(url), json_serializer=dumps, json_deserializer=loads)


class LineageSession(Session):
    """To which runs that were put into the trash are not there, unless its ``info`` says ``WITH_DELETED``."""


WITH_DELETED = "with_deleted"
# Written so that no index serves it: nearly every run is kept, but SQLite, which counts no values, would take the index
# for the shortest way to a few images among millions, and look at all of them.
_KEPT = with_loader_criteria(Run, Run.deleted_at.is_(None).is_not(false()), include_aliases=True)


@event.listens_for(LineageSession, "do_orm_execute")
def _without_deleted(state: ORMExecuteState) -> None:
    of_its_own = state.is_select and not state.is_column_load and not state.is_relationship_load
    if of_its_own and not state.session.info.get(WITH_DELETED):
        state.statement = state.statement.options(_KEPT)


def sessions(engine: Engine) -> sessionmaker[LineageSession]:
    return sessionmaker(engine, class_=LineageSession, expire_on_commit=False)


def connected(session: Session, address: Address) -> None:
    """Connect a session that has done nothing yet, waiting for a server that has gone away since the last one."""

    def connect() -> None:
        try:
            session.connection()
        except BaseException:
            session.rollback()
            raise

    if path_of(parse(address)) is None:  # an SQLite file is locked by that, and units of work read before they write
        waited(connect, address)


def schema_version(engine: Engine) -> str | None:
    """The revision in the database; None for a database that has no tables of ours.

    Raises:
        DatabaseError: the tables are another program's.
    """
    with engine.connect() as connection:
        return _version(connection)


def _version(connection: Connection) -> str | None:
    if not has_ours(inspect(connection).get_table_names(), connection.engine.url):
        return None
    row = connection.execute(text(f"SELECT version_num FROM {VERSIONS}")).first()
    return None if row is None else str(row[0])


def require_current(version: str | None, address: Address) -> None:
    head = REVISIONS[-1]
    if version == head:
        return
    if version == COPYING:
        raise DatabaseError(
            f"{where(address)} is being copied into, or a copy was stopped: the same 't2i db copy --to' goes on"
        )
    if version in REVISIONS:
        raise SchemaTooOld(f"{where(address)} has schema {version}, this version needs {head}: run 't2i db upgrade'")
    raise SchemaTooNew(
        f"{where(address)} has schema {version}, this version knows up to {head}: install a newer t2i-track to use it"
    )


def upgrade(address: Address, revision: str = "head") -> None:
    """Bring the schema to a revision, one transaction for each migration; a fresh database is made in a single one.

    Any number of processes may do so at once: the first does it, and the others find it done.

    Raises:
        SchemaTooNew: the database was written by newer code.
    """
    from alembic import command

    url = parse(address)
    path = path_of(url)
    if path is not None:
        _make_folder(path)
    with nullcontext() if path is None else _locked(path):
        engine = _engine(url)
        if path is not None:
            # Where SQLite cannot alter a table, Alembic makes it anew and drops the old one, and with the keys enforced
            # the rows that point at it would be deleted too (ON DELETE CASCADE). `migrations/env.py` checks them after.
            event.listen(engine, "connect", lambda opened, _record: opened.execute("PRAGMA foreign_keys=OFF"))
        with explained(url), _disposed(engine), _sole(engine), engine.connect() as connection:
            version = _version(connection)
            connection.rollback()
            if version is not None and version not in REVISIONS:
                require_current(version, url)
            config = alembic_config()
            config.attributes["connection"] = connection
            # A kill leaves a whole schema or none: half of one would be taken for an old version's.
            with connection.begin() if version is None else nullcontext():
                command.upgrade(config, revision)


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


@contextmanager
def explained(address: Address) -> Iterator[None]:
    """What the database engine complains of, as one line of ours."""
    try:
        yield
    except IntegrityError:
        raise
    except DataError as error:  # SQLite holds any; a server keeps to the column's type
        raise DatabaseError(
            f"the database at {where(address)} cannot hold a value ({reason(error, address)}): shorten or correct it"
        ) from None
    except DBAPIError as error:
        raise DatabaseError(_complaint(address, reason(error, address))) from None
    except SQLAlchemyError as error:
        raise DatabaseError(_complaint(address, reason(error, address))) from error
    except (LookupError, TypeError, ValueError) as error:
        # SQLAlchemy's, of a value that is none of its column's; it has no class of its own for them.
        if not any(words in str(error) for words in _BROKEN_VALUES):
            raise
        raise DatabaseError(
            f"the database at {where(address)} holds a broken value ({str(error).partition('. Enum name')[0]}):"
            " restore it from a copy"
        ) from None


_FULL = ("database or disk is full", "No space left on device")


def _complaint(address: Address, why: str) -> str:
    if any(words in why for words in _FULL):
        return f"the disk of the database at {where(address)} is full ({why}): make room there"
    return f"cannot use the database at {where(address)} ({why}): check --home or --db-url"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        with alone(path.with_name(path.name + ".lock")):
            yield
    except PermissionError as error:
        raise DatabaseError(
            f"{path.parent} cannot be written ({error.strerror}): choose another --home or --db-url"
        ) from None


@contextmanager
def _sole(engine: Engine) -> Iterator[None]:
    """One process at a time, on a server."""
    if engine.dialect.name != "postgresql":
        yield
        return
    with engine.connect() as connection:
        # For the whole connection, since each migration is a transaction; a process that is killed loses it.
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _ADVISORY_LOCK})
        connection.commit()
        yield
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _ADVISORY_LOCK})


def _make_folder(path: Path) -> None:
    folder = path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatabaseError(f"cannot make {folder} ({error.strerror}): choose another --home or --db-url") from None
    if path.is_dir():
        raise DatabaseError(f"{path} is a folder, not a database: choose another --home or --db-url")


def _engine(url: URL) -> Engine:
    if path_of(url) is not None:
        return sqlite.writing_engine(url)
    with _driver(url):
        return create_engine(_with_timeout(url), pool_pre_ping=True, json_serializer=dumps, json_deserializer=loads)


def _with_timeout(url: URL) -> URL:
    return url if "connect_timeout" in url.query else url.update_query_dict({"connect_timeout": _CONNECT_SECONDS})


@contextmanager
def _driver(url: URL) -> Iterator[None]:
    try:
        yield
    except (NoSuchModuleError, ImportError) as error:
        raise DatabaseError(f"no driver for {where(url)} ({error}): pip install 't2i-track[postgres]'") from None


@contextmanager
def _disposed(engine: Engine) -> Iterator[None]:
    try:
        yield
    finally:
        engine.dispose()


@contextmanager
def _closed_on_error(engine: Engine) -> Iterator[None]:
    try:
        yield
    except BaseException:
        engine.dispose()
        raise
