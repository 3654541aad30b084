"""Who makes pictures: this process, or the workers of a Ray cluster. What a picture is does not depend on it.

A driver asks an executor three things, all of plain data: to ``load`` a model and say what it is, to ``prepare`` a run
(every open choice made), and to ``make`` jobs, which yields records of files that are complete. The driver alone writes
the database and MLflow. ``local`` is the worker of this process; ``ray`` shares the jobs among workers on any number of
machines that see the run's folder.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from t2i_track.images.executors.data import Loaded, Prepared, Spec, Wanted
from t2i_track.images.sampling import Job
from t2i_track.images.writing import Record
from t2i_track.settings import Values

S = TypeVar("S")
R = TypeVar("R")

LOCAL = "local"
"""The address of a cluster that is made on this machine for one command."""


class Executor(Protocol):
    """Made for one command, and used for all of its runs; ``load``, ``prepare`` and ``make`` by several threads."""

    apart: bool
    """Whether workers are other processes."""
    side_by_side: int
    """Runs that are best made at once, so that no worker waits for the end of one."""
    device: str | None
    """Where features are made; None: as for a process by itself."""

    def load(self, settings: Values) -> Loaded:
        """Load the model that the settings name, and say what it is.

        Raises:
            ModelError, PickledWeights, SettingsError: as ``images.loading.load``.
        """

    def prepare(self, wanted: Wanted) -> Prepared:
        """Load the model of a run and make every open choice.

        Raises:
            SettingsError: a setting that this model or scheduler would ignore, how the model was trained and the
                scheduler would, or steps that it cannot do.
        """

    def make(self, jobs: Sequence[Job], spec: Spec) -> Generator[list[Record], None, None]:
        """Make the pictures, in any order; records come once their files are complete. To be closed by whoever leaves
        early: else nobody else can make any, until the garbage collector comes by.

        Raises:
            ModelError: a single picture does not fit in memory, or a worker's model is another.
            NotMade: some could not be made in several attempts; all others are.
        """

    def each(self, function: Callable[[S], R], shards: Sequence[S]) -> Generator[R, None, None]:
        """What the function returns of each shard, in any order. It and they are pickled where workers are apart.

        Raises:
            NotMade: a shard failed in several attempts.
        """

    def peak_memory(self, device: str) -> int | None:
        """The most bytes that a worker has used so far; None where that is not known."""

    def stop(self) -> None:
        """End what other threads iterate over, as Ctrl-C would there."""


@dataclass(frozen=True)
class Cluster:
    """The workers that a user asked for."""

    address: str
    """``local``, ``auto`` (the cluster that this machine is part of), ``ray://HOST:PORT`` or ``HOST:PORT``."""
    workers: int | None = None
    """None: as many as the cluster has room for."""
    gpus_per_worker: float | None = None
    """None: one, where the cluster has GPUs."""
    cpus_per_worker: int | None = None
    """None: two beside a GPU, else one. Also the worker's threads."""
    mixed: bool = False
    """Whether workers may compute on different kinds of devices, or with other versions."""


@contextmanager
def executor_of(cluster: Cluster | None, cache: Path, *, allow_pickle: bool = False) -> Iterator[Executor]:
    """The executor of a cluster; None: of this process, which loads and connects to nothing yet.

    Args:
        cluster: what was asked for.
        cache: folder of what is known of weights and batch sizes.
        allow_pickle: load pickled weights.

    Raises:
        ClusterError: Ray is not installed, not there, or has no room for a worker.
    """
    if cluster is None:
        from t2i_track.images.executors.local import Local

        yield Local(cache, allow_pickle=allow_pickle)
        return
    from t2i_track.images.executors.ray import Ray

    executor = Ray(cluster, cache, allow_pickle=allow_pickle)
    try:
        yield executor
    finally:
        executor.close()


__all__ = ["LOCAL", "Cluster", "Executor", "Loaded", "Prepared", "Spec", "Wanted", "executor_of"]
