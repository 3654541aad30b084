"""What earlier versions have not sent: a folder for each MLflow run, a numbered file for each operation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from t2i_track.errors import Refused
from t2i_track.tracking import store


def unsent(outbox: Path) -> list[str]:
    """The MLflow runs that still have operations there."""
    return sorted({path.parent.name for path in outbox.glob("*/[0-9]*.json")})


def send_unsent(outbox: Path, run_id: str, uri: str | None = None) -> list[str]:
    """Send a run's operations in their order and remove them; those that MLflow will never take, a line for each.

    Each can be sent twice without harm: its time stamps and file names were fixed when it was made.

    Args:
        outbox: the folder of folders.
        run_id: any MLflow run.
        uri: where to; None: where they were meant to go.

    Raises:
        TrackingError: MLflow does not answer; what is not sent is kept.
    """
    folder = outbox / run_id
    uri = store.resolve(uri or json.loads((folder / "target.json").read_bytes())["uri"])
    store.check(uri, create=False)
    refused = []
    for path in sorted(folder.glob("[0-9]*.json")):
        record = json.loads(path.read_bytes())
        try:
            with store.explained(uri):
                _send(uri, run_id, record["kind"], record["data"], path.with_suffix(".files"))
        except Refused as error:
            refused.append(f"{path}: {error}")
            (folder / "refused").mkdir(exist_ok=True)
            path.rename(folder / "refused" / path.name)
            continue
        path.unlink()
        shutil.rmtree(path.with_suffix(".files"), ignore_errors=True)
    if not (folder / "refused").exists():
        shutil.rmtree(folder)
    return refused


def _send(uri: str, run_id: str, kind: str, data: dict[str, Any], files: Path) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

    client = store.client(uri)
    if kind == "batch":
        params = [Param(key, value) for key, value in data["params"].items()]
        tags = [RunTag(key, value) for key, value in data["tags"].items()]
        client.log_batch(run_id, [Metric(*values) for values in data["metrics"]], params, tags, synchronous=True)
    elif kind == "files":
        client.log_artifacts(run_id, str(files), data["folder"])
        for name, entry in data.get("listed", {}).items():
            store.list_in_tag(uri, run_id, name, entry)
    elif kind == "dataset":
        about = [InputTag(key, value) for key, value in data["tags"].items()]
        client.log_inputs(run_id, [DatasetInput(Dataset(**data["dataset"]), about)])
    elif data["end_time"] is None:
        client.update_run(run_id, status=data["status"])
    else:
        client.set_terminated(run_id, data["status"], data["end_time"])
