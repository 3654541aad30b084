"""How long a command waits for MLflow: a slow server must not hold up the end of a run for as long as it likes."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from t2i_track.errors import SettingsError, Unreachable

log = logging.getLogger(__name__)

VARIABLE = "T2I_MLFLOW_SECONDS"
DEFAULT = 60.0
TELL = 5.0
"""Seconds after which a person is told what is waited for."""


class Deadline:
    """When no further call into MLflow is begun; one that is under way is waited for."""

    def __init__(self, seconds: float = math.inf) -> None:
        self.end = time.monotonic() + seconds


_deadline: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


def seconds() -> float:
    """How long the end of a run may wait.

    Raises:
        SettingsError: the variable is not a number of seconds.
    """
    text = os.environ.get(VARIABLE) or str(DEFAULT)
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not found >= 0:
        raise SettingsError(f"{VARIABLE} is '{text}': give a number of seconds, such as {DEFAULT:.0f}")
    return found


def follow(deadline: Deadline) -> None:
    """From here on in this thread."""
    _deadline.set(deadline)


def require_time(where: str) -> None:
    """Called before each call into MLflow.

    Raises:
        Unreachable: the time is up.
    """
    deadline = _deadline.get()
    if deadline is not None and time.monotonic() > deadline.end:
        raise Unreachable(f"MLflow at {where} takes too long to answer")


@contextmanager
def waiting(what: str, limit: float | None = None) -> Iterator[None]:
    """Say what is waited for when it takes long; at most ``limit`` seconds and the call that is then under way."""
    most = "" if limit is None else f", for {limit:.0f} s at most; the rest can be sent later by `t2i resync`"
    teller = threading.Timer(TELL, log.warning, ("waiting for MLflow (%s)%s", what, most))
    teller.daemon = True
    teller.start()
    token = _deadline.set(_deadline.get() if limit is None else Deadline(limit))
    try:
        yield
    finally:
        _deadline.reset(token)
        teller.cancel()
