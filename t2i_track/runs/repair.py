"""What `t2i verify --repair` does: pictures made again, and what is not ours moved out of the way.

Nothing is deleted, and nothing is put in a picture's place but a picture of the recorded pixels.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import Timeout
from sqlalchemy import select

from t2i_track.db.models import Image, Run
from t2i_track.db.types import utc_now
from t2i_track.errors import T2IError
from t2i_track.files import alone, link, write_atomically
from t2i_track.images import png
from t2i_track.progress import progress
from t2i_track.runs.claims import TOLERANCE
from t2i_track.runs.faults import Fault, Mends
from t2i_track.runs.plan import MARK_AI
from t2i_track.runs.reproduce import Places, loaded_for, made_again, whole_record
from t2i_track.runs.verify import Verification, placed
from t2i_track.workspace import Workspace


@dataclass(frozen=True)
class Mended:
    """What became of a fault."""

    fault: Fault
    done: bool
    how: str
    """Where it went or how it was made, or why it was left."""


@dataclass(frozen=True)
class _Task:
    """A picture to be made again."""

    fault: Fault
    record: dict[str, Any]
    marked: bool
    sha256: str
    """Of the file as it was written."""


def repair(workspace: Workspace, found: Verification, places: Places) -> list[Mended]:
    """Mend what can be mended of what was found, run by run.

    A picture is made as by `t2i reproduce`, from its row, and put in its place only if its pixels have the recorded
    hash; the file that was there is moved to ``trash/`` in the home, as are foreign and temporary files.
    """
    workspace.require_changeable()
    by_run: dict[str, list[Fault]] = {}
    for fault in found.faults:
        if fault.mends is not Mends.NOTHING:
            by_run.setdefault(fault.run, []).append(fault)
    trash = workspace.trash / f"verify-{utc_now():%Y%m%dT%H%M%S}"
    return [mended for uuid, faults in by_run.items() for mended in _of_run(workspace, uuid, faults, trash, places)]


def _of_run(workspace: Workspace, uuid: str, faults: Sequence[Fault], trash: Path, places: Places) -> Iterator[Mended]:
    with workspace.reading() as session:
        run = session.scalars(select(Run).where(Run.uuid == uuid)).one()
    with contextlib.ExitStack() as held:
        try:
            workspace.run_folder(run).mkdir(parents=True, exist_ok=True)
            held.enter_context(alone(workspace.run_lock(run), timeout=0))
        except Timeout:
            yield from (Mended(fault, False, "the run is being made by another process") for fault in faults)
            return
        into = trash / uuid[:12]
        for fault in faults:
            if fault.mends is Mends.MOVE:
                yield Mended(fault, True, f"moved to {_moved(placed(workspace, fault), into)}")
        torn = [fault for fault in faults if fault.mends is Mends.REMAKE]
        yield from _remade(workspace, run.name, torn, into, places)


def _remade(workspace: Workspace, name: str, faults: Sequence[Fault], into: Path, places: Places) -> Iterator[Mended]:
    tasks = (_task(workspace, fault) for fault in faults)
    loaded: dict[str, Any] = {}
    with progress(f"repairing {name}", len(faults)) as show:
        for done, task in enumerate(tasks, 1):
            try:
                if (twin := _twin(workspace, task)) is not None:
                    yield _linked(workspace, task, twin, into)
                    continue
                maker = str(task.record["run"])
                if maker not in loaded:
                    loaded[maker] = loaded_for(workspace, task.record, places)
                yield _put(workspace, task, made_again(task.record, loaded[maker][0]), loaded[maker][1], into)
            except T2IError as error:
                yield Mended(task.fault, False, str(error))
            finally:
                show(done)


def _task(workspace: Workspace, fault: Fault) -> _Task:
    """With the record of the run that made the picture, where that is another one."""
    with workspace.reading() as session:
        image = session.get_one(Image, fault.image)
        maker, changes = image, {}
        if image.made_by is not None:
            same = (Image.pixels_sha256 == image.pixels_sha256, Image.seed == image.seed)
            found = session.scalars(select(Image).join(Run).where(Run.uuid == image.made_by, *same)).first()
            maker, changes = found or image, {"run": image.made_by}
        record = {**whole_record(session, maker), **changes}
        return _Task(fault, record, bool(maker.run.config.get(MARK_AI)), image.sha256)


def _twin(workspace: Workspace, task: _Task) -> Path | None:
    """Another row's file that is, byte for byte, what this one was: of a picture that several runs have."""
    with workspace.reading() as session:
        query = select(Image).where(Image.sha256 == task.sha256, Image.id != task.fault.image)
        paths = [workspace.image_path(image) for image in session.scalars(query)]
    return next((path for path in paths if path.is_file() and _sha256(path) == task.sha256), None)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _linked(workspace: Workspace, task: _Task, twin: Path, into: Path) -> Mended:
    """The file as a further name of its twin; a copy where the file system has no such links."""
    path = placed(workspace, task.fault)
    kept = _kept(path, into)
    link(twin, path)
    return Mended(task.fault, True, f"taken from {workspace.stored_path(twin)}, which is the same picture{kept}")


def _kept(path: Path, into: Path) -> str:
    """Make room for the picture; in words, where what was there is now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return f", what was there is in {_moved(path, into)}" if os.path.lexists(path) else ""


def _put(workspace: Workspace, task: _Task, pixels: png.Pixels, notes: Sequence[str], into: Path) -> Mended:
    record: Mapping[str, Any] = task.record
    if png.pixels_sha256(pixels) != record["pixels_sha256"]:
        because = f" ({'; '.join(notes)})" if notes else ""
        how = f"made again it has other pixels than were recorded{because}, so nothing was replaced"
        return Mended(task.fault, False, f"{how}: within {TOLERANCE} of 255 is not enough here")
    path = placed(workspace, task.fault)
    kept = _kept(path, into)
    write_atomically(path, png.encode(pixels, dict(record), marked=task.marked))
    return Mended(task.fault, True, f"made again, bit-equal{kept}")


def _moved(path: Path, into: Path) -> Path:
    """The place in the trash: another name where one of that name is there already."""
    into.mkdir(parents=True, exist_ok=True)
    target = into / path.name
    number = 1
    while os.path.lexists(target):
        target = into / f"{path.name}.{number}"
        number += 1
    try:
        path.rename(target)
    except OSError:  # on another disk, as with --outdir
        import shutil

        shutil.move(path, target)
    return target
