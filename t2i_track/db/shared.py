"""Rows that several programs may be about to store at once: models, prompts, workers, protocols, scores."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from t2i_track.db.models import Worker

_LOCK = int.from_bytes(b"t2imake!")
"""Held on a PostgreSQL server while such rows are stored; any number, always the same."""

T = TypeVar("T")


def found(session: Session, query: Select[T]) -> T | None:
    """The row, if there is one; if there is none, nobody else stores it until the transaction ends."""
    row = session.scalar(query)
    return session.scalar(query) if row is None and locked(session) else row


def locked(session: Session) -> bool:
    """Let nobody else store what is shared until the transaction ends; whether it has to be looked for again.

    One lock for all of it, since of several two programs could hold those that the other waits for. An SQLite file is
    written by one transaction at a time anyway.
    """
    if session.get_bind().dialect.name != "postgresql":
        return False
    session.execute(select(func.pg_advisory_xact_lock(_LOCK)))
    return True


def store_worker(session: Session, facts: Mapping[str, Any]) -> int:
    """Store a worker once; its id. ``facts``: the columns of its table, but for their hash."""
    sha256 = hashlib.sha256(json.dumps(facts, sort_keys=True, default=dict).encode()).hexdigest()
    key = found(session, select(Worker.id).filter_by(sha256=sha256))
    if key is None:
        worker = Worker(sha256=sha256, **facts)
        session.add(worker)
        session.flush()
        key = worker.id
    return key
