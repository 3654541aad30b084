"""Progress on stderr: a bar on a terminal, now and then a line in a log file."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

from t2i_track.texts import clean

if TYPE_CHECKING:
    from rich.progress import Progress, Task
    from rich.text import Text

LOG_SECONDS = 30.0
"""Between two lines of a log file."""
STEADY = 1.0
"""Seconds from which a rate says something: what is remembered comes at two million a second, and the rest does not."""
Report = Callable[[int], None]
"""Takes the number done so far."""


@contextmanager
def progress(what: str, total: int, done: int = 0, unit: str = "images") -> Iterator[Report]:
    """A function that shows how much of ``total`` is done; ``done`` was so before and does not count for the rate.

    The bar goes when the work has ended: what it came to is said by the command.
    """
    what = clean(what)
    if sys.stderr.isatty():
        with _display() as bars:
            task = bars.add_task(what, total=total, completed=done, before=done, unit=unit)
            try:
                yield lambda now: bars.update(task, completed=now)
            finally:
                if _users > 1:  # the last one is shown as it ended, until the display goes
                    bars.remove_task(task)
    else:
        yield _Log(what, total, done, unit)


class _Log:
    """A line every half minute, counted over all work of the process: many short runs are not silent for hours."""

    told: ClassVar[float] = time.monotonic()

    def __init__(self, what: str, total: int, done: int, unit: str) -> None:
        self._what, self._total, self._before, self._unit = what, total, done, unit
        self._began = time.monotonic()

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if now - _Log.told < LOG_SECONDS:
            return
        _Log.told = now
        elapsed, made = now - self._began, done - self._before
        rate = made / elapsed if elapsed >= STEADY else 0.0
        told = f", {speed(rate)}, {clock((self._total - done) / rate)} left" if rate else ""
        print(f"{self._what}: {done}/{self._total} {self._unit}{told}", file=sys.stderr, flush=True)


_lock = threading.Lock()
_shown: Progress | None = None
_users = 0


@contextmanager
def _display() -> Iterator[Progress]:
    """The bars of this process: a terminal has one place for all, whichever threads' they are."""
    global _shown, _users
    with _lock:
        _users += 1
        if _shown is None:
            _shown = _bars()
            _shown.start()
        bars = _shown
    try:
        yield bars
    finally:
        with _lock:
            _users -= 1
            if not _users:
                _shown = None
                bars.stop()


def _bars() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            made = task.completed - task.fields["before"]
            rate = made / task.elapsed if task.elapsed and made else None
            return Text("" if rate is None else speed(rate), style="cyan")

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        Rate(),
        TimeRemainingColumn(compact=True),
        TextColumn("left"),
        console=Console(stderr=True),
        transient=True,
    )


def speed(rate: float) -> str:
    return f"{rate:.3g}/s" if rate < 100 else f"{rate:.0f}/s"


def clock(seconds: float) -> str:
    """``0:05``, ``12:30`` or ``3:02:11``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
