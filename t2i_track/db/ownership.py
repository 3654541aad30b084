"""Whose tables they are: another program's database is neither read nor written."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import column, table
from sqlalchemy.engine import URL

from t2i_track.db.address import path_of, where
from t2i_track.errors import DatabaseError

VERSIONS = "alembic_version"
VERSION_TABLE = table(VERSIONS, column("version_num"))
_OURS = {VERSIONS, "images", "manifest_entries", "metric_values", "runs"}
"""Tables that a run database has had since the first schema version."""


def has_ours(names: Iterable[str], url: URL) -> bool:
    """Whether the database has our tables; else it is fresh.

    Raises:
        DatabaseError: it has another program's.
    """
    found = set(names)
    if found >= _OURS:
        return True
    # A PostgreSQL database may be shared where no name is taken twice; an SQLite file is one program's.
    taken = found & _OURS if path_of(url) is None else found
    if taken:
        raise DatabaseError(
            f"the database at {where(url)} is another program's (it has tables {', '.join(sorted(taken)[:3])}):"
            " choose another --home or --db-url"
        )
    return False
