"""MLflow as a projection of the database: where a run's MLflow side is, what of it has been written, what is missing.

The database keeps, with each run and sweep, the address of its MLflow side and the digest of each part as it was
written last (``content.STATE``). A part whose rows have another digest is known to be missing in MLflow, whatever was
killed or unreachable in between; the next command that ends or scores the run writes it, or ``t2i resync``. Time stamps
and file names come from the rows, so that what is written again is there once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from filelock import FileLock, Timeout
from sqlalchemy import select
from sqlalchemy.orm import Session

from t2i_track import tracking
from t2i_track.db import lineage
from t2i_track.db.models import Run, Sweep
from t2i_track.errors import Missing, NotFound, TrackingError
from t2i_track.runs.content import STATE, Part, cell_of, parts, sweep_title
from t2i_track.tracking import Opening, RunInfo, Tracker
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

    @property
    def complete(self) -> bool:
        return self.state == "sent" and self.reason is None


def start(workspace: Workspace, tracker: Tracker, row: Run | Sweep, join: str | None, **values: Any) -> None:
    """Open the MLflow run of a run that begins or goes on, and store where it is with the row's other new values.

    The rest is written by the tracker's thread.

    Raises:
        TrackingError: MLflow cannot be reached, or its run or experiment is deleted.
    """
    if row.mlflow_run_id in tracking.unsent(tracker.outbox):
        tracking.send_unsent(tracker.outbox, row.mlflow_run_id, tracker.uri)
    try:
        info = tracking.open_run(tracker.uri, _opening(row), known=row.mlflow_run_id, join=join)
    except Missing:
        _explain_moved(row, tracking.shown(tracker.uri))
        raise
    # A run that `mlflow run` opened is in the experiment that was named there.
    row.mlflow_run_id, row.experiment = info.run_id, info.experiment
    with workspace.begin() as session:
        stored = _row(session, row.uuid)
        for name, value in {**values, "mlflow_run_id": info.run_id, "experiment": info.experiment}.items():
            setattr(stored, name, value)
        remember(stored, uri=tracking.shown(tracker.uri))
    uuid = row.uuid

    def write() -> None:
        with suppress(Timeout):  # whoever writes it now writes it whole
            _send(workspace, uuid, tracker.uri)

    tracker.later(info.run_id, write)


def _explain_moved(row: Run | Sweep, uri: str) -> None:
    """Say where the run is, if that is known and not here."""
    home = _state(row).get("uri")
    if home not in (None, uri):
        raise TrackingError(
            f"the MLflow run of {row.name} is at {home}: set MLFLOW_TRACKING_URI to it, or move it back with"
            f" `t2i resync {row.uuid[:12]} --to {uri}`"
        ) from None


def send(workspace: Workspace, tracker: Tracker, row: Run | Sweep) -> Sent:
    """Write what MLflow lacks of a run that has ended or was scored, where the tracker or else the run says."""
    if row.mlflow_run_id is not None:
        tracker.settle(row.mlflow_run_id)
    with workspace.reading() as session:
        if not _state(_row(session, row.uuid)):  # of an earlier version, and nothing has changed
            return Sent(row.uuid, row.name, "sent", row.mlflow_run_id)
    sent = _sent(workspace, row.uuid, tracker.uri)
    if not sent.complete:
        log.warning("not all of %s is in MLflow (%s): `t2i resync` sends what is missing", sent.name, sent.reason)
    return sent


def remember(row: Run | Sweep, **changes: Any) -> None:
    """Change what is known of the row's MLflow side; from now on what is missing there is noticed."""
    state = {"uri": None, "sent": {}, **_state(row), **changes}
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
    return [row.uuid for row in rows if _state(row) and _missing(session, workspace, row, _state(row)["sent"])]


def resync(workspace: Workspace, addresses: Sequence[str], to: str | None) -> list[Sent]:
    """Send MLflow what it lacks.

    Args:
        workspace: whose runs.
        addresses: runs and sweeps that are written whole, and made anew where their MLflow run is gone or deleted; a
            sweep stands for its cells too. None: what is known to be missing of all.
        to: tracking URI to which the runs move; None: each stays where it is.

    Raises:
        NotFound, Ambiguous: an address is of no run or of several.
    """
    workspace.require_changeable()
    uri = tracking.resolve(to)
    earlier = [_sent_earlier(workspace, run_id, to) for run_id in tracking.unsent(workspace.outbox)]
    with workspace.reading() as session:
        if addresses:
            found = [uuid for address in addresses for uuid in _addressed(session, address, uri if to else None)]
        else:
            found = pending(session, workspace)
        homes = {uuid: _home(_row(session, uuid), uri) for uuid in found}
    return earlier + [
        _sent(workspace, uuid, uri if to else homes[uuid], whole=bool(addresses), anew=bool(addresses or to))
        for uuid in dict.fromkeys(found)
    ]


def _addressed(session: Session, address: str, to: str | None) -> list[str]:
    """The run, behind the sweep that it was made in where that has to move too; or the sweep and its cells."""
    try:
        run = lineage.find_run(session, address)
    except NotFound:
        with suppress(NotFound):
            sweep = lineage.find_sweep(session, address)
            return [sweep.uuid, *(member.run.uuid for member in sweep.members)]
        raise
    cell = cell_of(session, run)
    moves = cell is not None and to is not None and _state(cell.sweep).get("uri") != tracking.shown(to)
    return [cell.sweep.uuid, run.uuid] if cell is not None and moves else [run.uuid]


def _sent(workspace: Workspace, uuid: str, uri: str, *, whole: bool = False, anew: bool = False) -> Sent:
    with workspace.reading() as session:
        row = _row(session, uuid)
    state, reason, run_id = "sent", None, row.mlflow_run_id
    try:
        run_id, refused = _send(workspace, uuid, uri, whole=whole, anew=anew)
        reason = "; ".join(refused) or None
    except Timeout:
        state, reason = "busy", "another process is writing it"
    except TrackingError as error:
        state, reason = "pending", str(error)
    return Sent(uuid, row.name, state, run_id, reason)


def _send(
    workspace: Workspace, uuid: str, uri: str, *, whole: bool = False, anew: bool = False
) -> tuple[str, list[str]]:
    """Write what is missing, or the ``whole``; the MLflow run, and what MLflow will never take.

    Raises:
        TrackingError: MLflow does not answer. Timeout: another process or thread writes this run.
    """
    with _alone(workspace, uuid):
        with workspace.reading() as session:
            row = _row(session, uuid)
            if not whole and not _missing(session, workspace, row, _state(row)["sent"]):
                return str(row.mlflow_run_id), []
            uri, info = _found(row, uri, anew)
            here = (tracking.shown(uri), info.run_id) == (_state(row).get("uri"), row.mlflow_run_id)
            sent = _state(row)["sent"] if here and not whole else {}
            missing = _missing(session, workspace, row, sent, _parent(session, row, uri))
            refused = [line for part in missing.values() for line in tracking.write(uri, info.run_id, part.content())]
            sent = {**sent, **{name: part.digest for name, part in missing.items()}}
        with workspace.begin() as session:
            row = _row(session, uuid)
            row.mlflow_run_id, row.experiment = info.run_id, info.experiment
            remember(row, uri=tracking.shown(uri), sent=sent)
    return info.run_id, refused


def _found(row: Run | Sweep, uri: str, anew: bool) -> tuple[str, RunInfo]:
    """The MLflow run and its address: the one given, or else, unless it may be made ``anew``, the one stored."""
    try:
        return uri, tracking.open_run(uri, _opening(row), known=row.mlflow_run_id, anew=anew)
    except Missing:
        home = _state(row).get("uri")
        if home is None or home == tracking.shown(uri):
            raise
        return home, tracking.open_run(home, _opening(row), known=row.mlflow_run_id)


def _sent_earlier(workspace: Workspace, run_id: str, to: str | None) -> Sent:
    try:
        refused = tracking.send_unsent(workspace.outbox, run_id, to)
    except TrackingError as error:
        return Sent("", "of an earlier version", "pending", run_id, str(error))
    return Sent("", "of an earlier version", "sent", run_id, "; ".join(refused) or None)


def _opening(row: Run | Sweep) -> Opening:
    if isinstance(row, Sweep):
        return Opening(row.experiment, sweep_title(row), ("t2i.sweep_id", row.uuid), row.created_at)
    return Opening(row.experiment, row.name, ("t2i.run", row.uuid), row.started_at or row.created_at)


def _state(row: Run | Sweep) -> dict[str, Any]:
    found: dict[str, Any] = (row.config if isinstance(row, Run) else row.spec).get(STATE, {})
    return found


def _home(row: Run | Sweep, default: str) -> str:
    """Where the row's MLflow side is. The database keeps no password: the same address with one is taken from here."""
    uri = _state(row).get("uri")
    return default if uri is None or uri == tracking.shown(default) else str(uri)


def _row(session: Session, uuid: str) -> Run | Sweep:
    row = session.scalar(select(Run).where(Run.uuid == uuid))
    return row or session.scalars(select(Sweep).where(Sweep.uuid == uuid)).one()


def _missing(
    session: Session, workspace: Workspace, row: Run | Sweep, sent: Mapping[str, str], parent: str | None = None
) -> dict[str, Part]:
    found = parts(session, workspace, row, parent)
    return {name: part for name, part in found.items() if sent.get(name) != part.digest}


def _parent(session: Session, row: Run | Sweep, uri: str) -> str | None:
    """The MLflow run of the sweep that the run was made in, where that is at the same address."""
    cell = cell_of(session, row) if isinstance(row, Run) else None
    there = cell is not None and _state(cell.sweep).get("uri") == tracking.shown(uri)
    return cell.sweep.mlflow_run_id if cell is not None and there else None


@contextmanager
def _alone(workspace: Workspace, uuid: str) -> Iterator[None]:
    """One process at a time: an older state must not be written over a newer one."""
    workspace.outbox.mkdir(parents=True, exist_ok=True)
    lock = FileLock(workspace.outbox / f"{uuid}.lock")
    with lock.acquire(timeout=0):
        try:
            yield
        finally:
            # While it is held: another process that has the file open sees that it has no name any more.
            (workspace.outbox / f"{uuid}.lock").unlink(missing_ok=True)
