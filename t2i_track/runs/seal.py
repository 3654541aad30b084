"""Seals: one JSON file that says what a run is, so that a later change of it, or of the seal, is found out.

A seal is not signed: it proves that a run is what was sealed, not who has sealed it or when. Whoever keeps its sha256
somewhere else, or publishes it, can prove that too.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from t2i_track.db import lineage
from t2i_track.db.models import Image, ImageScore, MetricValue, Run, RunStatus
from t2i_track.db.types import utc_now
from t2i_track.errors import SealError, SettingsError
from t2i_track.files import write_atomically
from t2i_track.images import png
from t2i_track.images.decoding import Note
from t2i_track.jsontext import json_text, parsed
from t2i_track.pictures import decode
from t2i_track.progress import progress
from t2i_track.runs.claims import blocks
from t2i_track.runs.faults import Kind
from t2i_track.runs.merkle import leaf_hash, root
from t2i_track.runs.record import picture_record
from t2i_track.runs.verify import THREADS, verify
from t2i_track.workspace import Workspace

VERSION = 1
ENDING = ".seal.json"
LEAF = ("prompt", "prompt_index", "replicate", "seed", "pixels_sha256", "blocks")
"""What a picture's record has in the tree; ``batch_size`` too, where it was made in a smaller batch than its run."""
MACHINE = ("gpu", "cuda", "tf32", "cpu_capability", "platform", "python")
"""Of the environment, what may explain other pixels; not the host's name or the command."""
TOLD = ("t2i_seal", "run", "name", "settings_sha256", "counts", "shared", "environment", "scores", "private")
"""What of a seal is the first leaf of its tree; the pictures' records are the others."""
PROSE = ("prompt", "negative_prompt")
"""What a private seal does not tell."""
OF_FILES = {Kind.MISSING, Kind.HALF, Kind.CHANGED, Kind.SWAPPED, Kind.UNREADABLE, Kind.RECORD, Kind.SEED, Kind.PROMPT}
"""Faults of which a run cannot be sealed."""


@dataclass(frozen=True)
class Sealed:
    """A seal that was written."""

    run: str
    name: str
    images: int
    root: str
    out: str
    sha256: str
    """Of the file: what to keep elsewhere."""
    signed: bool = False


def seal(workspace: Workspace, address: str, *, out: Path | None = None, private: bool = False) -> Sealed:
    """Write down what a finished run is.

    Args:
        workspace: whose run; only ``out`` is written.
        address: the run. out: default: ``RUN.seal.json`` in the current folder.
        private: hashes in place of the pictures' records, and no negative prompt; whoever checks such a seal needs the
            run's database or pictures.

    Raises:
        NotFound, Ambiguous: no run, or several. SealError: the run is not whole, or not as it was recorded.
    """
    with workspace.reading() as session:
        run = lineage.find_run(session, address)
        _require_whole(session, workspace, run)
        images = images_of(session, run)
        content = _content(session, run, images, leaves(workspace, run, images), private)
    target = out if out is not None else Path(f"{run.uuid[:12]}{ENDING}")
    text = json_text(content, None, separators=(",", ":")).encode() + b"\n"
    try:
        write_atomically(target, text)
    except OSError as error:
        raise SettingsError(f"cannot write {target} ({error.strerror}): choose another --out") from None
    return Sealed(run.uuid, run.name, len(images), content["root"], str(target), hashlib.sha256(text).hexdigest())


def _require_whole(session: Session, workspace: Workspace, run: Run) -> None:
    if run.origin is not None:
        raise SealError(f"run {run.uuid[:12]} was imported from {run.origin}: how its pictures were made is not known")
    made = lineage.image_counts(session, [run.id]).get(run.id, 0)
    if run.status != RunStatus.FINISHED or made < run.num * run.images_per_prompt:
        raise SealError(
            f"run {run.uuid[:12]} is {run.status.value} with {made} of {run.num * run.images_per_prompt} images: finish"
            f" it with 't2i generate --resume {run.uuid[:12]}', then seal it"
        )
    faults = [one for one in verify(workspace, [run.uuid], mlflow=False).faults if one.kind in OF_FILES]
    if faults:
        first = f"{faults[0].path} ({faults[0].what})"
        raise SealError(
            f"{len(faults)} of what is stored of run {run.uuid[:12]} is not as it was recorded, the first is {first}:"
            f" look with 't2i verify {run.uuid[:12]}'"
        )


def images_of(session: Session, run: Run) -> list[Image]:
    """In the order of the tree: by prompt, then by image of the prompt."""
    query = select(Image).where(Image.run_id == run.id).options(joinedload(Image.prompt))
    return list(session.scalars(query.order_by(Image.prompt_index, Image.replicate)))


def leaves(workspace: Workspace, run: Run, images: Sequence[Image]) -> list[dict[str, Any]]:
    """The pictures' records as they stand in the tree, with the mean colours of their files."""
    paths = [workspace.image_path(image) for image in images]
    with ThreadPoolExecutor(THREADS, thread_name_prefix="t2i-seal") as pool, progress(run.name, len(paths)) as show:
        found = []
        for image, colours in zip(images, pool.map(_blocks, paths), strict=True):
            found.append(leaf(image, colours))
            show(len(found))
    return found


def _blocks(path: Path) -> str:
    return blocks(np.asarray(decode(path)))


def leaf(image: Image, colours: str) -> dict[str, Any]:
    """A row's record in the tree."""
    own = {name: getattr(image, name) for name in ("prompt_index", "replicate", "seed", "pixels_sha256")}
    halved = {"batch_size": image.batch_size} if image.note == Note.HALVED else {}
    return {"prompt": image.prompt.text, **own, "blocks": colours, **halved}


def _content(
    session: Session, run: Run, images: Sequence[Image], records: Sequence[dict[str, Any]], private: bool
) -> dict[str, Any]:
    shared = picture_record(run)
    if private:
        shared = {name: value for name, value in shared.items() if name not in PROSE}
    told = {
        "t2i_seal": VERSION,
        "run": run.uuid,
        "name": run.name,
        "settings_sha256": run.settings_sha256,
        "counts": {"num": run.num, "images_per_prompt": run.images_per_prompt, "images": len(images)},
        "shared": shared,
        "environment": {name: run.environment[name] for name in MACHINE if name in run.environment},
        "scores": _scores(session, run, images),
        "private": private,
    }
    told = parsed(json_text(told))  # numbers as whoever reads it has them
    hashes = [leaf_hash(record) for record in records]
    listed: dict[str, Any] = {"leaves": hashes} if private else {"records": list(records)}
    head = {"signed": False, "sealed_at": f"{utc_now():%Y-%m-%dT%H:%M:%SZ}", "root": root_of(told, hashes)}
    return {**head, **told, **listed}


def root_of(content: Mapping[str, Any], leaves: Sequence[str]) -> str:
    """The root over all that a seal tells, and the hashes of its pictures' records."""
    return root([leaf_hash({name: content[name] for name in TOLD}), *leaves])


def _scores(session: Session, run: Run, images: Sequence[Image]) -> list[dict[str, Any]]:
    """Every stored score with what it was measured with, and the scores of single images in the order of the tree."""
    single: dict[tuple[str, int], dict[int, float]] = {}
    rows = session.execute(
        select(ImageScore.name, ImageScore.protocol_id, ImageScore.image_id, ImageScore.value)
        .join(Image, Image.id == ImageScore.image_id)
        .where(Image.run_id == run.id)
    )
    for name, protocol, image, value in rows:
        single.setdefault((name, protocol), {})[image] = value
    stored = select(MetricValue).where(MetricValue.run_id == run.id).options(joinedload(MetricValue.protocol))
    return [
        {
            **{name: getattr(row, name) for name in ("name", "value", "ci_low", "ci_high", "n", "note")},
            "protocol": _protocol(row),
            "images": _in_order(single.get((row.name, row.protocol_id)), images),
        }
        for row in session.scalars(stored.order_by(MetricValue.name, MetricValue.id))
        if math.isfinite(row.value)
    ]


def _in_order(scores: Mapping[int, float] | None, images: Sequence[Image]) -> list[float | None] | None:
    return None if scores is None else [scores.get(image.id) for image in images]


def _protocol(row: MetricValue) -> dict[str, Any]:
    return {
        column.key: getattr(row.protocol, column.key)
        for column in row.protocol.__mapper__.column_attrs
        if column.key != "id"
    }


def claimed_record(shared: Mapping[str, Any], record: Mapping[str, Any], images_per_prompt: int) -> dict[str, Any]:
    """The whole record of a picture, as its PNG has it, of what a run's pictures have in common and its own."""
    own = {name: value for name, value in record.items() if name != "blocks"}
    return {**shared, **own, "place": record["prompt_index"] * images_per_prompt + record["replicate"]}


def read_pixels(path: Path) -> png.Pixels | None:
    """The pixels of a picture's file, where it has any."""
    try:
        return np.asarray(decode(path))
    except OSError:
        return None
