"""Homes whose rows are in a PostgreSQL database of their own, where the product would take the file in the folder.

The whole suite can be run so (``T2I_TEST_DATABASE=postgresql``, docs/development.md). The one thing that is changed in
the product is the address that a home without ``--db-url`` has; a database is empty until the product writes into it.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import URL

PREFIX = "T2I_TEST_DATABASES"
"""The variable with what the names of the databases of these tests begin with, for the programs that they start."""

_made: set[str] = set()


class _Changed(MetaPathFinder):
    """Changes the workspace when it is imported: a program that needs none is not made to import anything."""

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != "t2i_track.workspace":
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def changed(module: ModuleType) -> None:
            execute(module)
            module.Workspace.url = property(lambda workspace: workspace.db_url or address(workspace.home))

        spec.loader.exec_module = changed  # type: ignore[method-assign]
        return spec


def in_use() -> bool:
    return PREFIX in os.environ


def install() -> None:
    """Change this process; those that it starts are changed by ``sitecustomize`` beside this file."""
    sys.meta_path.insert(0, _Changed())


def name_of(home: Path) -> str:
    return os.environ[PREFIX] + hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:16]


def address(home: Path) -> URL:
    """Of the home's database, which is there afterwards."""
    name = name_of(home)
    if name not in _made:
        with _server() as server:
            if not exists(server, name):
                _create(server, name)
        _made.add(name)
    return _server_url().set(database=name)


def exists(server: psycopg.Connection[Any], name: str) -> bool:
    return server.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone() is not None


def copy(source: Path, target: Path) -> None:
    """The rows of one home, as those of another that had none or others."""
    with _server() as server:
        _drop(server, name_of(target))
        if exists(server, name_of(source)):
            # No one may be connected to what is copied; a pool finds out that its connections are gone.
            closed = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s"
            server.execute(closed, [name_of(source)])
            _create(server, name_of(target), template=name_of(source))


def drop(home: Path) -> None:
    with _server() as server:
        _drop(server, name_of(home))


def drop_all() -> None:
    with _server() as server:
        named = server.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [os.environ[PREFIX]])
        for (name,) in named.fetchall():
            _drop(server, name)


def _create(server: psycopg.Connection[Any], name: str, template: str = "template1") -> None:
    from psycopg import errors, sql

    try:
        server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
    except (errors.DuplicateDatabase, errors.UniqueViolation):
        return  # another program of the test was first


def _drop(server: psycopg.Connection[Any], name: str) -> None:
    from psycopg import sql

    server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
    _made.discard(name)


def _server_url() -> URL:
    from sqlalchemy import make_url

    return make_url(os.environ["T2I_TEST_POSTGRES"])


@contextmanager
def _server() -> Iterator[psycopg.Connection[Any]]:
    import psycopg

    url = _server_url().set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as server:
        yield server
