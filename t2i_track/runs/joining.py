"""The MLflow run that `mlflow run` or another program has opened for this process (``MLFLOW_RUN_ID``): whose it is."""

from __future__ import annotations

import logging
import os

from sqlalchemy.exc import IntegrityError

from t2i_track import tracking
from t2i_track.db import lineage
from t2i_track.db.models import Run, Sweep
from t2i_track.tracking import Tracker
from t2i_track.workspace import Workspace

log = logging.getLogger(__name__)


def joined_run() -> str | None:
    return os.environ.get("MLFLOW_RUN_ID") or None


def check(tracker: Tracker, join: str | None) -> None:
    """Find out before anything is begun whether MLflow answers and has the run that is to be joined.

    Raises:
        TrackingError: it does not. Missing: it has no such run.
    """
    tracker.check()
    if join is not None:
        tracking.joined(tracker.uri, join)


def join(workspace: Workspace, uri: str, row: Run | Sweep, mlflow_run_id: str) -> str | None:
    """Claim the MLflow run for the row. Where it is another's it stays as it is, and the row goes under it.

    The claim is made in the database, where two programs at the same instant cannot both succeed; the run's tag tells
    programs with another database.

    Returns:
        The MLflow run as parent, where it is taken.
    """
    found = tracking.joined(uri, mlflow_run_id)
    if found.owner in (None, row.uuid) and _claimed(workspace, row, mlflow_run_id):
        row.mlflow_run_id = mlflow_run_id
        return None
    # The UI folds children under their parent only within one experiment.
    row.experiment = found.experiment
    log.warning(
        "the MLflow run %s (MLFLOW_RUN_ID) is that of another run: %s gets one of its own under it",
        mlflow_run_id,
        row.name,
    )
    return mlflow_run_id


def _claimed(workspace: Workspace, row: Run | Sweep, mlflow_run_id: str) -> bool:
    try:
        with workspace.begin() as session:
            if lineage.is_taken(session, mlflow_run_id):
                return False
            stored = session.get_one(Run, row.id) if isinstance(row, Run) else session.get_one(Sweep, row.id)
            stored.mlflow_run_id = mlflow_run_id
    except IntegrityError:  # PostgreSQL lets both look before one of them writes
        return False
    return True
