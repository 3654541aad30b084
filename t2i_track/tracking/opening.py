"""A run in MLflow: made, or found again."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING

from t2i_track.errors import Missing, TrackingError
from t2i_track.tracking import store
from t2i_track.tracking.records import RUN_TAG, SWEEP_TAG, Joined, Opening, RunInfo

if TYPE_CHECKING:
    from mlflow.entities import Experiment, Run

KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Without it a UI that has no switch for it guesses, and may open on the traces of GenAI. MLflow has these words in its
JavaScript only (``ExperimentKind.CUSTOM_MODEL_DEVELOPMENT``)."""


def open_run(uri: str, opening: Opening, *, known: str | None = None, anew: bool = False) -> RunInfo:
    """The run that is known by its id, or else by its tag, or else a new one.

    Args:
        uri: an absolute tracking URI.
        opening: what a new run is made with.
        known: id of the run as it was stored; its store is not made anew, unless ``anew``.
        anew: where the run that is known is gone or deleted, take the one with the tag or make one.

    Raises:
        TrackingError: MLflow cannot be reached within a few seconds, or the experiment is deleted.
        Missing: the run is deleted or unknown.
    """
    path = store.sqlite_path(uri)
    if known is not None and not anew and path is not None and not path.exists():
        raise Missing(
            f"the MLflow store {path} is gone, and run {known} with it: bring it back, set MLFLOW_TRACKING_URI, or make"
            f" the run anew: `t2i resync {known}`"
        )
    store.check(uri, create=True)
    with store.explained(uri):
        try:
            run = existing(uri, known or find(uri, opening) or _create(uri, opening))
        except Missing:
            if not anew:
                raise
            run = existing(uri, find(uri, opening) or _create(uri, opening))
        _claim(uri, run, opening)
        return _describe(uri, run)


def joined(uri: str, run_id: str) -> Joined:
    """The run that ``mlflow run`` or another program has opened for this process (``MLFLOW_RUN_ID``).

    Raises:
        TrackingError: MLflow cannot be reached. Missing: it has no such run, or it is deleted.
    """
    store.check(uri, create=False)
    with store.explained(uri):
        try:
            run = existing(uri, run_id)
        except Missing:
            where = store.shown(uri)
            raise Missing(
                f"MLFLOW_RUN_ID is {run_id}, and MLflow at {where} has no such run: unset it, or check"
                " MLFLOW_TRACKING_URI"
            ) from None
        owners = [run.data.tags[key] for key in (RUN_TAG, SWEEP_TAG) if key in run.data.tags]
        experiment = store.client(uri).get_experiment(run.info.experiment_id)
        return Joined(experiment.name, owners[0] if owners else None)


def _claim(uri: str, run: Run, opening: Opening) -> None:
    """At once, before the rest is written: another program may ask next whose the run is."""
    if opening.tag is not None and run.data.tags.get(opening.tag[0]) != opening.tag[1]:
        store.client(uri).set_tag(run.info.run_id, *opening.tag)


def existing(uri: str, run_id: str) -> Run:
    """The run with that id.

    Raises:
        Missing: there is none, or it is deleted; one line that says what to do.
    """
    from mlflow.exceptions import MlflowException

    try:
        run = store.client(uri).get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        where = store.shown(uri)
        raise Missing(
            f"MLflow at {where} has no run {run_id}: check MLFLOW_TRACKING_URI, or make it anew: `t2i resync {run_id}`"
        ) from None
    if run.info.lifecycle_stage == "deleted":
        experiment = store.client(uri).get_experiment(run.info.experiment_id)
        if experiment.lifecycle_stage == "deleted":
            raise Missing(f"the MLflow run {run_id} is deleted with its experiment: {_restore(experiment)}")
        restore = f"`mlflow runs restore --run-id {run_id}`"
        raise Missing(f"the MLflow run {run_id} is deleted: {restore}, or make it anew: `t2i resync {run_id}`")
    return run


def _restore(experiment: Experiment) -> str:
    return f"`mlflow experiments restore --experiment-id {experiment.experiment_id}`"


def find(uri: str, opening: Opening) -> str | None:
    """The run of that experiment with that tag."""
    found = store.client(uri).get_experiment_by_name(opening.experiment)
    if found is None or opening.tag is None:
        return None
    key, value = opening.tag
    runs = store.client(uri).search_runs([found.experiment_id], f"tags.`{key}` = '{value}'", max_results=1)
    return str(runs[0].info.run_id) if runs else None


def _create(uri: str, opening: Opening) -> str:
    tags = {"mlflow.user": _user(), "mlflow.source.name": "t2i", "mlflow.source.type": "LOCAL"}
    tags |= dict([opening.tag] if opening.tag is not None else [])
    started = None if opening.started is None else int(opening.started.timestamp() * 1000)
    experiment = _experiment(uri, opening.experiment)
    run = store.client(uri).create_run(experiment, start_time=started, tags=tags, run_name=opening.name)
    return str(run.info.run_id)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return "unknown"


def _experiment(uri: str, name: str) -> str:
    from mlflow.exceptions import MlflowException

    found = store.client(uri).get_experiment_by_name(name)
    if found is None:
        try:
            return store.client(uri).create_experiment(name, _artifacts(uri), tags=KIND)
        except MlflowException:
            # Another process may have made it in between.
            found = store.client(uri).get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        raise TrackingError(f"the MLflow experiment {name!r} is deleted: {_restore(found)}, or take another name")
    return str(found.experiment_id)


def _artifacts(uri: str) -> str | None:
    """Beside an SQLite database in another folder, where MLflow would put them into the current one, and in a folder
    whose name an address has to escape, where MLflow makes two of it."""
    path = store.sqlite_path(uri)
    if path is None:
        return None
    folder = path.parent / "mlruns"
    plain = folder.as_uri() == f"file://{folder}"
    return None if path.parent == Path.cwd() and plain else folder.as_uri()


def _describe(uri: str, run: Run) -> RunInfo:
    ids = f"{run.info.experiment_id}/runs/{run.info.run_id}"
    url = f"{store.shown(uri).rstrip('/')}/#/experiments/{ids}" if uri.startswith("http") else None
    experiment = store.client(uri).get_experiment(run.info.experiment_id)
    _set_kind(uri, experiment)
    return RunInfo(run.info.run_id, run.info.run_name or "", experiment.name, url)


def _set_kind(uri: str, experiment: Experiment) -> None:
    """Of an experiment that MLflow or an earlier version made; one that a person has set stays."""
    for key, value in KIND.items():
        if key not in experiment.tags:
            store.client(uri).set_experiment_tag(experiment.experiment_id, key, value)
