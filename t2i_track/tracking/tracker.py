"""What is told to MLflow while a run is made, from a thread: nothing of it holds up or fails the run."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from t2i_track.errors import Missing, Refused, TrackingError
from t2i_track.filesystems import shared_filesystem
from t2i_track.tracking import patience, store, writing
from t2i_track.tracking.system import SystemMetrics

if TYPE_CHECKING:
    from mlflow.entities import Metric

log = logging.getLogger(__name__)

MAX_WAITING = 100_000
"""Points that wait for a server that is away; what is more is given up. Only progress and system load are points."""


class Tracker:
    """MLflow at one address, for any number of runs that are being made; a context manager.

    Scores, artifacts and the rest are written from the database by ``writing.write``. Here are progress and system
    metrics, which are nowhere else, and work that a run need not wait for. What cannot be sent when the tracker ends
    is given up.
    """

    def __init__(self, uri: str | None, outbox: Path, *, window: float = 0.5, retry: float = 5.0) -> None:
        """Connect to nothing yet.

        Args:
            uri: MLflow's tracking URI; None: the environment's, or MLflow's default ``sqlite:///mlflow.db``.
            outbox: folder of locks, and of what earlier versions have not sent.
            window: seconds for which points are gathered into one request.
            retry: seconds until the next attempt when the server has gone.
        """
        self._given = uri
        self.limit = patience.seconds()
        """Seconds for which the end of a run waits for MLflow."""
        self.outbox, self._window, self._retry = outbox, window, retry
        self._points: deque[tuple[str, Metric]] = deque(maxlen=MAX_WAITING)
        self._jobs: dict[str, Callable[[], object]] = {}
        self._system: dict[str, SystemMetrics] = {}
        self._sending = threading.Lock()
        self._deadline = patience.Deadline()
        self._refused: set[str] = set()
        self._wake, self._closed = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    @cached_property
    def uri(self) -> str:
        """The tracking URI, absolute; resolved when first needed, since MLflow takes seconds to import."""
        return store.resolve(self._given)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def check(self) -> None:
        """Find out now, before minutes of work, whether runs can be started.

        Raises:
            TrackingError: MLflow cannot be reached within a few seconds.
        """
        store.check(self.uri, create=True)

    def shared_filesystem(self) -> str | None:
        """The network file system that an SQLite store is on; None for a local disk or a server."""
        path = store.sqlite_path(self.uri)
        return None if path is None else shared_filesystem(path.parent)

    def log_metrics(self, run_id: str, values: Mapping[str, float], step: int = 0) -> None:
        """Metrics at one step and the present time."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._points.extend((run_id, Metric(key, float(value), now, step)) for key, value in values.items())
        self._start()

    def later(self, run_id: str, job: Callable[[], object]) -> None:
        """Do this in the thread, again and again while it raises a ``TrackingError``; one job a run."""
        self._jobs[run_id] = job
        self._start()

    def watch_system(self, run_id: str) -> None:
        """Sample processor, memory, disk, network and GPU load until ``settle``."""
        with store.explained(self.uri):
            history = store.client(self.uri).get_metric_history(run_id, "system/cpu_utilization_percentage")
        step = max((metric.step + 1 for metric in history), default=0)
        self._system[run_id] = SystemMetrics(partial(self.log_metrics, run_id), step)

    def settle(self, run_id: str) -> None:
        """The run ends: its last sample, one attempt at what waits, and nothing of it in the thread afterwards."""
        if run_id in self._system:
            self._system.pop(run_id).stop()
        self._jobs.pop(run_id, None)
        with self._last_attempt():
            pass

    def close(self) -> None:
        """Stop the thread, after one more attempt to send what is left."""
        for run_id in list(self._system):
            self._system.pop(run_id).stop()
        with patience.waiting("the last of the progress", self.limit), self._last_attempt():
            self._closed.set()
            self._wake.set()
        if self._thread is not None:
            self._thread.join(self.limit)  # a daemon: what it waits for then is given up

    @contextmanager
    def _last_attempt(self) -> Iterator[None]:
        """The thread ends what it is at after the call that is under way; then one attempt in this one."""
        self._deadline.end = 0
        free = self._sending.acquire(timeout=self.limit)
        self._deadline.end = math.inf
        try:
            if free:
                self._attempt()
            yield
        finally:
            if free:
                self._sending.release()

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
            self._thread.start()
        self._wake.set()

    def _work(self) -> None:
        patience.follow(self._deadline)
        warned = False
        while True:
            self._wake.wait()
            if self._closed.wait(self._window):
                return
            self._wake.clear()
            if self._closed.is_set():  # what was cleared may have been the word to end
                return
            with self._sending:
                reason = self._attempt()
            if reason is not None:
                if not warned:
                    log.warning("%s; the run goes on", reason)
                self._wake.set()
                self._closed.wait(self._retry)
            warned = reason is not None

    def _attempt(self) -> str | None:
        """Send what waits; why some of it still does. The caller holds ``_sending``."""
        if not self._points and not self._jobs:
            return None
        try:
            store.check(self.uri, create=False)
            for run_id, job in list(self._jobs.items()):
                job()
                if self._jobs.get(run_id) is job:
                    del self._jobs[run_id]
            self._send_points()
        except TrackingError as error:
            return str(error)
        return None

    def _send_points(self) -> None:
        taken = [self._points.popleft() for _ in range(len(self._points))]
        while taken:
            run_id = taken[0][0]
            points = [metric for of, metric in taken if of == run_id][: writing.MAX_METRICS]
            try:
                with store.explained(self.uri):
                    store.client(self.uri).log_batch(run_id, points, synchronous=True)
            except (Refused, Missing) as error:  # such as a run that was deleted meanwhile
                if run_id not in self._refused:
                    log.warning("%s; the run goes on", error)
                self._refused.add(run_id)
            except TrackingError:
                self._points.extendleft(reversed(taken))
                raise
            sent = set(map(id, points))
            taken = [item for item in taken if id(item[1]) not in sent]
