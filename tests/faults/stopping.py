"""Stop a program at a named moment: before or after the n-th call of one of its functions."""

from __future__ import annotations

import functools
import importlib
import itertools
import os
import signal
import threading
from pathlib import Path
from typing import Any


def arm(*, at: str, call: int, when: str, signals: list[str], pause: float, told: str) -> None:
    """Have this process stopped there.

    Args:
        at: ``module:function`` or ``module:Class.method``, as its callers look it up.
        call: which of its calls, from 1.
        when: before or after it.
        signals: sent to this process; a second one ``pause`` seconds after the first, in the middle of the ending.
        pause: seconds.
        told: file that is made when the moment is reached, so that a test knows.
    """
    module, _, path = at.partition(":")
    *parents, name = path.split(".")
    owner: Any = functools.reduce(getattr, parents, importlib.import_module(module))
    original = getattr(owner, name)
    calls = itertools.count(1)

    @functools.wraps(original)
    def stopping(*args: Any, **kwargs: Any) -> Any:
        now = next(calls) == call
        if now and when == "before":
            _stop(signals, pause, Path(told))
        result = original(*args, **kwargs)
        if now and when == "after":
            _stop(signals, pause, Path(told))
        return result

    setattr(owner, name, stopping)


def _stop(signals: list[str], pause: float, told: Path) -> None:
    told.touch()
    first, *others = (signal.Signals[name] for name in signals)
    for other in others:
        later = threading.Timer(pause, os.kill, (os.getpid(), other))
        later.daemon = True
        later.start()
    os.kill(os.getpid(), first)
