"""Which database: its address, checked before anything is opened."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from t2i_track.errors import DatabaseError
from t2i_track.urls import hidden, shown

DRIVERS = {"sqlite": "pysqlite", "postgresql": "psycopg"}
"""The database engines that reads are kept from writing to, each by the driver that this was built on."""
_NAMES = {"postgres": "postgresql"}
_LAST_PORT = 65535
_WRITE = "write sqlite:///path/to/t2i.db or postgresql+psycopg://user@host/name"

Address = str | URL
"""An URL as a person writes it, or one made by `URL.create`, whose file name may hold any character."""


def parse(address: Address) -> URL:
    """The address of a database that can be used here.

    Raises:
        DatabaseError: it is none, or of another engine or driver.
    """
    if isinstance(address, URL):
        return address
    try:
        url = make_url(address.strip())
    except (ArgumentError, ValueError):  # a port that is no number
        raise DatabaseError(f"'{shown(address)}' is not a database URL: {_WRITE}") from None
    backend, _, driver = url.drivername.partition("+")
    backend = _NAMES.get(backend, backend)
    if DRIVERS.get(backend) != (driver or DRIVERS.get(backend)) or backend not in DRIVERS:
        raise DatabaseError(f"'{shown(address)}' is of no database that can be used ({url.drivername}): {_WRITE}")
    if backend == "sqlite":
        return _file(url, address)
    if address.count("@") > 1:  # what SQLAlchemy would take for the host may be the rest of a password
        raise DatabaseError(
            f"'{shown(address)}' has an '@' too many: in a name or password write it as %40, a '/' as %2F"
        )
    if url.port is not None and not 0 < url.port <= _LAST_PORT:
        raise DatabaseError(f"the port of '{shown(address)}' is not in [1, {_LAST_PORT}]: {_WRITE}")
    return url.set(drivername=f"{backend}+{DRIVERS[backend]}")


def _file(url: URL, address: str) -> URL:
    if url.host or url.username:
        raise DatabaseError(f"'{shown(address)}' names no file: write three slashes, sqlite:///path/to/t2i.db")
    if "?" in address:
        raise DatabaseError(
            f"'{shown(address)}' has a '?', which is no part of a file name here: name its folder by --home"
        )
    if not url.database or url.database == ":memory:":
        raise DatabaseError(f"'{address}' names no file: write sqlite:///path/to/t2i.db")
    return url


def path_of(url: URL) -> Path | None:
    """The file of an SQLite database."""
    return Path(url.database or "") if url.get_backend_name() == "sqlite" else None


def where(address: Address) -> str:
    """For a message: the file, or the address without user and password."""
    url = parse(address)
    return str(path_of(url) or shown(url.render_as_string(hide_password=False)))


def reason(error: BaseException, address: Address) -> str:
    """What the engine or its driver says, in one line and without the secrets of the address."""
    words = " ".join(str(getattr(error, "orig", None) or error).split())
    given = address if isinstance(address, str) else address.render_as_string(hide_password=False)
    return hidden(words, given)
