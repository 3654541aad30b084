"""Runs in a real MLflow: an SQLite store in a folder, and a server that is killed and started again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from PIL import Image

from t2i_track.errors import Busy, TrackingError
from t2i_track.prompts import manifest
from t2i_track.tracking import Resync, Sent, Tracker, not_sent, resync, sending, server_command
from t2i_track.tracking.outbox import Outbox

# MLflow 3.17 over SQLAlchemy 2.1.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader:sqlalchemy.exc.SADeprecationWarning")

SENT = Sent(pending=0, refused=0, reason=None)


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


def artifacts(client: MlflowClient, run: str, folder: str | None = None) -> dict[str, int | None]:
    """Paths and sizes of all artifacts of a run."""
    found: dict[str, int | None] = {}
    for entry in client.list_artifacts(run, folder):
        found |= artifacts(client, run, entry.path) if entry.is_dir else {entry.path: entry.file_size}
    return found


def test_a_run_from_start_to_finish(tracker: Tracker, uri: str, outbox: Path) -> None:
    params = {"guidance": 12.0, "steps": 20, "lora": None, "negative_prompt": ""}
    parent = tracker.start_run("prompts", "sweep", {}, {})
    run = tracker.start_run("prompts", "g12", params, {"gpu": "none"}, parent=parent, system_metrics=True)
    for done in range(3):
        tracker.log_metrics(run, {"images_done": done, "fid": None}, step=done)
    assert tracker.finish(run, "finished") == SENT
    assert tracker.finish(parent, "failed", "no memory") == SENT

    client = MlflowClient(uri)
    data = client.get_run(run).data
    assert data.params == {"guidance": "12.0", "steps": "20", "negative_prompt": ""}
    system = {key for key in data.metrics if key.startswith("system/")}
    assert "system/cpu_utilization_percentage" in system
    assert {key: data.metrics[key] for key in data.metrics.keys() - system} == {
        "guidance": 12.0,
        "steps": 20.0,
        "images_done": 2.0,
    }
    assert [(m.step, m.value) for m in client.get_metric_history(run, "images_done")] == [(0, 0), (1, 1), (2, 2)]
    assert data.tags["mlflow.parentRunId"] == parent
    assert data.tags["gpu"] == "none"
    assert client.get_run(run).info.status == "FINISHED"
    assert client.get_run(parent).info.status == "FAILED"
    assert client.get_run(parent).data.tags["t2i.reason"] == "no memory"
    assert (tracker.info(run).name, tracker.info(run).experiment, tracker.info(run).url) == ("g12", "prompts", None)
    assert list(outbox.iterdir()) == []


def test_guidance_is_found_by_greater_than(tracker: Tracker, uri: str) -> None:
    runs = {
        guidance: tracker.start_run("sweep", None, {"guidance": guidance, "steps": 5}) for guidance in (1.0, 7.5, 12.0)
    }
    for run in runs.values():
        tracker.flush(run)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("sweep")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], "metrics.guidance > 7", order_by=["metrics.guidance"])
    assert [run.info.run_id for run in found] == [runs[7.5], runs[12.0]]
    assert tracker.find_run("sweep", {"mlflow.runName": found[0].info.run_name or ""}) == runs[7.5]
    assert tracker.find_run("sweep", {"mlflow.runName": "none"}) is None
    assert tracker.find_run("nothing", {}) is None
    with pytest.raises(MlflowException, match="Invalid comparator"):  # why guidance is a metric too
        client.search_runs([experiment.experiment_id], "params.guidance > '7'")


@pytest.mark.parametrize("typed", ["12", "12.0", "1.2e1"])
def test_joins_the_run_of_mlflow_run(tracker: Tracker, uri: str, typed: str) -> None:
    client = MlflowClient(uri)
    joined = client.create_run("0", run_name="theirs").info.run_id
    client.log_param(joined, "guidance", typed)
    client.log_param(joined, "device", "auto")
    run = tracker.start_run("ignored", None, {"guidance": 12.0, "device": "cpu", "dtype": "fp32"}, join=joined)
    assert run == joined
    assert tracker.finish(run, "interrupted") == SENT
    found = client.get_run(run)
    assert found.data.params == {"guidance": typed, "device": "auto", "device_resolved": "cpu", "dtype": "fp32"}
    assert found.data.metrics == {"guidance": 12.0}
    assert (found.info.status, found.info.run_name, tracker.info(run).experiment) == ("KILLED", "theirs", "Default")


def test_resumes_a_run_after_what_it_had_left(uri: str, outbox: Path) -> None:
    with Tracker(uri, outbox, window=60) as first:
        run = first.start_run("e", "old", {"steps": 5})
        first.flush(run)
    left = Outbox(outbox, run, uri)  # what a killed process leaves
    left.append("batch", {"metrics": [["images_done", 3.0, 1, 3]], "params": {}, "tags": {}})
    left.append("status", {"status": "KILLED", "end_time": 5})
    os.close(left._lock)
    with Tracker(uri, outbox, window=60) as second:
        assert second.start_run("e", "new", {"steps": 5}, resume=run) == run
        second.log_metrics(run, {"images_done": 4}, step=4)
        assert second.flush(run) == SENT
        found = MlflowClient(uri).get_run(run)
        assert (found.info.status, found.info.run_name) == ("RUNNING", "new")
    assert [m.value for m in MlflowClient(uri).get_metric_history(run, "images_done")] == [3.0, 4.0]


def test_the_prompt_table_holds_pictures(
    tracker: Tracker, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (300, 200), "red").save(tmp_path / "a.png")
    run = tracker.start_run("e", None, {})
    rows = [
        {"prompt": "a café", "seed": 7, "image": tmp_path / "a.png"},
        {"prompt": "b", "seed": 8, "image": Image.new("RGB", (64, 64))},
    ]
    tracker.log_prompt_table(run, rows)
    tracker.log_prompt_table(run, rows)
    assert tracker.flush(run) == SENT
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
    picture = {"type": "image", "filepath": f"{stems[0]}.png", "compressed_filepath": f"{stems[0]}.webp"}
    assert table["image"][0] == picture
    with Image.open(client.download_artifacts(run, f"{stems[0]}.webp")) as small:
        assert small.size == (256, 171)


def test_grid_pictures_carry_their_key_and_step(tracker: Tracker, uri: str) -> None:
    run = tracker.start_run("e", None, {})
    tracker.log_image_grid(run, Image.new("RGB", (2048, 512)), key="samples/first", step=3)
    assert tracker.flush(run) == SENT
    client = MlflowClient(uri)
    assert client.get_run(run).data.tags["mlflow.loggedImages"] == "True"
    full, small = sorted(artifacts(client, run), key=len)
    assert full.startswith("images/samples~first+step+3+timestamp+")
    assert small == full.removesuffix(".png") + "+compressed.webp"
    with Image.open(client.download_artifacts(run, small)) as picture:
        assert picture.size == (1024, 256)
    with pytest.raises(TrackingError, match=r"not 'a\+b'"):
        tracker.log_image_grid(run, Image.new("RGB", (8, 8)), key="a+b")


def test_the_manifest_is_a_dataset_input(tracker: Tracker, uri: str) -> None:
    prompts = manifest.from_prompts(["a cat", "a dog"], name="pets.txt")
    run = tracker.start_run("e", None, {})
    tracker.log_manifest(run, prompts)
    assert tracker.flush(run) == SENT
    found = MlflowClient(uri).get_run(run)
    assert found.inputs is not None
    (logged,) = found.inputs.dataset_inputs
    assert (logged.dataset.name, logged.dataset.digest) == ("pets.txt", prompts.sha256[:36])
    assert json.loads(logged.dataset.profile or "") == {"num_rows": 2}
    assert {tag.key: tag.value for tag in logged.tags} == {
        "mlflow.data.context": "generation",
        "sha256": prompts.sha256,
    }
    assert found.data.tags["t2i.manifest_sha256"] == prompts.sha256


def test_artifacts_are_kept_as_they_were(tracker: Tracker, uri: str, tmp_path: Path) -> None:
    path, folder = tmp_path / "images.jsonl", tmp_path / "more"
    path.write_text("one")
    folder.mkdir()
    (folder / "x.txt").write_text("xx")
    run = tracker.start_run("e", None, {})
    tracker.log_artifact(run, path)
    tracker.log_artifacts(run, [path, folder], "deep/er")
    path.write_text("changed afterwards")
    assert tracker.flush(run) == SENT
    assert artifacts(MlflowClient(uri), run) == {"images.jsonl": 3, "deep/er/images.jsonl": 3, "deep/er/more/x.txt": 2}


def test_what_is_sent_twice_is_there_once(uri: str, outbox: Path, tmp_path: Path) -> None:
    """A server can go away after it has taken a request and before it has answered."""
    with Tracker(uri, outbox, window=60) as tracker:
        run = tracker.start_run("e", None, {"guidance": 2.0})
        tracker.log_metrics(run, {"images_done": 1, "fid": float("nan")}, step=1)
        tracker.log_image_grid(run, Image.new("RGB", (8, 8)))
        tracker.log_prompt_table(run, [{"prompt": "a", "image": Image.new("RGB", (8, 8))}])
        tracker.log_manifest(run, manifest.from_prompts(["a"]))
        shutil.copytree(outbox / run, tmp_path / "copy")
        assert tracker.finish(run) == SENT
    shutil.copytree(tmp_path / "copy", outbox / run)
    assert resync(outbox).pending == 0
    client = MlflowClient(uri)
    found = client.get_run(run)
    assert [m.value for m in client.get_metric_history(run, "images_done")] == [1.0]
    assert len(client.get_metric_history(run, "fid")) == 1
    assert found.inputs is not None
    assert len(found.inputs.dataset_inputs) == 1
    assert len(artifacts(client, run)) == 5
    assert found.data.tags["mlflow.loggedArtifacts"] == '[{"path": "prompts.json", "type": "table"}]'
    assert found.info.status == "FINISHED"


def test_more_than_mlflow_takes_in_one_request(tracker: Tracker, uri: str) -> None:
    run = tracker.start_run("e", None, {f"p{n}": n for n in range(250)}, {f"t{n}": n for n in range(250)})
    tracker.log_params(run, {"long": "x" * 9000})
    for step in range(1200):
        tracker.log_metrics(run, {"a": step, "b": step}, step=step)
    assert tracker.flush(run) == SENT
    client = MlflowClient(uri)
    data = client.get_run(run).data
    assert len(data.params) == 251
    assert len(data.params["long"]) == 6000
    assert {f"t{n}" for n in range(250)} <= data.tags.keys()
    assert [m.value for m in client.get_metric_history(run, "b")] == list(range(1200))


def test_what_mlflow_refuses_is_kept_and_holds_up_nothing(tracker: Tracker, uri: str, outbox: Path) -> None:
    run = tracker.start_run("e", None, {})
    tracker.log_params(run, {"no:such*key": 1})
    tracker.log_metrics(run, {"fid": 3.5})
    sent = tracker.flush(run)
    assert sent == Sent(pending=0, refused=1, reason=None)
    assert not_sent(run, sent) == f"MLflow refused 1 records of run {run}: see the files in the outbox's refused folder"
    assert MlflowClient(uri).get_run(run).data.metrics == {"fid": 3.5}
    (refused,) = (outbox / run / "refused").iterdir()
    record = json.loads(refused.read_text())
    assert record["data"]["params"] == {"no:such*key": "1"}
    assert "Invalid value" in record["refused"]


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
        tracker.start_run("e", None, {})
    assert time.monotonic() - start < 5
    assert "secret" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_deleted_experiments_and_unknown_runs_are_explained(tracker: Tracker, uri: str) -> None:
    client = MlflowClient(uri)
    experiment = client.create_experiment("old")
    run = client.create_run(experiment).info.run_id
    client.delete_experiment(experiment)
    with pytest.raises(TrackingError, match=f"mlflow experiments restore --experiment-id {experiment}"):
        tracker.start_run("old", None, {})
    with pytest.raises(TrackingError, match=f"mlflow runs restore --run-id {run}"):
        tracker.start_run("e", None, {}, resume=run)
    with pytest.raises(TrackingError, match=f"has no run {'0' * 32}"):
        tracker.start_run("e", None, {}, join="0" * 32)


def test_an_outbox_is_open_once(outbox: Path) -> None:
    first = Outbox(outbox, "a" * 32, "http://x")
    with pytest.raises(Busy, match="another process"):
        Outbox(outbox, "a" * 32)
    assert resync(outbox) == Resync(busy=1)
    first.close()
    assert list(outbox.iterdir()) == []


def test_an_outbox_forgets_what_was_half_written(outbox: Path) -> None:
    box = Outbox(outbox, "a", "http://x")
    box.append("files", {"folder": None}, lambda files: (files / "x").touch())
    os.close(box._lock)
    (outbox / "a" / "00000002.files").mkdir()
    (outbox / "a" / "00000002.tmp").touch()
    again = Outbox(outbox, "a")
    assert again.uri == "http://x"
    assert [path.name for path in sorted((outbox / "a").glob("0*"))] == ["00000001.files", "00000001.json"]
    operation = again.first()
    assert operation is not None
    assert operation.files == outbox / "a" / "00000001.files"


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def serve(fresh_mlflow_store: Path, tmp_path: Path, port: int) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts a tracking server, each time over the same store and port."""
    shutil.copy(fresh_mlflow_store, tmp_path / "server.db")
    store, files = f"sqlite:///{tmp_path / 'server.db'}", str(tmp_path / "artifacts")
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", store, "--artifacts-destination", files]
    env = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    servers: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        with (tmp_path / "server.log").open("ab") as log:
            server = subprocess.Popen(command, start_new_session=True, stdout=log, stderr=log, cwd=tmp_path, env=env)
        servers.append(server)
        for _ in range(600):
            try:
                sending.check(f"http://127.0.0.1:{port}", create=False)
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
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    uri = f"http://127.0.0.1:{port}"
    (tmp_path / "x.txt").write_text("xyz")
    server = serve()
    with Tracker(uri, outbox, window=0.01, retry=0.1) as tracker:
        run = tracker.start_run("e", None, {"guidance": 3.0, "empty": ""})
        other = tracker.start_run("e", None, {"guidance": 4.0})
        assert tracker.info(run).url == f"{uri}/#/experiments/1/runs/{run}"
        assert tracker.flush(run) == SENT

        kill(server)
        start = time.monotonic()
        for step in range(20):
            tracker.log_metrics(run, {"images_done": step}, step=step)
        tracker.log_artifact(run, tmp_path / "x.txt")
        tracker.log_image_grid(run, Image.new("RGB", (64, 64)))
        tracker.log_metrics(other, {"images_done": 1})
        sent = tracker.finish(run, "finished")
        assert time.monotonic() - start < 10
        assert sent.pending == 24
        assert sent.reason == f"MLflow at {uri} cannot be reached (no connection): start it or set MLFLOW_TRACKING_URI"
        assert resync(outbox) == Resync(runs=1, pending=24, busy=1, reason=sent.reason)

        server = serve()
        client = MlflowClient(uri)
        for _ in range(300):  # the thread finds the server by itself and sends the run that is still open
            if "images_done" in client.get_run(other).data.metrics:
                break
            time.sleep(0.1)
        assert client.get_run(other).data.metrics == {"guidance": 4.0, "images_done": 1.0}
        assert client.get_run(run).info.status == "RUNNING"
        assert tracker.finish(other) == SENT
    assert resync(outbox) == Resync(runs=1, sent=24)
    assert resync(outbox) == Resync()
    assert [m.step for m in client.get_metric_history(run, "images_done")] == list(range(20))
    assert client.get_run(run).info.status == "FINISHED"
    assert len(artifacts(client, run)) == 3
    assert artifacts(client, run)["x.txt"] == 3


def test_the_ui_is_served_from_the_same_store(uri: str, tmp_path: Path) -> None:
    command = server_command(uri, "127.0.0.1", 5001)
    assert command[:4] == [sys.executable, "-m", "mlflow", "server"]
    assert command[4:10] == ["--backend-store-uri", uri, "--host", "127.0.0.1", "--port", "5001"]
    with pytest.raises(TrackingError, match="has a UI already: open http://mlflow:5000 in a browser"):
        server_command("http://me:secret@mlflow:5000", "127.0.0.1", 5001)
    with pytest.raises(TrackingError, match="there is no such file"):
        server_command(f"sqlite:///{tmp_path}/none.db", "127.0.0.1", 5001)
