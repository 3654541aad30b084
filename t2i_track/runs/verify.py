"""Whether what is stored is true: files against rows, rows against files, seeds, scores and MLflow. Reads only."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from t2i_track import tracking
from t2i_track.db import lineage, workers
from t2i_track.db.models import Image, ManifestEntry, Prompt, Run, RunStatus
from t2i_track.errors import Missing, TrackingError
from t2i_track.files import TEMPORARY, is_held
from t2i_track.images.decoding import Note, has
from t2i_track.images.seeds import image_seed
from t2i_track.notebook import Shown
from t2i_track.progress import progress
from t2i_track.runs import projection, scored
from t2i_track.runs.faults import Fault, Kind, Mends
from t2i_track.runs.picture_files import Expected, Found, look, read_record
from t2i_track.runs.record import picture_record
from t2i_track.settings import DECLARED, Decides
from t2i_track.workspace import Workspace

THREADS = os.cpu_count() or 1
"""That read and hash; both leave Python's lock to others."""
TOGETHER = 16
"""Files that a thread takes at once: of small ones, taking turns would cost more than reading."""
CHUNK = 500
"""Values of one statement, below the databases' limits."""
SHARED = (
    *(
        name
        for name, declared in DECLARED.items()
        if declared.decides is Decides.PIXELS and not declared.place and name != "seed"
    ),
    "weights_sha256",
    "lora_sha256",
)
"""What the record of a file has to say that another run has made: the rest, and where weights were, is that run's."""


@dataclass(frozen=True)
class Verification(Shown):
    """What was looked at, and what is wrong."""

    runs: int
    images: int
    faults: tuple[Fault, ...]
    notes: tuple[str, ...] = ()
    """What was not checked and why, and what is odd without being wrong."""

    def rows(self) -> list[dict[str, Any]]:
        return [dataclasses.asdict(fault) for fault in self.faults]

    def lines(self) -> list[str]:
        return [*self.notes, self.summary]

    @property
    def summary(self) -> str:
        looked = f"{self.images} images of {self.runs} run{'' if self.runs == 1 else 's'}"
        if not self.faults:
            return f"{looked}: all is as it was recorded"
        counts = {kind: sum(fault.kind is kind for fault in self.faults) for kind in Kind}
        told = ", ".join(f"{number} {kind}" for kind, number in counts.items() if number)
        return f"{looked}: {len(self.faults)} fault{'' if len(self.faults) == 1 else 's'} ({told})"


@dataclass(frozen=True, slots=True)
class _Row:
    """An image's row, with the path of its file as the database has it."""

    image: int
    stored: str
    expected: Expected
    faults: tuple[Fault, ...]


def verify(workspace: Workspace, addresses: Sequence[str] = (), *, mlflow: bool = True) -> Verification:
    """Look at runs, by default at all of the home that are not deleted.

    Args:
        workspace: whose runs; nothing of it is changed.
        addresses: runs. mlflow: whether to ask MLflow too.

    Raises:
        NotFound, Ambiguous: an address is of no run or of several.
    """
    faults: list[Fault] = []
    notes: list[str] = []
    silent: dict[str, str] = {}
    images = 0
    with workspace.reading() as session:
        runs = _runs(session, addresses)
        for run in runs:
            rows = list(stored_rows(session, workspace, run))
            images += len(rows)
            busy = is_held(workspace.run_lock(run))
            found = [*_of_files(session, run, rows, notes), *_of_the_folder(session, workspace, run, busy)]
            found += _of_the_run(session, workspace, run, len(rows))
            if mlflow and not busy and (run.origin is None or run.mlflow_run_id is not None):
                found += _of_mlflow(session, workspace, run, silent)
            if busy:
                notes.append(f"run {run.uuid[:12]} is being made: only the pictures that it has rows of were looked at")
            faults += sorted(found, key=lambda fault: (list(Kind).index(fault.kind), fault.path))
    notes += [f"MLflow was not asked: {reason}" for reason in silent.values()]
    return Verification(len(runs), images, tuple(faults), tuple(notes))


def _runs(session: Session, addresses: Sequence[str]) -> list[Run]:
    if addresses:
        return list(dict.fromkeys(lineage.find_run(session, address) for address in addresses))
    return list(session.scalars(select(Run).order_by(Run.id)))


def stored_rows(session: Session, workspace: Workspace, run: Run) -> Iterator[_Row]:
    """The run's images, with what is wrong with their rows by themselves."""
    names = ("id", "path", "sha256", "pixels_sha256", "height", "width", "made_by", "note", "batch_size", "prompt_id",
             "worker_id")  # fmt: skip
    own = ("prompt_index", "replicate", "seed", "tokens", "truncated")
    query = (
        select(*(getattr(Image, name) for name in (*names, *own)), Prompt.text, Prompt.sha256)
        .join(Prompt)
        .where(Image.run_id == run.id)
        .order_by(Image.prompt_index, Image.replicate)
    )
    positions = select(ManifestEntry.position, ManifestEntry.prompt_id)
    listed = session.execute(positions.where(ManifestEntry.manifest_id == run.manifest_id))
    prompts = {position: prompt_id for position, prompt_id in listed}  # noqa: C416 - rows are no tuples to mypy
    # As JSON has it, which is what stands in the files.
    negatives = lineage.own_negatives(session, run.manifest_id, run.num)
    common = None if run.origin is not None else json.loads(json.dumps(picture_record(run)))
    threads = workers.threads_of_workers(session, run)
    for *values, text, digest in session.execute(query):
        row: dict[str, Any] = dict(zip((*names, *own), values, strict=True))
        place = {name: row[name] for name in own} | {"prompt": text}
        if row["prompt_index"] in negatives:
            place["negative_prompt"] = negatives[row["prompt_index"]]
        if row["worker_id"] is not None:
            place["threads"] = threads[row["worker_id"]]
        record = None if common is None else _record(common, row, place)
        expected = Expected(
            workspace.home / row["path"], row["sha256"], row["pixels_sha256"], (row["height"], row["width"]), record
        )
        told = [] if common is None else list(_row_faults(run, row, text, digest, prompts.get(row["prompt_index"])))
        faults = tuple(Fault(run.uuid, kind, row["path"], what, row["id"]) for kind, what in told)
        yield _Row(row["id"], row["path"], expected, faults)


def _record(common: Mapping[str, Any], row: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """What the file's own record has to say."""
    if row["made_by"] is not None:
        shared = {name: common[name] for name in SHARED if name in common}
        same = {name: own[name] for name in ("prompt", "negative_prompt", "seed") if name in own}
        return {**shared, "run": row["made_by"], "pixels_sha256": row["pixels_sha256"], **same}
    halved = {"batch_size": row["batch_size"]} if has(row["note"], Note.HALVED) else {}
    return {**common, **own, **halved, "pixels_sha256": row["pixels_sha256"]}


def _row_faults(
    run: Run, row: Mapping[str, Any], text: str, digest: str, prompt_id: int | None
) -> Iterator[tuple[Kind, str]]:
    index, replicate = row["prompt_index"], row["replicate"]
    if run.base_seed is None or row["seed"] != (due := image_seed(run.base_seed, index, replicate)):
        yield Kind.SEED, f"its seed is {row['seed']}, and that of prompt {index}, image {replicate} is {due}"
    if not (index < run.num and replicate < run.images_per_prompt):
        yield Kind.PROMPT, f"prompt {index}, image {replicate} is none of the run's"
    elif row["prompt_id"] != prompt_id:
        yield Kind.PROMPT, f"its prompt is not number {index} of the run's manifest"
    if lineage.text_sha256(text) != digest:
        yield Kind.PROMPT, f"the prompt {text!r:.60} has another hash than was stored with it"


def _of_files(session: Session, run: Run, rows: Sequence[_Row], notes: list[str]) -> list[Fault]:
    """Every picture's file, read by all threads."""
    found: dict[int, Found] = {}
    done = 0
    with ThreadPoolExecutor(THREADS, thread_name_prefix="t2i-verify") as pool, progress(run.name, len(rows)) as show:
        for some in pool.map(_looked, (rows[start : start + TOGETHER] for start in range(0, len(rows), TOGETHER))):
            done += len(some)
            show(done)
            found |= {image: one for image, one in some if one is not None}
    others = _others(session, found.values())
    anew = sum(one.kind is None for one in found.values())
    if anew:
        notes.append(
            f"{anew} of {len(rows)} files of run {run.uuid[:12]} were compressed anew by another program: their pixels"
            " and records are as recorded"
        )
    faults = [fault for row in rows for fault in row.faults]
    for row in rows:
        if (one := found.get(row.image)) is not None and one.kind is not None:
            kind, what = _swapped(row, one, others) or (one.kind, one.what)
            faults.append(Fault(run.uuid, kind, row.stored, what, row.image, _mends(run, row, one)))
    return faults


def _looked(rows: Sequence[_Row]) -> list[tuple[int, Found | None]]:
    return [(row.image, look(row.expected)) for row in rows]


def _mends(run: Run, row: _Row, found: Found) -> Mends:
    """Where the file is byte for byte what was written it is the row that is wrong, and nothing can be made of it."""
    remade = run.origin is None and found.sha256 != row.expected.sha256
    return Mends.REMAKE if remade else Mends.NOTHING


def _others(session: Session, found: Iterable[Found]) -> dict[str, str]:
    """The paths of the rows that such files or pixels are of, by their hashes."""
    hashes = {sha256 for one in found for sha256 in (one.sha256, one.pixels_sha256) if sha256}
    paths: dict[str, str] = {}
    for part in _parts(hashes):
        columns = (Image.path, Image.sha256, Image.pixels_sha256)
        for path, *both in session.execute(
            select(*columns).where(or_(Image.sha256.in_(part), Image.pixels_sha256.in_(part)))
        ):
            paths |= dict.fromkeys(both, path)
    return paths


def _swapped(row: _Row, found: Found, others: Mapping[str, str]) -> tuple[Kind, str] | None:
    """The same fault where the file is the picture of another row, of this home or by what it says of itself."""
    if found.kind is not Kind.CHANGED:
        return None
    other = others.get(found.sha256) or others.get(found.pixels_sha256)
    if other is not None:
        return Kind.SWAPPED, f"it is the picture of {other}"
    record = read_record(row.expected.path) if found.pixels_sha256 else None
    if not isinstance(record, dict) or record.get("pixels_sha256") != found.pixels_sha256:
        return None
    own = row.expected.record or {}
    if any(name in own and record.get(name) != own[name] for name in ("run", "prompt_index", "replicate")):
        return Kind.SWAPPED, f"it is picture {record.get('prompt_index')!r:.20} of run {record.get('run')!r:.40}"
    return None


def _of_the_folder(session: Session, workspace: Workspace, run: Run, busy: bool) -> Iterator[Fault]:
    """Files in the run's own folder that no row names."""
    folder = workspace.run_folder(run)
    if busy or run.origin is not None or not folder.is_dir():
        return
    stored = workspace.stored_path(folder)
    known = set(session.scalars(select(Image.path).where(Image.path.startswith(f"{stored}/", autoescape=True))))
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path = f"{stored}/{entry.name}"
        if path in known or entry.path == str(workspace.run_lock(run)):
            continue
        if entry.name.startswith(".") and entry.name.endswith(TEMPORARY):
            yield Fault(run.uuid, Kind.TEMPORARY, path, "left by a writer that was killed", mends=Mends.MOVE)
        else:
            what = "a folder" if entry.is_dir(follow_symlinks=False) else "a file"
            yield Fault(run.uuid, Kind.FOREIGN, path, f"{what} that no row names", mends=Mends.MOVE)


def _of_the_run(session: Session, workspace: Workspace, run: Run, made: int) -> Iterator[Fault]:
    stored, planned = workspace.stored_path(workspace.run_folder(run)), run.num * run.images_per_prompt
    if run.status == RunStatus.FINISHED and made < planned and run.origin is None:
        way_on = f"`t2i generate --resume {run.uuid[:12]}` makes the rest"
        yield Fault(run.uuid, Kind.INCOMPLETE, stored, f"finished with {made} of {planned} images: {way_on}")
    for one in scored.checks(session, run):
        if one.agrees is False:
            yield Fault(run.uuid, Kind.SCORE, stored, f"{one.what}: `t2i evaluate` measures it anew")


def _of_mlflow(session: Session, workspace: Workspace, run: Run, silent: dict[str, str]) -> Iterator[Fault]:
    """What MLflow lacks or says otherwise; an address that does not answer is asked once."""
    default = tracking.resolve(None)
    uri, stored = projection.home_of(run, default), workspace.stored_path(workspace.run_folder(run))
    way_on = f"`t2i resync {run.uuid[:12]}` writes it anew"
    lacking = projection.lacking(session, workspace, run)
    if lacking:
        yield Fault(run.uuid, Kind.MLFLOW, stored, f"MLflow lacks its {', '.join(lacking)}: {way_on}")
    if run.mlflow_run_id is None or uri in silent:
        return
    try:
        contents = projection.told(session, workspace, run)
        found = (tracking.differences(uri, run.mlflow_run_id, content) for content in contents)
        told = list(dict.fromkeys(line for lines in found for line in lines))
    except Missing as error:
        yield Fault(run.uuid, Kind.MLFLOW, stored, str(error) if "resync" in str(error) else f"{error}: {way_on}")
        return
    except TrackingError as error:
        silent[uri] = str(error)
        return
    if told and not lacking:
        more = f"; and {len(told) - 3} more" if len(told) > 3 else ""
        yield Fault(run.uuid, Kind.MLFLOW, stored, f"in MLflow, {'; '.join(told[:3])}{more}: {way_on}")


def _parts(values: Collection[str]) -> Iterator[list[str]]:
    ordered = sorted(values)
    for start in range(0, len(ordered), CHUNK):
        yield ordered[start : start + CHUNK]


def placed(workspace: Workspace, fault: Fault) -> Path:
    """Where the fault's file is."""
    return workspace.home / fault.path
