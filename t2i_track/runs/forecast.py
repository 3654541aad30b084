"""What a sweep would make, and how long that would take. Reads only."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from t2i_track.db import lineage
from t2i_track.errors import DatabaseError
from t2i_track.images.loading import resolved_here
from t2i_track.runs.grid import Experiment
from t2i_track.runs.rates import Range, Rates, Total
from t2i_track.runs.sweep import cells_of, prompts_of, require_fit_of_all, same_spec
from t2i_track.runs.until_decided import budget_of
from t2i_track.settings import DECLARED, Settings, Values
from t2i_track.workspace import Workspace


@dataclasses.dataclass(frozen=True)
class CellForecast:
    """A cell before it is run: what there is of it, and what the rest would take."""

    cell: int
    settings: Settings
    images: int
    made: int
    seconds: Range | None
    """None where no run of that model and size has been timed."""


def forecast(workspace: Workspace, experiment: Experiment) -> tuple[list[CellForecast], Total]:
    """What a sweep would make, and how long that would take at the rates of earlier runs. Reads only.

    Raises:
        SettingsError: an impossible value, or one that a cell's model would ignore or cannot do. ModelError: of a
            model that is none.
    """
    manifest = prompts_of(experiment)
    cells = cells_of(experiment, manifest)
    require_fit_of_all(cells, manifest)
    images = len(manifest.head(cells[0].num)) * cells[0].images_per_prompt  # neither can vary within a sweep
    try:
        with workspace.reading() as session:
            sweep, rates = same_spec(session, experiment), Rates(session)
            members = {} if sweep is None else {member.cell: member.run for member in sweep.members}
            counts = lineage.image_counts(session, [run.id for run in members.values()])
            made = [counts.get(members[cell].id, 0) if cell in members else 0 for cell in range(len(cells))]
            stored = (as_run(workspace.stored_settings(resolved_here(cell)), images) for cell in cells)
            work = [(settings, images - there) for settings, there in zip(stored, made, strict=True)]
            seconds, total = [rates.pictures(*part) for part in work], rates.total(work)
    except DatabaseError:
        # Nothing has been run here yet.
        made, seconds = [0] * len(cells), [None] * len(cells)
        total = Total(None, None, len(cells))
    found = zip(range(len(cells)), cells, made, seconds, strict=True)
    return [CellForecast(cell, settings, images, there, time) for cell, settings, there, time in found], total


def most_images(experiment: Experiment, cells: Sequence[CellForecast]) -> int | None:
    """Images that rounds make at most, within their budget; None where all are made."""
    if not experiment.until_decided:
        return None
    left, budget = sum(cell.images - cell.made for cell in cells), budget_of(experiment.budget)
    return left if budget.images is None else min(left, budget.images)


def as_run(settings: Values, images: int) -> Values:
    """With the batch that a run of so many images uses."""
    return dataclasses.replace(settings, batch_size=min(settings.batch_size, images))


def listed(cells: Sequence[CellForecast], axes: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Rows for a table of what a sweep would make."""
    for cell in cells:
        yield {
            "cell": cell.cell,
            **{axis: DECLARED[axis].written(getattr(cell.settings, axis)) for axis in axes},
            "images": cell.images,
            "made": cell.made,
            "seconds": None if cell.seconds is None else cell.seconds.mean,
            "low": None if cell.seconds is None else cell.seconds.low,
            "high": None if cell.seconds is None else cell.seconds.high,
        }
