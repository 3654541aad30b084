"""Read what `t2i compare --equivalent-to` compares: runs, those of other seeds, and what they took. Reads only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from t2i_track.db import lineage
from t2i_track.db.models import Image, Run, RunStatus
from t2i_track.energy import CPU, GPU, METERED
from t2i_track.errors import CompareError
from t2i_track.ranking import RunRow
from t2i_track.ranking.equivalence import Equivalence, equivalence
from t2i_track.ranking.pair import PairComparison
from t2i_track.ranking.speed import Spent
from t2i_track.ranking.where import where as matching
from t2i_track.runs.rates import START
from t2i_track.runs.rows import image_rows, run_rows
from t2i_track.settings import DECISIVE
from t2i_track.workspace import Workspace

PEAK = "peak_memory_mb"
_SAME = ("model_id", "manifest_id", "guidance", "steps", "scheduler", "height", "width", "num", "images_per_prompt")


def equivalent_to(
    workspace: Workspace,
    base: str,
    addresses: Sequence[str] = (),
    *,
    experiment: str | None = None,
    sweep: str | None = None,
    where: str | None = None,
    by: str | None = None,
    within: str | float | None = None,
    report: Path | None = None,
    picture: Path | None = None,
) -> Equivalence:
    """Hold runs against a base: those that are named, or the others of an experiment or a sweep.

    Raises:
        CompareError: nothing to compare, with the reason and the next step. NotFound: no such run or experiment.
    """
    from t2i_track.runs.compare import draw_changes, write_equivalence

    with workspace.reading() as session:
        if experiment is not None:
            lineage.require_experiment(session, experiment)
        (ours,) = run_rows(session, [base])
        chosen = addresses or experiment is not None or sweep is not None or where is not None
        rows = run_rows(session, addresses, experiment=experiment, sweep=sweep) if chosen else []
        rows = rows if where is None else matching(rows, where)
        if not addresses:
            rows = [row for row in rows if row.run != ours.run and row.status == RunStatus.FINISHED]
        _require_finished([ours, *rows])
        named = [ours.run, *(row.run for row in rows)]
        images = image_rows(session, workspace, [ours, *rows])
        found = equivalence(
            ours,
            rows,
            images,
            others=_of_other_seeds(session, ours, named),
            spent={uuid: spent(session, uuid) for uuid in dict.fromkeys(named)},
            by=by,
            within=within,
        )
        if picture is not None:
            draw_changes(picture, _pair(found))
        if report is not None:
            write_equivalence(session, report, found, images)
    return found


def _require_finished(rows: Iterable[RunRow]) -> None:
    for row in rows:
        if row.status == RunStatus.ENOUGH:
            raise CompareError(
                f"run {row.name!r} ({row.run[:8]}) has as many images as its sweep needed to decide, a number that was"
                f" chosen by looking at the scores: `t2i generate --resume {row.run[:12]}` makes the others"
            )
        if row.status != RunStatus.FINISHED:
            raise CompareError(
                f"run {row.name!r} ({row.run[:8]}) is {row.status}, not finished: `t2i generate --resume"
                f" {row.run[:12]}`"
            )


def _of_other_seeds(session: Session, base: RunRow, but: Sequence[str]) -> list[RunRow]:
    """The finished runs that differ from the base in the seed only, as far as pictures go."""
    run = lineage.find_run(session, base.run)
    alike = (getattr(Run, name) == getattr(run, name) for name in _SAME)
    query = select(Run.uuid).where(
        *alike, Run.base_seed != run.base_seed, Run.origin.is_(None), Run.status == RunStatus.FINISHED
    )
    uuids = [uuid for uuid in session.scalars(query.order_by(Run.created_at, Run.id)) if uuid not in but]
    rows = run_rows(session, uuids) if uuids else []
    names = [name for name in DECISIVE if name != "seed"]
    return [row for row in rows if all(getattr(row, name) == getattr(base, name) for name in names)]


def spent(session: Session, uuid: str) -> Spent:
    """What the run's pictures took, by its batches."""
    run = lineage.find_run(session, uuid)
    cost = run.config.get("cost", {})
    metered = cost.get(METERED)
    joules = {name: cost[name] / metered for name in (CPU, GPU) if name in cost and metered}
    return Spent(
        seconds=_batches(session, run),
        peak_memory_mb=cost.get(PEAK),
        alone=START in cost,
        joules=sum(joules.values()) if joules else None,
        meters=tuple(joules),
    )


def _batches(session: Session, run: Run) -> tuple[float, ...]:
    """Seconds an image in a full batch, of each batch in order whose pictures were all made for this run.

    The images of a batch share its time, and a short one is padded: it takes as long as a full one.
    """
    size = run.batch_size
    if size is None:
        return ()
    query = select(Image.prompt_index, Image.replicate, Image.seconds).where(Image.run_id == run.id)
    batches: dict[int, list[float | None]] = defaultdict(list)
    for index, replicate, seconds in session.execute(query):
        batches[(index * run.images_per_prompt + replicate) // size].append(seconds)
    whole = {number: found for number, found in sorted(batches.items()) if None not in found}
    return tuple(sum(seconds or 0.0 for seconds in found) / size for found in whole.values())


def _pair(found: Equivalence) -> PairComparison:
    """The worst prompts of the one run that was held against the base, as a pair is drawn."""
    if len(found.candidates) != 1:
        raise CompareError("a picture is of the base and one run: name one")
    one = found.candidates[0]
    return PairComparison(found.base, one.row, found.level, {}, (), (), found.worst_by, one.worst, ())
