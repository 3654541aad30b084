"""A server that goes away while a command is at work, as where it is restarted: what can be, is tried again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError, OperationalError

from t2i_track.db.address import Address, parse, path_of, reason, where

log = logging.getLogger(__name__)

WAIT_SECONDS = 120.0
"""For which a server is waited for that has answered before; a restart takes seconds, a fail-over up to a minute."""
PAUSE_SECONDS = 1.0

# Error classes of PostgreSQL: a connection's end, a server that goes down or comes up, one with too many connections.
_AWAY = ("08", "57P01", "57P02", "57P03", "53300")

_answers: dict[str, bool] = {}
"""Address -> whether it answered when it was asked last. One that never did is not waited for: its address may be
wrong; nor again one that was waited for in vain, so that a command ends."""

_told: set[str] = set()
"""Addresses of which it was said that they do not answer: by one thread of those that wait."""

T = TypeVar("T")

pause = time.sleep


def is_away(error: BaseException) -> bool:
    """Whether a server does not answer; else it has answered, and refuses."""
    if not isinstance(error, OperationalError):
        return isinstance(error, DBAPIError) and error.connection_invalidated
    state = getattr(error.orig, "sqlstate", None)
    return state is None or state.startswith(_AWAY)


def waited(attempt: Callable[[], T], address: Address) -> T:
    """What it returns; tried again while a server is away that has answered before.

    Args:
        attempt: safe to repeat, whatever of it was done.
        address: of the database; an SQLite file has no server, and its own ``BUSY_SECONDS``.
    """
    url = parse(address)
    if path_of(url) is not None:
        return attempt()
    key = url.render_as_string(hide_password=False)
    deadline: float | None = None
    while True:
        try:
            found = attempt()
        except DBAPIError as error:
            if not is_away(error) or not _answers.get(key):
                raise
            now = time.monotonic()
            if deadline is None:
                deadline = now + WAIT_SECONDS
            elif now > deadline:
                _answers[key] = False
                _told.discard(key)
                raise
            if key not in _told:
                _told.add(key)
                log.warning(
                    "the database at %s does not answer (%s): it is tried again for %.0f s",
                    where(url), reason(error, url), WAIT_SECONDS,
                )  # fmt: skip
            pause(PAUSE_SECONDS)
            continue
        if key in _told:
            _told.discard(key)
            log.warning("the database at %s answers again", where(url))
        _answers[key] = True
        return found
