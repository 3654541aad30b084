"""The executor of one process: its own worker, beside whose batches one thread writes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TypeVar

from t2i_track.environment import peak_memory_bytes
from t2i_track.images.executors.data import Loaded, Prepared, Spec, Wanted
from t2i_track.images.executors.worker import Worker
from t2i_track.images.sampling import Job
from t2i_track.images.writing import Record
from t2i_track.settings import Values

S = TypeVar("S")
R = TypeVar("R")


class Local:
    """See ``Executor``."""

    apart = False
    side_by_side = 1
    device: str | None = None

    def __init__(self, cache: Path, *, allow_pickle: bool = False) -> None:
        self._worker = Worker(cache, allow_pickle=allow_pickle)

    def load(self, settings: Values) -> Loaded:
        return self._worker.load(settings)

    def prepare(self, wanted: Wanted) -> Prepared:
        return self._worker.prepare(wanted)

    def make(self, jobs: Sequence[Job], spec: Spec) -> Generator[list[Record], None, None]:
        return self._worker.make(jobs, spec)

    def each(self, function: Callable[[S], R], shards: Sequence[S]) -> Generator[R, None, None]:
        yield from map(function, shards)

    def peak_memory(self, device: str) -> int | None:
        return peak_memory_bytes(device)

    def stop(self) -> None:
        """Nothing: there are no other threads."""
