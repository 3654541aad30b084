"""How long work takes, as stored runs were timed: a range, and how many runs it rests on. Reads only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session, defer

from t2i_track.db.models import Image, Run
from t2i_track.runs.plan import values_of
from t2i_track.settings import COSTLY, COUNTED, DECLARED, Stage, Values

SEARCHED = 200
"""The newest timed runs of a model that are looked through."""
NEWEST = 20
"""Runs that a range rests on at most: what a machine did long ago says little."""
START = "start_seconds"
"""The key of a run's ``config["cost"]`` with the seconds until its model was loaded, imports included; only where that
run loaded it."""
_PASS = tuple(name for name in COSTLY if name not in COUNTED)
_LOAD = tuple(name for name, declared in DECLARED.items() if declared.stage is Stage.LOAD and name != "revision")


@dataclass(frozen=True)
class Range:
    """Seconds: the least, the mean and the most, as ``runs`` runs were timed."""

    low: float
    mean: float
    high: float
    runs: int

    def times(self, factor: float) -> Range:
        return Range(self.low * factor, self.mean * factor, self.high * factor, self.runs)

    def plus(self, other: Range) -> Range:
        """One after the other; it rests on as few runs as the weaker of the two."""
        low, mean, high = self.low + other.low, self.mean + other.mean, self.high + other.high
        return Range(low, mean, high, min(self.runs, other.runs))


@dataclass(frozen=True)
class Total:
    """What some work would take.

    ``pictures`` is of the parts of which something is known (None: of none), ``unknown`` counts the others; ``start``
    is the loading of each model once, None where that has not been timed.
    """

    pictures: Range | None
    start: Range | None
    unknown: int

    @property
    def seconds(self) -> Range | None:
        """All of it, with the start where that is known."""
        if self.pictures is None or self.start is None:
            return self.pictures
        return self.pictures.plus(self.start)


class Rates:
    """The rates of the stored runs; each kind of work is read once."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._runs: dict[str, list[tuple[Run, Values]]] = {}
        self._passes: dict[tuple[Any, ...], Range | None] = {}
        self._starts: dict[tuple[Any, ...], Range | None] = {}

    def image(self, settings: Values) -> Range | None:
        """Seconds an image in a full batch, from the least to the most of the runs whose passes cost the same.

        Such runs are equal in all that decides the cost but guidance, steps and scheduler, which only decide how many
        passes there are. An open choice is taken as the newest run had it. One run alone gives the range of its
        batches. None where there is no such run.
        """
        key = _key(settings, _PASS)
        if key not in self._passes:
            self._passes[key] = self._a_pass(settings)
        found = self._passes[key]
        return None if found is None else found.times(settings.passes)

    def pictures(self, settings: Values, images: int) -> Range | None:
        """Seconds for that many images; the last batch takes as long as a full one."""
        rate, batch = self.image(settings), settings.batch_size or 1  # one that is still to be found out
        return None if rate is None else rate.times(-(-images // batch) * batch)

    def start(self, settings: Values) -> Range | None:
        """Seconds until the model is loaded, the imports of its libraries included."""
        key = _key(settings, _LOAD)
        if key not in self._starts:
            like = (run.config.get("cost", {}).get(START) for run in self._like(settings, _LOAD))
            self._starts[key] = _spread([seconds for seconds in like if seconds is not None][:NEWEST])
        return self._starts[key]

    def total(self, work: Iterable[tuple[Values, int]]) -> Total:
        """What it takes to make so many images with each of these settings in one process, each model loaded once.

        Neither scoring nor the sending of the pictures to MLflow is in it.
        """
        parts = [(settings, images) for settings, images in work if images]
        models = {_key(settings, _LOAD): settings for settings, _ in parts}
        found = [self.pictures(settings, images) for settings, images in parts]
        known = [one for one in found if one is not None]
        starts = [self.start(settings) for settings in models.values()]
        loaded = [one for one in starts if one is not None]
        return Total(_sum(known), _sum(loaded) if len(loaded) == len(starts) else None, len(found) - len(known))

    def _like(self, settings: Values, names: Sequence[str]) -> list[Run]:
        """The timed runs that are equal in these settings, the newest first."""
        timed = self._timed(settings.model)
        newest = next((values for _, values in timed if _fits(settings, values, names)), None)
        return [] if newest is None else [run for run, values in timed if _key(values, names) == _key(newest, names)]

    def _timed(self, model: str) -> list[tuple[Run, Values]]:
        if model not in self._runs:
            query = (
                select(Run)
                .where(Run.seconds_per_image.is_not(None), Run.origin.is_(None), Run.model.has(name=model))
                .order_by(Run.created_at.desc(), Run.id.desc())
                .options(defer(Run.environment), defer(Run.scheduler_config))
            )
            self._runs[model] = [(run, values_of(run)) for run in self._session.scalars(query.limit(SEARCHED))]
        return self._runs[model]

    def _a_pass(self, settings: Values) -> Range | None:
        """Seconds of one pass for one image."""
        runs = self._like(settings, _PASS)[:NEWEST]
        batches = self._batches(runs)
        timed = {run.id: [one / values_of(run).passes for one in batches[run.id]] for run in runs}
        if len(timed) == 1:
            (only,) = timed.values()
            return Range(min(only), fmean(only), max(only), 1)
        return _spread([fmean(batch) for batch in timed.values()])

    def _batches(self, runs: Sequence[Run]) -> dict[int, list[float]]:
        """Run -> seconds an image of each of its batches, as if all had been full.

        The images of a batch share its time, and a short batch is padded: its images seem dear. Of a run whose images
        are gone only the mean is known.
        """
        found: dict[int, list[float]] = defaultdict(list)
        size = {run.id: run.batch_size for run in runs if run.batch_size is not None}
        query = select(Image.run_id, Image.seconds, func.count()).where(
            Image.run_id.in_(size), Image.seconds.is_not(None)
        )
        for run_id, seconds, images in self._session.execute(query.group_by(Image.run_id, Image.seconds)):
            batches = -(-images // size[run_id])  # more than one only where two took equally long
            found[run_id] += batches * [(seconds or 0.0) * images / (batches * size[run_id])]
        for run in runs:
            if run.id not in found and run.seconds_per_image is not None:
                found[run.id] = [run.seconds_per_image]
        return found


def _key(settings: Values, names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(getattr(settings, name) for name in names)


CHOSEN = ("lora", "vae")
"""None of these is no open choice, but the model as it is."""


def _fits(settings: Values, timed: Values, names: Sequence[str]) -> bool:
    """Whether the run is what the settings ask for; what they leave open will be as it was."""
    same = all(getattr(settings, name) in (None, getattr(timed, name)) for name in names if name not in CHOSEN)
    return same and all(getattr(settings, name) == getattr(timed, name) for name in CHOSEN)


def _spread(seconds: Sequence[float]) -> Range | None:
    return Range(min(seconds), fmean(seconds), max(seconds), len(seconds)) if seconds else None


def _sum(parts: Sequence[Range]) -> Range | None:
    if not parts:
        return None
    total = parts[0]
    for part in parts[1:]:
        total = total.plus(part)
    return total
