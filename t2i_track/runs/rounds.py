"""Scores of runs that are made in rounds: measured as pictures come, read back as what decisions are made of.

A mean's evidence is the score of each picture, stored once, under the protocol of one picture: how many others there
are changes nothing of it. A distance's is its value over the pictures of each look, with its replicates.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from t2i_track.db import lineage
from t2i_track.db.models import Image, ImageScore, MetricValue, Run
from t2i_track.db.models import Protocol as ProtocolRow
from t2i_track.errors import MetricError
from t2i_track.images.loading import choose_device, device_kind
from t2i_track.metrics.evaluate import evaluate, plan
from t2i_track.metrics.inputs import ImageItem
from t2i_track.metrics.protocol import IMAGES_PER_PROMPT, LEFT_OUT, ProtocolRecord
from t2i_track.metrics.reference import Reference
from t2i_track.metrics.registry import deciding, of_role, score_info, word_of
from t2i_track.ranking.evidence import Distances, Evidence, Matrix, Means
from t2i_track.ranking.rows import Score, direction
from t2i_track.runs.evaluate import Bars, finite_items, known_scores, store
from t2i_track.runs.order import Unit
from t2i_track.runs.recorded import run_items
from t2i_track.runs.request import Request, is_embedded
from t2i_track.workspace import Workspace


@dataclass(frozen=True)
class Rounds:
    """What the rounds of a sweep are measured by, fixed before the first of them."""

    workspace: Workspace
    by: str
    request: Request
    reference: Reference | None
    order: tuple[Unit, ...]
    looks: tuple[int, ...]
    images_per_prompt: int

    def positions(self, look: int) -> list[int]:
        """The manifest positions of a look's prompts."""
        return [position for unit in self.order[: self.looks[look]] for position in unit]

    def images(self, look: int) -> int:
        """That a setting has at a look."""
        return len(self.positions(look)) * self.images_per_prompt

    def seconds(self, session: Session, run: Run | None) -> list[float]:
        """What the pictures of each look took to make."""
        if run is None:
            return [0.0] * len(self.looks)
        spent: dict[int, float] = defaultdict(float)
        for index, seconds in session.execute(
            select(Image.prompt_index, Image.seconds).where(Image.run_id == run.id, Image.seconds.is_not(None))
        ):
            spent[index] += seconds or 0.0
        each = np.array([sum(spent[position] for position in unit) for unit in self.order])
        return [float(each[:number].sum()) for number in self.looks]

    def items(self, session: Session, run: Run, look: int) -> list[ImageItem]:
        """The run's pictures of a look's prompts.

        Raises:
            MetricError: some are not finite.
        """
        wanted = set(self.positions(look))
        some = [item for item in run_items(session, self.workspace, run) if item.prompt_index in wanted]
        return finite_items(session, run, some, skip_bad=False)[0]

    def shared(self, run: Run, embedded: bool) -> dict[str, Any]:
        """What ``evaluate`` is given for a run."""
        extractor, clip = self.request.networks(embedded)
        return {
            "metrics": (word_of(self.by),),
            "extractor": extractor,
            "weights": self.request.weights,
            "reference": self.reference,
            "clip": clip,
            "cache_dir": self.workspace.cache,
            "size": (run.width, run.height),
            "resize": self.request.resize,
            "parameters": self.request.parameters,
        }


class Measured(Protocol):
    """Scores of some kind."""

    @property
    def rounds(self) -> Rounds: ...

    def measure(self, run: Run, look: int) -> None:
        """Measure and store what is missing of a run up to a look."""

    def have(self, run: Run | None) -> int:
        """The looks that its stored scores reach."""

    def value(self, run: Run, look: int) -> tuple[float, int, int]:
        """Its score at a look, the pictures that it is of, and the protocol's row."""

    def evidence(self, runs: Sequence[Run | None], margin: float) -> Evidence: ...


def measured(rounds: Rounds) -> Measured:
    """By pictures' own scores, or by distances."""
    info = score_info(rounds.by)
    return MeanScores(rounds) if info is not None and info.mean else DistanceScores(rounds)


@dataclass(frozen=True)
class MeanScores:
    rounds: Rounds
    _known: dict[int, str] = field(default_factory=dict)
    """Run -> the fingerprint of its pictures' scores."""

    def measure(self, run: Run, look: int) -> None:
        rounds = self.rounds
        with rounds.workspace.reading() as session:
            items, embedded = rounds.items(session, run, look), is_embedded(session, run)
            known = self._scores(session, run)
        todo = [item for item in items if item.key not in known]
        if not todo:
            return
        shared, device = rounds.shared(run, embedded), choose_device(rounds.request.device)
        with Bars(run.name) as bars:
            found = evaluate(todo, **shared, device=device, progress=bars)
        own = next((result for result in found.results if result.name == rounds.by), None)
        if own is None or own.per_image is None or len(own.per_image) < len(todo):
            raise MetricError(
                f"{rounds.by} does not apply to all pictures of run {run.name}: decide --by another score"
            )
        record = of_one_picture(own.protocol)
        with rounds.workspace.begin() as session:
            protocol = lineage.store_protocol(session, record.fingerprint, dataclasses.asdict(record))
            values = {int(key): value for key, value in own.per_image.items()}
            lineage.store_image_scores(session, rounds.by, protocol, values)

    def have(self, run: Run | None) -> int:
        column = self._column(run)
        missing = np.flatnonzero(np.isnan(column))
        first = int(missing[0]) if len(missing) else len(column)
        return sum(number <= first for number in self.rounds.looks)

    def value(self, run: Run, look: int) -> tuple[float, int, int]:
        with self.rounds.workspace.reading() as session:
            protocol = session.scalars(
                select(ProtocolRow.id).where(ProtocolRow.fingerprint == self._fingerprint(session, run))
            ).one()
        some = self._column(run)[: self.rounds.looks[look]]
        return float(some.mean()), self.rounds.images(look), protocol

    def evidence(self, runs: Sequence[Run | None], margin: float) -> Means:
        info = score_info(self.rounds.by)
        assert info is not None
        sign = -1.0 if direction(self.rounds.by) == "lower" else 1.0
        columns = sign * np.stack([self._column(run) for run in runs])
        return Means(columns, margin, self.rounds.looks, 1.0 if info.share else None)

    def _column(self, run: Run | None) -> NDArray[np.float64]:
        """The mean of each prompt's pictures, in the order of the rounds; NaN where one has no score."""
        found = np.full(self.rounds.looks[-1], np.nan)
        if run is None:
            return found
        scores: dict[int, list[float]] = defaultdict(list)
        with self.rounds.workspace.reading() as session:
            for index, value in self._scores(session, run).values():
                scores[index].append(value)
        for place, unit in enumerate(self.rounds.order[: len(found)]):
            values = [value for position in unit for value in scores[position]]
            if len(values) == len(unit) * self.rounds.images_per_prompt:
                found[place] = np.mean(values)
        return found

    def _scores(self, session: Session, run: Run) -> dict[int, tuple[int, float]]:
        """Image -> its prompt's index and its score."""
        if (fingerprint := self._fingerprint(session, run)) is None:
            return {}
        query = (
            select(Image.id, Image.prompt_index, ImageScore.value)
            .join(ImageScore, ImageScore.image_id == Image.id)
            .join(ProtocolRow, ProtocolRow.id == ImageScore.protocol_id)
            .where(Image.run_id == run.id, ImageScore.name == self.rounds.by, ProtocolRow.fingerprint == fingerprint)
        )
        return {image: (index, value) for image, index, value in session.execute(query.order_by(Image.id))}

    def _fingerprint(self, session: Session, run: Run) -> str | None:
        """Of the scores of its pictures; None where there are no pictures."""
        if run.id not in self._known:
            items = run_items(session, self.rounds.workspace, run)[:1]
            if not items:
                return None
            shared = self.rounds.shared(run, is_embedded(session, run))
            planned = plan(items, **shared, device=device_kind(self.rounds.request.device))
            self._known[run.id] = of_one_picture(planned[word_of(self.rounds.by)]).fingerprint
        return self._known[run.id]


def of_one_picture(record: ProtocolRecord) -> ProtocolRecord:
    """The protocol of a picture's own score, whatever else was measured with it."""
    parameters = {name: value for name, value in record.parameters.items() if name not in (IMAGES_PER_PROMPT, LEFT_OUT)}
    return dataclasses.replace(record, n=1, parameters=parameters)


@dataclass(frozen=True)
class DistanceScores:
    rounds: Rounds

    def measure(self, run: Run, look: int) -> None:
        rounds = self.rounds
        with rounds.workspace.reading() as session:
            items, embedded, known = (
                rounds.items(session, run, look),
                is_embedded(session, run),
                known_scores(session, run),
            )
        with Bars(run.name) as bars:
            device = choose_device(rounds.request.device)
            found = evaluate(items, **rounds.shared(run, embedded), device=device, known=known, progress=bars)
        store(rounds.workspace, run, found)

    def have(self, run: Run | None) -> int:
        values = self._values(run)
        return next((look for look, value in enumerate(values) if value is None), len(values))

    def value(self, run: Run, look: int) -> tuple[float, int, int]:
        found = self._values(run)[look]
        assert found is not None
        return found.value, found.n, found.protocol_id

    def evidence(self, runs: Sequence[Run | None], margin: float) -> Distances:
        sign = -1.0 if direction(self.rounds.by) == "lower" else 1.0
        scores = [[_score(value) for value in self._values(run)] for run in runs]
        known = [score.columns for row in scores for score in row if score is not None and score.columns is not None]
        groups = max((len(columns) for columns in known), default=1)
        columns: Matrix = np.full((len(self.rounds.looks), len(runs), groups), np.nan)
        for k, row in enumerate(scores):
            for look, score in enumerate(row):
                if score is not None and score.columns is not None:
                    columns[look, k, : len(score.columns)] = sign * score.columns
        return Distances(columns, margin, self.rounds.looks)

    def _values(self, run: Run | None) -> list[MetricValue | None]:
        """The stored value of each look; None where it is not measured."""
        rounds = self.rounds
        found: list[MetricValue | None] = [None] * len(rounds.looks)
        if run is None:
            return found
        with rounds.workspace.reading() as session:
            made = lineage.image_counts(session, [run.id]).get(run.id, 0)
            shared = rounds.shared(run, is_embedded(session, run))
            for look in range(len(rounds.looks)):
                if rounds.images(look) > made:
                    break
                items = rounds.items(session, run, look)
                if len(items) < rounds.images(look):
                    break
                planned = plan(items, **shared, device=device_kind(rounds.request.device))
                fingerprint = planned[word_of(rounds.by)].fingerprint
                found[look] = session.scalar(
                    select(MetricValue)
                    .join(ProtocolRow)
                    .where(
                        MetricValue.run_id == run.id,
                        MetricValue.name == rounds.by,
                        ProtocolRow.fingerprint == fingerprint,
                    )
                )
        return found


def _score(row: MetricValue | None) -> Score | None:
    if row is None:
        return None
    return Score(
        name=row.name,
        value=row.value,
        ci_low=row.ci_low,
        ci_high=row.ci_high,
        n=row.n,
        replicates=None if row.replicates is None else tuple(row.replicates),
        grouping=row.grouping,
        prompts=row.prompts_sha256 or "",
    )


def default_score(embedded: bool, reference: str | None) -> str:
    """By what a sweep is decided where nobody says.

    Raises:
        MetricError: there is nothing to decide by.
    """
    if embedded:
        return "alignment"
    if reference is not None:
        return next(name for name in deciding() if name in of_role("quality"))
    raise MetricError(
        "there is no score to decide by: give --reference (a folder, a manifest with image paths, run:RUN)"
    )
