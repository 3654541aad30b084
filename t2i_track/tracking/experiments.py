"""The experiment that MLflow's own variables name, as MLflow's commands follow them."""

from __future__ import annotations

import os

from t2i_track.errors import Missing, SettingsError
from t2i_track.tracking import store

NAME, ID = "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"


def experiment_of_environment(uri: str | None) -> str | None:
    """The name in ``MLFLOW_EXPERIMENT_NAME``, or of ``MLFLOW_EXPERIMENT_ID``, which `mlflow run` sets.

    Args:
        uri: MLflow's tracking URI; None: the environment's, or MLflow's default. It is asked only for an id.

    Raises:
        TrackingError: MLflow cannot be reached. Missing: it has no experiment with that id.
        SettingsError: name and id are of two experiments.
    """
    name, number = os.environ.get(NAME) or None, os.environ.get(ID) or None
    if number is None:
        return name
    found = _name(store.resolve(uri), number)
    if name not in (None, found):
        raise SettingsError(f"{NAME} is '{name}', and {ID} {number} is '{found}': unset one of them")
    return found


def _name(uri: str, number: str) -> str:
    store.check(uri, create=False)
    try:
        with store.explained(uri):
            return str(store.client(uri).get_experiment(number).name)
    except Missing:
        raise Missing(
            f"{ID} is {number}, and MLflow at {store.shown(uri)} has no such experiment: unset it, or check"
            " MLFLOW_TRACKING_URI"
        ) from None
