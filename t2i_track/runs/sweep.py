"""A grid of runs: what is done, what is left, one MLflow parent, and a failed cell that does not stop the others."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import Timeout
from sqlalchemy import select
from sqlalchemy.orm import Session

from t2i_track.db import lineage
from t2i_track.db.models import Run, RunStatus, Sweep, SweepRun
from t2i_track.db.types import utc_now
from t2i_track.errors import Busy, Interrupted, SettingsError, T2IError
from t2i_track.files import alone
from t2i_track.images.executors import Cluster, Executor, executor_of
from t2i_track.images.loading import require_local_fit
from t2i_track.images.weighting import require_weights
from t2i_track.prompts.manifest import Manifest
from t2i_track.runs import joining, projection
from t2i_track.runs.content import STATE
from t2i_track.runs.generate import Generator
from t2i_track.runs.grid import Experiment
from t2i_track.runs.launch import experiment_name, is_scored, notes_on, open_manifest, with_default_num
from t2i_track.runs.plan import Plan, Summary
from t2i_track.runs.until_decided import MOST_IMAGES_A_SETTING, ROUNDS
from t2i_track.settings import DECLARED, Settings, Stage
from t2i_track.workspace import Workspace

if TYPE_CHECKING:
    from t2i_track.tracking import Tracker

MANY_CELLS = 100
"""More cells than this want --yes: a typing error in an axis can cost days."""


@dataclasses.dataclass(frozen=True)
class CellOutcome:
    cell: int
    settings: Settings
    state: str
    """made, resumed, taken over, or failed."""
    run: str | None
    error: str | None = None
    notes: tuple[str, ...] = ()
    """What must be said of its pictures and scores, as of a run by itself."""


@dataclasses.dataclass(frozen=True)
class SweepOutcome:
    sweep: str
    name: str
    mlflow_run_id: str
    cells: tuple[CellOutcome, ...]

    @property
    def failed(self) -> list[CellOutcome]:
        return [cell for cell in self.cells if cell.state == "failed"]

    def notes(self) -> list[str]:
        """The notes of the cells, each once, with the cells that it is of unless it is of all."""
        cells: dict[str, list[int]] = {}
        for cell in self.cells:
            for note in dict.fromkeys(cell.notes):
                cells.setdefault(note, []).append(cell.cell)
        return [
            f"note: {note}" if len(of) == len(self.cells) else f"note of cell {', '.join(map(str, of))}: {note}"
            for note, of in cells.items()
        ]


def cells_of(experiment: Experiment, manifest: Manifest) -> list[Settings]:
    """The settings of every cell.

    Raises:
        SettingsError: an impossible value, or nothing left after `exclude`.
    """
    most = most_of(experiment, manifest)
    asked = (cell if most is None else dataclasses.replace(cell, num=most) for cell in experiment.cells())
    found = [with_default_num(cell, manifest) for cell in asked]
    if not found:
        raise SettingsError(f"experiment '{experiment.name}' has no cells: its exclude rules leave none")
    return found


def prompts_of(experiment: Experiment) -> Manifest:
    """The prompts of a sweep; of the embedded ones as many as its rounds may come to."""
    wanted = (experiment.max_num or MOST_IMAGES_A_SETTING) if experiment.until_decided else 0
    return open_manifest(experiment.manifest, experiment.prompts, least=wanted)


def most_of(experiment: Experiment, manifest: Manifest) -> int | None:
    """Prompts a setting at most, where images are made in rounds; None where they are not, or the cells say it."""
    if not experiment.until_decided or "num" in experiment.settings:
        return None
    return experiment.max_num or min(MOST_IMAGES_A_SETTING, len(manifest))


def placed(experiment: Experiment, tracking_uri: str | None) -> Experiment:
    """With its MLflow experiment, where it was left open."""
    return dataclasses.replace(experiment, experiment=experiment_name(experiment.experiment, tracking_uri))


def require_yes(experiment: Experiment, yes: bool) -> None:
    """Refuse a very large grid before its cells are listed."""
    if experiment.size > MANY_CELLS and not yes:
        raise SettingsError(f"this sweep has {experiment.counted}: look at it with --dry-run, pass --yes to run it")


def run_sweep(
    workspace: Workspace,
    tracker: Tracker,
    experiment: Experiment,
    *,
    fresh: bool,
    allow_pickle: bool,
    mark_ai: bool = True,
    cluster: Cluster | None = None,
) -> SweepOutcome:
    """Run every cell that is not done.

    The same command again goes on where the last one stopped, with the same MLflow parent. A cell that an earlier run
    has made with the same settings, weights and manifest is taken over. ``fresh`` makes a new sweep with new runs. New
    runs ``mark_ai`` their pictures; those that go on or are taken over are as they were begun.

    Raises:
        Interrupted: Ctrl-C. SettingsError: what a cell's model would ignore or cannot do. MetricError: its scores
            could not be measured; both are found out before the first image. Busy: another process runs the same sweep.
    """
    manifest = prompts_of(experiment)
    cells = cells_of(experiment, manifest)
    workspace.require_writable()
    require_fit_of_all(cells, manifest)
    _require_measurable(workspace, experiment, cells, manifest)
    joining.check(tracker, joining.joined_run())
    experiment = placed(experiment, tracker.uri)
    with (
        contextlib.nullcontext() if fresh else _alone(workspace, experiment),
        executor_of(cluster, workspace.cache, allow_pickle=allow_pickle) as executor,
    ):
        driver = Driver(workspace, tracker, executor, experiment, allow_pickle, fresh)
        return _run_cells(driver, manifest, cells, mark_ai)


@dataclasses.dataclass(frozen=True)
class Driver:
    """What all cells of a sweep are made with."""

    workspace: Workspace
    tracker: Tracker
    executor: Executor
    experiment: Experiment
    allow_pickle: bool
    fresh: bool

    def generator(self) -> Generator:
        """One for each cell, since several may be made at once."""
        return Generator(self.workspace, self.tracker, self.executor, allow_pickle=self.allow_pickle)


def require_fit_of_all(cells: Sequence[Settings], manifest: Manifest) -> None:
    """Refuse what the models on this machine would ignore of the settings or of the prompts."""
    rows = manifest.head(cells[0].num)  # it cannot vary within a sweep
    require_local_fit(cells, rows.negative_prompts)
    require_weights(cells, [*rows.prompts, *rows.negative_prompts])


@contextlib.contextmanager
def _alone(workspace: Workspace, experiment: Experiment) -> Iterator[None]:
    """Two processes would both make the sweep, and each of its cells."""
    spec = json.dumps(experiment.spec(), sort_keys=True, default=str)
    lock = workspace.home / f".sweep-{hashlib.sha256(spec.encode()).hexdigest()[:12]}.lock"
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(alone(lock, timeout=0))
        except Timeout:
            raise Busy(
                f"sweep {experiment.name} is being run by another process: wait for it to end, then the same command"
                " goes on where it stopped"
            ) from None
        yield


def _run_cells(driver: Driver, manifest: Manifest, cells: Sequence[Settings], mark_ai: bool) -> SweepOutcome:
    workspace, tracker, fresh = driver.workspace, driver.tracker, driver.fresh
    sweep = _open(workspace, tracker, driver.experiment, fresh)
    outcomes: list[CellOutcome] = []
    # Cells of one model are run together, so that each is loaded once.
    plans = [
        Plan(
            settings=cells[cell],
            manifest=manifest,
            experiment=sweep.experiment,
            mark_ai=mark_ai,
            sweep_id=sweep.id,
            cell=cell,
            fresh=fresh,
        )
        for cell in sorted(range(len(cells)), key=lambda number: _model_key(cells[number]))
    ]
    try:
        if driver.experiment.until_decided:
            from t2i_track.runs.adaptive import Adaptive

            outcomes += Adaptive(driver, sweep, sorted(plans, key=lambda plan: plan.cell or 0)).run()
        else:
            for outcome in _outcomes(driver, sweep, plans):
                outcomes.append(outcome)
    except (Interrupted, KeyboardInterrupt):
        _close(workspace, tracker, sweep, RunStatus.INTERRUPTED, "interrupted by the user")
        done = "" if driver.experiment.until_decided else f" after {len(outcomes)} of {len(cells)} cells"
        raise Interrupted(f"interrupted{done}; what is made is kept: the same command goes on") from None
    except BaseException as error:
        _close(workspace, tracker, sweep, RunStatus.FAILED, f"{type(error).__name__}: {error}")
        raise
    outcomes.sort(key=lambda outcome: outcome.cell)
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    reason = f"{len(failed)} of {len(outcomes)} cells failed" if failed else None
    _close(workspace, tracker, sweep, RunStatus.FAILED if failed else RunStatus.FINISHED, reason)
    assert sweep.mlflow_run_id is not None
    return SweepOutcome(sweep.uuid, sweep.name, sweep.mlflow_run_id, tuple(outcomes))


def _outcomes(driver: Driver, sweep: Sweep, plans: Sequence[Plan]) -> Iterator[CellOutcome]:
    """What becomes of each cell; as many are made at once as keep all workers busy."""
    if driver.executor.side_by_side == 1:
        for plan in plans:
            yield _run_cell(driver, sweep, plan)
        return
    with ThreadPoolExecutor(driver.executor.side_by_side, thread_name_prefix="t2i-cell") as pool:
        futures = [pool.submit(_run_cell, driver, sweep, plan) for plan in plans]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            driver.executor.stop()
            pool.shutdown(cancel_futures=True)
            raise


def _require_measurable(
    workspace: Workspace, experiment: Experiment, cells: Sequence[Settings], manifest: Manifest
) -> None:
    from t2i_track.runs.evaluate import before_generation

    for cell in {(cell.model, cell.height, cell.width, cell.num): cell for cell in cells}.values():
        texts = [entry.prompt for entry in manifest.head(cell.num).entries]
        wanted = True if experiment.until_decided else experiment.evaluate
        before_generation(workspace, cell, texts, wanted=wanted, reference=experiment.reference)


def _run_cell(driver: Driver, sweep: Sweep, plan: Plan) -> CellOutcome:
    assert plan.cell is not None
    run: str | None = None
    notes: list[str] = []
    wanted, reference = driver.experiment.evaluate, driver.experiment.reference
    try:
        state, summary = _make(driver, sweep, plan)
        run = summary.run
        notes += notes_on(summary)
        if is_scored(summary, wanted, reference):
            from t2i_track.runs.evaluate import after_generation

            scored = after_generation(
                driver.workspace, driver.tracker, run, wanted=wanted, reference=reference, executor=driver.executor
            )
            notes += scored.notes() if scored else ()
    except (Interrupted, KeyboardInterrupt):
        raise
    except T2IError as error:
        return CellOutcome(plan.cell, plan.settings, "failed", run, " ".join(str(error).split()), tuple(notes))
    except Exception as error:  # noqa: BLE001 - whatever one cell meets must not stop the others; it is reported
        return CellOutcome(plan.cell, plan.settings, "failed", run, f"{type(error).__name__}: {error}", tuple(notes))
    return CellOutcome(plan.cell, plan.settings, state, run, notes=tuple(notes))


def _make(driver: Driver, sweep: Sweep, plan: Plan) -> tuple[str, Summary]:
    """What was done for the cell, and its run."""
    assert plan.cell is not None
    generator = driver.generator()
    prepared = generator.prepare(plan)
    fingerprint = generator.fingerprint(plan, prepared)
    with driver.workspace.begin() as session:
        own = session.scalar(
            select(Run).join(SweepRun).where(SweepRun.sweep_id == sweep.id, SweepRun.cell == plan.cell)
        )
        if own is None and not driver.fresh:
            own = lineage.finished_like(session, fingerprint)
            if own is not None:
                lineage.add_to_sweep(session, sweep.id, own, plan.cell)
    if own is not None and own.settings_sha256 == fingerprint:
        if own.status == RunStatus.FINISHED:
            return "taken over", generator.finished(own)
        return "resumed", generator.resume(own.uuid)
    return "made", generator.generate(plan, prepared)


def _open(workspace: Workspace, tracker: Tracker, experiment: Experiment, fresh: bool) -> Sweep:
    with workspace.begin() as session:
        sweep = None if fresh else same_spec(session, experiment)
        if sweep is None:
            assert experiment.experiment is not None
            sweep = Sweep(
                uuid=lineage.new_uuid(),
                name=experiment.name,
                experiment=experiment.experiment,
                status=RunStatus.RUNNING,
                spec=experiment.spec(),
            )
            session.add(sweep)
    # The UI folds children under their parent only within one experiment: a joined parent's own becomes the sweep's.
    projection.start(workspace, tracker, sweep, joining.joined_run(), status=RunStatus.RUNNING, ended_at=None)
    return sweep


def _close(workspace: Workspace, tracker: Tracker, sweep: Sweep, status: RunStatus, reason: str | None = None) -> None:
    with workspace.begin() as session:
        stored = session.get_one(Sweep, sweep.id)
        stored.status, stored.ended_at = status, utc_now()
        projection.remember(stored, reason=reason)
    projection.send(workspace, tracker, sweep)


def same_spec(session: Session, experiment: Experiment) -> Sweep | None:
    """The newest sweep of the same name and cells."""
    spec = experiment.spec()
    named = session.scalars(select(Sweep).where(Sweep.name == experiment.name).order_by(Sweep.id.desc()))
    own = (({key: value for key, value in sweep.spec.items() if key not in (STATE, ROUNDS)}, sweep) for sweep in named)
    return next((sweep for stored, sweep in own if stored == spec), None)


def _model_key(settings: Settings) -> tuple[str, ...]:
    return tuple(str(getattr(settings, name)) for name, declared in DECLARED.items() if declared.stage is Stage.LOAD)


def experiment_from(
    file: Path | None, given: dict[str, Any], axes: dict[str, list[Any]], zipped: bool, by: str | None = None
) -> Experiment:
    """The experiment of a file, of the command line, or of both, the command line's values replacing the file's.

    ``by`` is what a comparison ranks by, and of a sweep in rounds what decides.
    """
    from t2i_track.runs import grid as files

    base = files.load(file).spec() if file is not None else {}
    settings = {**base.get("settings", {}), **given.pop("settings", {})}
    varied = {name: values for name, values in base.get("axes", {}).items() if name not in settings}
    for name, values in axes.items():
        settings.pop(name, None)
        varied.pop(name, None)
        if len(values) == 1:
            settings[name] = values[0]
        else:
            varied[name] = values
    content = {**base, **{key: value for key, value in given.items() if value is not None}}
    content |= {"settings": settings, "axes": varied, "zip": zipped or base.get("zip", False)}
    if by is not None and content.get("until_decided"):
        content["by"] = by
    if varied:
        content.setdefault("name", "-".join(varied))
    return files.build(content, "the command line" if file is None else str(file))
