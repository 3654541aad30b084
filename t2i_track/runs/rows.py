"""From stored rows to what `compare` and the report take. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from sqlalchemy import Row, select
from sqlalchemy.orm import Session, joinedload

from t2i_track.db import lineage
from t2i_track.db.models import (
    Image,
    ImageScore,
    Manifest,
    MetricValue,
    Model,
    Protocol,
    Run,
    Sweep,
    SweepRun,
    kinds,
    require_value,
)
from t2i_track.ranking.rows import ImageRow, RunRow, Score
from t2i_track.runs.plan import EVALUATED, HALVES, RESOLVED, beside_columns, values_of
from t2i_track.runs.protocols import Protocols
from t2i_track.settings import DECLARED, RECORDED, Values
from t2i_track.workspace import Workspace

CHUNK = 500


def run_rows(
    session: Session, addresses: Sequence[str] = (), *, experiment: str | None = None, sweep: str | None = None
) -> list[RunRow]:
    """Runs with every stored value of every score, the oldest run first.

    Args:
        addresses: runs; where there are none, all.
        experiment: of this experiment only, see ``lineage.of_experiment``.
        sweep: cells of this sweep only.
    """
    runs = _chosen(session, addresses, experiment, sweep)
    ids = [run.id for run in runs]
    counts = lineage.image_counts(session, ids)
    sweeps = _sweeps(session, ids)
    if sweep is not None:  # a run may be a cell of several
        sweeps = dict.fromkeys(ids, lineage.find_sweep(session, sweep).name)
    scores, tags = _scores(session, runs), lineage.tags_of(session, ids)
    return [
        RunRow(
            **_fields(run),
            sweep=sweeps.get(run.id),
            images=counts.get(run.id, 0),
            tags=tags.get(run.id, {}),
            scores={name: values[-1] for name, values in scores.get(run.id, {}).items()},
            all_scores={name: tuple(values) for name, values in scores.get(run.id, {}).items() if len(values) > 1},
        )
        for run in runs
    ]


def image_rows(
    session: Session, workspace: Workspace, rows: Iterable[RunRow], *, under: Mapping[str, str] = {}
) -> list[ImageRow]:
    """Every image of the runs, with its record and its own scores of the protocols that the rows' scores have.

    ``under`` has other protocols for some scores, by their stored fingerprints. Of two models' scores of one name those
    are read that the run's row speaks of (``protocols.settled``).
    """
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
        negatives = lineage.own_negatives(session, run.manifest_id, run.num)
        wanted = {**{name: score.stored_protocol for name, score in row.scores.items()}, **under}
        scores: dict[int, dict[str, float]] = {}
        query = select(ImageScore.image_id, ImageScore.name, ImageScore.value, Protocol.fingerprint).join(Protocol)
        for image_id, name, value, fingerprint in session.execute(query.join(Image).where(Image.run_id == run.id)):
            if wanted.get(name) == fingerprint:
                scores.setdefault(image_id, {})[name] = value
        found += [
            ImageRow(
                run=row.run,
                prompt_index=image.prompt_index,
                replicate=image.replicate,
                prompt=image.prompt.text,
                seed=image.seed,
                path=workspace.image_path(image),
                record=_shown(image, workspace, negatives.get(image.prompt_index)),
                scores=scores.get(image.id, {}),
                protocols={name: under.get(name) or row.scores[name].protocol for name in scores.get(image.id, {})},
            )
            for image in images
        ]
    return found


def _column(place: str) -> Any:
    table, _, name = place.rpartition(".")
    return getattr({"": Run, "model": Model}[table], name)


# Field of a RunRow -> the column it comes from: columns, since a thousand whole runs with their JSON take long to read.
_FIELDS = {
    "run": Run.uuid,
    "manifest": Manifest.sha256,
    **{
        name: getattr(Run, name)
        for name in ("name", "experiment", "status", "seconds_per_image", "mlflow_run_id", "note", "origin")
    },
    **{name: _column(declared.column) for name, declared in DECLARED.items() if declared.column is not None},
}
_TABLE_COLUMNS = [attribute.property.columns[0] for attribute in _FIELDS.values()]
_KINDS = [kinds(column) for column in _TABLE_COLUMNS]
# Of its JSON: what stands beside those of a column, and what its scores were asked for with.
_BESIDE = tuple(Run.config[name].label(name) for name in (RESOLVED, "memory_format", EVALUATED, HALVES))


def _fields(run: Row[Any]) -> dict[str, Any]:
    """What a ``RunRow`` has of the run's own row."""
    values: Sequence[Any] = tuple(run)
    resolved, memory_format, columns = values[1], values[2], values[1 + len(_BESIDE) :]
    if not all(map(isinstance, columns, _KINDS)):
        for column, value in zip(_TABLE_COLUMNS, columns, strict=True):
            require_value(column, value)
    found = dict(zip(_FIELDS, columns, strict=True))
    settings = {name: found.pop(name) for name in DECLARED if name in found}
    stored = Values.stored({**beside_columns(resolved, memory_format), **settings})
    return {**found, "status": run.status.value, "halves": run.halves, **stored.to_dict()}


def _chosen(session: Session, addresses: Sequence[str], experiment: str | None, sweep: str | None) -> list[Row[Any]]:
    """``id``, ``_BESIDE`` and ``_FIELDS`` of the runs."""
    query = select(Run.id, *_BESIDE, *_FIELDS.values()).join(Model).join(Manifest).order_by(Run.created_at, Run.id)
    if addresses:
        ids = list(dict.fromkeys(lineage.find_run(session, address).id for address in addresses))
        found = {run.id: run for some in _chunks(ids) for run in session.execute(query.where(Run.id.in_(some)))}
        return [found[number] for number in ids]
    if experiment is not None:
        query = query.where(lineage.of_experiment(experiment))
    if sweep is not None:
        members = select(SweepRun.run_id).where(SweepRun.sweep_id == lineage.find_sweep(session, sweep).id)
        query = query.where(Run.id.in_(members))
    return list(session.execute(query))


def _sweeps(session: Session, runs: Sequence[int]) -> dict[int, str]:
    """Run -> the name of the newest sweep it is a cell of."""
    names: dict[int, str] = {}
    for ids in _chunks(runs):
        rows = session.execute(
            select(SweepRun.run_id, Sweep.name).join(Sweep).where(SweepRun.run_id.in_(ids)).order_by(Sweep.id)
        )
        names |= {run_id: str(name) for run_id, name in rows}
    return names


def _scores(session: Session, runs: Sequence[Row[Any]]) -> dict[int, dict[str, list[Score]]]:
    """Run -> score -> its values under all protocols, the newest last."""
    found: dict[int, dict[str, list[Score]]] = {}
    columns = (
        *("run_id", "name", "value", "ci_low", "ci_high", "n", "note", "protocol_id", "replicates"),
        *("grouping", "prompts_sha256", "parts"),
    )
    protocols = Protocols(session)
    of_run = {run.id: run for run in runs}
    for ids in _chunks(list(of_run)):
        query = select(*(getattr(MetricValue, name) for name in columns)).where(MetricValue.run_id.in_(ids))
        ordered = session.execute(query.order_by(MetricValue.created_at, MetricValue.id))
        # Taken apart at once: to ask a row for each column by its name takes as long as reading it.
        for run_id, name, value, low, high, n, note, protocol, replicates, grouping, prompts, parts in ordered:
            run = of_run[run_id]
            fingerprint, label = protocols.compared(protocol, run.num, run.images_per_prompt, prompts)
            stored, options = protocols.fingerprints[protocol], protocols.options[protocol]
            score = Score(
                name=name,
                value=value,
                ci_low=low,
                ci_high=high,
                n=n,
                protocol=fingerprint,
                protocol_label=label,
                replicates=None if replicates is None else tuple(replicates),
                note=note,
                grouping=grouping,
                prompts=prompts or "",
                parts=None if parts is None else np.frombuffer(parts, dtype="<f8"),
                stored_protocol=stored,
                options=(run.evaluated or {}).get(stored) or options,
            )
            values = found.setdefault(run_id, {}).setdefault(name, [])
            # One of an earlier version and the same measured anew, which has the fuller fingerprint.
            values[:] = [value for value in values if value.protocol != fingerprint]
            values.append(score)
    return found


def _shown(image: Image, workspace: Workspace, negative: str | None = None) -> dict[str, object]:
    """An image's record without what the report shows of the run anyway."""
    run = image.run
    return {
        "id": image.id,
        "run": run.uuid,
        "prompt": image.prompt.text,
        "seed": image.seed,
        **{name: value for name, value in values_of(run).to_dict().items() if name in RECORDED},
        **({} if negative is None else {"negative_prompt": negative}),
        **{name: own for name in ("dtype", "batch_size") if (own := getattr(image, name)) is not None},
        **{name: own for name in ("note", "made_by") if (own := getattr(image, name)) is not None},
        "weights_sha256": run.model.weights_sha256,
        "tokens": image.tokens,
        "truncated": image.truncated,
        "path": image.path,
        "sha256": image.sha256,
        "pixels_sha256": image.pixels_sha256,
    }


def _chunks(ids: Sequence[int]) -> Iterable[Sequence[int]]:
    return (ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK))
