"""A pipeline's scheduler, by its short name."""

from __future__ import annotations

import json
from typing import Any

from t2i_track.schedulers import SCHEDULERS


def set_scheduler(pipe: Any, model_config: dict[str, Any], name: str) -> dict[str, Any]:
    """Put the named scheduler into the pipeline, made from the model's own scheduler config.

    Returns:
        The scheduler's full configuration (JSON types), for the record.
    """
    kind = SCHEDULERS[name]
    pipe.scheduler = scheduler_class(name).from_config(model_config, **kind.changes)
    return scheduler_record(pipe.scheduler)


def scheduler_class(name: str) -> Any:
    import diffusers

    return getattr(diffusers, SCHEDULERS[name].diffusers)


def scheduler_record(scheduler: Any) -> dict[str, Any]:
    """A scheduler's class and configuration without what differs between library versions."""
    config = {key: value for key, value in dict(scheduler.config).items() if not key.startswith("_")}
    record: dict[str, Any] = json.loads(json.dumps(config, default=str))
    return {"class": type(scheduler).__name__, **record}
