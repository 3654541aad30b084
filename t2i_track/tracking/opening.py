"""A run in MLflow: made, or found again."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from t2i_track.errors import TrackingError
from t2i_track.tracking import sending
from t2i_track.tracking.records import RunInfo

if TYPE_CHECKING:
    from mlflow.entities import Run


def create(uri: str, experiment: str, name: str | None, parent: str | None) -> Run:
    tags = {"mlflow.user": _user(), "mlflow.source.name": "t2i", "mlflow.source.type": "LOCAL"}
    if parent is not None:
        tags["mlflow.parentRunId"] = parent
    return sending.client(uri).create_run(_experiment(uri, experiment), tags=tags, run_name=name)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return "unknown"


def _experiment(uri: str, name: str) -> str:
    from mlflow.exceptions import MlflowException

    found = sending.client(uri).get_experiment_by_name(name)
    if found is None:
        try:
            return sending.client(uri).create_experiment(name, _artifacts(uri))
        except MlflowException:
            # Another process may have made it in between.
            found = sending.client(uri).get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        restore = f"mlflow experiments restore --experiment-id {found.experiment_id}"
        raise TrackingError(f"the MLflow experiment {name!r} is deleted: `{restore}`, or take another name")
    return str(found.experiment_id)


def _artifacts(uri: str) -> str | None:
    """Beside an SQLite database in another folder; MLflow would put them into the current one."""
    path = sending.sqlite_path(uri)
    return None if path is None or path.parent == Path.cwd() else (path.parent / "mlruns").as_uri()


def existing(uri: str, run_id: str) -> Run:
    from mlflow.exceptions import MlflowException

    try:
        run = sending.client(uri).get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        where = sending.shown(uri)
        raise TrackingError(f"MLflow at {where} has no run {run_id}: check MLFLOW_TRACKING_URI") from None
    if run.info.lifecycle_stage == "deleted":
        raise TrackingError(f"the MLflow run {run_id} is deleted: `mlflow runs restore --run-id {run_id}`")
    return run


def find(uri: str, experiment: str, tags: Mapping[str, str]) -> str | None:
    found = sending.client(uri).get_experiment_by_name(experiment)
    if found is None:
        return None
    wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    runs = sending.client(uri).search_runs([found.experiment_id], wanted, max_results=1)
    return str(runs[0].info.run_id) if runs else None


def describe(uri: str, run: Run, name: str | None) -> RunInfo:
    ids = f"{run.info.experiment_id}/runs/{run.info.run_id}"
    url = f"{sending.shown(uri).rstrip('/')}/#/experiments/{ids}" if uri.startswith("http") else None
    experiment = sending.client(uri).get_experiment(run.info.experiment_id)
    return RunInfo(run.info.run_id, name or run.info.run_name or "", experiment.name, url)
