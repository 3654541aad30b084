"""What MLflow gets of a run or sweep, part by part, from its rows and files."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session, joinedload

from t2i_track.db import lineage
from t2i_track.db.models import Image, ManifestEntry, MetricValue, Prompt, Run, RunStatus, Sweep, SweepRun
from t2i_track.errors import CompareError
from t2i_track.jsontext import json_text
from t2i_track.metrics.recorded import changed
from t2i_track.runs.protocols import usual_values
from t2i_track.runs.record import parameters
from t2i_track.runs.recorded import item_of
from t2i_track.tracking import RUN_TAG, SWEEP_TAG, Content, Grid, Table
from t2i_track.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image as Picture

STATE = "mlflow"
"""Key of ``Run.config`` and ``Sweep.spec``: see ``projection``."""
GRID_IMAGES = 16
TABLE_IMAGES = 64
"""Pictures in the UI's table: it loads all of a table's pictures at once."""
LINKS = 24
"""Cells in a sweep's description, of which MLflow keeps 8000 characters."""
GRID_KEY = "sample_grid"
TAG = "t2i.tag."
"""How the names of tags begin in MLflow that people gave a run."""
UNTAGGED = "untagged"
"""Key of ``Run.config``: tags that were taken away, so that MLflow's are too."""
SEARCHABLE = ("guidance", "steps")
"""Parameters that are metrics too: MLflow compares parameters as text, and only metrics by ``>``."""
PROGRESS, COST, INTERVAL, ALIGNMENT = "progress/", "cost/", "interval/", "alignment"
"""MLflow's UI puts metrics with a prefix into a section of their own; the scores have none and so come together."""


@dataclass(frozen=True)
class Part:
    """Some of a run's MLflow side that is written at once, and again when its ``digest`` has changed."""

    digest: str
    content: Callable[[], Content]


def metric_name(score: str) -> str:
    """A score's name in MLflow: ``alignment_shape`` is ``alignment/shape``, all others are their own."""
    part = score.removeprefix(f"{ALIGNMENT}_")
    return score if part == score else f"{ALIGNMENT}/{part}"


def parts(session: Session, workspace: Workspace, row: Run | Sweep, parent: str | None = None) -> dict[str, Part]:
    """All parts that there are of a run or sweep, the one with the status last.

    ``parent`` is the MLflow run that it is folded under: that of the sweep that it was made in, or the one that was
    opened for the process and was taken. Cheap: what is large is read when a part's
    content is asked for.
    """
    if isinstance(row, Sweep):
        return _sweep_parts(session, workspace, row, parent)
    found: dict[str, Part] = {}
    made = session.execute(select(func.count(), func.max(Image.created_at)).where(Image.run_id == row.id)).one()
    if row.status == RunStatus.FINISHED and made[0]:
        found["images"] = Part(_digest(*made, row.config.get("cost")), partial(_images, session, workspace, row))
    scored = session.execute(
        select(MetricValue.name, MetricValue.created_at).where(MetricValue.run_id == row.id).order_by(MetricValue.id)
    ).all()
    if scored:
        several = {name for name, number in Counter(name for name, _ in scored).items() if number > 1}
        chosen = usual_values(session, row, several) if several else {}
        counted = sorted(value for value, _ in chosen.values())
        found["scores"] = Part(_digest(*scored, *counted), partial(_scores, session, row, chosen))
    cell = cell_of(session, row)
    told: list[Any] = [
        row.name,
        row.experiment,
        row.status,
        row.started_at,
        row.ended_at,
        row.error,
        cell and cell.sweep.uuid,
    ]
    tags = {tag.key: tag.value for tag in row.tags}
    told += [said for said in (tags, row.note, row.config.get(UNTAGGED)) if said]  # none of older runs has any
    found["run"] = Part(_digest(*told), partial(_run, row, tags, cell, parent))
    return found


def cell_of(session: Session, run: Run) -> SweepRun | None:
    """The place in the sweep that the run was made in; later sweeps may have taken it over."""
    query = select(SweepRun).join(Sweep).where(SweepRun.run_id == run.id, Sweep.created_at <= run.created_at)
    cell = session.scalar(query.order_by(SweepRun.id).limit(1))
    # The UI folds children under their parent only within one experiment.
    return cell if cell is not None and cell.sweep.experiment == run.experiment else None


def _digest(*values: object) -> str:
    return hashlib.sha256(json.dumps(values, default=_plain).encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else list(value)


def _run(run: Run, own: Mapping[str, str], cell: SweepRun | None, parent: str | None) -> Content:
    started = run.started_at or run.created_at
    settings = parameters(run)
    tags: dict[str, str | int | None] = {
        RUN_TAG: run.uuid,
        "t2i.manifest": run.manifest.name,
        "t2i.model": run.model.name,
        "t2i.device": run.environment.get("gpu") or run.device,
        "t2i.origin": run.origin,
        "t2i.threads": run.environment["threads"],
        "t2i.git_commit": run.environment.get("git_commit"),
        **{f"t2i.version.{name}": version for name, version in run.environment["versions"].items()},
        "t2i.reason": run.error,
        "mlflow.runName": run.name,
        "mlflow.parentRunId": parent,
        "mlflow.note.content": run.note,
        "t2i.sweep": None,
        "t2i.cell": None,
        **{f"{TAG}{key}": None for key in run.config.get(UNTAGGED, ())},
        **{f"{TAG}{key}": value for key, value in own.items()},
    }
    if cell is not None:
        tags |= {"t2i.sweep": cell.sweep.name, "t2i.cell": cell.cell}
    return Content(
        params=settings,
        tags=tags,
        metrics={name: (float(value), started) for name in SEARCHABLE if (value := settings[name]) is not None},
        status=run.status.value,
        ended=run.ended_at,
    )


def _images(session: Session, workspace: Workspace, run: Run) -> Content:
    """Every image's seed and hashes, the grid, the table of the first, and what they cost."""
    negatives = lineage.own_negatives(session, run.manifest_id, run.num)
    frame = image_frame(session, run, negatives)
    reused = int(frame["made_by"].notna().sum())
    timed = frame["seconds"].dropna()
    cost = {
        "images": float(len(frame)),
        **({"reused_images": float(reused)} if reused else {}),
        "truncated_prompts": float(frame["truncated"].sum()),
        **({"seconds_per_image": fmean(timed)} if len(timed) else {}),
        **run.config.get("cost", {}),
    }
    in_order = select(Image).where(Image.run_id == run.id).order_by(Image.prompt_index, Image.replicate)
    listed = list(session.scalars(in_order.options(joinedload(Image.prompt)).limit(TABLE_IMAGES)))
    first = list(session.scalars(in_order.where(Image.replicate == 0).limit(GRID_IMAGES)))
    ended = run.ended_at or session.scalars(select(func.max(Image.created_at)).where(Image.run_id == run.id)).one()
    needed = dict.fromkeys([*first, *listed])
    lost = changed([item_of(workspace, image) for image in needed], workspace.cache)
    shown, tabled = ([image for image in some if image.id not in lost] for some in (first, listed))
    picture = partial(sample_grid, workspace, shown)
    return Content(
        metrics={f"{COST}{name}": (value, ended) for name, value in cost.items()},
        files=partial(_write_tables, session, run, frame),
        grid=Grid(picture, GRID_KEY, run.started_at or run.created_at, run.uuid) if shown else None,
        table=Table([_table_row(workspace, image, negatives) for image in tabled]) if tabled else None,
        manifest=_Listed(run.manifest.name, run.manifest.sha256, run.manifest.size),
    )


def _table_row(workspace: Workspace, image: Image, negatives: Mapping[int, str]) -> dict[str, Any]:
    return {
        # MLflow's table view groups rows by the first column, and so compares runs prompt by prompt.
        "prompt": image.prompt.text,
        "image": workspace.image_path(image),
        **_negative_cell(image, negatives),
        **{name: getattr(image, name) for name in ("seed", "prompt_index", "replicate")},
    }


def _negative_cell(image: Image, negatives: Mapping[int, str]) -> dict[str, str]:
    """The negative prompt that was used, where the manifest has such a column."""
    return {"negative_prompt": negatives.get(image.prompt_index, image.run.negative_prompt)} if negatives else {}


@dataclass(frozen=True)
class _Listed:
    name: str
    sha256: str
    size: int

    def __len__(self) -> int:
        return self.size


def sample_grid(workspace: Workspace, images: list[Image]) -> Picture:
    """The pictures with their prompts under them."""
    from t2i_track.report.grid import grid

    return grid([workspace.image_path(image) for image in images], [image.prompt.text for image in images], columns=4)


def _write_tables(session: Session, run: Run, frame: pd.DataFrame, folder: Path) -> None:
    """Every image's seed and hashes, and the manifest, as files that outlive the database."""
    frame.to_parquet(folder / "images.parquet", index=False)
    frame.to_json(folder / "images.jsonl", orient="records", lines=True, force_ascii=False)
    _manifest_frame(session, run).to_csv(folder / "manifest.csv", index=False)


def image_frame(session: Session, run: Run, negatives: Mapping[int, str] = {}) -> pd.DataFrame:
    """One row an image: place, prompt, seed, hashes, path; ``dtype`` and ``batch_size`` where not the run's;
    ``negative_prompt`` where ``negatives`` has some, those of prompts with their own by their index."""
    import pandas as pd

    names = ["prompt_index", "replicate", "seed", "path", "sha256", "pixels_sha256", "width", "height", "tokens"]
    names += ["truncated", "flagged", "note", "dtype", "batch_size", "seconds", "made_by"]
    query = select(Prompt.text, *(getattr(Image, name) for name in names)).select_from(Image).join(Image.prompt)
    rows = session.execute(query.where(Image.run_id == run.id).order_by(Image.prompt_index, Image.replicate))
    frame = pd.DataFrame([tuple(row) for row in rows], columns=["prompt", *names])
    if negatives:
        own = [negatives.get(index, run.negative_prompt) for index in frame["prompt_index"]]
        frame.insert(1, "negative_prompt", own)
    return frame


def _manifest_frame(session: Session, run: Run) -> pd.DataFrame:
    import pandas as pd

    columns = (ManifestEntry.source_image_id, ManifestEntry.caption_id, ManifestEntry.negative_prompt)
    query = select(Prompt.text, *columns).select_from(ManifestEntry).join(ManifestEntry.prompt)
    rows = session.execute(query.where(ManifestEntry.manifest_id == run.manifest_id).order_by(ManifestEntry.position))
    names = ["caption", "image_id", "caption_id", "negative_prompt"]
    frame = pd.DataFrame([tuple(row) for row in rows], columns=names)
    return frame if frame["negative_prompt"].notna().any() else frame.drop(columns="negative_prompt")


def _scores(session: Session, run: Run, chosen: Mapping[str, tuple[int, datetime]]) -> Content:
    """A value of each score and its interval as metrics, its protocol as a tag, and all values as one artifact.

    Of several values that counts which is ``chosen``, so that a column of MLflow's table is of one protocol.
    """
    rows = session.scalars(
        select(MetricValue)
        .where(MetricValue.run_id == run.id)
        .options(joinedload(MetricValue.protocol))
        .order_by(MetricValue.created_at, MetricValue.id)
    )
    every = list(rows)
    counted = {row.name: row for row in every if row.name not in chosen or chosen[row.name][0] == row.id}
    metrics: dict[str, tuple[float | None, datetime]] = {}
    for name, row in counted.items():
        _, time = chosen.get(name, (row.id, row.created_at))
        # MLflow forgets no metric: the interval of the value that counted before must not stand beside this one.
        none = math.nan if name in chosen else None
        metrics[metric_name(name)] = (row.value, time)
        metrics[f"{INTERVAL}{name}_low"] = (none if row.ci_low is None else row.ci_low, time)
        metrics[f"{INTERVAL}{name}_high"] = (none if row.ci_high is None else row.ci_high, time)
    tags = {f"t2i.protocol.{name}": row.protocol.fingerprint for name, row in counted.items()}
    return Content(metrics=metrics, tags=tags, files=partial(_write_scores, every))


def _write_scores(rows: Iterable[MetricValue], folder: Path) -> None:
    told = ("name", "value", "ci_low", "ci_high", "n", "note")
    scores = [
        {
            **{name: getattr(row, name) for name in told},
            "protocol": {
                column.key: getattr(row.protocol, column.key)
                for column in row.protocol.__mapper__.column_attrs
                if column.key != "id"
            },
        }
        for row in rows
    ]
    (folder / "scores.json").write_text(json_text(scores), encoding="utf-8")


def _sweep_parts(session: Session, workspace: Workspace, sweep: Sweep, parent: str | None) -> dict[str, Part]:
    found = {}
    compared = sweep.spec.get(STATE, {}).get("compared")
    # MLflow's runs have one parent only: what another sweep has made stays folded under that one.
    others = [member for member in sweep.members if cell_of(session, member.run) is not member]
    told = [(member.cell, member.run.name, member.run.experiment, member.run.mlflow_run_id) for member in others]
    if others:
        found["taken over"] = Part(_digest(*told), partial(_taken_over, others))
    if compared is not None:  # behind the links, which are in its description too
        found["comparison"] = Part(_digest(compared, *told), partial(_comparison, workspace, sweep, compared, others))
    found["run"] = Part(_digest(sweep.name, sweep.status, sweep.ended_at), partial(_sweep, sweep, parent))
    return found


def _sweep(sweep: Sweep, parent: str | None) -> Content:
    settings: Mapping[str, Any] = sweep.spec["settings"]
    axes: Mapping[str, Any] = sweep.spec["axes"]
    parameters = {name: str(value) for name, value in settings.items()}
    return Content(
        params=parameters | {f"axis.{name}": json.dumps(values) for name, values in axes.items()},
        tags={
            "t2i.sweep": sweep.name,
            SWEEP_TAG: sweep.uuid,
            "t2i.reason": sweep.spec.get(STATE, {}).get("reason"),
            "mlflow.runName": sweep_title(sweep),
            "mlflow.parentRunId": parent,
        },
        status=sweep.status.value,
        ended=sweep.ended_at,
    )


def _taken_over(members: Sequence[SweepRun]) -> Content:
    """What leads from the sweep's MLflow run to the cells that are not under it."""
    runs = {str(member.cell): member.run.mlflow_run_id for member in members}
    return Content(tags={"t2i.taken_over": json.dumps(runs), "mlflow.note.content": _links(members)})


def _links(members: Sequence[SweepRun]) -> str:
    """Lines of the description; the UI finds a run's experiment by itself."""
    lines = [
        f"- cell {member.cell}: [{member.run.name}](#/runs/{member.run.mlflow_run_id}) in `{member.run.experiment}`"
        for member in members[:LINKS]
    ]
    if len(members) > LINKS:
        lines.append(f"- and {len(members) - LINKS} more, in the tag `t2i.taken_over`")
    return "\n".join(["Taken over from earlier runs, which are not folded under this one:", "", *lines])


def _comparison(workspace: Workspace, sweep: Sweep, compared: Mapping[str, Any], others: Sequence[SweepRun]) -> Content:
    """What `t2i compare` says of the sweep: its description, `comparison.json`, and the report if there is one."""
    from t2i_track.ranking.describe import as_json, note
    from t2i_track.runs.compare import ranking

    try:
        within = compared.get("within")  # older versions had none
        comparison = ranking(workspace, sweep=sweep.uuid, by=compared["by"], within=within).comparison
    except CompareError:  # its cells have no such score any more
        return Content()

    def write(folder: Path) -> None:
        (folder / "comparison.json").write_text(as_json(comparison), encoding="utf-8")
        if compared["report"] is not None and Path(compared["report"]).exists():
            report = Path(compared["report"])
            (folder / "report").mkdir()
            (shutil.copytree if report.is_dir() else shutil.copyfile)(report, folder / "report" / report.name)

    recommended = comparison.recommendation
    return Content(
        tags={
            "mlflow.note.content": "\n\n".join([note(comparison), *([_links(others)] if others else [])]),
            "t2i.recommended": None if recommended is None else recommended.run,
        },
        files=write,
    )


def sweep_title(sweep: Sweep) -> str:
    return sweep.name if "sweep" in sweep.name else f"sweep {sweep.name}"
