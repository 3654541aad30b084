"""MLflow fails, is slow, or loses what it had, in the middle of a run: nothing is lost, and `t2i resync` sends it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from homes import has_database
from mlflow.tracking import MlflowClient
from mlflow_server import FaultyServer, application, within
from sqlalchemy import select

from t2i_track.db.models import Image, Run, RunStatus
from t2i_track.errors import Interrupted, Missing, SettingsError, TrackingError, Unreachable
from t2i_track.prompts import manifest as manifests
from t2i_track.runs import projection
from t2i_track.runs.generate import Generator
from t2i_track.runs.plan import Plan, Summary
from t2i_track.runs.projection import pending
from t2i_track.runs.resync import resync
from t2i_track.settings import Settings
from t2i_track.tracking import Tracker, patience, store
from t2i_track.workspace import Workspace

PROMPTS = [f"one big {colour} circle on a white background" for colour in ("red", "blue", "green")]
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader:sqlalchemy.exc.SADeprecationWarning")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(home=tmp_path / "home")


@pytest.fixture
def server(
    tmp_path: Path, fresh_mlflow_store: Path, monkeypatch: pytest.MonkeyPatch, port: int
) -> Iterator[FaultyServer]:
    """MLflow's server, and little patience with it."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv(patience.VARIABLE, "1")
    monkeypatch.setattr(store, "TIMEOUT", 0.5)
    monkeypatch.setattr(patience, "TELL", 0.2)
    (tmp_path / "server").mkdir()
    shutil.copyfile(fresh_mlflow_store, tmp_path / "server" / "mlflow.db")
    running = FaultyServer(application(tmp_path / "server" / "mlflow.db", monkeypatch), port)
    yield running
    running.stop()


@pytest.fixture
def during(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Something happens when that many batches of pictures are in the database."""
    make = Generator._make

    def plan(batches: int, event: Callable[[], object]) -> None:
        def _make(self: Generator, *args: Any) -> Iterator[int]:
            for number, count in enumerate(make(self, *args), 1):
                if number == batches:
                    event()
                yield count

        monkeypatch.setattr(Generator, "_make", _make)

    return plan


def generate(workspace: Workspace, uri: str, **plan: Any) -> Summary:
    settings = Settings(steps=2, batch_size=1, device="cpu")
    wanted = {"settings": settings, "manifest": manifests.from_prompts(PROMPTS), "experiment": "tests", **plan}
    with Tracker(uri, workspace.outbox, window=0.01, retry=0.1) as tracker:
        return Generator(workspace, tracker).generate(Plan(**wanted))


def resume(workspace: Workspace, uri: str, run: str = "latest") -> Summary:
    with Tracker(uri, workspace.outbox, window=0.01, retry=0.1) as tracker:
        return Generator(workspace, tracker).resume(run)


def unsent(workspace: Workspace) -> list[str]:
    with workspace.reading() as session:
        return pending(session, workspace)


def row(workspace: Workspace) -> Run:
    with workspace.reading() as session:
        return session.scalars(select(Run)).one()


def pixels(workspace: Workspace) -> list[str]:
    with workspace.reading() as session:
        return list(session.scalars(select(Image.pixels_sha256).order_by(Image.run_id, Image.prompt_index)))


def whole(uri: str, run: str | None) -> None:
    """The run is in MLflow as an undisturbed one is."""
    client = MlflowClient(uri)
    found = client.get_run(str(run))
    assert (found.info.status, found.data.metrics["cost/images"]) == ("FINISHED", len(PROMPTS))
    assert found.data.params["steps"] == "2"
    assert {entry.path for entry in client.list_artifacts(str(run))} >= {"images.parquet", "prompts.json", "images"}


@pytest.mark.parametrize("where", ["everywhere", "behind the health check"])
@pytest.mark.parametrize("fault", [500, 401, 403, 429, 30.0, "drop"])
def test_a_server_that_fails_in_the_middle(
    workspace: Workspace,
    server: FaultyServer,
    during: Callable[..., None],
    fault: int | float | str,
    where: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail() -> None:
        server.fault = lambda path: fault if where == "everywhere" or path != "/health" else None

    during(1, fail)
    start = time.monotonic()
    made = generate(workspace, server.uri)
    assert time.monotonic() - start < 60  # and not MLflow's minutes
    assert (made.unsent, made.images, row(workspace).status) == (True, len(PROMPTS), RunStatus.FINISHED)
    assert "`t2i resync` sends what is missing" in caplog.text
    (left,) = resync(workspace, [], None)
    assert (left.run, left.state, left.complete) == (made.run, "pending", False)
    told = "does not let you in: give MLFLOW_TRACKING_USERNAME" if fault in (401, 403) else f"MLflow at {server.uri}"
    assert told in str(left.reason)
    assert resume(workspace, server.uri).status == "finished"
    server.fault = lambda _path: None
    (sent,) = resync(workspace, [], None)
    assert (sent.state, sent.reason) == ("sent", None)
    whole(server.uri, made.mlflow_run_id)
    assert unsent(workspace) == []


@pytest.mark.parametrize("fault", [500, 401, 30.0, "drop"])
def test_a_server_that_fails_at_the_start(workspace: Workspace, server: FaultyServer, fault: int | float | str) -> None:
    server.fault = lambda _path: fault
    with pytest.raises(Unreachable, match=f"MLflow at {server.uri} "):
        generate(workspace, server.uri)
    assert not has_database(workspace.home)


def test_a_slow_server_holds_up_the_end_for_its_budget_only(
    workspace: Workspace,
    server: FaultyServer,
    during: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def slow() -> None:
        server.fault = lambda path: 0.3 if path != "/health" else None

    during(1, slow)
    made = generate(workspace, server.uri)
    assert made.unsent
    assert "waiting for MLflow (what is left of" in caplog.text
    assert "for 1 s at most; the rest can be sent later by `t2i resync`" in caplog.text
    assert f"MLflow at {server.uri} takes too long to answer" in caplog.text
    server.fault = lambda path: 0.05 if path != "/health" else None
    (sent,) = resync(workspace, [], None)  # which takes the time that it takes
    assert sent.complete
    whole(server.uri, made.mlflow_run_id)


@pytest.mark.parametrize("back", ["before the end", "after the end"])
def test_a_server_that_is_killed_and_started_again(
    workspace: Workspace, server: FaultyServer, during: Callable[..., None], back: str
) -> None:
    def restart() -> None:
        server.stop()
        if back == "before the end":
            server.start()

    during(2, restart)
    made = generate(workspace, server.uri)
    if back == "after the end":
        assert made.unsent
        server.start()
        assert [sent.complete for sent in resync(workspace, [], None)] == [True]
    whole(server.uri, made.mlflow_run_id)
    assert unsent(workspace) == []


def test_an_address_that_does_not_answer_is_given_up(workspace: Workspace, server: FaultyServer) -> None:
    """And one that does is not."""
    generate(workspace, server.uri)
    with workspace.begin() as session:
        first = session.scalars(select(Run)).one()
        columns = {of.key: getattr(first, of.key) for of in Run.__mapper__.column_attrs if of.key != "id"}
        for number in range(8):
            elsewhere = {"uri": server.uri if number < 7 else "http://127.0.0.1:9", "sent": {}}
            own = {
                "uuid": f"{number:032}",
                "mlflow_run_id": f"{number:032}",
                "config": {**first.config, "mlflow": elsewhere},
            }
            session.add(Run(**{**columns, **own}))
    server.fault = lambda path: 500 if path != "/health" else None
    server.asked.clear()
    left = resync(workspace, [], None)
    assert [one.state for one in left] == ["pending"] * 8
    assert server.asked.count("/health") == 2
    assert "too many 500 error responses" in str(left[6].reason)
    assert "no connection" in str(left[7].reason)


def test_resync_prints_results_only(workspace: Workspace, server: FaultyServer, cli: Callable[..., Any]) -> None:
    made = generate(workspace, server.uri)
    env = {"MLFLOW_TRACKING_URI": server.uri}
    for fault, state in ((500, "pending"), (None, "sent")):
        server.fault = lambda _path, fault=fault: fault
        done = cli("resync", made.run, "--home", workspace.home, "--format", "json", env=env)
        assert done.code == (0 if state == "sent" else 1)
        (told,) = json.loads(done.out)
        assert (told["run"], told["state"]) == (made.run, state)


def test_a_secret_of_a_server_is_stored_nowhere(workspace: Workspace, server: FaultyServer, tmp_path: Path) -> None:
    """Though it works, and is in the address by which the run is known."""
    import pandas

    secret = "S3cr3tx"
    uri = server.uri.replace("://", f"://me:{secret}@")
    made = generate(workspace, uri)
    assert [sent.complete for sent in resync(workspace, [made.run], uri)] == [True]
    whole(server.uri, made.mlflow_run_id)
    tables = 0
    for path in filter(Path.is_file, tmp_path.rglob("*")):
        assert secret.encode() not in path.read_bytes(), path
        if path.suffix == ".parquet":
            tables += 1
            assert secret not in pandas.read_parquet(path).to_csv(), path
    assert tables > 0


def delete(client: MlflowClient, run: str, gone: str) -> None:
    """Through MLflow, or for good, as `mlflow gc` does."""
    store = client._tracking_client.store
    experiment = client.get_run(run).info.experiment_id
    if "experiment" in gone:
        client.delete_experiment(experiment)
    else:
        client.delete_run(run)
    if "for good" in gone:
        store._hard_delete_run(run)
        if "experiment" in gone:
            store._hard_delete_experiment(experiment)


GONE = ["a run", "a run for good", "an experiment", "an experiment for good"]


@pytest.mark.parametrize("gone", GONE)
def test_what_is_deleted_in_mlflow_in_the_middle(
    workspace: Workspace, tracking_uri: str, during: Callable[..., None], gone: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = MlflowClient(tracking_uri)
    during(1, lambda: delete(client, str(row(workspace).mlflow_run_id), gone))
    made = generate(workspace, tracking_uri)
    assert (made.unsent, row(workspace).status) == (True, RunStatus.FINISHED)
    old = str(made.mlflow_run_id)
    (left,) = resync(workspace, [], None)
    assert (left.state, left.mlflow_run_id) == ("pending", old)
    advice = "mlflow experiments restore --experiment-id" if gone == "an experiment" else f"`t2i resync {old}`"
    assert advice in str(left.reason)
    assert resume(workspace, tracking_uri).unsent
    assert (row(workspace).status, row(workspace).error) == (RunStatus.FINISHED, None)
    if gone == "an experiment":
        client.restore_experiment(client.get_experiment_by_name("tests").experiment_id)
    (sent,) = resync(workspace, [old], tracking_uri)
    assert sent.complete
    whole(tracking_uri, sent.mlflow_run_id)
    assert unsent(workspace) == []
    assert (sent.mlflow_run_id == old) == (gone == "an experiment")
    assert caplog.text.count("; the run goes on") <= 1


@pytest.mark.parametrize("gone", [*GONE, "the store"])
def test_a_run_whose_mlflow_side_is_gone_stays_what_it_was_and_goes_on(
    workspace: Workspace, tracking_uri: str, monkeypatch: pytest.MonkeyPatch, gone: str, tmp_path: Path
) -> None:
    make, client = Generator._make, MlflowClient(tracking_uri)

    def stopped(self: Generator, *args: Any) -> Iterator[int]:
        yield next(make(self, *args))
        raise KeyboardInterrupt

    monkeypatch.setattr(Generator, "_make", stopped)
    with pytest.raises(Interrupted):
        generate(workspace, tracking_uri)
    monkeypatch.setattr(Generator, "_make", make)
    old, uri = str(row(workspace).mlflow_run_id), tracking_uri
    if gone == "the store":
        uri = f"sqlite:///{tmp_path / 'new' / 'mlflow.db'}"
        (tmp_path / "new").mkdir()
        with workspace.begin() as session:
            projection.remember(session.scalars(select(Run)).one(), uri=uri)
    else:
        delete(client, old, gone)
    with pytest.raises(TrackingError, match=r"is deleted|has no run|the MLflow store .* is gone"):
        resume(workspace, uri)
    assert (row(workspace).status, row(workspace).error) == (RunStatus.INTERRUPTED, "interrupted by the user")
    if gone == "an experiment":
        client.restore_experiment(client.get_experiment_by_name("tests").experiment_id)
    assert resync(workspace, [old], uri)[0].complete
    assert resume(workspace, uri).images == len(PROMPTS)
    whole(uri, row(workspace).mlflow_run_id)
    undisturbed = Workspace(home=tmp_path / "undisturbed")
    generate(undisturbed, tracking_uri)
    assert pixels(workspace) == pixels(undisturbed)


def test_a_lost_store_holds_up_no_other_run(workspace: Workspace, tracking_uri: str, tmp_path: Path) -> None:
    lost = generate(workspace, tracking_uri, run_name="lost")
    kept = generate(workspace, tracking_uri, run_name="kept")
    path = tmp_path / "gone.db"
    with workspace.begin() as session:
        for run in session.scalars(select(Run)):
            projection.remember(run, sent={}, **({"uri": f"sqlite:///{path}"} if run.uuid == lost.run else {}))
    first, second = resync(workspace, [], None)
    assert (first.run, first.state, second.run, second.complete) == (lost.run, "pending", kept.run, True)
    assert f"the MLflow store {path} is gone, and run {lost.mlflow_run_id} with it" in str(first.reason)
    assert f"`t2i resync {lost.mlflow_run_id}`" in str(first.reason)
    assert not path.exists()


BROKEN: dict[str, Callable[[Path], object]] = {
    "no target": lambda folder: (folder / "target.json").unlink(),
    "half a target": lambda folder: (folder / "target.json").write_text('{"uri": "sql'),
    "a target of another kind": lambda folder: (folder / "target.json").write_text("[]"),
    "half a record": lambda folder: (folder / "00000001.json").write_text('{"kind": "batch", "da'),
    "an empty record": lambda folder: (folder / "00000001.json").write_text(""),
    "a record of an unknown kind": lambda folder: (folder / "00000001.json").write_text('{"kind": "x", "data": {}}'),
    "a record without its data": lambda folder: (folder / "00000001.json").write_text('{"kind": "batch", "data": 1}'),
    "no files": lambda folder: (folder / "00000001.json").write_text('{"kind": "files", "data": {"folder": null}}'),
    "a lost store": lambda folder: (folder / "target.json").write_text('{"uri": "sqlite:////no/such/folder/x.db"}'),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_outbox_of_an_earlier_version_holds_up_nothing(
    workspace: Workspace, tracking_uri: str, broken: str
) -> None:
    made = [generate(workspace, tracking_uri, run_name=name) for name in ("a", "b")]
    runs = sorted(str(one.mlflow_run_id) for one in made)
    for run, status in zip(runs, ("broken", "good"), strict=True):
        folder = workspace.outbox / run
        folder.mkdir(parents=True)
        (folder / "target.json").write_text(json.dumps({"uri": tracking_uri}))
        for number in (1, 2):
            data = {"params": {}, "metrics": [], "tags": {f"{status}{number}": "yes"}}
            (folder / f"0000000{number}.json").write_text(json.dumps({"kind": "batch", "data": data}))
    BROKEN[broken](workspace.outbox / runs[0])
    with workspace.begin() as session:
        for row in session.scalars(select(Run)):
            projection.remember(row, sent={})
            row.status = RunStatus.INTERRUPTED
    client = MlflowClient(tracking_uri)
    first, second, *others = resync(workspace, [], None)
    assert (first.mlflow_run_id, first.complete, second.complete) == (runs[0], False, True)
    assert str(workspace.outbox / runs[0]) in str(first.reason) or "/no/such/folder" in str(first.reason)
    assert [other.complete for other in others] == [True, True]
    assert client.get_run(runs[1]).data.tags["good2"] == "yes"
    for one in made:
        assert resume(workspace, tracking_uri, one.run).status == "finished"
    assert client.get_run(runs[0]).data.tags["broken2"] == "yes"  # what is whole of it is sent


@pytest.mark.parametrize("gone", ["one", "all", "the folder"])
def test_a_run_whose_pictures_are_gone_stays_what_it_is(
    workspace: Workspace, tracking_uri: str, tmp_path: Path, gone: str
) -> None:
    made = generate(workspace, tracking_uri, outdir=tmp_path / "elsewhere")
    folder = Path(made.folder)
    kept = tmp_path / "kept"
    shutil.copytree(folder, kept)
    pictures = sorted(folder.glob("*.png"))
    for picture in pictures[: 1 if gone == "one" else None]:
        picture.unlink()
    if gone == "the folder":
        shutil.rmtree(tmp_path / "elsewhere")
        (tmp_path / "elsewhere").write_text("in the way")
    with pytest.raises(
        SettingsError, match=f"{1 if gone == 'one' else 3} of 3 pictures of run .* are not what was made"
    ):
        resume(workspace, tracking_uri)
    assert (row(workspace).status, row(workspace).error) == (RunStatus.FINISHED, None)
    whole(tracking_uri, made.mlflow_run_id)
    (tmp_path / "elsewhere").unlink() if gone == "the folder" else shutil.rmtree(folder)
    shutil.copytree(kept, folder)
    assert resume(workspace, tracking_uri).made == 0


@pytest.mark.parametrize("text", ["soon", "-1", "nan"])
def test_the_budget_is_a_number_of_seconds(
    workspace: Workspace, tracking_uri: str, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv(patience.VARIABLE, text)
    with pytest.raises(SettingsError, match=f"T2I_MLFLOW_SECONDS is '{text}': give a number of seconds"):
        Tracker(tracking_uri, workspace.outbox)


def test_settling_does_not_wait_for_a_thread_that_hangs(
    workspace: Workspace, server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Tracker(server.uri, workspace.outbox, window=0.01, retry=0.1) as tracker:
        monkeypatch.setattr(tracker, "limit", 0.2)
        begun: list[bool] = []
        tracker.later("run", lambda: begun.append(True) or time.sleep(1.5))
        within(10, lambda: bool(begun))
        start = time.monotonic()
        tracker.settle("other")
        assert time.monotonic() - start < 1


def test_missing_is_what_a_deleted_run_is(tracking_uri: str, workspace: Workspace) -> None:
    made = generate(workspace, tracking_uri)
    MlflowClient(tracking_uri).delete_run(str(made.mlflow_run_id))
    from t2i_track.tracking import Content, write

    with pytest.raises(Missing):
        write(tracking_uri, str(made.mlflow_run_id), Content(params={"a": 1}))
