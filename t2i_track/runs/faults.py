"""What can be wrong with what is stored, and what mends it."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Kind(enum.StrEnum):
    """In the order in which they are told."""

    MISSING = "missing"
    HALF = "half-written"
    CHANGED = "changed"
    SWAPPED = "swapped"
    """The file of one row is the picture of another."""
    UNREADABLE = "unreadable"
    RECORD = "record"
    """The record inside the PNG and its row disagree, or it has none."""
    SEED = "seed"
    PROMPT = "prompt"
    SCORE = "score"
    INCOMPLETE = "incomplete"
    TEMPORARY = "temporary"
    FOREIGN = "foreign"
    MLFLOW = "mlflow"


class Mends(enum.StrEnum):
    """What `t2i verify --repair` can do."""

    REMAKE = "remake"
    """Make the picture again, and put it there if its pixels are the recorded ones."""
    MOVE = "move"
    """Move the file into the trash."""
    NOTHING = "nothing"


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong."""

    run: str
    """The run's id."""
    kind: Kind
    path: str
    """The file, or the run's folder where it is of no single file."""
    what: str
    image: int | None = None
    """The database's id of the image that it is of."""
    mends: Mends = Mends.NOTHING
