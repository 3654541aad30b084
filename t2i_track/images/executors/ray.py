"""The executor of a Ray cluster: one worker an actor, on this machine or on others that see the run's folder."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import secrets
import signal
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from t2i_track.errors import ClusterError, NotMade
from t2i_track.images.executors import LOCAL, Cluster
from t2i_track.images.executors.actor import Actor, Made, package_sha256
from t2i_track.images.executors.data import Loaded, Prepared, Spec, Wanted
from t2i_track.images.executors.pool import Failed, Pool
from t2i_track.images.sampling import Job
from t2i_track.images.writing import Maker, Record
from t2i_track.settings import Values
from t2i_track.urls import shown

S = TypeVar("S")
R = TypeVar("R")

SHARD = 2
"""Batches that a worker is given at a time: while it encodes and writes one, it samples the next."""
STORE_BYTES = 256 * 2**20
"""Of Ray's object store on this machine: nothing large goes through it."""
CLIENT = "ray://"
NAMED = 3
"""Shards that a message names; the rest are counted."""
_TOLD = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_worker_niceness": "0"}
"""What Ray is told where the user has said nothing: to report nothing to its makers, not to warn of a default, and to
run workers as the command itself would run, where it gives them the lowest priority but four."""


class Ray:
    """See ``Executor``."""

    apart = True
    side_by_side = 2

    def __init__(self, cluster: Cluster, cache: Path, *, allow_pickle: bool = False) -> None:
        self._cluster = cluster
        ray = _connected(cluster)
        try:
            gpus, cpus = _share(cluster, ray.cluster_resources())
            room = _room(ray.nodes(), gpus, cpus)
            if not room:
                raise ClusterError(
                    f"no node of the cluster has room for a worker of {_words(gpus, cpus)}: ask for less with"
                    " --gpus-per-worker or --cpus-per-worker, or start nodes"
                )
            self.workers = cluster.workers or room
            self.device: str | None = "cuda" if gpus else None
            kind = ray.remote(num_gpus=gpus, num_cpus=cpus, max_concurrency=2)(Actor)
            self._pool = Pool(lambda: kind.remote(str(cache.absolute()), allow_pickle, cpus), self.workers)
        except BaseException:
            ray.shutdown()
            raise
        self._package = package_sha256()
        self._peak: int | None = None

    def load(self, settings: Values) -> Loaded:
        found: Loaded = self._one("load", settings)
        return found

    def prepare(self, wanted: Wanted) -> Prepared:
        found: Prepared = self._one("prepare", wanted)
        return found

    def make(self, jobs: Sequence[Job], spec: Spec) -> Generator[list[Record], None, None]:
        size = max(1, min(SHARD, len(jobs) // (self.workers * spec.settings.batch_size))) * spec.settings.batch_size
        calls = [(shard, spec) for shard in _by_place(jobs, size)]
        makers: dict[tuple[str, int], Maker] = {}
        failed: list[Failed] = []
        for made in self._pool.results("make", calls, failed):
            self._require_like(made, spec)
            self._peak = max(self._peak or 0, made.peak_memory)
            yield _marked(made, makers)
        if failed:
            first = [f"prompts {shard[0].prompt_index} to {shard[-1].prompt_index}" for (shard, _), _ in failed]
            left = sum(len(shard) for (shard, _), _ in failed)
            raise NotMade(
                f"{left} of {len(jobs)} images could not be made in {failed[0][1].attempts} attempts"
                f" ({', '.join(first[:NAMED])}{' …' if len(first) > NAMED else ''}: {failed[0][1].reason}); the others"
                " are made, and --resume tries these again"
            )

    def each(self, function: Callable[[S], R], shards: Sequence[S]) -> Generator[R, None, None]:
        failed: list[Failed] = []
        yield from self._pool.results("call", [(function, shard) for shard in shards], failed)
        if failed:
            raise NotMade(
                f"{len(failed)} of {len(shards)} parts of the work failed in {failed[0][1].attempts} attempts"
                f" ({failed[0][1].reason}): run the same command again"
            )

    def peak_memory(self, device: str) -> int | None:
        return self._peak

    def stop(self) -> None:
        self._pool.stop()

    def close(self) -> None:
        import ray

        self._pool.close()
        ray.shutdown()

    def _one(self, method: str, argument: Any) -> Any:
        """The result of one call, before all shards that wait."""
        failed: list[Failed] = []
        for found in self._pool.results(method, [(argument,)], failed, first=True):
            return found
        raise ClusterError(f"no worker could {method} the model ({failed[0][1].reason})")

    def _require_like(self, made: Made, spec: Spec) -> None:
        """Refuse pictures of a worker that computes otherwise, unless that is allowed.

        Raises:
            ClusterError: another version of this package, or another kind of device.
        """
        maker = made.maker
        if made.package != self._package:
            raise ClusterError(
                f"the worker on {maker.host} has another t2i-track ({_version(maker)}, {made.package[:12]}) than this"
                f" command ({self._package[:12]}): install the same version on all machines"
            )
        differ = [name for name, value in spec.machine.items() if maker.machine.get(name) != value]
        if differ and not self._cluster.mixed:
            name = differ[0]
            raise ClusterError(
                f"the worker on {maker.host} has {name} {maker.machine.get(name)}, and the run {spec.machine[name]}:"
                " their pictures differ in rounding; use machines of one kind, or allow it with --mixed"
            )


def _version(maker: Maker) -> str:
    return str(maker.environment["versions"].get("t2i-track"))


def _marked(made: Made, makers: dict[tuple[str, int], Maker]) -> list[Record]:
    """The records with the worker that made them."""
    maker = makers.setdefault((made.maker.host, made.maker.process), made.maker)
    return [dataclasses.replace(record, maker=maker) for record in made.records]


def _by_place(jobs: Sequence[Job], size: int) -> Iterator[Sequence[Job]]:
    """Shards that have whole batches in them, where the jobs have, from wherever in the run these are."""
    shard: list[Job] = []
    for job in jobs:
        if len(shard) == size:
            yield shard
            shard = []
        shard.append(job)
    if shard:
        yield shard


def _connected(cluster: Cluster) -> Any:
    """Ray, connected to the cluster.

    Raises:
        ClusterError: it is not installed, or no cluster is there.
    """
    for name, value in _TOLD.items():
        os.environ.setdefault(name, value)
    if cluster.address == LOCAL:
        _set_secret()
    elif cluster.address.startswith(CLIENT):
        _use_secret()
    try:
        import ray
    except ImportError:
        raise ClusterError(
            f"--address {shown(cluster.address)} wants Ray, which is not installed: pip install 't2i-track[ray]'"
        ) from None
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if cluster.address == LOCAL:
        own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": STORE_BYTES}
        if cluster.workers:
            own["num_cpus"] = max(os.cpu_count() or 1, cluster.workers * (cluster.cpus_per_worker or 1))
        quiet |= own
    with _own_signals():
        try:
            ray.init(cluster.address, **quiet)
        except (ConnectionError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
            secret = "; if it was started with a secret, set RAY_AUTH_MODE=token" if _has_secret() else ""
            raise ClusterError(
                f"no Ray cluster at {shown(cluster.address)} ({' '.join(str(error).split())[:200]}): start one with"
                f" `ray start --head`, or use --address local{secret}"
            ) from None
    return ray


def _set_secret() -> None:
    """Let nobody else use a cluster of our own: without a secret, Ray runs what anybody on the network tells it to."""
    if "ray" not in sys.modules and "RAY_AUTH_MODE" not in os.environ:  # it is read when Ray is imported
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def _use_secret() -> None:
    """Show the secret that there is: `ray start` asks for it unasked once one was made, and Ray's client keeps it back.

    Only of clients: a cluster that wants none does not notice theirs, but loses the actors of a driver with one.
    """
    if "ray" not in sys.modules and not os.environ.get("RAY_AUTH_MODE") and _has_secret():
        os.environ["RAY_AUTH_MODE"] = "token"


def _has_secret() -> bool:
    """Whether Ray would find one that is not in use yet."""
    kept = os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token"
    return os.environ.get("RAY_AUTH_MODE") != "token" and bool(os.environ.get("RAY_AUTH_TOKEN") or Path(kept).is_file())


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Ray puts a handler of its own in the place of ours, which ends the process where ours ends the run in order."""
    try:
        before = signal.getsignal(signal.SIGTERM)
        yield
        signal.signal(signal.SIGTERM, before)
    except ValueError:  # of another thread than the main one, where neither can be set
        pass


def _share(cluster: Cluster, there: dict[str, float]) -> tuple[float, int]:
    """GPUs and processors of one worker."""
    gpus = cluster.gpus_per_worker
    if gpus is None:
        gpus = 1 if there.get("GPU", 0) >= 1 else 0
    return gpus, cluster.cpus_per_worker or (2 if gpus else 1)


def _room(nodes: Sequence[dict[str, Any]], gpus: float, cpus: int) -> int:
    """Workers that the nodes have room for."""
    found = 0
    for node in nodes:
        if node["Alive"]:
            resources = node["Resources"]
            by_cpus = int(resources.get("CPU", 0) // cpus)
            found += min(by_cpus, int(resources.get("GPU", 0) / gpus + 1e-9)) if gpus else by_cpus
    return found


def _words(gpus: float, cpus: int) -> str:
    return f"{gpus:g} GPU and {cpus} processors" if gpus else f"{cpus} processors"
