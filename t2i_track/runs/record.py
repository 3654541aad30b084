"""A run as MLflow and the PNG files get it: its parameters, and the record in each picture."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from t2i_track.db import lineage
from t2i_track.db.models import Image, Run
from t2i_track.runs.adapters import FILES
from t2i_track.runs.plan import CALL, values_of
from t2i_track.settings import RECORDED

RECORD_VERSION = 1


def parameters(run: Run) -> dict[str, str | int | float | None]:
    """MLflow's parameters: the settings under their own names, as resolved, and what they were applied to."""
    # A revision as it was asked for: what it was resolved to is the weights' hash.
    return {
        **values_of(run).to_dict(),
        "revision": run.config["settings"].get("revision"),
        "manifest_sha256": run.manifest.sha256[:12],
        "weights_sha256": (run.model.weights_sha256 or "")[:12] or None,
    }


def picture_record(run: Run) -> dict[str, Any]:
    """What every picture of the run has in common: the record from which it can be made again."""
    return {
        "t2i_record": RECORD_VERSION,
        "run": run.uuid,
        **{name: value for name, value in values_of(run).to_dict().items() if name in RECORDED},
        "weights_sha256": run.model.weights_sha256,
        "lora_sha256": run.config["lora_sha256"],
        **{name: run.config[name] for name in FILES if run.config.get(name)},
        "pipeline_class": run.model.pipeline_class,
        "scheduler_config": run.scheduler_config,
        **({CALL: call} if (call := run.config.get(CALL)) else {}),
        "base_seed": run.base_seed,
        "manifest_sha256": run.manifest.sha256,
        "threads": run.environment["threads"],
        "versions": run.environment["versions"],
    }


def stored_record(session: Session, image: Image) -> dict[str, Any]:
    """What the image's picture has in common with its run's, but for a negative prompt and a worker of its own."""
    own = lineage.negative_of(session, image)
    return {
        **picture_record(image.run),
        **({} if own is None else {"negative_prompt": own}),
        **({} if image.worker is None else {"threads": image.worker.environment["threads"]}),
    }
