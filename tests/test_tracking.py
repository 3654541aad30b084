"""Runs in a real MLflow: an SQLite store in a folder, and a server that is killed and started again."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from PIL import Image

from t2i_track.errors import Missing, TrackingError
from t2i_track.prompts import manifest
from t2i_track.tracking import (
    Content,
    Grid,
    Opening,
    Table,
    Tracker,
    open_run,
    send_unsent,
    server_command,
    store,
    unsent,
    write,
)

# MLflow 3.17 over SQLAlchemy 2.1.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader:sqlalchemy.exc.SADeprecationWarning")

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MILLISECONDS = 1772366400000


@pytest.fixture
def uri(fresh_mlflow_store: Path, tmp_path: Path) -> str:
    """In the test's folder, unlike ``tracking_uri``, to see where artifacts go."""
    shutil.copy(fresh_mlflow_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def outbox(tmp_path: Path) -> Path:
    return tmp_path / "outbox"


@pytest.fixture
def tracker(uri: str, outbox: Path) -> Iterator[Tracker]:
    with Tracker(uri, outbox, window=0.01, retry=0.1) as tracker:
        yield tracker


def opened(uri: str, **content: Any) -> str:
    """A new run with that content."""
    run = open_run(uri, Opening("e", None)).run_id
    assert write(uri, run, Content(**content)) == []
    return run


def picture() -> Image.Image:
    return Image.new("RGB", (2048, 512))


def artifacts(client: MlflowClient, run: str, folder: str | None = None) -> dict[str, int | None]:
    """Paths and sizes of all artifacts of a run."""
    found: dict[str, int | None] = {}
    for entry in client.list_artifacts(run, folder):
        found |= artifacts(client, run, entry.path) if entry.is_dir else {entry.path: entry.file_size}
    return found


def test_a_run_from_start_to_finish(tracker: Tracker, uri: str, outbox: Path) -> None:
    parent = open_run(uri, Opening("prompts", "sweep")).run_id
    info = open_run(uri, Opening("prompts", "g12", ("t2i.run", "abc"), NOON))
    run = info.run_id
    tracker.watch_system(run)
    written: list[list[str]] = []
    params = {"guidance": 12.0, "steps": 20, "lora": None, "negative_prompt": ""}
    tracker.later(run, lambda: written.append(write(uri, run, Content(params=params, tags={"gpu": "none"}))))
    for done in range(3):
        tracker.log_metrics(run, {"progress/images_done": done}, step=done)
    while not written:
        time.sleep(0.01)
    tracker.settle(run)
    metrics = {"guidance": (12.0, NOON), "fid": (None, NOON)}
    tags = {"mlflow.parentRunId": parent}
    assert write(uri, run, Content(metrics=metrics, tags=tags, status="finished", ended=NOON)) == []
    assert write(uri, parent, Content(tags={"t2i.reason": "no memory"}, status="failed", ended=NOON)) == []

    client = MlflowClient(uri)
    found = client.get_run(run)
    assert found.data.params == {"guidance": "12.0", "steps": "20", "negative_prompt": ""}
    system = {key for key in found.data.metrics if key.startswith("system/")}
    assert "system/cpu_utilization_percentage" in system
    assert {key: found.data.metrics[key] for key in found.data.metrics.keys() - system} == {
        "guidance": 12.0,
        "progress/images_done": 2.0,
    }
    assert [(m.step, m.value) for m in client.get_metric_history(run, "progress/images_done")] == [
        (0, 0),
        (1, 1),
        (2, 2),
    ]
    assert [m.timestamp for m in client.get_metric_history(run, "guidance")] == [MILLISECONDS]
    assert found.data.tags["mlflow.parentRunId"] == parent
    assert found.data.tags["gpu"] == "none"
    assert (found.info.status, found.info.start_time, found.info.end_time) == ("FINISHED", MILLISECONDS, MILLISECONDS)
    assert client.get_run(parent).info.status == "FAILED"
    assert client.get_run(parent).data.tags["t2i.reason"] == "no memory"
    assert (info.name, info.experiment, info.url) == ("g12", "prompts", None)
    assert not outbox.exists()


def test_guidance_and_intervals_are_found_by_greater_than(uri: str) -> None:
    """The conditions of docs/mlflow.md."""
    runs = {
        guidance: opened(
            uri,
            params={"guidance": guidance},
            metrics={"guidance": (guidance, NOON), "interval/fid_low": (guidance + 10, NOON)},
        )
        for guidance in (1.0, 7.5, 12.0)
    }
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("e")
    assert experiment is not None

    def search(condition: str) -> list[str]:
        found = client.search_runs([experiment.experiment_id], condition, order_by=["metrics.guidance"])
        return [run.info.run_id for run in found]

    assert search("metrics.guidance > 7") == [runs[7.5], runs[12.0]]
    assert search('metrics."interval/fid_low" < 20') == [runs[1.0], runs[7.5]]
    assert search("metrics.`interval/fid_low` < 20") == [runs[1.0], runs[7.5]]
    with pytest.raises(MlflowException, match="Invalid comparator"):  # why guidance is a metric too
        search("params.guidance > '7'")


def test_a_run_is_found_again_by_its_tag(uri: str) -> None:
    first = open_run(uri, Opening("e", "first", ("t2i.run", "abc")))
    assert open_run(uri, Opening("e", "again", ("t2i.run", "abc"))) == first
    assert open_run(uri, Opening("e", "other", ("t2i.run", "abd"))).run_id != first.run_id
    assert open_run(uri, Opening("elsewhere", "x", ("t2i.run", "abd")), known=first.run_id) == first


@pytest.mark.parametrize("kind", [None, "genai_development"])
def test_experiments_have_a_kind(uri: str, kind: str | None) -> None:
    """Also those that earlier versions have made; what a person has chosen stays."""
    client = MlflowClient(uri)
    old = client.create_experiment("old", tags={} if kind is None else {"mlflow.experimentKind": kind})
    for name in ("new", "old"):
        open_run(uri, Opening(name, None))
    kinds = {found.name: found.tags.get("mlflow.experimentKind") for found in client.search_experiments()}
    assert kinds == {"Default": None, "new": "custom_model_development", "old": kind or "custom_model_development"}
    assert client.get_experiment(old).name == "old"


@pytest.mark.parametrize("typed", ["12", "12.0", "1.2e1"])
def test_joins_the_run_of_mlflow_run(uri: str, typed: str) -> None:
    client = MlflowClient(uri)
    joined = client.create_run("0", run_name="theirs").info.run_id
    client.log_param(joined, "guidance", typed)
    client.log_param(joined, "device", "auto")
    info = open_run(uri, Opening("ignored", None), known=joined)
    assert (info.run_id, info.name, info.experiment) == (joined, "theirs", "Default")
    params = {"guidance": 12.0, "device": "cpu", "dtype": "fp32"}
    for _ in range(2):
        assert write(uri, joined, Content(params=params, status="interrupted", ended=NOON)) == []
    found = client.get_run(joined)
    assert found.data.params == {"guidance": typed, "device": "auto", "device_resolved": "cpu", "dtype": "fp32"}
    assert (found.info.status, found.info.run_name) == ("KILLED", "theirs")


def test_the_prompt_table_holds_pictures(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (300, 200), "red").save(tmp_path / "a.png")
    rows = [
        {"prompt": "a café", "seed": 7, "image": tmp_path / "a.png"},
        {"prompt": "b", "seed": 8, "image": Image.new("RGB", (64, 64))},
    ]
    run = opened(uri, table=Table(rows))
    client = MlflowClient(uri)
    stored = artifacts(client, run)
    stems = ["table_images/prompts/000000-2", "table_images/prompts/000001-2"]
    assert stored.keys() == {"prompts.json", *(f"{stem}.{kind}" for stem in stems for kind in ("png", "webp"))}
    assert stored[f"{stems[0]}.png"] == (tmp_path / "a.png").stat().st_size
    tags = client.get_run(run).data.tags
    assert json.loads(tags["mlflow.loggedArtifacts"]) == [{"path": "prompts.json", "type": "table"}]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)  # load_table searches there, whatever its client's URI
    table = client.load_table(client.get_run(run).info.experiment_id, "prompts.json", [run])
    assert table["prompt"].tolist() == ["a café", "b"]
    assert table["seed"].tolist() == [7, 8]
    shown = {"type": "image", "filepath": f"{stems[0]}.png", "compressed_filepath": f"{stems[0]}.webp"}
    assert table["image"][0] == shown
    with Image.open(client.download_artifacts(run, f"{stems[0]}.webp")) as small:
        assert small.size == (256, 171)


def test_grid_pictures_carry_their_key_and_step(uri: str) -> None:
    run = opened(uri, grid=Grid(picture, "samples/first", NOON, "ab" * 16, step=3))
    client = MlflowClient(uri)
    assert client.get_run(run).data.tags["mlflow.loggedImages"] == "True"
    stem = f"images/samples~first+step+3+timestamp+{MILLISECONDS}+abababab-abab-abab-abab-abababababab"
    assert sorted(artifacts(client, run), key=len) == [f"{stem}.png", f"{stem}+compressed.webp"]
    with Image.open(client.download_artifacts(run, f"{stem}+compressed.webp")) as small:
        assert small.size == (1024, 256)
    with pytest.raises(TrackingError, match=r"not 'a\+b'"):
        write(uri, run, Content(grid=Grid(picture, "a+b", NOON, "ab" * 16)))


def test_a_grid_of_an_earlier_version_is_replaced(uri: str) -> None:
    run = opened(uri)
    client = MlflowClient(uri)
    client.log_image(run, Image.new("RGB", (8, 8)), key="samples", step=0)
    before = artifacts(client, run).keys()
    write(uri, run, Content(grid=Grid(picture, "samples", NOON, "ab" * 16)))
    assert artifacts(client, run).keys() == before


def test_the_manifest_is_a_dataset_input(uri: str) -> None:
    prompts = manifest.from_prompts(["a cat", "a dog"], name="pets.txt")
    found = MlflowClient(uri).get_run(opened(uri, manifest=prompts))
    assert found.inputs is not None
    (logged,) = found.inputs.dataset_inputs
    assert (logged.dataset.name, logged.dataset.digest) == ("pets.txt", prompts.sha256[:36])
    assert json.loads(logged.dataset.profile or "") == {"num_rows": 2}
    assert {tag.key: tag.value for tag in logged.tags} == {
        "mlflow.data.context": "generation",
        "sha256": prompts.sha256,
    }
    assert found.data.tags["t2i.manifest_sha256"] == prompts.sha256


@pytest.mark.parametrize("scheme", ["sqlite", "file"])
def test_what_is_written_twice_is_there_once(
    uri: str, scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server can go away after it has taken a request and before it has answered."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = uri if scheme == "sqlite" else (tmp_path / "files").as_uri()
    content = Content(
        params={"guidance": 2.0},
        metrics={"guidance": (2.0, NOON), "fid": (float("nan"), NOON)},
        files=lambda folder: (folder / "images.jsonl").write_text("one") and None,
        grid=Grid(picture, "samples", NOON, "ab" * 16),
        table=Table([{"prompt": "a", "image": Image.new("RGB", (8, 8))}]),
        manifest=manifest.from_prompts(["a"]),
        status="finished",
        ended=NOON,
    )
    run = open_run(uri, Opening("e", None)).run_id
    client = MlflowClient(uri)
    for _ in range(2):
        assert write(uri, run, content) == []
        if scheme == "sqlite":  # with exactly this time again, as when the answer to a request was lost
            client.log_metric(run, "guidance", 2.0, timestamp=MILLISECONDS, step=0)
    found = client.get_run(run)
    assert [m.value for m in client.get_metric_history(run, "guidance")] == [2.0]
    assert len(client.get_metric_history(run, "fid")) == 1
    assert found.inputs is not None
    assert len(found.inputs.dataset_inputs) == 1
    assert len(artifacts(client, run)) == 6
    assert found.data.tags["mlflow.loggedArtifacts"] == '[{"path": "prompts.json", "type": "table"}]'
    assert (found.info.status, found.info.end_time) == ("FINISHED", MILLISECONDS)


def test_more_than_mlflow_takes_in_one_request(tracker: Tracker, uri: str) -> None:
    params = {**{f"p{n}": n for n in range(250)}, "long": "x" * 9000}
    run = opened(uri, params=params, tags={f"t{n}": n for n in range(250)})
    for step in range(1200):
        tracker.log_metrics(run, {"a": step, "b": step}, step=step)
    tracker.settle(run)
    client = MlflowClient(uri)
    data = client.get_run(run).data
    assert len(data.params) == 251
    assert len(data.params["long"]) == 6000
    assert {f"t{n}" for n in range(250)} <= data.tags.keys()
    assert [m.value for m in client.get_metric_history(run, "b")] == list(range(1200))


def test_what_mlflow_refuses_holds_up_nothing(uri: str) -> None:
    run = open_run(uri, Opening("e", None)).run_id
    content = Content(params={"no:such*key": 1, "steps": 5}, tags={"a": "b"}, metrics={"fid": (3.5, NOON)})
    (refused,) = write(uri, run, content)
    assert refused.startswith(f"no:such*key: MLflow at {uri} refused: Invalid value")
    data = MlflowClient(uri).get_run(run).data
    assert (data.metrics, data.params, data.tags["a"]) == ({"fid": 3.5}, {"steps": "5"}, "b")


def test_a_run_that_is_deleted_while_it_is_made_holds_up_no_other(tracker: Tracker, uri: str) -> None:
    gone, other = opened(uri), opened(uri)
    MlflowClient(uri).delete_run(gone)
    tracker.log_metrics(gone, {"a": 1})
    tracker.log_metrics(other, {"a": 2})
    tracker.settle(gone)
    assert MlflowClient(uri).get_run(other).data.metrics == {"a": 2.0}


def test_a_store_that_was_killed_while_it_was_written_is_reached(uri: str, tmp_path: Path) -> None:
    """Its journal is hot: it is rolled back by the first who may write."""
    code = (
        "import os, sqlite3, sys; database = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "database.execute('PRAGMA cache_size = 1'); database.execute('BEGIN');"
        "database.execute('CREATE TABLE big (x)');"
        "database.executemany('INSERT INTO big VALUES (?)', [('x' * 4000,)] * 200); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path / "mlflow.db"], check=False).returncode == 9
    assert (tmp_path / "mlflow.db-journal").stat().st_size > 0
    store.check(uri, create=False)
    assert open_run(uri, Opening("e", None)).run_id


def test_a_tracker_closed_between_two_looks_ends(tracker: Tracker, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread has seen that it is not over and has not yet cleared what it was woken by."""
    wait = tracker._closed.wait

    def closing(seconds: float) -> bool:
        still_open = wait(0)
        tracker._closed.set()
        tracker._wake.set()
        return still_open

    monkeypatch.setattr(tracker._closed, "wait", closing)
    tracker.log_metrics(opened(uri), {"a": 1})
    assert tracker._thread is not None
    tracker._thread.join(5)
    assert not tracker._thread.is_alive()


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


def test_deleted_experiments_and_unknown_runs_are_explained(uri: str) -> None:
    client = MlflowClient(uri)
    experiment = client.create_experiment("old")
    run = client.create_run(experiment).info.run_id
    client.delete_experiment(experiment)
    with pytest.raises(TrackingError, match=f"mlflow experiments restore --experiment-id {experiment}"):
        open_run(uri, Opening("old", None))
    with pytest.raises(Missing, match=f"with its experiment: `mlflow experiments restore --experiment-id {experiment}"):
        open_run(uri, Opening("e", None), known=run)
    with pytest.raises(Missing, match=f"has no run {'0' * 32}"):
        open_run(uri, Opening("e", None), known="0" * 32)
    anew = open_run(uri, Opening("e", "anew", ("t2i.run", "x")), known=run, anew=True)
    assert anew.run_id != run
    assert open_run(uri, Opening("e", "anew", ("t2i.run", "x")), known=run, anew=True) == anew


def outbox_of_an_earlier_version(outbox: Path, run: str, uri: str) -> None:
    """Its format, written out; the files are those of ``log_artifacts``, in the order in which they were queued."""
    folder = outbox / run
    (folder / "00000003.files").mkdir(parents=True)
    (folder / "00000003.files" / "x.txt").write_text("xyz")
    (folder / "target.json").write_text(json.dumps({"uri": uri}))
    (folder / "lock").touch()
    (folder / "00000009.tmp").touch()
    dataset = {"name": "n", "digest": "d", "source_type": "local", "source": "{}", "schema": "{}", "profile": "{}"}
    listed = {"mlflow.loggedArtifacts": {"path": "prompts.json", "type": "table"}}
    operations: list[tuple[str, dict[str, Any]]] = [
        ("batch", {"metrics": [["images_done", 3.0, 1, 3]], "params": {"steps": "5"}, "tags": {"a": "b"}}),
        ("batch", {"metrics": [], "params": {"no:such*key": "1"}, "tags": {}}),
        ("files", {"folder": None, "listed": listed}),
        ("dataset", {"dataset": dataset, "tags": {"sha256": "d"}}),
        ("status", {"status": "RUNNING", "end_time": None}),
        ("status", {"status": "KILLED", "end_time": 5}),
    ]
    for number, (kind, data) in enumerate(operations, 1):
        (folder / f"{number:08d}.json").write_text(json.dumps({"kind": kind, "data": data}))


def test_the_outbox_of_an_earlier_version_is_sent(uri: str, outbox: Path, tmp_path: Path) -> None:
    run = opened(uri)
    assert unsent(outbox) == []
    outbox_of_an_earlier_version(outbox, run, f"sqlite:///{tmp_path}/gone/mlflow.db")
    assert unsent(outbox) == [run]
    with pytest.raises(TrackingError, match="there is no folder"):
        send_unsent(outbox, run)
    (refused,) = send_unsent(outbox, run, uri)
    assert "no:such*key" in refused
    client = MlflowClient(uri)
    found = client.get_run(run)
    assert [(m.value, m.timestamp, m.step) for m in client.get_metric_history(run, "images_done")] == [(3.0, 1, 3)]
    assert (found.data.params, found.data.tags["a"]) == ({"steps": "5"}, "b")
    assert (found.info.status, found.info.end_time) == ("KILLED", 5)
    assert artifacts(client, run) == {"x.txt": 3}
    assert found.data.tags["mlflow.loggedArtifacts"] == '[{"path": "prompts.json", "type": "table"}]'
    assert found.inputs is not None
    assert len(found.inputs.dataset_inputs) == 1
    assert unsent(outbox) == []
    assert [path.name for path in (outbox / run / "refused").iterdir()] == ["00000002.json"]


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


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
    outbox: Path,
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
    with Tracker(uri, outbox, window=0.01, retry=0.1) as tracker:
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


def test_the_ui_is_served_from_the_same_store(uri: str, tmp_path: Path) -> None:
    command, environment = server_command(uri, "127.0.0.1", 5001)
    assert command[:4] == [sys.executable, "-m", "mlflow", "server"]
    assert command[4:8] == ["--host", "127.0.0.1", "--port", "5001"]
    assert environment["MLFLOW_BACKEND_STORE_URI"] == uri
    assert uri not in " ".join(command)  # which `ps` shows to everyone
    with pytest.raises(TrackingError, match="has a UI already: open http://mlflow:5000 in a browser"):
        server_command("http://me:secret@mlflow:5000", "127.0.0.1", 5001)
    with pytest.raises(TrackingError, match="there is no such file"):
        server_command(f"sqlite:///{tmp_path}/none.db", "127.0.0.1", 5001)
