"""An MLflow run put away as MLflow itself does it, and brought back: it is hidden, not gone."""

from __future__ import annotations

from t2i_track.tracking import store


def put_away(uri: str, run_id: str) -> None:
    """Mark the run deleted; one that is gone or deleted already is left as it is.

    Raises:
        TrackingError: MLflow does not answer.
    """
    if _stage(uri, run_id) == "active":
        with store.explained(uri):
            store.client(uri).delete_run(run_id)


def bring_back(uri: str, run_id: str) -> None:
    """Mark the run active again; one that is gone is not made anew.

    Raises:
        TrackingError: MLflow does not answer.
    """
    if _stage(uri, run_id) == "deleted":
        with store.explained(uri):
            store.client(uri).restore_run(run_id)


def _stage(uri: str, run_id: str) -> str | None:
    """``active``, ``deleted``, or None where there is no such run."""
    from mlflow.exceptions import MlflowException

    store.check(uri, create=False)
    with store.explained(uri):
        try:
            return str(store.client(uri).get_run(run_id).info.lifecycle_stage)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
