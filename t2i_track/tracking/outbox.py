"""What earlier versions have not sent: a folder for each MLflow run, a numbered file for each operation."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2i_track.errors import Refused, TrackingError
from t2i_track.tracking import store

if TYPE_CHECKING:
    from mlflow import MlflowClient

    Call = Callable[[MlflowClient], object]

REFUSED = "refused"
"""Folder, in a run's own, of what is put aside."""


def unsent(outbox: Path) -> list[str]:
    """The MLflow runs that still have operations there."""
    return sorted({path.parent.name for path in outbox.glob("*/[0-9]*.json")})


def send_unsent(outbox: Path, run_id: str, uri: str | None = None) -> list[str]:
    """Send a run's operations in their order and remove them; those that can never be sent, a line for each.

    Each can be sent twice without harm: its time stamps and file names were fixed when it was made.

    Args:
        outbox: the folder of folders.
        run_id: any MLflow run.
        uri: where to; None: where they were meant to go.

    Raises:
        TrackingError: MLflow does not answer, or nothing says where to send it; what is not sent is kept.
    """
    folder = outbox / run_id
    try:
        uri = store.resolve(uri or _target(folder))
        store.check(uri, create=False)
        refused = list(_send_all(folder, run_id, uri))
        if not (folder / REFUSED).exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise TrackingError(f"cannot use {error.filename or folder} ({error.strerror or error})") from None
    return refused


def _target(folder: Path) -> str:
    try:
        return str(json.loads((folder / "target.json").read_bytes())["uri"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrackingError(
            f"{folder / 'target.json'} does not say where to send what an earlier version has left there"
            f" ({type(error).__name__}): say it with `t2i resync --to URI`, or remove the folder"
        ) from None


def _send_all(folder: Path, run_id: str, uri: str) -> Iterator[str]:
    """Send the records in order; what can never be sent is put aside, and a line of each yielded."""
    for path in sorted(folder.glob("[0-9]*.json")):
        try:
            call = _read(path, run_id)
            with store.explained(uri):
                call(store.client(uri))
        except (Refused, ValueError) as error:
            yield f"{path}: {error}"
            (folder / REFUSED).mkdir(exist_ok=True)
            path.rename(folder / REFUSED / path.name)
            continue
        path.unlink()
        shutil.rmtree(path.with_suffix(".files"), ignore_errors=True)


def _read(path: Path, run_id: str) -> Call:
    """The call that the record stands for.

    Raises:
        ValueError: it is half written, or of no version.
    """
    try:
        record = json.loads(path.read_bytes())
        return _CALLS[record["kind"]](run_id, record["data"], path.with_suffix(".files"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it cannot be read ({type(error).__name__}: {error})") from None


def _batch(run_id: str, data: dict[str, Any], _files: Path) -> Call:
    from mlflow.entities import Metric, Param, RunTag

    params = [Param(key, value) for key, value in data["params"].items()]
    tags = [RunTag(key, value) for key, value in data["tags"].items()]
    metrics = [Metric(*values) for values in data["metrics"]]
    return lambda client: client.log_batch(run_id, metrics, params, tags, synchronous=True)


def _log_files(run_id: str, data: dict[str, Any], files: Path) -> Call:
    if not files.is_dir():
        raise ValueError(f"there is no folder {files.name}")
    folder, listed = data["folder"], dict(data.get("listed", {}))

    def call(client: MlflowClient) -> None:
        client.log_artifacts(run_id, str(files), folder)
        for name, entry in listed.items():
            store.list_in_tag(client.tracking_uri, run_id, name, entry)

    return call


def _dataset(run_id: str, data: dict[str, Any], _files: Path) -> Call:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    about = [InputTag(key, value) for key, value in data["tags"].items()]
    inputs = [DatasetInput(Dataset(**data["dataset"]), about)]
    return lambda client: client.log_inputs(run_id, inputs)


def _status(run_id: str, data: dict[str, Any], _files: Path) -> Call:
    status, ended = data["status"], data["end_time"]
    if ended is None:
        return lambda client: client.update_run(run_id, status=status)
    return lambda client: client.set_terminated(run_id, status, ended)


_CALLS = {"batch": _batch, "files": _log_files, "dataset": _dataset, "status": _status}
