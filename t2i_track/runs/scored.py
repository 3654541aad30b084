"""Whether stored means are those of the stored scores of single images."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from t2i_track.db.models import Image, ImageScore, MetricValue, Run

SAME = 1e-9
"""Share of a score by which two orders of adding up may differ, and no change that anybody would make."""


@dataclass(frozen=True)
class ScoreCheck:
    """A stored score, and what the scores of its images say it should be."""

    name: str
    protocol: str
    """Its fingerprint."""
    value: float
    n: int
    mean: float | None
    """Of the scores of single images; None where none are stored, as of a distance, so that it is not checked."""
    images: int
    """How many of these are stored."""

    @property
    def agrees(self) -> bool | None:
        """None: not checked."""
        if self.mean is None:
            return None
        return self.images == self.n and math.isclose(self.value, self.mean, rel_tol=SAME, abs_tol=SAME)

    @property
    def what(self) -> str:
        if self.images != self.n:
            return f"{self.name} is said to be of {self.n} images, and {self.images} have a score"
        return f"{self.name} is {self.value:.6g}, and the scores of its {self.n} images have the mean {self.mean:.6g}"


def checks(session: Session, run: Run) -> Iterator[ScoreCheck]:
    """Every stored score of the run."""
    single: dict[tuple[str, int], list[float]] = defaultdict(list)
    rows = session.execute(
        select(ImageScore.name, ImageScore.protocol_id, ImageScore.value)
        .join(Image, Image.id == ImageScore.image_id)
        .where(Image.run_id == run.id)
    )
    for name, protocol, value in rows:
        single[name, protocol].append(value)
    stored = select(MetricValue).where(MetricValue.run_id == run.id).options(joinedload(MetricValue.protocol))
    for row in session.scalars(stored.order_by(MetricValue.name, MetricValue.id)):
        yield check(row.name, row.protocol.fingerprint, row.value, row.n, single[row.name, row.protocol_id])


def check(name: str, protocol: str, value: float, n: int, single: Sequence[float]) -> ScoreCheck:
    mean = math.fsum(single) / len(single) if single else None
    return ScoreCheck(name, protocol, value, n, mean, len(single))
