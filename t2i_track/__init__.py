"""A laboratory notebook for text-to-image models: tracked runs, queryable lineage, rankings with error bars."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

__all__ = ["open_database"]


def open_database(home: str | Path | None = None, *, db_url: str | None = None) -> Session:
    """A SQLAlchemy session on the run database that can only read; the tables are in ``t2i_track.db.models``.

    Args:
        home: the home folder; default: ``T2I_HOME``, else ``t2i-data``.
        db_url: an SQLAlchemy URL, instead of the database in the home folder; default: ``T2I_DB_URL``.

    Returns:
        A session, to be used as a context manager. Whatever would write is refused by the database engine.

    Raises:
        t2i_track.errors.DatabaseError: there is no database, or its schema is another version's.
    """
    from sqlalchemy.orm import Session

    from t2i_track.db.session import read_engine
    from t2i_track.workspace import DEFAULT_HOME, Workspace

    folder = Path(home or os.environ.get("T2I_HOME") or DEFAULT_HOME)
    # A home that is named means its own database, whatever the environment says.
    url = db_url or (None if home is not None else os.environ.get("T2I_DB_URL"))
    return Session(read_engine(Workspace(home=folder, db_url=url or None).url))
