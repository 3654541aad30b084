"""The rows of `runs` and the record of `show`."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import PurePath
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session, joinedload

from t2i_track.db import lineage, workers
from t2i_track.db.decisions import decisions_of_run
from t2i_track.db.models import Base, Image, ImageScore, Label, MetricValue, Run, RunStatus, Sweep, Worker
from t2i_track.errors import NotFound
from t2i_track.images.png import parameters_text
from t2i_track.runs import labels
from t2i_track.runs.plan import IMPORTED, known_settings
from t2i_track.runs.record import stored_record
from t2i_track.workspace import Workspace

RUN_COLUMNS = (
    "run",
    "name",
    "experiment",
    "status",
    "guidance",
    "steps",
    "scheduler",
    "seed",
    "images",
    "seconds_per_image",
    "created",
)

MOST_SIBLINGS = 20


def run_rows(
    session: Session,
    experiment: str | None = None,
    status: str | None = None,
    limit: int | None = None,
    where: str | None = None,
) -> list[dict[str, Any]]:
    """A row for each run, the newest first.

    Raises:
        NotFound: no such experiment. CompareError: an unreadable condition.
    """
    if experiment is not None:
        lineage.require_experiment(session, experiment)
    found = lineage.list_runs(
        session,
        experiment=experiment,
        status=None if status is None else RunStatus(status),
        limit=limit if where is None else None,
    )
    if where is not None:
        kept = _matching(session, experiment, where)
        found = [run for run in found if run.uuid in kept][:limit]
    counts = lineage.image_counts(session, [run.id for run in found])
    return [
        {
            "run": run.uuid[:12],
            "name": run.name,
            "experiment": run.experiment,
            "status": run.status.value,
            "guidance": run.guidance,
            "steps": run.steps,
            "scheduler": run.scheduler,
            "seed": run.base_seed,
            "images": counts.get(run.id, 0),
            "seconds_per_image": run.seconds_per_image,
            "created": run.created_at,
        }
        for run in found
    ]


def _matching(session: Session, experiment: str | None, condition: str) -> set[str]:
    """The runs for which the condition holds, over the rows that `compare` takes."""
    from t2i_track.ranking.where import where
    from t2i_track.runs import rows

    return {row.run for row in where(rows.run_rows(session, experiment=experiment), condition)}


def record_of(session: Session, workspace: Workspace, address: str) -> dict[str, Any]:
    """The whole record of the run or image with that address.

    Raises:
        NotFound: neither a run nor an image has it. Ambiguous: several have.
    """
    try:
        run = lineage.find_run(session, address)
    except NotFound:
        try:
            image = lineage.find_image(session, address, workspace.home)
        except NotFound:
            raise NotFound(f"no run or image '{address}': 't2i runs' lists the runs") from None
        return image_record(session, workspace, image)
    return run_record(session, workspace, run)


def run_record(session: Session, workspace: Workspace, run: Run) -> dict[str, Any]:
    """A run's row, its model and manifest, every score with its protocol, and how often it fails."""
    values = session.scalars(
        select(MetricValue).where(MetricValue.run_id == run.id).order_by(MetricValue.name, MetricValue.created_at)
    )
    record = _columns(run, leave_out={"id", "model_id", "manifest_id"})
    record["settings"] = known_settings(run)
    record["model"] = _columns(run.model, leave_out={"id"})
    record["manifest"] = _columns(run.manifest, leave_out={"id"})
    if own := lineage.own_negatives(session, run.manifest_id, run.num):
        record["manifest"]["negative_prompts"] = len(own)
    record["tags"] = lineage.tags_of(session, [run.id]).get(run.id, {})
    record["images"] = lineage.image_counts(session, [run.id]).get(run.id, 0)
    record["workers"] = [maker_of(worker.environment, worker) for worker in workers.workers_of(session, run)]
    record["reused"] = lineage.reused_count(session, run.id)
    record["folder"] = _folder(session, workspace, run)
    record["scores"] = [
        {
            **{name: getattr(value, name) for name in ("name", "value", "ci_low", "ci_high", "n", "note")},
            "protocol": _columns(value.protocol, leave_out={"id"}),
        }
        for value in values
    ]
    record["decisions"] = _decisions(session, run)
    record["failures"] = [asdict(rate) for rate in labels.rates(session, [run.uuid])]
    return record


def _decisions(session: Session, run: Run) -> list[dict[str, Any]]:
    """What sweeps that stop when they are decided said last of the run."""
    newest = {row.sweep_id: row for row in decisions_of_run(session, run.id)}
    names = ("state", "metric", "value", "estimate", "low", "high", "margin", "prompts", "images", "look", "created_at")
    sweeps = {sweep.id: sweep.name for sweep in session.scalars(select(Sweep).where(Sweep.id.in_(newest)))}
    return [
        {"sweep": sweeps[number], **{name: getattr(row, name) for name in names}, "state": row.state.value}
        for number, row in newest.items()
    ]


def maker_of(environment: Mapping[str, Any], worker: Worker) -> str:
    """A worker in words: where it ran, and on what."""
    on = environment.get("gpu") or f"{worker.device}, {environment['threads']} threads"
    return f"{worker.host} process {worker.process} ({on})"


def _folder(session: Session, workspace: Workspace, run: Run) -> str:
    """Where the run's pictures are; of an imported run whose files were not copied, the folder that was named."""
    first = session.scalar(select(Image.path).where(Image.run_id == run.id).limit(1))
    if run.origin is not None and first is not None and PurePath(first).is_absolute():
        return str(run.config[IMPORTED]["folder"])
    return str(workspace.run_folder(run))


def first_files(session: Session, run: str, most: int) -> list[str]:
    """The names of a run's first pictures, in the order of its prompts."""
    query = select(Image.path).join(Run).where(Run.uuid == run).order_by(Image.prompt_index, Image.replicate)
    return [PurePath(path).name for path in session.scalars(query.limit(most))]


def image_record(session: Session, workspace: Workspace, image: Image) -> dict[str, Any]:
    """An image's row, how it was made, its scores, each with its protocol, labels, and siblings in other runs."""
    made = {
        **stored_record(session, image),
        "prompt": image.prompt.text,
        "seed": image.seed,
    }
    query = select(ImageScore).where(ImageScore.image_id == image.id).options(joinedload(ImageScore.protocol))
    scores = session.scalars(query.order_by(ImageScore.name, ImageScore.id))
    said = session.scalars(select(Label).where(Label.image_id == image.id).order_by(Label.created_at))
    others, count = siblings(session, workspace, image)
    return {
        **_columns(image, leave_out={"run_id", "prompt_id", "worker_id"}),
        "worker": None if image.worker is None else maker_of(image.worker.environment, image.worker),
        "file": str(workspace.image_path(image)),
        "prompt": image.prompt.text,
        "run": image.run.uuid,
        "made_with": made,
        "parameters": parameters_text(made),
        "scores": [
            {"name": score.name, "value": score.value, "protocol": _columns(score.protocol, leave_out={"id"})}
            for score in scores
        ],
        "labels": [_columns(label, leave_out={"image_id"}) for label in said],
        "siblings": others,
        "sibling_count": count,
    }


def siblings(session: Session, workspace: Workspace, image: Image) -> tuple[list[dict[str, Any]], int]:
    """Images of the same prompt and seed in other runs, the newest ``MOST_SIBLINGS``, and how many there are."""
    if image.seed is None:
        return [], 0
    same = (Image.prompt_id == image.prompt_id, Image.seed == image.seed, Image.run_id != image.run_id)
    query = select(Image, Run).join(Run, Image.run_id == Run.id).where(*same).order_by(Image.id.desc())
    found = [
        {
            "id": other.id,
            "run": run.uuid,
            "name": run.name,
            **{name: getattr(run, name) for name in ("guidance", "steps", "scheduler")},
            "path": str(workspace.image_path(other)),
        }
        for other, run in session.execute(query.limit(MOST_SIBLINGS))
    ]
    counting = select(func.count(Image.id)).select_from(Image).join(Run, Image.run_id == Run.id).where(*same)
    return found, session.scalar(counting) or 0


def _columns(row: Base, leave_out: set[str]) -> dict[str, Any]:
    found = {column.key: getattr(row, column.key) for column in row.__mapper__.column_attrs}
    return {key: _plain(value) for key, value in found.items() if key not in leave_out}


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, enum.Enum) else value
