"""Before a sweep: the images that a difference takes, the time, and what that costs. Reads only, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from t2i_track.db import lineage
from t2i_track.errors import CompareError
from t2i_track.notebook import Shown
from t2i_track.ranking.comparison import able_to_decide
from t2i_track.ranking.margin import POWER
from t2i_track.ranking.protocols import settled
from t2i_track.ranking.rows import direction
from t2i_track.ranking.sample_size import SampleSize, Spread, difference_at, images_for, spread
from t2i_track.runs.grid import MOST_CELLS
from t2i_track.runs.plan import values_of
from t2i_track.runs.rates import Rates, Total
from t2i_track.runs.rows import run_rows
from t2i_track.workspace import Workspace


@dataclass(frozen=True)
class SweepPlan(Shown):
    """How many images a sweep should have: ``size`` for each of its settings, by what pilot runs vary.

    ``time`` is of all its images at the pilot's settings; ``money`` and ``energy`` (kWh) from least to most, None
    without a price, a power, or a time.
    """

    size: SampleSize
    spread: Spread
    pilot: str
    time: Total
    price: float | None
    watts: float | None

    @property
    def images(self) -> int:
        return self.size.images * self.size.settings

    @property
    def money(self) -> tuple[float, float] | None:
        return self._times(self.price, 1 / 3600)

    @property
    def energy(self) -> tuple[float, float] | None:
        return self._times(self.watts, 1 / 3.6e6)

    def _times(self, rate: float | None, unit: float) -> tuple[float, float] | None:
        seconds = self.time.seconds
        return None if rate is None or seconds is None else (seconds.low * rate * unit, seconds.high * rate * unit)

    def rows(self) -> list[dict[str, Any]]:
        seconds = self.time.seconds
        money, energy = self.money or (None, None), self.energy or (None, None)
        return [
            {
                "score": self.size.metric,
                "difference": self.size.difference,
                "settings": self.size.settings,
                "images_a_run": self.size.images,
                "images": self.images,
                "seconds_low": seconds.low if seconds else None,
                "seconds_high": seconds.high if seconds else None,
                "money_low": money[0],
                "money_high": money[1],
                "kwh_low": energy[0],
                "kwh_high": energy[1],
                "pilots": self.spread.pilots,
                "pilot": self.pilot,
            }
        ]

    def lines(self) -> list[str]:
        size, found = self.size, self.spread
        plan = (
            f"{size.images:,} images a run find a difference of {size.difference:.2g} in {size.metric} between any two"
            f" of {size.settings} settings, with a chance of {POWER:.0%}: {self.images:,} images in all."
        )
        if found.paired:
            return [plan, f"From how much {found.pilots} stored runs over the same prompts differ."]
        alone = (
            f"From one pilot ({self.pilot}), as if runs had nothing in common: over the same prompts they have, so"
            " fewer may do. A second pilot of another setting would tell."
        )
        return [plan, alone]


def plan(
    workspace: Workspace,
    *,
    detect: float | None = None,
    num: int | None = None,
    by: str | None = None,
    runs: Sequence[str] = (),
    experiment: str | None = None,
    settings: int | None = None,
    price: float | None = None,
    watts: float | None = None,
) -> SweepPlan:
    """The images for a difference (``detect``), or the difference that ``num`` images a run find.

    Args:
        by: the score; None: the first by which the pilots can be compared.
        runs, experiment: the pilots; default: all finished runs.
        settings: how many there will be; None: as many as there are pilots, at least two.
        price: money an hour. watts: the machine's power.

    Raises:
        CompareError: not one of ``detect`` and ``num``, no pilot that can tell, or a number that is out of range.
    """
    if (detect is None) == (num is None):
        raise CompareError("give one of --detect (a difference) and --num (images a run)")
    for name, number in (("--price", price), ("--watts", watts)):
        if number is not None and not 0 <= number < float("inf"):
            raise CompareError(f"{name} {number:g} is out of range: give 0 or more")
    if settings is not None and not 2 <= settings <= MOST_CELLS:
        raise CompareError(f"--settings {settings} is out of range: give 2 to {MOST_CELLS:,}")
    with workspace.reading() as session:
        if experiment is not None:
            lineage.require_experiment(session, experiment)
        rows = settled(run_rows(session, runs, experiment=experiment))
        if not rows:
            raise CompareError("no runs to plan by: make a pilot first, as by `t2i generate --num 64 --evaluate`")
        metric = by or able_to_decide(rows)
        direction(metric)
        found = spread(rows, metric)
        several = settings or max(found.pilots, 2)
        if detect is not None:
            size = images_for(metric, detect, several, found)
        else:
            size = difference_at(metric, num or 0, several, found)
        pilot = lineage.find_run(session, rows[-1].run)
        work = [(values_of(pilot), size.images)] * several if pilot.origin is None else []  # others' were not timed
        total = Rates(session).total(work)
        return SweepPlan(size, found, pilot.name, total, price, watts)
