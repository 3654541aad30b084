"""The values that go into and come out of tracking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

Value = str | int | float | bool | None


@dataclass(frozen=True)
class RunInfo:
    run_id: str
    name: str
    experiment: str
    url: str | None
    """Its page in the UI, where the tracking URI is a server."""


@dataclass(frozen=True)
class Sent:
    """What became of a run's records; nothing is lost while ``pending`` and ``refused`` files are in the outbox."""

    pending: int
    refused: int
    reason: str | None
    """Why some are pending."""

    @property
    def complete(self) -> bool:
        return self.pending == 0 and self.refused == 0


class Listed(Protocol):
    """What is needed of a manifest."""

    @property
    def name(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    def __len__(self) -> int: ...


def not_sent(run_id: str, sent: Sent) -> str:
    """One line for a user whose records have not all reached MLflow."""
    if sent.pending:
        return f"{sent.pending} records of MLflow run {run_id} are not sent ({sent.reason}): `t2i resync` sends them"
    return f"MLflow refused {sent.refused} records of run {run_id}: see the files in the outbox's refused folder"
