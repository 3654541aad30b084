"""From stored rows to what `compare` and the report take. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from t2i_track.compare.rows import ImageRow, RunRow, Score, protocol_label
from t2i_track.db import lineage
from t2i_track.db.models import Image, ImageScore, MetricValue, Protocol, Run, Sweep, SweepRun
from t2i_track.runner.workspace import Workspace

CHUNK = 500
_PROTOCOL = ("extractor", "weights_sha256", "layer", "resize", "n", "reference", "reference_sha256", "reference_n")


def run_rows(
    session: Session, addresses: Sequence[str] = (), *, experiment: str | None = None, sweep: str | None = None
) -> list[RunRow]:
    """Runs with their newest value of every score, the oldest run first.

    Args:
        addresses: runs; where there are none, all.
        experiment: of this experiment only.
        sweep: cells of this sweep only.
    """
    runs = _chosen(session, addresses, experiment, sweep)
    counts = lineage.image_counts(session, [run.id for run in runs])
    sweeps = _sweeps(session, runs)
    scores = _scores(session, runs)
    return [_row(run, counts.get(run.id, 0), sweeps.get(run.id), scores.get(run.id, {})) for run in runs]


def image_rows(session: Session, workspace: Workspace, rows: Iterable[RunRow]) -> list[ImageRow]:
    """Every image of the runs, with its record and its own scores."""
    found: list[ImageRow] = []
    for row in rows:
        run = lineage.find_run(session, row.run)
        images = list(
            session.scalars(
                select(Image)
                .where(Image.run_id == run.id)
                .options(joinedload(Image.prompt))
                .order_by(Image.prompt_index, Image.replicate)
            )
        )
        scores: dict[int, dict[str, float]] = {}
        for score in session.scalars(
            select(ImageScore).join(Image).where(Image.run_id == run.id).order_by(ImageScore.id)
        ):
            scores.setdefault(score.image_id, {})[score.name] = score.value
        found += [
            ImageRow(
                run=row.run,
                prompt_index=image.prompt_index,
                replicate=image.replicate,
                prompt=image.prompt.text,
                seed=image.seed,
                path=workspace.image_path(image),
                record=_shown(image, workspace),
                scores=scores.get(image.id, {}),
            )
            for image in images
        ]
    return found


def _chosen(session: Session, addresses: Sequence[str], experiment: str | None, sweep: str | None) -> list[Run]:
    if addresses:
        found = {run.id: run for run in (lineage.find_run(session, address) for address in addresses)}
        return list(found.values())
    query = select(Run).order_by(Run.created_at, Run.id)
    if experiment is not None:
        query = query.where(Run.experiment == experiment)
    if sweep is not None:
        members = select(SweepRun.run_id).where(SweepRun.sweep_id == lineage.find_sweep(session, sweep).id)
        query = query.where(Run.id.in_(members))
    return list(session.scalars(query))


def _sweeps(session: Session, runs: Sequence[Run]) -> dict[int, str]:
    """Run -> the name of the newest sweep it is a cell of."""
    names: dict[int, str] = {}
    for ids in _chunks([run.id for run in runs]):
        rows = session.execute(
            select(SweepRun.run_id, Sweep.name).join(Sweep).where(SweepRun.run_id.in_(ids)).order_by(Sweep.id)
        )
        names |= {run_id: str(name) for run_id, name in rows}
    return names


def _scores(session: Session, runs: Sequence[Run]) -> dict[int, dict[str, Score]]:
    found: dict[int, dict[str, Score]] = {}
    labels: dict[int, tuple[str, str]] = {}
    columns = ("run_id", "name", "value", "ci_low", "ci_high", "n", "note", "protocol_id", "replicates")
    for protocol in session.scalars(select(Protocol)):
        fields = {name: getattr(protocol, name) for name in _PROTOCOL}
        fields |= {"parameters": protocol.parameters, "versions": protocol.versions}
        labels[protocol.id] = (protocol.fingerprint, protocol_label(fields))
    for ids in _chunks([run.id for run in runs]):
        query = select(*(getattr(MetricValue, name) for name in columns)).where(MetricValue.run_id.in_(ids))
        for run_id, name, value, low, high, n, note, protocol_id, replicates in session.execute(
            query.order_by(MetricValue.created_at, MetricValue.id)
        ):
            fingerprint, label = labels[protocol_id]
            found.setdefault(run_id, {})[name] = Score(
                name=name,
                value=value,
                ci_low=low,
                ci_high=high,
                n=n,
                protocol=fingerprint,
                protocol_label=label,
                replicates=None if replicates is None else tuple(replicates),
                note=note,
            )
    return found


def _row(run: Run, images: int, sweep: str | None, scores: dict[str, Score]) -> RunRow:
    return RunRow(
        run=run.uuid,
        name=run.name,
        experiment=run.experiment,
        sweep=sweep,
        status=run.status.value,
        model=run.model.name,
        manifest=run.manifest.sha256,
        guidance=run.guidance,
        steps=run.steps,
        scheduler=run.scheduler,
        negative_prompt=run.negative_prompt,
        lora=run.lora,
        height=run.height,
        width=run.width,
        dtype=run.dtype,
        seed=run.base_seed,
        images=images,
        seconds_per_image=run.seconds_per_image,
        mlflow_run_id=run.mlflow_run_id,
        scores=scores,
    )


def _shown(image: Image, workspace: Workspace) -> dict[str, object]:
    """An image's record without what the report shows of the run anyway."""
    run = image.run
    return {
        "id": image.id,
        "run": run.uuid,
        "prompt": image.prompt.text,
        "negative_prompt": run.negative_prompt,
        "seed": image.seed,
        "guidance": run.guidance,
        "steps": run.steps,
        "scheduler": run.scheduler,
        "model": run.model.name,
        "weights_sha256": run.model.weights_sha256,
        "size": f"{image.width}x{image.height}",
        "dtype": run.dtype,
        "device": run.device,
        "batch_size": run.batch_size,
        "tokens": image.tokens,
        "truncated": image.truncated,
        "path": image.path,
        "sha256": image.sha256,
        "pixels_sha256": image.pixels_sha256,
    }


def _chunks(ids: Sequence[int]) -> Iterable[Sequence[int]]:
    return (ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK))
