"""A worker in a process of its own, as Ray calls it: plain data in, plain data out."""

from __future__ import annotations

import hashlib
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from t2i_track.environment import environment, machine, peak_memory_bytes
from t2i_track.errors import ClusterError
from t2i_track.images import writing
from t2i_track.images.executors.data import Loaded, Prepared, Spec, Wanted
from t2i_track.images.executors.worker import Worker
from t2i_track.images.quantizing import packages
from t2i_track.images.sampling import Job
from t2i_track.images.writing import Maker, Record
from t2i_track.settings import Values

SEEN_SECONDS = 20.0
"""For which a folder that was just made may be unseen on another machine: network file systems remember what was not
there."""


@dataclass(frozen=True)
class Made:
    """Pictures, and who made them."""

    records: list[Record]
    maker: Maker
    peak_memory: int
    """The most bytes that the worker has used so far."""
    package: str
    """Of the sources of this package (``package_sha256``)."""


class Actor:
    """Two threads call it: while one shard is encoded and written, the next is sampled."""

    def __init__(self, cache_folder: str, allow_pickle: bool, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._worker = Worker(Path(cache_folder), allow_pickle=allow_pickle)

    def ready(self) -> None:
        """Called first: an answer means that the process runs."""

    def load(self, settings: Values) -> Loaded:
        return self._worker.load(settings)

    def prepare(self, wanted: Wanted) -> Prepared:
        return self._worker.prepare(wanted)

    def make(self, jobs: Sequence[Job], spec: Spec) -> Made:
        """The records of these jobs, once all their files are complete."""
        _require_seen(spec.folder)
        device = str(spec.settings.device)
        here = environment(device)
        record = {**spec.record, "threads": here["threads"]}
        pictures = self._worker.pictures(jobs, spec)
        some = writing.write(pictures, spec.folder, record, spec.settings.batch_size, marked=spec.marked)
        return Made(
            records=[record for records in some for record in records],
            maker=Maker(platform.node(), os.getpid(), device, here, machine(device, *packages(spec.settings))),
            peak_memory=peak_memory_bytes(device),
            package=package_sha256(),
        )

    def call(self, function: Callable[[Any], Any], shard: Any) -> Any:
        """Whatever else is the same everywhere."""
        return function(shard)


def _require_seen(folder: Path) -> None:
    """Wait for the run's folder to be seen on this machine.

    Raises:
        ClusterError: it is not.
    """
    end = time.monotonic() + SEEN_SECONDS
    while not folder.is_dir():
        if time.monotonic() > end:
            raise ClusterError(
                f"the worker on {platform.node()} does not see the run's folder {folder}: put --home (or --outdir) on a"
                " file system that all machines share"
            )
        time.sleep(0.2)


@cache
def package_sha256() -> str:
    """Over the sources of this package: the same version number does not make two checkouts the same."""
    root = Path(__file__).parents[2]
    found = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        found.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return found.hexdigest()
