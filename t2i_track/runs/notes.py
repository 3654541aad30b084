"""What must be said of a run beside its settings: stored with it, printed when it is made, shown with it."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from t2i_track.db import workers
from t2i_track.db.models import Run

NOTES = "notes"
"""The key of a run's ``config`` under which they stand, as a list of sentences."""
_MIXED = "its pictures were made on devices of several kinds, which differ in rounding: "


def stored_notes(run: Run) -> tuple[str, ...]:
    """What was stored; runs of earlier versions have none."""
    return tuple(run.config.get(NOTES, ()))


def mixed(session: Session, run: Run) -> dict[str, Any]:
    """The run's notes with one on workers of several kinds, where there were such; nothing else is changed."""
    kinds = {_kind(worker.environment) for worker in workers.workers_of(session, run)}
    if len(kinds) < 2:
        return {}
    others = [note for note in run.config.get(NOTES, ()) if not note.startswith(_MIXED)]
    return {NOTES: [*others, f"{_MIXED}{', '.join(sorted(kinds))}"]}


def _kind(environment: dict[str, Any]) -> str:
    """A device and its version of torch, in words."""
    device = environment.get("gpu") or f"{environment['cpu_capability']} with {environment['threads']} threads"
    return f"{device} (torch {environment['versions'].get('torch')})"
