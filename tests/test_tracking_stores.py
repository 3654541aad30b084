"""Stores of MLflow: a fresh one, one that cannot be reached, and a server that is killed and started again."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow_artifacts import NOON, artifacts, picture

from t2i_track.errors import Missing, TrackingError
from t2i_track.tracking import Content, Grid, Opening, Tracker, open_run, server_command, store, write

# MLflow 3.17 over SQLAlchemy 2.1.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader:sqlalchemy.exc.SADeprecationWarning")


def test_a_fresh_store_is_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And not MLflow's log of its migrations."""
    caplog.set_level(logging.INFO)
    open_run(store.resolve(f"sqlite:///{tmp_path / 'new.db'}"), Opening("e", None))
    shown = [record.getMessage() for record in caplog.records if record.levelno >= logging.INFO]
    assert shown == [f"making a new MLflow store, {tmp_path / 'new.db'}, which takes some seconds"]


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("http://127.0.0.1:{port}", r"\(no connection\)"),
        ("http://me:secret@127.0.0.1:{port}", r"MLflow at http://127\.0\.0\.1:\d+ cannot"),
        ("postgresql://me:secret@127.0.0.1:{port}/x", "refused"),
        ("sqlite:///{tmp}/no/mlflow.db", "there is no folder"),
        ("sqlite:///{tmp}/text.db", "file is not a database"),
    ],
)
def test_an_unreachable_store_is_one_quick_line(
    uri: str, reason: str, tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "text.db").write_text("not a database " * 100)
    tracker = Tracker(uri.format(port=port, tmp=tmp_path), tmp_path / "outbox")
    start = time.monotonic()
    with pytest.raises(TrackingError, match=reason) as caught:
        tracker.check()
    assert time.monotonic() - start < 5
    assert "secret" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_deleted_experiments_and_unknown_runs_are_explained(tracking_uri: str) -> None:
    client = MlflowClient(tracking_uri)
    experiment = client.create_experiment("old")
    run = client.create_run(experiment).info.run_id
    client.delete_experiment(experiment)
    with pytest.raises(TrackingError, match=f"mlflow experiments restore --experiment-id {experiment}"):
        open_run(tracking_uri, Opening("old", None))
    with pytest.raises(Missing, match=f"with its experiment: `mlflow experiments restore --experiment-id {experiment}"):
        open_run(tracking_uri, Opening("e", None), known=run)
    with pytest.raises(Missing, match=f"has no run {'0' * 32}"):
        open_run(tracking_uri, Opening("e", None), known="0" * 32)
    anew = open_run(tracking_uri, Opening("e", "anew", ("t2i.run", "x")), known=run, anew=True)
    assert anew.run_id != run
    assert open_run(tracking_uri, Opening("e", "anew", ("t2i.run", "x")), known=run, anew=True) == anew


@pytest.fixture
def serve(fresh_mlflow_store: Path, tmp_path: Path, port: int) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts a tracking server, each time over the same store and port."""
    shutil.copy(fresh_mlflow_store, tmp_path / "server.db")
    backend, files = f"sqlite:///{tmp_path / 'server.db'}", str(tmp_path / "artifacts")
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", backend, "--artifacts-destination", files]
    env = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    servers: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        with (tmp_path / "server.log").open("ab") as log:
            server = subprocess.Popen(command, start_new_session=True, stdout=log, stderr=log, cwd=tmp_path, env=env)
        servers.append(server)
        for _ in range(600):
            try:
                store.check(f"http://127.0.0.1:{port}", create=False)
            except TrackingError:
                time.sleep(0.2)
            else:
                return server
        raise AssertionError((tmp_path / "server.log").read_text())

    yield start
    for server in servers:
        kill(server)


def kill(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is None:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.mark.timeout(600)  # a busy machine takes a minute for each start of the server
def test_a_server_that_goes_away_loses_nothing(
    serve: Callable[[], subprocess.Popen[bytes]],
    port: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    uri = store.resolve(f"http://127.0.0.1:{port}")
    content = Content(
        files=lambda folder: (folder / "x.txt").write_text("xyz") and None,
        grid=Grid(picture, "samples", NOON, "ab" * 16),
        metrics={"guidance": (3.0, NOON)},
        status="finished",
        ended=NOON,
    )
    server = serve()
    with Tracker(uri, tmp_path / "outbox", window=0.01, retry=0.1) as tracker:
        info = open_run(uri, Opening("e", None))
        run, other = info.run_id, open_run(uri, Opening("e", None)).run_id
        assert info.url == f"{uri}/#/experiments/1/runs/{run}"

        kill(server)
        start = time.monotonic()
        for step in range(20):
            tracker.log_metrics(run, {"progress/images_done": step}, step=step)
        tracker.later(other, lambda: write(uri, other, Content(metrics={"guidance": (4.0, NOON)})))
        assert time.monotonic() - start < 1  # no call waits for the server
        tracker.settle(run)
        with pytest.raises(TrackingError) as caught:
            write(uri, run, content)
        assert time.monotonic() - start < 10
        reason = f"MLflow at {uri} cannot be reached (no connection): start it or set MLFLOW_TRACKING_URI"
        assert str(caught.value) == reason

        server = serve()
        client = MlflowClient(uri)
        for _ in range(300):  # the thread finds the server by itself
            if client.get_run(other).data.metrics and client.get_run(run).data.metrics:
                break
            time.sleep(0.1)
        assert client.get_run(other).data.metrics == {"guidance": 4.0}
        assert client.get_run(run).info.status == "RUNNING"
    assert write(uri, run, content) == []
    assert [m.step for m in client.get_metric_history(run, "progress/images_done")] == list(range(20))
    assert client.get_run(run).info.status == "FINISHED"
    assert len(artifacts(client, run)) == 3
    assert artifacts(client, run)["x.txt"] == 3


def test_the_ui_is_served_from_the_same_store(tracking_uri: str, tmp_path: Path) -> None:
    command, environment = server_command(tracking_uri, "127.0.0.1", 5001)
    assert command[:4] == [sys.executable, "-m", "mlflow", "server"]
    assert command[4:8] == ["--host", "127.0.0.1", "--port", "5001"]
    assert environment["MLFLOW_BACKEND_STORE_URI"] == tracking_uri
    assert tracking_uri not in " ".join(command)  # which `ps` shows to everyone
    with pytest.raises(TrackingError, match="has a UI already: open http://mlflow:5000 in a browser"):
        server_command("http://me:secret@mlflow:5000", "127.0.0.1", 5001)
    with pytest.raises(TrackingError, match="there is no such file"):
        server_command(f"sqlite:///{tmp_path}/none.db", "127.0.0.1", 5001)
