"""A grid of runs: what is done, what is left, one MLflow parent, and a failed cell that does not stop the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from t2i_track.db import lineage
from t2i_track.db.models import Run, RunStatus, Sweep, SweepRun
from t2i_track.db.types import utc_now
from t2i_track.errors import DatabaseError, Interrupted, SettingsError, T2IError
from t2i_track.prompts.manifest import Manifest
from t2i_track.runs import projection
from t2i_track.runs.content import STATE
from t2i_track.runs.generate import Generator, joined_run
from t2i_track.runs.grid import Experiment
from t2i_track.runs.launch import open_manifest, with_default_num
from t2i_track.runs.plan import Plan, Summary, values_of
from t2i_track.schedulers import network_calls
from t2i_track.settings import COSTLY, DECLARED, Settings, Stage, Values
from t2i_track.workspace import Workspace

if TYPE_CHECKING:
    from t2i_track.tracking import Tracker

MANY_CELLS = 100
"""More cells than this want --yes: a typing error in an axis can cost days."""


@dataclasses.dataclass(frozen=True)
class CellForecast:
    """A cell before it is run: what there is of it, and what the rest would take."""

    cell: int
    settings: Settings
    images: int
    made: int
    seconds: float | None
    """None where no run of that model and size has been timed."""


@dataclasses.dataclass(frozen=True)
class CellOutcome:
    cell: int
    settings: Settings
    state: str
    """made, resumed, taken over, or failed."""
    run: str | None
    error: str | None = None


@dataclasses.dataclass(frozen=True)
class SweepOutcome:
    sweep: str
    name: str
    mlflow_run_id: str
    cells: tuple[CellOutcome, ...]

    @property
    def failed(self) -> list[CellOutcome]:
        return [cell for cell in self.cells if cell.state == "failed"]


def cells_of(experiment: Experiment, manifest: Manifest) -> list[Settings]:
    """The settings of every cell.

    Raises:
        SettingsError: an impossible value, or nothing left after `exclude`.
    """
    found = [with_default_num(cell, manifest) for cell in experiment.cells()]
    if not found:
        raise SettingsError(f"experiment '{experiment.name}' has no cells: its exclude rules leave none")
    return found


def require_yes(experiment: Experiment, yes: bool) -> None:
    """Refuse a very large grid before its cells are listed."""
    if experiment.size > MANY_CELLS and not yes:
        lengths = " x ".join(f"{len(values)} {name}" for name, values in experiment.axes.items())
        raise SettingsError(
            f"this sweep has {experiment.size} cells ({lengths}): look at it with --dry-run, pass --yes to run it"
        )


def forecast(workspace: Workspace, experiment: Experiment) -> list[CellForecast]:
    """What a sweep would make, and how long that would take at the rates of earlier runs. Reads only."""
    manifest = open_manifest(experiment.manifest, experiment.prompts)
    cells = cells_of(experiment, manifest)
    try:
        with workspace.reading() as session:
            sweep = _same_spec(session, experiment)
            members = {} if sweep is None else {member.cell: member.run for member in sweep.members}
            counts = lineage.image_counts(session, [run.id for run in members.values()])
            made = [counts.get(members[cell].id, 0) if cell in members else 0 for cell in range(len(cells))]
            rates = [_seconds_per_image(session, workspace.stored_settings(settings)) for settings in cells]
    except DatabaseError:
        # Nothing has been run here yet.
        made, rates = [0] * len(cells), [None] * len(cells)
    forecasts = []
    for cell, settings in enumerate(cells):
        images = len(manifest.head(settings.num)) * settings.images_per_prompt
        rate = rates[cell]
        seconds = None if rate is None else rate * (images - made[cell])
        forecasts.append(CellForecast(cell, settings, images, made[cell], seconds))
    return forecasts


def run_sweep(
    workspace: Workspace, tracker: Tracker, experiment: Experiment, *, fresh: bool, allow_pickle: bool
) -> SweepOutcome:
    """Run every cell that is not done.

    The same command again goes on where the last one stopped, with the same MLflow parent. A cell that an earlier run
    has made with the same settings, weights and manifest is taken over. ``fresh`` makes a new sweep with new runs.

    Raises:
        Interrupted: Ctrl-C.
    """
    manifest = open_manifest(experiment.manifest, experiment.prompts)
    cells = cells_of(experiment, manifest)
    workspace.require_writable()
    tracker.check()
    sweep = _open(workspace, tracker, experiment, fresh)
    generator = Generator(workspace, tracker, allow_pickle=allow_pickle)
    outcomes: list[CellOutcome] = []
    try:
        # Cells of one model are run together, so that each is loaded once.
        for cell in sorted(range(len(cells)), key=lambda number: _model_key(cells[number])):
            plan = Plan(
                settings=cells[cell],
                manifest=manifest,
                experiment=sweep.experiment,
                sweep_id=sweep.id,
                cell=cell,
            )
            outcomes.append(_run_cell(workspace, tracker, generator, sweep, plan, experiment, fresh))
    except (Interrupted, KeyboardInterrupt):
        _close(workspace, tracker, sweep, RunStatus.INTERRUPTED, "interrupted by the user")
        raise Interrupted(
            f"interrupted after {len(outcomes)} of {len(cells)} cells; what is made is kept: the same command goes on"
        ) from None
    except BaseException as error:
        _close(workspace, tracker, sweep, RunStatus.FAILED, f"{type(error).__name__}: {error}")
        raise
    outcomes.sort(key=lambda outcome: outcome.cell)
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    reason = f"{len(failed)} of {len(cells)} cells failed" if failed else None
    _close(workspace, tracker, sweep, RunStatus.FAILED if failed else RunStatus.FINISHED, reason)
    assert sweep.mlflow_run_id is not None
    return SweepOutcome(sweep.uuid, sweep.name, sweep.mlflow_run_id, tuple(outcomes))


def _run_cell(
    workspace: Workspace,
    tracker: Tracker,
    generator: Generator,
    sweep: Sweep,
    plan: Plan,
    experiment: Experiment,
    fresh: bool,
) -> CellOutcome:
    assert plan.cell is not None
    run: str | None = None
    try:
        state, run = _make(workspace, tracker, generator, sweep, plan, fresh)
        if experiment.evaluate is not False:
            from t2i_track.runs.evaluate import after_generation

            after_generation(workspace, tracker, run, wanted=experiment.evaluate, reference=experiment.reference)
    except (Interrupted, KeyboardInterrupt):
        raise
    except T2IError as error:
        return CellOutcome(plan.cell, plan.settings, "failed", run, " ".join(str(error).split()))
    except Exception as error:  # noqa: BLE001 - whatever one cell meets must not stop the others; it is reported
        return CellOutcome(plan.cell, plan.settings, "failed", run, f"{type(error).__name__}: {error}")
    return CellOutcome(plan.cell, plan.settings, state, run)


def _make(
    workspace: Workspace, tracker: Tracker, generator: Generator, sweep: Sweep, plan: Plan, fresh: bool
) -> tuple[str, str]:
    """What was done for the cell, and its run."""
    assert plan.cell is not None
    fingerprint = generator.resolve(plan).fingerprint
    with workspace.begin() as session:
        own = session.scalar(
            select(Run).join(SweepRun).where(SweepRun.sweep_id == sweep.id, SweepRun.cell == plan.cell)
        )
        if own is None and not fresh:
            own = lineage.finished_like(session, fingerprint)
            if own is not None:
                lineage.add_to_sweep(session, sweep.id, own, plan.cell)
    if own is not None and own.settings_sha256 == fingerprint:
        if own.status == RunStatus.FINISHED:
            projection.send(workspace, tracker, own)  # it may have been killed after its last row was stored
            return "taken over", own.uuid
        return "resumed", generator.resume(own.uuid).run
    summary: Summary = generator.generate(plan)
    return "made", summary.run


def _open(workspace: Workspace, tracker: Tracker, experiment: Experiment, fresh: bool) -> Sweep:
    with workspace.begin() as session:
        sweep = None if fresh else _same_spec(session, experiment)
        if sweep is None:
            sweep = Sweep(
                uuid=lineage.new_uuid(),
                name=experiment.name,
                experiment=experiment.experiment,
                status=RunStatus.RUNNING,
                spec=experiment.spec(),
            )
            session.add(sweep)
    # The UI folds children under their parent only within one experiment: a joined parent's own becomes the sweep's.
    projection.start(workspace, tracker, sweep, joined_run(), status=RunStatus.RUNNING, ended_at=None)
    return sweep


def _close(workspace: Workspace, tracker: Tracker, sweep: Sweep, status: RunStatus, reason: str | None = None) -> None:
    with workspace.begin() as session:
        stored = session.get_one(Sweep, sweep.id)
        stored.status, stored.ended_at = status, utc_now()
        projection.remember(stored, reason=reason)
    projection.send(workspace, tracker, sweep)


def _same_spec(session: Session, experiment: Experiment) -> Sweep | None:
    """The newest sweep of the same name and cells."""
    spec = experiment.spec()
    named = session.scalars(select(Sweep).where(Sweep.name == experiment.name).order_by(Sweep.id.desc()))
    own = (({key: value for key, value in sweep.spec.items() if key != STATE}, sweep) for sweep in named)
    return next((sweep for stored, sweep in own if stored == spec), None)


def _seconds_per_image(session: Session, settings: Settings) -> float | None:
    """Expected cost of an image: that of the newest timed run of the model, scaled by its passes of the network."""
    query = (
        select(Run)
        .where(Run.seconds_per_image.is_not(None), Run.model.has(name=settings.model))
        .order_by(Run.created_at.desc(), Run.id.desc())
    )
    for run in session.scalars(query.limit(100)):
        timed = values_of(run)
        if run.seconds_per_image is not None and _same_work(settings, timed):
            return run.seconds_per_image * _passes(settings) / _passes(timed)
    return None


SCALED = ("guidance", "steps", "scheduler")
"""Settings that decide the cost by the passes of the network alone."""


def _same_work(settings: Settings, timed: Values) -> bool:
    """Whether a pass costs the same; what is still open will be as it was."""
    compared = [name for name in COSTLY if name not in (*SCALED, "lora")]
    same = all(getattr(settings, name) in (None, getattr(timed, name)) for name in compared)
    return same and settings.lora == timed.lora  # no LoRA is not an open choice


def _passes(settings: Values) -> int:
    return network_calls(settings.scheduler, settings.steps) * (2 if settings.guidance > 1 else 1)


def _model_key(settings: Settings) -> tuple[str, ...]:
    return tuple(str(getattr(settings, name)) for name, declared in DECLARED.items() if declared.stage is Stage.LOAD)


def listed(cells: Sequence[CellForecast], axes: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Rows for a table of what a sweep would make."""
    for cell in cells:
        yield {
            "cell": cell.cell,
            **{axis: getattr(cell.settings, axis) for axis in axes},
            "images": cell.images,
            "made": cell.made,
            "seconds": cell.seconds,
        }


def experiment_from(file: Path | None, given: dict[str, Any], axes: dict[str, list[Any]], zipped: bool) -> Experiment:
    """The experiment of a file, of the command line, or of both, the command line's values replacing the file's."""
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
    if varied:
        content.setdefault("name", "-".join(varied))
    return files.build(content, "the command line" if file is None else str(file))
