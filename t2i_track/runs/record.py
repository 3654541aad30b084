"""A run as MLflow and the PNG files get it: its parameters, and the record in each picture."""

from __future__ import annotations

from typing import Any

from t2i_track.db.models import Run
from t2i_track.images.sampling import Picture
from t2i_track.runs.plan import memory_format_of

RECORD_VERSION = 1


def parameters(run: Run) -> dict[str, str | int | float | None]:
    """MLflow's parameters: the settings under their own names, as resolved, and what they were applied to."""
    stored = dict(run.config["settings"])
    resolved = {
        "height": run.height,
        "width": run.width,
        "dtype": run.dtype,
        "memory_format": memory_format_of(run),
        "device": run.device,
        "num": run.num,
    }
    return (
        stored
        | resolved
        | {"manifest_sha256": run.manifest.sha256[:12], "weights_sha256": run.model.weights_sha256[:12]}
    )


def picture_record(run: Run) -> dict[str, Any]:
    """What every picture of the run has in common: the record from which it can be made again."""
    return {
        "t2i_record": RECORD_VERSION,
        "run": run.uuid,
        "model": run.model.name,
        "revision": run.model.revision,
        "weights_sha256": run.model.weights_sha256,
        "lora": run.lora,
        "lora_sha256": run.config["lora_sha256"],
        "pipeline_class": run.model.pipeline_class,
        "negative_prompt": run.negative_prompt,
        "guidance": run.guidance,
        "steps": run.steps,
        "scheduler": run.scheduler,
        "scheduler_config": run.scheduler_config,
        "height": run.height,
        "width": run.width,
        "dtype": run.dtype,
        "memory_format": memory_format_of(run),
        "device": run.device,
        "batch_size": run.batch_size,
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
