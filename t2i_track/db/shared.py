"""Rows that several programs may be about to store at once: models, prompts, workers, protocols, scores."""

from __future__ import annotations

from typing import TypeVar

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

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
