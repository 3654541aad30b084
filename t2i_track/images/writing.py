"""Make images in this process, and encode, hash and write them beside the next batch."""

from __future__ import annotations

import contextlib
import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2i_track.files import write_atomically
from t2i_track.images import png
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


def write(
    stream: Iterator[Picture],
    folder: Path,
    describe: Callable[[Picture], dict[str, Any]],
    batch_size: int,
    *,
    marked: bool = False,
) -> Iterator[list[Record]]:
    """Write each picture of the stream; yield records, a batch at a time, once their files are complete.

    One thread writes, so at most ``QUEUE_BATCHES`` batches are in memory. Leaving the generator early (Ctrl-C) still
    finishes the files whose writing had begun. ``marked`` files say that a model made them (``png.encode``).
    """
    folder.mkdir(parents=True, exist_ok=True)
    limit = QUEUE_BATCHES * batch_size
    pending: deque[Future[Record]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="t2i-write") as pool, contextlib.ExitStack() as stack:
        stack.callback(lambda: [future.cancel() for future in pending])
        try:
            for picture in stream:
                pending.append(pool.submit(_write, picture, folder, describe(picture), marked))
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


def _write(picture: Picture, folder: Path, record: dict[str, Any], marked: bool) -> Record:
    job = picture.job
    path = folder / png.file_name(job.prompt_index, job.replicate, job.seed)
    digest = png.pixels_sha256(picture.pixels)
    content = png.encode(picture.pixels, {**record, "pixels_sha256": digest}, marked=marked)
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
