"""What tests do with a whole home, wherever it keeps its rows: in its file, or on a server (see conftest.py)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import homes_there
from sqlalchemy import MetaData, create_engine, func, insert, inspect, select, text
from sqlalchemy.engine import Connection

from t2i_track.db import session as database
from t2i_track.db.address import Address
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
            load(source / DATABASE, homes_there.address(target))
    return target


def load(file: Path, address: Address) -> dict[str, int]:
    """Put the rows of a stored file into an empty database, in the file's schema; returns how many, by table."""
    source, target = create_engine(f"sqlite:///{file}"), create_engine(address)
    tables, there, counts = MetaData(), MetaData(), {}
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
                    counts[table.name] = len(rows)
    source.dispose()
    target.dispose()
    return counts


def copy_rows(source: Path, target: Path) -> None:
    """What is missing where the folders were copied already, the target in the place of what was there."""
    if homes_there.in_use():
        homes_there.copy(source, target)


def has_database(home: Path) -> bool:
    """Whether anything of ours was ever written there."""
    return bool(tables(home)) if homes_there.in_use() else (home / DATABASE).exists()


def forget_database(home: Path) -> None:
    homes_there.drop(home) if homes_there.in_use() else (home / DATABASE).unlink(missing_ok=True)


@contextmanager
def connected(home: Path) -> Iterator[Connection]:
    """To be changed past the product, which would check the schema; committed at the end."""
    engine = create_engine(Workspace(home).url)
    with engine.begin() as connection:
        yield connection
    engine.dispose()


@contextmanager
def _reading(home: Path) -> Iterator[Connection]:
    engine = database.any_read_engine(Workspace(home).url)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def rows(home: Path, query: str) -> list[dict[str, Any]]:
    """As a file has them, JSON as text, whatever the schema.

    Raises:
        NoDatabase: there is no file; sqlalchemy.exc.DBAPIError: there are no such tables.
    """
    with _reading(home) as connection:
        found = connection.execute(text(query)).mappings()
        return [{name: _as_text(value) for name, value in row.items()} for row in found]


def _as_text(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict | list) else value


def tables(home: Path) -> list[str]:
    with _reading(home) as connection:
        return sorted(inspect(connection).get_table_names())
