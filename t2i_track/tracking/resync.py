"""Send what a tracking server could not take when it was measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from t2i_track.errors import Busy
from t2i_track.tracking import sending
from t2i_track.tracking.outbox import Outbox


@dataclass(frozen=True)
class Resync:
    """Counts of operations, but ``runs`` and ``busy`` count runs."""

    runs: int = 0
    sent: int = 0
    pending: int = 0
    refused: int = 0
    busy: int = 0
    reason: str | None = None
    """Why some are pending, the first."""


def resync(outbox: Path, uri: str | None = None) -> Resync:
    """Send all that is in an outbox, each run to the server that it was meant for, or all to ``uri``.

    Runs that another process is writing are left to it.

    Raises:
        TrackingError: the outbox cannot be read.
    """
    total = Resync()
    for folder in sorted(outbox.glob("*/")):
        try:
            box = Outbox(outbox, folder.name, None if uri is None else sending.resolve(uri))
        except Busy:
            total = Resync(**{**vars(total), "busy": total.busy + 1})
            continue
        before, refused = len(box), box.refused
        reason = sending.drain(box)
        refused = box.refused - refused
        total = Resync(
            total.runs + 1,
            total.sent + before - len(box) - refused,
            total.pending + len(box),
            total.refused + refused,
            total.busy,
            total.reason or reason,
        )
        box.close()
    return total


def waiting(outbox: Path) -> int:
    """Operations that an outbox holds, of all runs; reads only."""
    return sum(1 for _ in outbox.glob("*/[0-9]*.json"))
