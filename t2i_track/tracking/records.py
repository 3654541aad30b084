"""The values that go into and come out of tracking."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from PIL.Image import Image

Value = str | int | float | bool | None

OWN = "t2i."
"""How the names of our own tags begin."""
RUN_TAG, SWEEP_TAG = f"{OWN}run", f"{OWN}sweep_id"
"""Tags with the id of the run or sweep in the database; an MLflow run with one of them is taken."""


@dataclass(frozen=True)
class RunInfo:
    run_id: str
    name: str
    experiment: str
    url: str | None
    """Its page in the UI, where the tracking URI is a server."""


@dataclass(frozen=True)
class Opening:
    """What makes a run in MLflow, and what it is found again by."""

    experiment: str
    """Made where there is none."""
    name: str | None
    """None: MLflow's choice."""
    tag: tuple[str, str] | None = None
    """Set when the run is made or joined, and only one run of the experiment's has it."""
    started: datetime | None = None
    """None: now."""


@dataclass(frozen=True)
class Joined:
    """The run that another program has opened for this one."""

    experiment: str
    owner: str | None
    """Of a run that is taken: the id, in a database, of the run or sweep that it is of."""


@dataclass(frozen=True)
class Grid:
    """A picture that the UI's chart view shows beside the other runs' pictures of the same key and step."""

    picture: Callable[[], Image]
    key: str
    time: datetime
    uuid: str
    """With the time it makes the file's name, so that the picture sent again replaces itself."""
    step: int = 0


@dataclass(frozen=True)
class Table:
    """For the UI's table view, where runs are compared row by row; values are text, numbers, or pictures' paths."""

    rows: Sequence[Mapping[str, Any]]
    name: str = "prompts.json"


class Listed(Protocol):
    """What is needed of a manifest."""

    @property
    def name(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    def __len__(self) -> int: ...


@dataclass(frozen=True, kw_only=True)
class Content:
    """Some of what MLflow shows of a run. Written twice, it is there once."""

    params: Mapping[str, Value] = field(default_factory=dict)
    """None values are left out. See ``writing`` for those that the run has already with another value."""
    tags: Mapping[str, Value] = field(default_factory=dict)
    """None: taken away where it is one of our own, whose reason has passed; left alone where it is not."""
    metrics: Mapping[str, tuple[float | None, datetime]] = field(default_factory=dict)
    """Value and when it was found; None values are left out."""
    curves: Mapping[str, Sequence[tuple[int, float, datetime]]] = field(default_factory=dict)
    """Metrics of several steps: step, value and when it was found."""
    files: Callable[[Path], None] | None = None
    """Puts artifacts, as they are to be, into the folder that it is given."""
    grid: Grid | None = None
    table: Table | None = None
    manifest: Listed | None = None
    status: str | None = None
    """running, finished, enough, failed or interrupted; None: as it is."""
    ended: datetime | None = None
