"""Pictures become files: encoded, hashed and written beside the next batch."""

from __future__ import annotations

import contextlib
import hashlib
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from t2i_track.files import write_atomically
from t2i_track.images import png
from t2i_track.images.decoding import Note, has
from t2i_track.images.sampling import Picture

# Batches that may wait to be written: more would only hold memory when the disk is slower than the model.
QUEUE_BATCHES = 4


@dataclass(frozen=True)
class Record:
    """An image whose file is on the disk."""

    prompt_index: int
    replicate: int
    prompt: str
    seed: int
    path: Path
    sha256: str
    pixels_sha256: str
    width: int
    height: int
    tokens: int
    truncated: bool
    flagged: bool
    seconds: float
    batch_size: int | None = None
    dtype: str | None = None
    note: str | None = None
    maker: Maker | None = None
    """The worker that made it; None: the driver's own process."""

    def row(self) -> dict[str, Any]:
        """What it says of the picture alone."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "maker"}


@dataclass(frozen=True, eq=False)
class Maker:
    """A worker that is not the driver's own process; one object a worker."""

    host: str
    process: int
    device: str
    environment: Mapping[str, Any]
    """What pictures are made on there (``environment.environment``)."""
    machine: Mapping[str, Any]
    """What of it moves rounding (``environment.machine``)."""

    def facts(self) -> dict[str, Any]:
        """For the record."""
        names = ("host", "process", "device", "environment")
        return {name: getattr(self, name) for name in names}


def write(
    stream: Iterator[Picture],
    folder: Path,
    record: Mapping[str, Any],
    batch_size: int,
    *,
    marked: bool = False,
) -> Iterator[list[Record]]:
    """Write each picture of the stream; yield records, a batch at a time, once their files are complete.

    One thread writes, so at most ``QUEUE_BATCHES`` batches are in memory. Leaving the generator early (Ctrl-C) still
    finishes the files whose writing had begun. ``record`` is what the records in all of them have in common; ``marked``
    files say that a model made them (``png.encode``).
    """
    folder.mkdir(parents=True, exist_ok=True)
    limit = QUEUE_BATCHES * batch_size
    pending: deque[Future[Record]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="t2i-write") as pool, contextlib.ExitStack() as stack:
        stack.callback(lambda: [future.cancel() for future in pending])
        try:
            for picture in stream:
                pending.append(pool.submit(_write, picture, folder, record, marked))
                if len(pending) >= batch_size and (done := _take_done(pending, limit)):
                    yield done
        except KeyboardInterrupt:
            # What is finished is kept; only the batch in the pipeline is lost.
            if pending:
                yield [pending.popleft().result() for _ in range(len(pending))]
            raise
        while pending:
            yield [pending.popleft().result() for _ in range(min(batch_size, len(pending)))]


def _take_done(pending: deque[Future[Record]], limit: int) -> list[Record]:
    """The finished records at the front, waiting only where the queue is full."""
    taken: list[Record] = []
    while pending and (pending[0].done() or len(pending) > limit):
        taken.append(pending.popleft().result())
    return taken


def _write(picture: Picture, folder: Path, shared: Mapping[str, Any], marked: bool) -> Record:
    job = picture.job
    path = folder / png.file_name(job.prompt_index, job.replicate, job.seed)
    digest = png.pixels_sha256(picture.pixels)
    record = {**shared, **place_record(picture), "pixels_sha256": digest}
    content = png.encode(picture.pixels, record, marked=marked)
    write_atomically(path, content)
    height, width, _ = picture.pixels.shape
    return Record(
        prompt_index=job.prompt_index,
        replicate=job.replicate,
        prompt=job.prompt,
        seed=job.seed,
        path=path,
        sha256=hashlib.sha256(content).hexdigest(),
        pixels_sha256=digest,
        width=width,
        height=height,
        tokens=picture.tokens,
        truncated=picture.truncated,
        flagged=picture.flagged,
        seconds=picture.seconds,
        batch_size=picture.batch_size,
        dtype=picture.dtype,
        note=picture.note,
    )


def place_record(picture: Picture) -> dict[str, Any]:
    """What is a picture's own in its record."""
    job = picture.job
    return {
        "prompt": job.prompt,
        **({} if job.negative_prompt is None else {"negative_prompt": job.negative_prompt}),
        "prompt_index": job.prompt_index,
        "replicate": job.replicate,
        "place": job.place,
        "seed": job.seed,
        "tokens": picture.tokens,
        "truncated": picture.truncated,
        **({} if picture.note is None else {"note": picture.note}),
        **({"batch_size": picture.batch_size} if has(picture.note, Note.HALVED) else {}),
    }
