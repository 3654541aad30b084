"""What adaptive sweeps decided: rows that are added, never changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from t2i_track.db.models import Decision, Run, Sweep


def decisions_of(session: Session, sweep_id: int) -> list[Decision]:
    """Of a sweep, in the order in which they were made; but for those on runs that are in the trash."""
    query = select(Decision).join(Run).where(Decision.sweep_id == sweep_id).order_by(Decision.look, Decision.id)
    return list(session.scalars(query))


def decisions_of_run(session: Session, run_id: int) -> list[Decision]:
    """Of a run, in all sweeps that it is a cell of, the oldest first."""
    return list(session.scalars(select(Decision).where(Decision.run_id == run_id).order_by(Decision.id)))


def looks_stored(session: Session, sweep_id: int) -> int:
    """How many looks of a sweep have their decisions."""
    newest = session.scalar(select(func.max(Decision.look)).where(Decision.sweep_id == sweep_id))
    return 0 if newest is None else int(newest) + 1


def add_decisions(session: Session, sweep: Sweep, rows: Iterable[Mapping[str, Any]]) -> None:
    """A look's decisions, in one transaction with whatever else it changes."""
    session.add_all([Decision(sweep_id=sweep.id, **row) for row in rows])
