"""What must be said of a run beside its settings: stored with it, printed when it is made, shown with it."""

from __future__ import annotations

from t2i_track.db.models import Run

NOTES = "notes"
"""The key of a run's ``config`` under which they stand, as a list of sentences."""


def stored_notes(run: Run) -> tuple[str, ...]:
    """What was stored; runs of earlier versions have none."""
    return tuple(run.config.get(NOTES, ()))
