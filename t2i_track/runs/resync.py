"""`t2i resync`: everything that MLflow lacks is sent, run by run; what cannot be sent holds up nothing behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress

from sqlalchemy.orm import Session

from t2i_track import tracking
from t2i_track.db import lineage
from t2i_track.db.models import Run, Sweep
from t2i_track.errors import NotFound, TrackingError
from t2i_track.files import remove_left
from t2i_track.runs.content import cell_of
from t2i_track.runs.projection import Sent, home_of, pending, row_of, sent, state_of
from t2i_track.workspace import Workspace

SILENT = 2
"""Runs in a row after which an address that does not answer is given up for this time."""


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
    for lock in workspace.outbox.glob("*.lock"):  # of a process that was killed when all was sent
        remove_left(lock)
    earlier = [_sent_earlier(workspace, run_id, to) for run_id in tracking.unsent(workspace.outbox)]
    with workspace.reading() as session:
        if addresses:
            found = [uuid for address in addresses for uuid in _addressed(session, address, uri if to else None)]
        else:
            found = pending(session, workspace)
        rows = [row_of(session, uuid) for uuid in dict.fromkeys(found)]
    _ = workspace.engine  # a writer, though it may have nothing to write: at its end it folds in a killed one's log
    places = [(row, uri if to else home_of(row, uri)) for row in rows]
    return earlier + list(_in_turn(workspace, places, whole=bool(addresses), anew=bool(addresses or to)))


def _in_turn(
    workspace: Workspace, places: Sequence[tuple[Run | Sweep, str]], *, whole: bool, anew: bool
) -> Iterator[Sent]:
    silent: Counter[str] = Counter()
    reasons: dict[str, str | None] = {}
    for row, uri in places:
        if silent[uri] >= SILENT:
            yield Sent(row.uuid, row.name, "pending", row.mlflow_run_id, reasons[uri], answered=False)
            continue
        with tracking.waiting(f"run {row.name}"):
            one = sent(workspace, row.uuid, uri, whole=whole, anew=anew)
        silent[uri] = 0 if one.answered else silent[uri] + 1
        reasons[uri] = one.reason
        yield one


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
    moves = cell is not None and to is not None and state_of(cell.sweep).get("uri") != tracking.shown(to)
    return [cell.sweep.uuid, run.uuid] if cell is not None and moves else [run.uuid]


def _sent_earlier(workspace: Workspace, run_id: str, to: str | None) -> Sent:
    try:
        refused = tracking.send_unsent(workspace.outbox, run_id, to)
    except TrackingError as error:
        return Sent("", "of an earlier version", "pending", run_id, str(error))
    return Sent("", "of an earlier version", "sent", run_id, "; ".join(refused) or None)
