"""A sweep that makes images in rounds, of the settings that may still be the best, until they are decided.

After each round the decision is a pure function of what is stored (``ranking.adaptive.replay`` of the scores along the
sweep's order), so a sweep that is killed or stopped anywhere decides the same when it goes on. A run's number of
prompts is the most that it may come to, and what it has is counted from its rows; its fingerprint and its parameters
in MLflow never change.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from t2i_track.db import decisions as stored_decisions
from t2i_track.db import lineage
from t2i_track.db.models import DecisionState, Run, RunStatus, Sweep, SweepRun
from t2i_track.errors import Interrupted, T2IError
from t2i_track.images.executors import Loaded
from t2i_track.metrics.registry import word_of
from t2i_track.ranking.adaptive import Course, Look, Rule, decisions, more_prompts, replay
from t2i_track.ranking.evidence import Evidence
from t2i_track.ranking.margin import Margin, margin_of
from t2i_track.ranking.rows import Score, direction
from t2i_track.ranking.search import Key, Search
from t2i_track.runs import projection
from t2i_track.runs.plan import Plan
from t2i_track.runs.request import Request
from t2i_track.runs.round_plan import LEVEL, fixed, note
from t2i_track.runs.rounds import Rounds
from t2i_track.runs.until_decided import Budget, budget_of, resolutions
from t2i_track.settings import DECLARED, Settings

if TYPE_CHECKING:
    from t2i_track.prompts.manifest import Manifest
    from t2i_track.runs.sweep import CellOutcome, Driver

log = logging.getLogger(__name__)


@dataclasses.dataclass
class _Setting:
    """A cell on its way."""

    plan: Plan
    key: Key
    weight: float
    run: Run | None = None
    loaded: Loaded | None = None
    state: str = "made"
    error: str | None = None

    @property
    def cell(self) -> int:
        assert self.plan.cell is not None
        return self.plan.cell


class Adaptive:
    """Drives the rounds of one sweep."""

    def __init__(self, driver: Driver, sweep: Sweep, plans: Sequence[Plan]) -> None:
        self._driver, self._workspace, self._experiment = driver, driver.workspace, driver.experiment
        self._sweep = sweep
        self._manifest: Manifest = plans[0].manifest
        self._budget: Budget = budget_of(self._experiment.budget)
        self._searched = resolutions(self._experiment.search, self._experiment.axes, self._experiment.zip)
        keys = self._keys([plan.settings for plan in plans])
        self._search = Search(tuple(self._searched.values()), tuple(keys)) if self._searched else None
        self._settings = [self._setting(plan, key, len(plans)) for plan, key in zip(plans, keys, strict=True)]
        self._failed: set[int] = set()

    def run(self) -> list[CellOutcome]:
        """Make and decide until it ends.

        Raises:
            Interrupted: Ctrl-C. MetricError: there is nothing to decide by.
        """
        try:
            for setting in self._settings:
                self._guarded(setting, partial(self._begin, setting))
            runs = [setting.run for setting in self._settings if setting.run is not None]
            if runs:
                self._scores = fixed(self._workspace, self._experiment, self._sweep, self._manifest, runs)
                self._finish(self._go())
        except (Interrupted, KeyboardInterrupt):
            self._interrupted()
            raise
        except T2IError as error:
            self._given_up(" ".join(str(error).split()))
            raise
        return self._outcomes()

    def _given_up(self, reason: str) -> None:
        """Runs of which no image was begun must not look as if somebody made them."""
        self._end_open(RunStatus.FAILED, reason, begun=False)

    def _interrupted(self) -> None:
        """The runs between two rounds are open, and nobody makes them any more."""
        self._end_open(RunStatus.INTERRUPTED, begun=True)

    def _end_open(self, status: RunStatus, reason: str | None = None, *, begun: bool) -> None:
        for setting in self._settings:
            if setting.run is not None:
                with self._workspace.reading() as session:
                    run = lineage.find_run(session, setting.run.uuid)
                if run.status == RunStatus.RUNNING and (run.started_at is not None) is begun:
                    self._driver.generator().end(run, status, reason)

    def _setting(self, plan: Plan, key: Key, grid: int) -> _Setting:
        return _Setting(plan, key, 1 / grid if self._search is None else self._search.weight(key))

    def _keys(self, cells: Sequence[Settings]) -> list[Key]:
        """Where each is on the searched axes, and which combination of the other axes it has."""
        others = [name for name in self._experiment.axes if name not in self._searched]
        combinations: dict[tuple[Any, ...], int] = {}
        found: list[Key] = []
        for cell in cells:
            rest = tuple(getattr(cell, name) for name in others)
            point = tuple(float(getattr(cell, name)) for name in self._searched)
            found.append((point, combinations.setdefault(rest, len(combinations))))
        return found

    # What there is to begin with.

    def _guarded(self, setting: _Setting, work: Callable[[], object]) -> None:
        """Do something for a setting; what it meets must not stop the others."""
        try:
            work()
        except (Interrupted, KeyboardInterrupt):
            raise
        except T2IError as error:
            self._fail(setting, " ".join(str(error).split()))
        except Exception as error:  # noqa: BLE001 - as of cells of a grid: it is reported
            self._fail(setting, f"{type(error).__name__}: {error}")

    def _fail(self, setting: _Setting, reason: str) -> None:
        setting.state, setting.error = "failed", reason
        self._failed.add(self._settings.index(setting))
        log.warning("cell %s failed: %s", setting.cell, reason)

    def _begin(self, setting: _Setting) -> None:
        """Find the setting's run, or store a new one."""
        generator, plan = self._driver.generator(), setting.plan
        prepared = generator.prepare(plan)
        fingerprint = generator.fingerprint(plan, prepared)
        setting.loaded = prepared.loaded
        with self._workspace.begin() as session:
            own = session.scalar(
                select(Run).join(SweepRun).where(SweepRun.sweep_id == self._sweep.id, SweepRun.cell == plan.cell)
            )
            if own is None and not self._driver.fresh:
                own = lineage.finished_like(session, fingerprint)
                if own is not None:
                    lineage.add_to_sweep(session, self._sweep.id, own, setting.cell)
        if own is None or own.settings_sha256 != fingerprint:
            setting.run = generator.begin(plan, prepared)
            return
        setting.run = own
        setting.state = "taken over" if own.status in (RunStatus.FINISHED, RunStatus.ENOUGH) else "resumed"
        if own.status != RunStatus.FINISHED:
            setting.loaded = generator.reopen(own)

    # Rounds.

    @property
    def _rounds(self) -> Rounds:
        return self._scores.rounds

    def _go(self) -> Course:
        while True:
            first = [k for k, setting in enumerate(self._settings) if setting.cell < self._experiment_cells]
            lacking = [k for k in first if k not in self._failed and self._have(k) == 0]
            if lacking:  # a margin that is a share is of what the first look sees
                self._round(lacking, 0)
                continue
            alive = [k for k in first if self._have(k) > 0]
            if not alive:
                return Course((), "open", done=(0,) * len(self._settings))
            margin = self._margin(alive)
            evidence, rule = self._evidence(margin), self._rule(margin)
            course = self._replayed(evidence, rule, first)
            self._store(course, evidence, rule)
            if course.ended == "refined":
                self._add()
            elif course.ended != "open":
                self._ending = (course, evidence, rule)
                return course
            else:
                self._round(course.wanted, len(self._rounds.looks[: self._rounds.looks.index(course.prompts)]))

    @property
    def _experiment_cells(self) -> int:
        return len(self._search.grid) if self._search is not None else len(self._settings)

    def _have(self, k: int) -> int:
        return self._scores.have(self._settings[k].run)

    def _round(self, wanted: Sequence[int], look: int) -> None:
        """Make and score a look's images of some settings, as many settings at once as keep all workers busy."""
        positions = self._rounds.positions(look)

        def one(k: int) -> None:
            setting = self._settings[k]

            def work() -> None:
                assert setting.run is not None
                assert setting.loaded is not None
                if setting.run.status != RunStatus.FINISHED:
                    self._driver.generator().make_some(setting.run, positions, setting.loaded)
                self._scores.measure(setting.run, look)

            self._guarded(setting, work)

        side_by_side = self._driver.executor.side_by_side
        if side_by_side == 1 or len(wanted) == 1:
            for k in wanted:
                one(k)
            return
        with ThreadPoolExecutor(side_by_side, thread_name_prefix="t2i-cell") as pool:
            try:
                for _ in pool.map(one, wanted):
                    pass
            except BaseException:
                self._driver.executor.stop()
                pool.shutdown(cancel_futures=True)
                raise

    def _margin(self, alive: Sequence[int]) -> Margin:
        by = self._rounds.by
        values = [self._value(k, 0) for k in alive]
        best = max(values) if direction(by) == "higher" else min(values)
        found = margin_of(by, Score(by, best), self._experiment.within)
        assert found is not None  # of a score that decides
        return found

    def _value(self, k: int, look: int) -> float:
        run = self._settings[k].run
        assert run is not None
        return self._scores.value(run, look)[0]

    def _evidence(self, margin: Margin) -> Evidence:
        return self._scores.evidence([setting.run for setting in self._settings], margin.amount)

    def _rule(self, margin: Margin) -> Rule:
        weights = tuple(setting.weight for setting in self._settings)
        return Rule(margin.amount, self._rounds.looks, weights, LEVEL, growing=self._search is not None)

    def _replayed(self, evidence: Evidence, rule: Rule, first: Sequence[int]) -> Course:
        """Where the sweep stands by what is stored.

        What failed while the others went on is left out from there on, so that what was decided without it stays.
        """
        have = [self._have(k) for k in range(len(self._settings))]
        with self._workspace.reading() as session:
            stored = stored_decisions.looks_stored(session, self._sweep.id)
            seconds = [self._rounds.seconds(session, setting.run) for setting in self._settings]
        dead = set(self._failed)
        while True:
            course = replay(evidence, rule, have, first, self._affordable(seconds), self._refined, dead)
            if course.ended != "open" or len(course.looks) >= stored or dead.issuperset(course.wanted):
                return course
            dead |= set(course.wanted)

    def _affordable(self, seconds: Sequence[Sequence[float]]) -> Callable[[Sequence[int], Sequence[int], int], bool]:
        budget, rounds = self._budget, self._rounds

        def images(looks: int) -> int:
            return rounds.images(looks - 1) if looks else 0

        def affordable(done: Sequence[int], wanted: Sequence[int], look: int) -> bool:
            if budget.images is not None:
                after = sum(images(max(looks, look + 1) if k in wanted else looks) for k, looks in enumerate(done))
                return after <= budget.images
            if budget.seconds is not None:
                return sum(seconds[k][looks - 1] for k, looks in enumerate(done) if looks) < budget.seconds
            return True

        return affordable

    def _refined(self, states: Sequence[object], best: int) -> list[int | None]:
        """Places of the settings that the search adds now."""
        if self._search is None:
            return []
        there = {self._settings[k].key: k for k, state in enumerate(states) if state is not None}
        places = {setting.key: k for k, setting in enumerate(self._settings)}
        wanted = [
            key for key in self._search.beside(self._settings[best].key, there) if places.get(key) not in self._failed
        ]
        self._asked = [key for key in wanted if key not in places]
        self._near = self._settings[best]
        return [places.get(key) for key in wanted]

    def _add(self) -> None:
        """Store runs of the settings that the search has asked for."""
        assert self._search is not None
        for key in self._asked:
            values = {
                name: int(value) if DECLARED[name].kind is int else value
                for name, value in zip(self._searched, key[0], strict=True)
            }
            chosen = Settings.from_mapping({**self._near.plan.settings.to_dict(), **values})
            plan = dataclasses.replace(self._near.plan, settings=chosen, cell=len(self._settings))
            setting = _Setting(plan, key, self._search.weight(key))
            self._settings.append(setting)
            self._guarded(setting, partial(self._begin, setting))

    # What is stored.

    def _store(self, course: Course, evidence: Evidence, rule: Rule) -> None:
        """The decisions of looks that have none yet, a transaction each."""
        with self._workspace.reading() as session:
            stored = stored_decisions.looks_stored(session, self._sweep.id)
        for number, look in enumerate(course.looks[stored:], stored):
            rows = self._rows(number, look, evidence, rule, course)
            with self._workspace.begin() as session:
                sweep = session.get_one(Sweep, self._sweep.id)
                stored_decisions.add_decisions(session, sweep, rows)
            for row in rows:
                if row["state"] == DecisionState.OUT:
                    log.info("%s left after %s images", self._name_of(row["run_id"]), row["images"])

    def _name_of(self, run_id: int) -> str:
        return next(
            setting.run.name for setting in self._settings if setting.run is not None and setting.run.id == run_id
        )

    def _rows(self, number: int, look: Look, evidence: Evidence, rule: Rule, course: Course) -> list[dict[str, Any]]:
        rows = []
        for one in decisions(evidence, rule, course, look):
            run, against = self._settings[one.setting].run, self._settings[one.against].run
            assert run is not None
            assert against is not None
            value, images, protocol = self._scores.value(run, look.number)
            rows.append(
                {
                    "run_id": run.id,
                    "look": number,
                    "prompts": one.prompts,
                    "images": images,
                    "metric": self._rounds.by,
                    "protocol_id": protocol,
                    "value": value,
                    "state": DecisionState(one.state),
                    "against": None if against is run else against.uuid,
                    "estimate": one.gap.estimate,
                    "low": one.gap.low if math.isfinite(one.gap.low) else None,
                    "high": one.gap.high if math.isfinite(one.gap.high) else None,
                    "margin": rule.margin,
                }
            )
        return rows

    def _finish(self, course: Course) -> None:
        """Close the runs, say why it ended, and score what was made by all that is measured of a run."""
        if not course.looks:
            return
        _, evidence, rule = self._ending
        more = {}
        for k, state in enumerate(course.states):
            run = self._settings[k].run
            if state == "undecided" and run is not None:
                prompts = more_prompts(evidence, rule, course, k)
                more[run.uuid] = None if prompts is None else prompts * run.images_per_prompt
        with self._workspace.begin() as session:
            note(session.get_one(Sweep, self._sweep.id), {"ended": course.ended, "more": more})
        for setting in self._settings:
            if setting.run is not None and setting.state != "failed":
                self._guarded(setting, partial(self._close, setting))

    def _close(self, setting: _Setting) -> None:
        from t2i_track.runs.evaluate import score

        assert setting.run is not None
        generator = self._driver.generator()
        with self._workspace.reading() as session:
            run = lineage.find_run(session, setting.run.uuid)
            made = lineage.image_counts(session, [run.id]).get(run.id, 0)
        whole = made == run.num * run.images_per_prompt
        status = RunStatus.FINISHED if whole else RunStatus.ENOUGH
        if run.status != status:
            generator.end(run, status)
        else:
            projection.send(self._workspace, self._driver.tracker, run)
        metrics = (word_of(self._rounds.by),) if self._experiment.evaluate is False else None
        request = Request(metrics=metrics, reference=self._experiment.reference)
        score(self._workspace, self._driver.tracker, [run.uuid], request, self._driver.executor)

    def _outcomes(self) -> list[CellOutcome]:
        from t2i_track.runs.sweep import CellOutcome

        return [
            CellOutcome(
                setting.cell,
                setting.plan.settings,
                setting.state,
                None if setting.run is None else setting.run.uuid,
                setting.error,
            )
            for setting in self._settings
        ]
