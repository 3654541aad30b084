"""A run as MLflow and the PNG files get it: parameters, tags, the record in each picture, grid, table, seeds."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from t2i_track.db.models import Image, ManifestEntry, Run
from t2i_track.images.sampling import Picture
from t2i_track.runs.plan import values_of
from t2i_track.settings import RECORDED
from t2i_track.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

    from t2i_track.tracking import Tracker

RECORD_VERSION = 1
GRID_IMAGES = 16
TABLE_IMAGES = 64
"""Pictures in the UI's table: it loads all of a table's pictures at once."""
GRID_KEY = "sample_grid"


def parameters(run: Run) -> dict[str, str | int | float | None]:
    """MLflow's parameters: the settings under their own names, as resolved, and what they were applied to."""
    # A revision as it was asked for: what it was resolved to is the weights' hash.
    return {
        **values_of(run).to_dict(),
        "revision": run.config["settings"].get("revision"),
        "manifest_sha256": run.manifest.sha256[:12],
        "weights_sha256": run.model.weights_sha256[:12],
    }


def tags(run: Run) -> dict[str, str]:
    found = {
        "t2i.run": run.uuid,
        "t2i.manifest": run.manifest.name,
        "t2i.model": run.model.name,
        "t2i.device": run.environment.get("gpu") or run.device,
        "t2i.threads": str(run.environment["threads"]),
        "t2i.git_commit": run.environment.get("git_commit") or "",
    }
    found |= {f"t2i.version.{name}": version for name, version in run.environment["versions"].items()}
    return {key: value for key, value in found.items() if value}


def picture_record(run: Run) -> dict[str, Any]:
    """What every picture of the run has in common: the record from which it can be made again."""
    return {
        "t2i_record": RECORD_VERSION,
        "run": run.uuid,
        **{name: value for name, value in values_of(run).to_dict().items() if name in RECORDED},
        "weights_sha256": run.model.weights_sha256,
        "lora_sha256": run.config["lora_sha256"],
        "pipeline_class": run.model.pipeline_class,
        "scheduler_config": run.scheduler_config,
        "base_seed": run.base_seed,
        "manifest_sha256": run.manifest.sha256,
        "threads": run.environment["threads"],
        "versions": run.environment["versions"],
    }


def place_record(picture: Picture) -> dict[str, Any]:
    """What is a picture's own."""
    job = picture.job
    return {
        "prompt": job.prompt,
        "prompt_index": job.prompt_index,
        "replicate": job.replicate,
        "seed": job.seed,
        "tokens": picture.tokens,
        "truncated": picture.truncated,
    }


def log_run(tracker: Tracker, workspace: Workspace, session: Session, run: Run) -> None:
    """Everything that MLflow shows of a finished run's images. Repeated after a resume, it replaces itself."""
    assert run.mlflow_run_id is not None
    images = list(
        session.scalars(
            select(Image)
            .where(Image.run_id == run.id)
            .options(joinedload(Image.prompt))
            .order_by(Image.prompt_index, Image.replicate)
        )
    )
    tracker.log_metrics(
        run.mlflow_run_id,
        {
            "images": float(len(images)),
            "truncated_prompts": float(sum(image.truncated for image in images)),
            "seconds_per_image": sum(image.seconds for image in images) / max(1, len(images)),
        },
    )
    _log_tables(tracker, session, run, images)
    tracker.log_image_grid(run.mlflow_run_id, sample_grid(workspace, images), GRID_KEY)
    tracker.log_prompt_table(
        run.mlflow_run_id,
        [
            {
                # MLflow's table view groups rows by the first column, and so compares runs prompt by prompt.
                "prompt": image.prompt.text,
                "image": workspace.image_path(image),
                "seed": image.seed,
                "prompt_index": image.prompt_index,
                "replicate": image.replicate,
            }
            for image in images[:TABLE_IMAGES]
        ],
    )
    tracker.log_manifest(run.mlflow_run_id, _Listed(run.manifest.name, run.manifest.sha256, run.manifest.size))


def _log_tables(tracker: Tracker, session: Session, run: Run, images: list[Image]) -> None:
    """Every image's seed and hashes, and the manifest, as files that outlive the database."""
    assert run.mlflow_run_id is not None
    frame = image_frame(images)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("images.parquet", "images.jsonl", "manifest.csv")]
        frame.to_parquet(files[0], index=False)
        frame.to_json(files[1], orient="records", lines=True, force_ascii=False)
        _manifest_frame(session, run).to_csv(files[2], index=False)
        tracker.log_artifacts(run.mlflow_run_id, files)


@dataclass(frozen=True)
class _Listed:
    name: str
    sha256: str
    size: int

    def __len__(self) -> int:
        return self.size


def image_frame(images: list[Image]) -> pd.DataFrame:
    """One row an image: place, prompt, seed, hashes, path."""
    import pandas as pd

    columns = ["prompt_index", "replicate", "seed", "path", "sha256", "pixels_sha256", "width", "height", "tokens"]
    columns += ["truncated", "flagged", "seconds"]
    return pd.DataFrame(
        [{"prompt": image.prompt.text, **{name: getattr(image, name) for name in columns}} for image in images]
    )


def sample_grid(workspace: Workspace, images: list[Image]) -> Any:
    """The first pictures with their prompts under them, as a PIL image."""
    from t2i_track.report.grid import grid

    shown = [image for image in images if image.replicate == 0][:GRID_IMAGES]
    return grid([workspace.image_path(image) for image in shown], [image.prompt.text for image in shown], columns=4)


def _manifest_frame(session: Session, run: Run) -> pd.DataFrame:
    import pandas as pd

    entries = session.scalars(
        select(ManifestEntry)
        .where(ManifestEntry.manifest_id == run.manifest_id)
        .options(joinedload(ManifestEntry.prompt))
        .order_by(ManifestEntry.position)
    )
    return pd.DataFrame(
        [
            {"caption": entry.prompt.text, "image_id": entry.source_image_id, "caption_id": entry.caption_id}
            for entry in entries
        ]
    )
