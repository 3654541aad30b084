"""MLflow's UI on the store that the runs are in."""

from __future__ import annotations

import os
import sys

from t2i_track.errors import TrackingError
from t2i_track.tracking import store

STORE = "MLFLOW_BACKEND_STORE_URI"


def server_command(uri: str | None, host: str, port: int) -> tuple[list[str], dict[str, str]]:
    """The command line that serves the UI, and its environment: every user of the machine can read command lines, and
    the store's address may hold a password.

    Args:
        uri: MLflow's tracking URI; None: the environment's, or MLflow's default.
        host: address to listen on.
        port: 1 to 65535.

    Raises:
        TrackingError: the URI is of a server, which has a UI already, or there is no store yet.
    """
    uri = store.resolve(uri)
    if uri.startswith(("http://", "https://")):
        raise TrackingError(f"the runs are on a server that has a UI already: open {store.shown(uri)} in a browser")
    store.check(uri, create=False)
    serve = ["server", "--host", host, "--port", str(port), "--workers", "1"]
    return [sys.executable, "-m", "mlflow", *serve], {**os.environ, STORE: uri}
