"""Actors, and the calls that wait for them: handed out and taken back by one thread, repeated where a worker dies."""

from __future__ import annotations

import itertools
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from t2i_track.errors import ClusterError, T2IError

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""Of a call, then it is given up and named."""
IN_FLIGHT = 2
"""Calls that a worker has at once: one that it computes, and one whose files it writes or that waits for it."""
UNTAKEN = 64
"""Results that may wait for whoever iterates; what is more is not begun."""
POLL = 0.1
"""Seconds until the thread looks for new calls."""
PATIENCE = 300.0
"""Seconds for which a cluster may be without any worker."""
TOLD = 15.0
"""Seconds until that is said."""


class Attempt(NamedTuple):
    """How a call came to be given up."""

    attempts: int
    reason: str


Failed = tuple[tuple[Any, ...], Attempt]
"""The arguments of a call that was given up, and why."""


@dataclass(eq=False)
class _Call:
    stream: _Stream
    arguments: tuple[Any, ...]
    attempts: int = 0


@dataclass(eq=False)
class _Stream:
    """The calls of one iteration, and their results in the order in which they come."""

    method: str
    waiting: deque[_Call]
    first: bool
    number: int
    results: queue.SimpleQueue[Any] = field(default_factory=queue.SimpleQueue)
    under_way: int = 0
    failed: list[Failed] = field(default_factory=list)
    error: BaseException | None = None
    left: bool = False
    """Nobody iterates any more."""

    @property
    def open(self) -> bool:
        return bool(self.waiting or self.under_way) and self.error is None

    @property
    def may_go_on(self) -> bool:
        return bool(self.waiting) and self.error is None and not self.left and self.results.qsize() < UNTAKEN


@dataclass(eq=False)
class _Member:
    """An actor, as the driver knows it."""

    actor: Any
    starting: Any
    """The answer that it runs; None once that is there."""
    calls: dict[Any, _Call] = field(default_factory=dict)


class Pool:
    """``make_actor`` starts an actor; ``size`` of them are kept alive.

    Several threads may iterate over results of their own. Calls are begun in the order of the iterations, so that what
    a later one wants fills the gaps at an earlier one's end.
    """

    def __init__(self, make_actor: Callable[[], Any], size: int) -> None:
        self._make_actor = make_actor
        self._lock = threading.Condition()
        self._streams: list[_Stream] = []
        self._numbers = itertools.count()
        self._stopped = threading.Event()
        self._closed = False
        self._alone_since: float | None = time.monotonic()
        self._told = False
        self._members = [self._started() for _ in range(size)]
        self._thread = threading.Thread(target=self._work, name="t2i-workers", daemon=True)
        self._thread.start()

    def results(
        self, method: str, calls: Sequence[tuple[Any, ...]], failed: list[Failed], *, first: bool = False
    ) -> Iterator[Any]:
        """The results of calling the actors' method with each of these arguments, in any order.

        A call whose actor died or that failed in a way that may pass is made again, up to ``ATTEMPTS`` times, then it
        is added to ``failed``. ``first``: before the calls of all other iterations.

        Raises:
            T2IError: what an actor raised of them: that would be so again. ClusterError: no worker is left.
        """
        stream = _Stream(method, deque(), first, next(self._numbers), failed=failed)
        stream.waiting.extend(_Call(stream, arguments) for arguments in calls)
        with self._lock:
            self._streams.append(stream)
            self._streams.sort(key=lambda one: (not one.first, one.number))
            self._lock.notify()
        try:
            while True:
                if self._stopped.is_set():
                    raise KeyboardInterrupt
                try:
                    yield stream.results.get(timeout=0.2)
                    continue
                except queue.Empty:
                    pass
                with self._lock:
                    if stream.results.empty() and not stream.open:
                        if stream.error is not None:
                            raise stream.error
                        return
        finally:
            with self._lock:
                stream.left = True
                self._streams.remove(stream)

    def stop(self) -> None:
        """Every iteration ends as by Ctrl-C."""
        self._stopped.set()

    def close(self) -> None:
        """End the actors."""
        import ray

        self._stopped.set()
        with self._lock:
            self._closed = True
            self._lock.notify()
        self._thread.join()
        for member in self._members:
            ray.kill(member.actor)

    def _started(self) -> _Member:
        actor = self._make_actor()
        return _Member(actor, actor.ready.remote())

    def _work(self) -> None:
        import ray

        while True:
            with self._lock:
                if self._closed:
                    return
                self._hand_out()
                waited = [
                    ref for member in self._members for ref in (*member.calls, member.starting) if ref is not None
                ]
                if not waited:
                    self._lock.wait(POLL)
                    continue
            ready, _ = ray.wait(waited, num_returns=1, timeout=POLL)
            if ready:  # and whatever else is there by now
                ready, _ = ray.wait(waited, num_returns=len(waited), timeout=0)
            with self._lock:
                for ref in ready:
                    self._take(ref)
                self._watch()

    def _hand_out(self) -> None:
        for depth in range(IN_FLIGHT):  # all have one before any has two
            for member in self._members:
                if member.starting is None and len(member.calls) == depth and (call := self._next()) is not None:
                    method = getattr(member.actor, call.stream.method)
                    member.calls[method.remote(*call.arguments)] = call
                    call.stream.under_way += 1

    def _next(self) -> _Call | None:
        stream = next((stream for stream in self._streams if stream.may_go_on), None)
        return None if stream is None else stream.waiting.popleft()

    def _take(self, ref: Any) -> None:
        import ray

        member = next((one for one in self._members if ref == one.starting or ref in one.calls), None)
        if member is None:
            return
        oldest = next(iter(member.calls), None) == ref
        call = member.calls.pop(ref, None)
        try:
            found = ray.get(ref)
        except ray.exceptions.RayActorError as error:
            self._lost(member, call, oldest, error)
            return
        except Exception as error:  # noqa: BLE001 - whatever a worker met; it is said, or the call is made again
            self._failed(member, call, error)
            return
        if call is None:
            member.starting = None
            self._alone_since, self._told = None, False
            return
        call.stream.under_way -= 1
        call.stream.results.put(found)

    def _lost(self, member: _Member, call: _Call | None, oldest: bool, error: Exception) -> None:
        """An actor has died: another takes its place, and what it had is made again."""
        if call is not None:
            call.stream.under_way -= 1
            call.attempts += oldest  # the others it had not begun, or only had to write
            self._again(call, f"its worker died: {_line(error)}")
        if not member.calls:
            self._members.remove(member)
            self._members.append(self._started())
            log.warning("a worker is gone (%s); another takes its place", _line(error))

    def _failed(self, member: _Member, call: _Call | None, error: Exception) -> None:
        cause = getattr(error, "cause", None) or error
        if call is None:  # it could not start, and would not next time
            for stream in self._streams:
                stream.error = ClusterError(f"a worker could not start ({_line(cause)})")
            self._members.remove(member)
            return
        call.stream.under_way -= 1
        if isinstance(cause, T2IError):
            call.stream.error = cause
            return
        call.attempts += 1
        self._again(call, _line(cause))

    def _again(self, call: _Call, reason: str) -> None:
        if call.attempts < ATTEMPTS:
            call.stream.waiting.appendleft(call)
        else:
            call.stream.failed.append((call.arguments, Attempt(call.attempts, reason)))

    def _watch(self) -> None:
        """Say that there is no worker, and in the end give up waiting for one."""
        if any(member.starting is None for member in self._members):
            self._alone_since = None
            return
        now = time.monotonic()
        if self._alone_since is None:
            self._alone_since = now
        waited = now - self._alone_since
        if waited > TOLD and not self._told and self._streams:
            log.warning("waiting for a worker: the cluster has started none yet")
            self._told = True
        if waited > PATIENCE:
            for stream in self._streams:
                stream.error = ClusterError(
                    f"no worker could start within {PATIENCE:.0f} s: look at `ray status`; what is made is kept"
                )


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
