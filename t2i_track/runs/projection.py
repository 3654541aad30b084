"""MLflow as a projection of the database: where a run's MLflow side is, what of it has been written, what is missing.

The database keeps, with each run and sweep, the address of its MLflow side and the digest of each part as it was
written last (``content.STATE``). A part whose rows have another digest is known to be missing in MLflow, whatever was
killed or unreachable in between; the next command that ends or scores the run writes it, or ``t2i resync``. Time stamps
and file names come from the rows, so that what is written again is there once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from filelock import Timeout
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from t2i_track import tracking
from t2i_track.db.models import Run, Sweep
from t2i_track.errors import DatabaseError, Missing, Refused, T2IError, TrackingError
from t2i_track.files import alone, remove_left
from t2i_track.runs import joining
from t2i_track.runs.content import STATE, Part, cell_of, parts, sweep_title
from t2i_track.tracking import RUN_TAG, SWEEP_TAG, Content, Opening, RunInfo, Tracker
from t2i_track.workspace import Workspace

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sent:
    """What became of a run's MLflow side."""

    run: str
    name: str
    state: str
    """sent, pending, or busy: another process is writing it."""
    mlflow_run_id: str | None
    reason: str | None = None
    """Why it is pending, or what of it MLflow will never take."""
    answered: bool = True
    """Whether MLflow was there, so that there is sense in asking it for the next run."""

    @property
    def complete(self) -> bool:
        return self.state == "sent" and self.reason is None


def start(workspace: Workspace, tracker: Tracker, row: Run | Sweep, join: str | None, **values: Any) -> None:
    """Open the MLflow run of a run that begins or goes on, and store where it is with the row's other new values.

    The rest is written by the tracker's thread. ``join`` is the MLflow run that a new one takes, if it is free.

    Raises:
        TrackingError: MLflow cannot be reached, or its run or experiment is deleted.
    """
    if row.mlflow_run_id in tracking.unsent(tracker.outbox):
        try:
            tracking.send_unsent(tracker.outbox, row.mlflow_run_id, tracker.uri)
        except TrackingError as error:
            log.warning("what an earlier version has not sent of %s still waits: %s", row.name, error)
    with tracking.waiting(f"run {row.name} is opened"):
        info, parent = _opened(workspace, tracker.uri, row, join)
    # A run that `mlflow run` opened is in the experiment that was named there.
    row.mlflow_run_id, row.experiment = info.run_id, info.experiment
    with workspace.begin() as session:
        stored = row_of(session, row.uuid)
        for name, value in {**values, "mlflow_run_id": info.run_id, "experiment": info.experiment}.items():
            setattr(stored, name, value)
        remember(stored, uri=tracking.shown(tracker.uri), parent=parent, reason=None)
    uuid = row.uuid

    def write() -> None:
        with suppress(Timeout):  # whoever writes it now writes it whole
            try:
                _send(workspace, uuid, tracker.uri)
            except (OSError, SQLAlchemyError, DatabaseError) as error:  # full or locked: tried again as an outage is
                raise TrackingError(f"cannot keep what was sent to MLflow ({error})") from error

    tracker.later(info.run_id, write)


def _opened(workspace: Workspace, uri: str, row: Run | Sweep, join: str | None) -> tuple[RunInfo, str | None]:
    """The row's MLflow run, and the joined one that it is folded under, if any."""
    parent = _joined_parent(row, uri)
    if join is not None and row.mlflow_run_id is None:
        parent = joining.join(workspace, uri, row, join)
    try:
        return tracking.open_run(uri, _opening(row), known=row.mlflow_run_id), parent
    except Missing:
        _explain_moved(row, tracking.shown(uri))
        raise


def _explain_moved(row: Run | Sweep, uri: str) -> None:
    """Say where the run is, if that is known and not here."""
    home = state_of(row).get("uri")
    if home not in (None, uri):
        raise TrackingError(
            f"the MLflow run of {row.name} is at {home}: set MLFLOW_TRACKING_URI to it, or move it back with"
            f" `t2i resync {row.uuid[:12]} --to {uri}`"
        ) from None


def send(workspace: Workspace, tracker: Tracker, row: Run | Sweep) -> Sent:
    """Write what MLflow lacks of a run that has ended or was scored, where the tracker or else the run says."""
    with tracking.waiting(f"what is left of {row.name}", tracker.limit):
        if row.mlflow_run_id is not None:
            tracker.settle(row.mlflow_run_id)
        with workspace.reading() as session:
            if not state_of(row_of(session, row.uuid)):  # of an earlier version, and nothing has changed
                return Sent(row.uuid, row.name, "sent", row.mlflow_run_id)
        found = sent(workspace, row.uuid, tracker.uri)
    if not found.complete:
        log.warning("not all of %s is in MLflow (%s): `t2i resync` sends what is missing", found.name, found.reason)
    return found


def remember(row: Run | Sweep, **changes: Any) -> None:
    """Change what is known of the row's MLflow side; from now on what is missing there is noticed."""
    state = {"uri": None, "sent": {}, **state_of(row), **changes}
    if isinstance(row, Run):
        row.config = {**row.config, STATE: state}
    else:
        row.spec = {**row.spec, STATE: state}


def pending(session: Session, workspace: Workspace) -> list[str]:
    """The runs and sweeps of which MLflow is known to lack something, as ids, sweeps first.

    Nothing is known of those that an earlier version has made and no command has touched since.
    """
    rows: list[Run | Sweep] = [*session.scalars(select(Sweep).order_by(Sweep.id))]
    rows += session.scalars(select(Run).order_by(Run.id))
    return [row.uuid for row in rows if lacking(session, workspace, row)]


def lacking(session: Session, workspace: Workspace, row: Run | Sweep) -> list[str]:
    """The parts that MLflow is known to lack; none of a row that no command has touched since an earlier version."""
    return list(_missing(session, workspace, row, state["sent"])) if (state := state_of(row)) else []


def told(session: Session, workspace: Workspace, row: Run) -> list[Content]:
    """What MLflow should say of a run that can be read in it at once: its settings, status and scores."""
    found = parts(session, workspace, row)
    names = ("run", "scores") if state_of(row) else ("run",)  # earlier versions named scores otherwise
    return [found[name].content() for name in names if name in found]


def home_of(row: Run | Sweep, default: str) -> str:
    """Where the row's MLflow side is. The database keeps no password: the same address with one is taken from here."""
    uri = state_of(row).get("uri")
    return default if uri is None or uri == tracking.shown(default) else str(uri)


def sent(workspace: Workspace, uuid: str, uri: str, *, whole: bool = False, anew: bool = False) -> Sent:
    """Write what is missing, or the ``whole``; whatever keeps it from being written is in the answer."""
    with workspace.reading() as session:
        row = row_of(session, uuid)
    state, reason, run_id, answered = "sent", None, row.mlflow_run_id, True
    try:
        run_id, refused = _send(workspace, uuid, uri, whole=whole, anew=anew)
        reason = "; ".join(refused) or None
    except Timeout:
        state, reason = "busy", "another process is writing it"
    except (T2IError, OSError, SQLAlchemyError) as error:
        state, reason = "pending", " ".join(str(error).split())
        answered = not isinstance(error, TrackingError) or isinstance(error, Missing | Refused)
    return Sent(uuid, row.name, state, run_id, reason, answered)


def _send(
    workspace: Workspace, uuid: str, uri: str, *, whole: bool = False, anew: bool = False
) -> tuple[str, list[str]]:
    """Write what is missing, or the ``whole``; the MLflow run, and what MLflow will never take.

    Raises:
        TrackingError: MLflow does not answer. Timeout: another process or thread writes this run.
    """
    with _alone(workspace, uuid):
        with workspace.reading() as session:
            row = row_of(session, uuid)
            if isinstance(row, Run):  # of a process that was killed after its last row
                remove_left(workspace.run_lock(row))
            if not whole and not _missing(session, workspace, row, state_of(row)["sent"]):
                return str(row.mlflow_run_id), []
            uri, info = _found(row, uri, anew)
            here = (tracking.shown(uri), info.run_id) == (state_of(row).get("uri"), row.mlflow_run_id)
            sent = state_of(row)["sent"] if here and not whole else {}
            missing = _missing(session, workspace, row, sent, _parent(session, row, uri))
            refused = [line for part in missing.values() for line in tracking.write(uri, info.run_id, part.content())]
            sent = {**sent, **{name: part.digest for name, part in missing.items()}}
        with workspace.begin() as session:
            row = row_of(session, uuid)
            row.mlflow_run_id, row.experiment = info.run_id, info.experiment
            remember(row, uri=tracking.shown(uri), sent=sent, parent=_joined_parent(row, uri))
    return info.run_id, refused


def _found(row: Run | Sweep, uri: str, anew: bool) -> tuple[str, RunInfo]:
    """The MLflow run and its address: the one given, or else, unless it may be made ``anew``, the one stored."""
    try:
        return uri, tracking.open_run(uri, _opening(row), known=row.mlflow_run_id, anew=anew)
    except Missing:
        home = state_of(row).get("uri")
        if home is None or home == tracking.shown(uri):
            raise
        return home, tracking.open_run(home, _opening(row), known=row.mlflow_run_id)


def _opening(row: Run | Sweep) -> Opening:
    if isinstance(row, Sweep):
        return Opening(row.experiment, sweep_title(row), (SWEEP_TAG, row.uuid), row.created_at)
    return Opening(row.experiment, row.name, (RUN_TAG, row.uuid), row.started_at or row.created_at)


def state_of(row: Run | Sweep) -> dict[str, Any]:
    found: dict[str, Any] = (row.config if isinstance(row, Run) else row.spec).get(STATE, {})
    return found


def row_of(session: Session, uuid: str) -> Run | Sweep:
    row = session.scalar(select(Run).where(Run.uuid == uuid))
    return row or session.scalars(select(Sweep).where(Sweep.uuid == uuid)).one()


def _missing(
    session: Session, workspace: Workspace, row: Run | Sweep, sent: Mapping[str, str], parent: str | None = None
) -> dict[str, Part]:
    found = parts(session, workspace, row, parent)
    return {name: part for name, part in found.items() if sent.get(name) != part.digest}


def _parent(session: Session, row: Run | Sweep, uri: str) -> str | None:
    """The MLflow run that the row's is folded under, its sweep's or a joined one, where that is at the same address."""
    cell = cell_of(session, row) if isinstance(row, Run) else None
    if cell is None:
        return _joined_parent(row, uri)
    return cell.sweep.mlflow_run_id if state_of(cell.sweep).get("uri") == tracking.shown(uri) else None


def _joined_parent(row: Run | Sweep, uri: str) -> str | None:
    state = state_of(row)
    return state.get("parent") if state.get("uri") == tracking.shown(uri) else None


@contextmanager
def _alone(workspace: Workspace, uuid: str) -> Iterator[None]:
    """One process at a time: an older state must not be written over a newer one."""
    workspace.outbox.mkdir(parents=True, exist_ok=True)
    with alone(workspace.outbox / f"{uuid}.lock", timeout=0):
        yield
