"""Read runs, compare them, write the report. Nothing here imports torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.orm import Session

from t2i_track.db import lineage
from t2i_track.db.types import utc_now
from t2i_track.errors import CompareError, T2IError
from t2i_track.metrics.registry import SECONDS, rankable
from t2i_track.ranking import Comparison, ImageRow, RunRow, compare
from t2i_track.ranking.protocols import settled
from t2i_track.ranking.where import where as matching
from t2i_track.runs import labels
from t2i_track.runs.rows import image_rows, run_rows
from t2i_track.workspace import Workspace

if TYPE_CHECKING:
    from t2i_track.ranking import Decided, Equivalence, PairComparison
    from t2i_track.runs.sweep import SweepOutcome


@dataclass(frozen=True)
class Ranking:
    """A comparison, and the MLflow run that its report belongs to."""

    comparison: Comparison
    parent: str | None


def ranking(
    workspace: Workspace,
    addresses: Sequence[str] = (),
    *,
    experiment: str | None = None,
    sweep: str | None = None,
    where: str | None = None,
    by: str | None = None,
    within: str | float | None = None,
    report: Path | None = None,
) -> Ranking:
    """Rank runs by a metric.

    Raises:
        CompareError: nothing can be ranked, with the reason and the next step. NotFound: no such experiment.
    """
    with workspace.reading() as session:
        if experiment is not None:
            lineage.require_experiment(session, experiment)
        rows = run_rows(session, addresses, experiment=experiment, sweep=sweep)
        comparison = _labelled(session, compare(rows, by, where=where, within=within))
        if report is not None:
            shown = settled(rows) if where is None else matching(rows, where)
            _write(report, comparison, shown, image_rows(session, workspace, shown))
        parent = _parent(session, sweep, [entry.row.sweep for entry in comparison.ranking])
    return Ranking(comparison, parent)


def pair(
    workspace: Workspace,
    a: str,
    b: str,
    *,
    within: str | float | None = None,
    report: Path | None = None,
    picture: Path | None = None,
) -> PairComparison:
    """Compare two runs, prompt by prompt.

    ``report`` gets the explorer of the two, ``picture`` the prompts that change most, side by side.

    Raises:
        CompareError: one run twice, or a report or picture of runs that have no scores.
    """
    from t2i_track.ranking import compare_two

    with workspace.reading() as session:
        rows = settled(run_rows(session, [a, b]))
        if len(rows) == 1:
            raise CompareError(f"'{a}' and '{b}' are the same run {rows[0].run[:12]}: name two runs")
        images = [image_rows(session, workspace, [row]) for row in rows]
        found = compare_two(rows[0], rows[1], images[0], images[1], within=within)
        found = replace(found, failures=labels.rates(session, [row.run for row in rows], found.level))
        if report is not None:
            _write(report, _labelled(session, compare(rows, _shared_metric(rows))), rows, [*images[0], *images[1]])
        if picture is not None:
            draw_changes(picture, found)
    return found


def _labelled(session: Session, comparison: Comparison) -> Comparison:
    """With how often its runs fail, as far as their pictures are labelled."""
    rows = [entry.row for entry in comparison.ranking] + [entry.row for entry in comparison.excluded]
    return replace(comparison, failures=labels.rates(session, [row.run for row in rows], comparison.level))


def _shared_metric(rows: Sequence[RunRow]) -> str:
    """The first metric that both runs have, to rank them by; their cost where there is none."""
    return next((name for name in rankable() if all(name in row.scores for row in rows)), SECONDS)


def draw_changes(path: Path, found: PairComparison) -> None:
    """The prompts that change most as a picture; raises CompareError where there are none."""
    from t2i_track.report.grid import side_by_side

    if not found.changes:
        raise CompareError(
            "these runs have no score of each image by which prompts could be chosen: 't2i evaluate' them"
        )
    try:
        side_by_side(found).save(path)
    except (OSError, ValueError) as error:
        raise CompareError(f"cannot write the picture {path} ({error}): give a .png in a folder that exists") from None


def write_equivalence(session: Session, report: Path, found: Equivalence, images: Sequence[ImageRow]) -> None:
    """The explorer of a base and the runs that were held against it."""
    rows = [found.base, *(one.row for one in found.candidates)]
    ranked = replace(compare(rows, found.by), recommendation=None)  # that is of another margin
    _write(report, _labelled(session, ranked), rows, images, found)


def of_sweep(
    workspace: Workspace, outcome: SweepOutcome, *, by: str | None, report: Path | None, tracking_uri: str | None
) -> tuple[Comparison | None, str | None]:
    """How the cells of a sweep compare, which its MLflow run is told too; or None, and why they cannot be ranked."""
    done = [cell.run for cell in outcome.cells if cell.run is not None and cell.state != "failed"]
    if not done:
        return None, "no cell was made"
    try:
        comparison = ranking(workspace, done, by=by, report=report).comparison
    except T2IError as error:
        # The runs are made whether or not they can be ranked.
        return None, str(error)
    log_comparison(workspace, tracking_uri, outcome.mlflow_run_id, comparison, report)
    return comparison, None


def of_rounds(
    workspace: Workspace, outcome: SweepOutcome, *, report: Path | None, tracking_uri: str | None
) -> tuple[Decided | None, str | None]:
    """What a sweep in rounds decided, which its MLflow run is told too; or None, and why there is nothing."""
    from t2i_track.runs import projection
    from t2i_track.tracking import Tracker

    found = decided_by(workspace, outcome.sweep, report=report)
    if found is None:
        return None, "nothing was decided"
    with workspace.begin() as session:
        sweep = lineage.find_sweep(session, outcome.sweep)
        projection.remember(sweep, report=None if report is None else str(report.absolute()))
    with Tracker(tracking_uri, workspace.outbox) as tracker:
        projection.send(workspace, tracker, sweep)
    return found, None


def decided_by(
    workspace: Workspace,
    sweep: str,
    *,
    by: str | None = None,
    within: str | float | None = None,
    report: Path | None = None,
) -> Decided | None:
    """The stored decisions of a sweep in rounds; None of any other sweep, and where another score is asked for.

    Raises:
        CompareError: another margin than that of the decisions, which cannot be tested again.
    """
    from t2i_track.runs.decided import decided

    with workspace.reading() as session:
        found = decided(session, sweep)
        if found is None or by not in (None, found.by):
            return None
        if within is not None and str(within) != found.margin_text:
            raise CompareError(
                f"sweep {found.sweep} was decided within {found.margin_text}, and its numbers of images with it, so it"
                f" cannot be tested again within {within}: make it anew with --within {within}"
            )
        if report is not None:
            rows = settled(run_rows(session, sweep=sweep))
            # Put in the order of what they cost, since by the score that decided they must not be tested again.
            shown = _labelled(session, replace(compare(rows, SECONDS), notes=(), recommendation=None))
            images = image_rows(session, workspace, rows, under={found.by: found.protocol})
            _write(report, shown, rows, images, decided=found)
    return found


def log_comparison(
    workspace: Workspace, tracking_uri: str | None, run_id: str, comparison: Comparison, report: Path | None
) -> None:
    """Put a comparison into a sweep's MLflow run: its description, `comparison.json`, and the report if any."""
    from t2i_track.runs import projection
    from t2i_track.tracking import Tracker

    with workspace.begin() as session:
        sweep = lineage.find_sweep(session, run_id)
        margin = comparison.margin
        compared = {
            "by": comparison.by,
            "within": None if margin is None or margin.default else margin.text,
            "report": None if report is None else str(report.absolute()),
            "time": utc_now().isoformat(),
        }
        projection.remember(sweep, compared=compared)
    with Tracker(tracking_uri, workspace.outbox) as tracker:
        projection.send(workspace, tracker, sweep)


def _write(
    report: Path,
    comparison: Comparison,
    rows: Sequence[RunRow],
    images: Sequence[ImageRow],
    equivalence: Equivalence | None = None,
    decided: Decided | None = None,
) -> None:
    from t2i_track.report.explorer import write_report

    try:
        write_report(report, comparison, rows, images, equivalence=equivalence, decided=decided)
    except OSError as error:
        raise CompareError(f"cannot write the report {report} ({error.strerror}): choose another --report") from None


def _parent(session: Session, sweep: str | None, names: Sequence[str | None]) -> str | None:
    """The MLflow run of the sweep that was asked for, or that all ranked runs belong to."""
    if sweep is None:
        counted = Counter(names)
        if len(counted) != 1 or None in counted:
            return None
        sweep = next(iter(counted))
    assert sweep is not None
    return lineage.find_sweep(session, sweep).mlflow_run_id
