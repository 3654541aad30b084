"""Runs put away: into the home's trash, with a receipt, hidden everywhere, to be brought back until `t2i gc`."""

from __future__ import annotations

import getpass
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from filelock import Timeout
from sqlalchemy import delete as remove
from sqlalchemy import select
from sqlalchemy.orm import Session

from t2i_track import tracking
from t2i_track.db import lineage
from t2i_track.db.models import Run, Sweep, SweepRun
from t2i_track.db.session import WITH_DELETED
from t2i_track.db.types import utc_now
from t2i_track.errors import Busy, NotFound, TrackingError
from t2i_track.files import alone, write_atomically
from t2i_track.jsontext import json_text
from t2i_track.runs import projection
from t2i_track.runs.projection import state_of
from t2i_track.runs.show import run_record
from t2i_track.workspace import Workspace

RECEIPT = "receipt.json"
PICTURES = "pictures"


@dataclass(frozen=True)
class Moved:
    """What became of a run or sweep."""

    run: str
    name: str
    images: int
    trash: str | None
    """Where its receipt and pictures lie; None of a sweep, and of a run that was brought back."""
    note: str | None = None
    """What was left as it was, and why."""


@dataclass(frozen=True)
class Emptied:
    """What left the trash for good."""

    run: str | None
    """None: files that `t2i verify --repair` had moved there."""
    name: str
    images: int
    bytes: int
    """Of its files; of a picture that other runs have too the disk keeps its part."""
    deleted: datetime


def addressed(session: Session, addresses: Sequence[str]) -> tuple[list[Sweep], list[Run]]:
    """The sweeps and runs with those addresses; a sweep stands for the cells that no other sweep has.

    Raises:
        NotFound, Ambiguous: an address is of none, or of several.
    """
    sweeps, runs = [], []
    for address in addresses:
        try:
            runs.append(lineage.find_run(session, address))
        except NotFound:
            try:
                sweep = lineage.find_sweep(session, address)
            except NotFound:
                raise NotFound(f"no run or sweep '{address}': 't2i runs' lists the runs") from None
            sweeps.append(sweep)
    named = {sweep.id for sweep in sweeps}
    for sweep in sweeps:
        runs += [member.run for member in sweep.members if _sweeps(session, member.run) <= named]
    return sweeps, list(dict.fromkeys(runs))


def _sweeps(session: Session, run: Run) -> set[int]:
    return set(session.scalars(select(SweepRun.sweep_id).where(SweepRun.run_id == run.id)))


def delete(workspace: Workspace, uri: str | None, addresses: Sequence[str]) -> list[Moved]:
    """Put runs away: a receipt is written, the rows are marked, the pictures move, MLflow's runs are hidden.

    A picture that other runs have too stays theirs. Killed in between, a run is put away or it is not; what was not
    moved yet is found by `t2i delete --undo` and `t2i gc`.

    Args:
        workspace: whose runs.
        uri: MLflow's, where a run does not say its own.
        addresses: runs, and sweeps for their cells.

    Raises:
        NotFound, Ambiguous: no such run. Busy: another process makes or reads one.
    """
    workspace.require_changeable()
    with workspace.reading() as session:
        sweeps, runs = addressed(session, addresses)
        uuids, swept = [run.uuid for run in runs], [sweep.uuid for sweep in sweeps]
    moved = [_delete_run(workspace, uri, uuid) for uuid in uuids]
    return [*(_delete_sweep(workspace, uri, uuid) for uuid in swept), *moved]


def _delete_run(workspace: Workspace, uri: str | None, uuid: str) -> Moved:
    with ExitStack() as held:
        with workspace.reading() as session:
            run = _one(session, uuid)
            folder, images = workspace.run_folder(run), lineage.image_counts(session, [run.id]).get(run.id, 0)
            receipt = _receipt(session, workspace, run)
        try:
            if folder.is_dir():
                held.enter_context(alone(workspace.run_lock(run), timeout=0))
        except Timeout:
            raise Busy(f"run {uuid[:12]} is being made by another process: stop it, or wait for it to end") from None
        place = workspace.trash / uuid[:12]
        write_atomically(place / RECEIPT, json_text(receipt).encode(), parents=True)
        with workspace.begin() as session:
            _one(session, uuid).deleted_at = utc_now()
            session.execute(remove(SweepRun).where(SweepRun.run_id == run.id))
    _move(folder, place / PICTURES)
    note = _in_mlflow(tracking.put_away, run, uri)
    return Moved(uuid, run.name, images, str(place), note)


def _receipt(session: Session, workspace: Workspace, run: Run) -> dict[str, Any]:
    cells = select(Sweep.uuid, SweepRun.cell).join(SweepRun).where(SweepRun.run_id == run.id)
    return {
        "deleted_at": utc_now(),
        "by": _user(),
        "folder": str(workspace.run_folder(run)),
        "sweeps": [{"sweep": uuid, "cell": cell} for uuid, cell in session.execute(cells)],
        "run": run_record(session, workspace, run),
    }


def _user() -> str | None:
    with suppress(KeyError, OSError, ImportError):  # a container's user need not have a name
        return getpass.getuser()
    return None


def _delete_sweep(workspace: Workspace, uri: str | None, uuid: str) -> Moved:
    """A sweep is no more than the list of its cells: its row goes, and the cells that other sweeps have stay runs."""
    with workspace.begin() as session:
        sweep = session.scalars(select(Sweep).where(Sweep.uuid == uuid)).one()
        left = [(member.run, state_of(member.run).get("uri")) for member in sweep.members]
        note = _in_mlflow(tracking.put_away, sweep, uri)
        session.execute(remove(SweepRun).where(SweepRun.sweep_id == sweep.id))
        session.execute(remove(Sweep).where(Sweep.id == sweep.id))
    for run, home in left:  # MLflow's runs of what stays say no more that they are of this sweep
        if home is not None and run.deleted_at is None:
            projection.sent(workspace, run.uuid, tracking.resolve(uri))
    return Moved(uuid, sweep.name, 0, None, note)


def restore(workspace: Workspace, uri: str | None, addresses: Sequence[str]) -> list[Moved]:
    """Bring runs back from the trash, and into the sweeps whose cells they were.

    Raises:
        NotFound, Ambiguous: none in the trash has that id, name or MLflow run id.
    """
    workspace.require_changeable()
    with workspace.reading() as session:
        uuids = [_put_away(session, address) for address in addresses]
    return [_restore_run(workspace, uri, uuid) for uuid in dict.fromkeys(uuids)]


def _put_away(session: Session, address: str) -> str:
    session.info[WITH_DELETED] = True
    found = lineage.find_run(session, address, deleted=True)
    return found.uuid


def _restore_run(workspace: Workspace, uri: str | None, uuid: str) -> Moved:
    place = workspace.trash / uuid[:12]
    with workspace.reading() as session:
        run = _one(session, uuid)
        images = lineage.image_counts(session, [run.id]).get(run.id, 0)
    _move(place / PICTURES, workspace.run_folder(run))
    with workspace.begin() as session:
        stored = _one(session, uuid)
        stored.deleted_at = None
        for cell in _cells(place / RECEIPT):
            sweep = session.scalar(select(Sweep).where(Sweep.uuid == cell["sweep"]))
            taken = sweep is not None and any(member.cell == cell["cell"] for member in sweep.members)
            if sweep is not None and not taken:
                lineage.add_to_sweep(session, sweep.id, stored, cell["cell"])
    shutil.rmtree(place, ignore_errors=True)
    return Moved(uuid, run.name, images, None, _in_mlflow(tracking.bring_back, run, uri))


def _cells(receipt: Path) -> list[dict[str, Any]]:
    """None where somebody has removed the receipt: the run is whole without."""
    try:
        cells: list[dict[str, Any]] = json.loads(receipt.read_bytes())["sweeps"]
    except (OSError, ValueError, KeyError):
        return []
    return cells


def _one(session: Session, uuid: str) -> Run:
    session.info[WITH_DELETED] = True
    return session.scalars(select(Run).where(Run.uuid == uuid)).one()


def _move(source: Path, target: Path) -> None:
    if source.is_dir() and not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(source, target)  # by its new name where it is on one disk


def _in_mlflow(change: Any, row: Run | Sweep, uri: str | None) -> str | None:
    """Change the MLflow side; in words, why it is left as it was."""
    if row.mlflow_run_id is None:
        return None
    try:
        change(projection.home_of(row, tracking.resolve(uri)), row.mlflow_run_id)
    except TrackingError as error:
        return f"the MLflow run {row.mlflow_run_id} is left as it is: {error}"
    return None


def trashed(workspace: Workspace, older: timedelta = timedelta()) -> list[Emptied]:
    """What `t2i gc` would remove, the oldest first."""
    with workspace.reading() as session:
        session.info[WITH_DELETED] = True
        runs = list(session.scalars(select(Run).where(Run.deleted_at.is_not(None)).order_by(Run.deleted_at)))
        counts = lineage.image_counts(session, [run.id for run in runs])
    found = [
        Emptied(run.uuid, run.name, counts.get(run.id, 0), _size(workspace.trash / run.uuid[:12]), run.deleted_at)
        for run in runs
        if run.deleted_at is not None
    ]
    limit = utc_now() - older
    return [one for one in [*found, *_moved_files(workspace, runs)] if one.deleted <= limit]


def _moved_files(workspace: Workspace, runs: Sequence[Run]) -> Iterator[Emptied]:
    """What lies in the trash beside runs."""
    known = {run.uuid[:12] for run in runs}
    for place in sorted(workspace.trash.glob("*")):
        if place.name not in known:
            when = datetime.fromtimestamp(place.lstat().st_mtime, utc_now().tzinfo)
            files = sum(path.is_file() for path in place.rglob("*"))
            yield Emptied(None, place.name, files, _size(place), when)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def gc(workspace: Workspace, found: Sequence[Emptied]) -> None:
    """Remove for good: first the files, then the rows, so that a kill leaves nothing without its row."""
    workspace.require_changeable()
    for one in found:
        place = workspace.trash / (one.name if one.run is None else one.run[:12])
        shutil.rmtree(place, ignore_errors=True)
        if one.run is not None:
            with workspace.begin() as session:
                run = _one(session, one.run)
                left = workspace.run_folder(run)
                if left.is_dir():  # of a delete that was killed before it had moved them
                    shutil.rmtree(left, ignore_errors=True)
                session.execute(remove(Run).where(Run.id == run.id))
    with suppress(OSError):
        workspace.trash.rmdir()
