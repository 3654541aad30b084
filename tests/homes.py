"""What tests do with a whole home, wherever it keeps its rows: in its file, or on a server (see conftest.py)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import homes_there
from sqlalchemy import MetaData, create_engine, func, insert, inspect, select, text
from sqlalchemy.engine import URL, Connection

from t2i_track.db import session as database
from t2i_track.db.ownership import VERSIONS
from t2i_track.workspace import DATABASE, Workspace

STORED = Path(__file__).parent / "data"
"""Has the homes of earlier schemas, each with its file."""


def copy_home(source: Path, target: Path) -> Path:
    """The folder with its rows; returns the target."""
    shutil.copytree(source, target)
    if homes_there.in_use():
        homes_there.copy(source, target)
        (target / DATABASE).unlink(missing_ok=True)
        if (source / DATABASE).is_file():
            _load(source / DATABASE, homes_there.address(target))
    return target


def _load(file: Path, address: URL) -> None:
    """The rows of a stored file, in the schema that it has."""
    source, target = create_engine(f"sqlite:///{file}"), create_engine(address)
    tables, there = MetaData(), MetaData()
    tables.reflect(source)
    with source.connect() as reading:
        database.upgrade(address, reading.execute(text(f"SELECT version_num FROM {VERSIONS}")).scalar_one())
        there.reflect(target)
        with target.begin() as writing:
            for table in there.sorted_tables:
                rows = [dict(row) for row in reading.execute(select(tables.tables[table.name])).mappings()]
                if table.name != VERSIONS and rows:
                    writing.execute(insert(table), rows)
                    last = max(row["id"] for row in rows)
                    writing.execute(select(func.setval(func.pg_get_serial_sequence(table.name, "id"), last)))
    source.dispose()
    target.dispose()


def has_database(home: Path) -> bool:
    """Whether anything of ours was ever written there."""
    if not homes_there.in_use():
        return (home / DATABASE).exists()
    with connected(home) as connection:
        return bool(inspect(connection).get_table_names())


def forget_database(home: Path) -> None:
    homes_there.drop(home) if homes_there.in_use() else (home / DATABASE).unlink()


@contextmanager
def connected(home: Path) -> Iterator[Connection]:
    """Past the product: no check of the schema, no objects; committed at the end."""
    engine = create_engine(Workspace(home).url)
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def rows(home: Path, query: str) -> list[dict[str, Any]]:
    with connected(home) as connection:
        return [dict(row) for row in connection.execute(text(query)).mappings()]


def tables(home: Path) -> list[str]:
    with connected(home) as connection:
        return sorted(inspect(connection).get_table_names())
