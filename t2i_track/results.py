"""What the public functions return where no part of the library returns it as it is: rows and lines of a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from t2i_track.notebook import Shown

if TYPE_CHECKING:
    from t2i_track.ranking import Comparison, Decided
    from t2i_track.runs.evaluate import Scored
    from t2i_track.runs.forecast import CellForecast
    from t2i_track.runs.rates import Total
    from t2i_track.runs.sweep import SweepOutcome


@dataclass(frozen=True)
class Evaluation(Shown):
    """The scores of some runs, those that were known and those measured now."""

    runs: tuple[Scored, ...]

    def rows(self) -> list[dict[str, Any]]:
        return [{"run": found.name, **score} for found in self.runs for score in found.scores]

    def lines(self) -> list[str]:
        references = dict.fromkeys(found.reference for found in self.runs if found.reference)
        return [*references, *(f"{found.name}: {warning}" for found in self.runs for warning in found.warnings)]


@dataclass(frozen=True)
class Forecast(Shown):
    """What a sweep would make, a row a cell; its seconds are None where no run of equal work has been timed.

    ``total`` is all of it, with the loading of the models: ``total.seconds.low`` to ``total.seconds.high``.
    """

    cells: tuple[CellForecast, ...]
    axes: tuple[str, ...]
    total: Total
    most: int | None = None
    """Of a sweep in rounds: images that are made at most, within its budget; None of any other."""

    def rows(self) -> list[dict[str, Any]]:
        from t2i_track.runs.forecast import listed

        return list(listed(self.cells, self.axes))


@dataclass(frozen=True)
class SweepResult(Shown):
    """What became of a sweep's cells, and how they compare.

    ``comparison`` is None where they cannot be compared, and ``reason`` says why.
    """

    outcome: SweepOutcome
    comparison: Comparison | None
    reason: str | None
    decided: Decided | None = None
    """Where images were made in rounds, in place of a comparison."""

    def rows(self) -> Sequence[Any]:
        found = self.comparison or self.decided
        if found is not None:
            return found.rows()
        names = ("cell", "state", "run", "error")
        return [{name: getattr(cell, name) for name in names} for cell in self.outcome.cells]

    def lines(self) -> list[str]:
        failed = [f"cell {cell.cell} failed: {cell.error}" for cell in self.outcome.failed]
        found = self.comparison or self.decided
        said = found.lines() if found is not None else [f"Not compared: {self.reason}"]
        return [*self.outcome.notes(), *failed, *said]
