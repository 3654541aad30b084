"""Pictures that exist already: found by all that decides their pixels, and linked in place of being made again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from t2i_track.db import lineage
from t2i_track.db.models import Image, Run
from t2i_track.files import link
from t2i_track.images import png
from t2i_track.images.sampling import Job
from t2i_track.images.writing import Record
from t2i_track.runs.plan import MARK_AI, resolved_of, values_of
from t2i_track.workspace import Workspace

COPIED = ("sha256", "pixels_sha256", "width", "height", "tokens", "truncated", "flagged")
"""What a picture's row has of the picture it is."""


class RecordHashes:
    """A hash of all that decides each file's content: weights, settings, prompt, seed, machine, row of its batch, mark.

    The place of a prompt in its manifest does not count, nor what else the run makes. The ``machine`` is its device by
    name and the versions of what computes; threads too, since they decide in which order a processor adds.
    """

    def __init__(self, run: Run, todo: Iterable[Job], machine: Mapping[str, Any]) -> None:
        values = values_of(run)
        self._machine, self._batch_size = machine, values.batch_size
        self._fingerprint, self._class = resolved_of(run).picture_fingerprint, run.model.pipeline_class
        self._marked = bool(run.config.get(MARK_AI))
        self._jobs = {(job.prompt_index, job.replicate): job for job in todo}

    def all(self) -> dict[Job, str]:
        """Of every job, as this machine makes it."""
        shared = self._shared(self._machine)
        return {job: self._of(job, shared) for job in self._jobs.values()}

    def of(self, record: Record) -> str:
        """Of a picture that was made, on the machine that made it."""
        machine = self._machine if record.maker is None else record.maker.machine
        return self._of(self._jobs[record.prompt_index, record.replicate], self._shared(machine))

    def _shared(self, machine: Mapping[str, Any]) -> str:
        return json.dumps([self._fingerprint, self._class, machine, self._marked], sort_keys=True)

    def _of(self, job: Job, shared: str) -> str:
        return _sha256(shared, job.prompt, job.negative_prompt, job.seed, job.place % self._batch_size)


def _sha256(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def reuse(workspace: Workspace, run: Run, folder: Path, hashes: Mapping[Job, str]) -> Iterator[list[Job]]:
    """Link the pictures that other runs have made into the run's folder, with their rows; yields whose, as committed.

    A picture whose file is gone, or is no longer what was recorded, is left to be made.
    """
    for jobs in lineage.chunks(hashes):
        with workspace.begin() as session:
            found = _made(session, [hashes[job] for job in jobs])
            if not found:
                continue
            linked = {job: path for job in jobs if (path := _linked(workspace, found.get(hashes[job]), folder, job))}
            prompts = lineage.store_prompts(session, {job.prompt for job in linked})
            rows = [_row(job, found[hashes[job]], workspace.stored_path(path)) for job, path in linked.items()]
            lineage.add_images(session, run.id, prompts, rows)
        yield list(linked)


def _made(session: Session, hashes: Sequence[str]) -> dict[str, Row[Any]]:
    """The oldest picture of each hash, of runs that are not deleted; only those that were made as their runs say.

    Of each its columns of ``COPIED``, ``path``, ``made_by`` and ``record_sha256``, and its run's ``uuid``.
    """
    names = ("id", "record_sha256", "path", "made_by", *COPIED)
    columns: list[Any] = [*(getattr(Image, name) for name in names), Run.uuid]
    query = select(*columns).select_from(Image).join(Run)
    # In no order: to have none to sort, SQLite would go through all images in that of their keys.
    found = session.execute(query.where(Image.record_sha256.in_(hashes), Image.note.is_(None)))
    return {str(image.record_sha256): image for image in sorted(found, key=attrgetter("id"), reverse=True)}


def _linked(workspace: Workspace, image: Row[Any] | None, folder: Path, job: Job) -> Path | None:
    """The job's own file with that picture; None where there is none to be had."""
    if image is None:
        return None
    source = workspace.home / image.path
    try:
        with source.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != image.sha256:
                return None
    except OSError:
        return None
    target = folder / png.file_name(job.prompt_index, job.replicate, job.seed)
    link(source, target)
    return target


def _row(job: Job, image: Row[Any], path: str) -> dict[str, Any]:
    return {
        "prompt": job.prompt,
        **{name: getattr(job, name) for name in ("prompt_index", "replicate", "seed")},
        **{name: getattr(image, name) for name in COPIED},
        "path": path,
        "made_by": image.made_by or image.uuid,
        "record_sha256": image.record_sha256,
        "seconds": None,
    }
