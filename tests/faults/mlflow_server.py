"""MLflow's own server in a thread of the test's process, over any store, that can be made to fail in many ways."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from werkzeug.serving import WSGIRequestHandler, make_server

Environ = dict[str, Any]


class _Quiet(WSGIRequestHandler):
    def log(self, *_: object) -> None:
        pass


class FaultyServer:
    """What ``fault`` says of a request's path is done to it: an HTTP status, seconds of delay, ``drop``, or nothing."""

    def __init__(self, application: Callable[..., Iterable[bytes]], port: int) -> None:
        self.fault: Callable[[str], int | float | str | None] = lambda _path: None
        self.asked: list[str] = []
        self._application, self._port = application, port
        self._stopping = threading.Event()
        self.start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        self._stopping.clear()
        self._server = make_server("127.0.0.1", self._port, self._answer, threaded=True, request_handler=_Quiet)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, environ: Environ, respond: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        self.asked.append(path)
        fault = self.fault(path)
        if isinstance(fault, float):
            self._stopping.wait(fault)
        if fault == "drop" or self._stopping.is_set():
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionResetError
        if isinstance(fault, int):
            respond(f"{fault} Fault", [("Content-Type", "text/plain")])
            return [b"the server is out of order"]
        return self._application(environ, respond)


def application(store: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Iterable[bytes]]:
    """MLflow's server over that SQLite store, its artifacts beside it."""
    from mlflow.server import app, constants, handlers
    from mlflow.tracking._tracking_service import utils

    uri, files = f"sqlite:///{store}", str(store.parent / "artifacts")
    for name, value in (
        (constants.BACKEND_STORE_URI_ENV_VAR, uri),
        (constants.ARTIFACT_ROOT_ENV_VAR, "mlflow-artifacts:/"),
        (constants.ARTIFACTS_DESTINATION_ENV_VAR, files),
        (constants.SERVE_ARTIFACTS_ENV_VAR, "true"),
    ):
        monkeypatch.setenv(name, value)
    # The application sets the address of its own store for the whole process.
    monkeypatch.setattr(utils, "_tracking_uri", utils._tracking_uri)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    for name in ("_tracking_store", "_artifact_repo"):
        monkeypatch.setattr(handlers, name, None)
    return app


def within(seconds: float, done: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"not done in {seconds} s"
        time.sleep(0.05)
