"""MLflow's side of runs as the database knows it: lost, deleted, killed in between, moved to another store."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run as MlflowRun
from mlflow.tracking import MlflowClient
from sqlalchemy import select

from t2i_track.db.models import MetricValue, Run, Sweep
from t2i_track.errors import DatabaseError, NotFound, TrackingError
from t2i_track.prompts import manifest as manifests
from t2i_track.runs import compare, projection
from t2i_track.runs import sweep as sweeping
from t2i_track.runs.evaluate import Request, score
from t2i_track.runs.generate import Generator
from t2i_track.runs.grid import Experiment
from t2i_track.runs.plan import Plan
from t2i_track.runs.projection import Sent, home_of, pending
from t2i_track.runs.resync import resync
from t2i_track.settings import Settings
from t2i_track.tracking import Tracker
from t2i_track.workspace import Workspace

PROMPTS = ["one big red circle on a white background", "one small blue square on a black background"]


@pytest.fixture
def other_uri(tmp_path: Path, fresh_mlflow_store: Path) -> str:
    """A team's store."""
    (tmp_path / "team").mkdir()
    shutil.copyfile(fresh_mlflow_store, tmp_path / "team" / "mlflow.db")
    return f"sqlite:///{tmp_path / 'team' / 'mlflow.db'}"


@pytest.fixture
def run(workspace: Workspace, tracker: Tracker) -> str:
    """A scored run, whole in MLflow; its id."""
    settings = Settings(steps=2, batch_size=2, device="cpu", guidance=3.0)
    plan = Plan(settings=settings, manifest=manifests.from_prompts(PROMPTS), experiment="tests", run_name="run")
    made = Generator(workspace, tracker).generate(plan).run
    score(workspace, tracker, [made], Request(metrics=("alignment",)))
    assert unsent(workspace) == []
    return made


def unsent(workspace: Workspace) -> list[str]:
    with workspace.reading() as session:
        return pending(session, workspace)


def mlflow_run(workspace: Workspace, uri: str, address: str) -> MlflowRun:
    with workspace.reading() as session:
        row = session.scalar(select(Run).where(Run.uuid == address)) or session.scalars(select(Sweep)).one()
    assert row.mlflow_run_id is not None
    return MlflowClient(uri).get_run(row.mlflow_run_id)


def shape(uri: str, found: MlflowRun) -> dict[str, Any]:
    """What a person sees of a run, without its id, its place and what is measured only while it is made."""
    client = MlflowClient(uri)
    live = ("progress/", "system/")
    metrics = [key for key in found.data.metrics if not key.startswith(live)]
    history = {key: client.get_metric_history(found.info.run_id, key) for key in metrics}
    hidden = {"mlflow.user", "mlflow.parentRunId"}
    return {
        "params": found.data.params,
        "tags": {key: value for key, value in found.data.tags.items() if key not in hidden},
        "metrics": {key: [(m.value, m.timestamp, m.step) for m in points] for key, points in history.items()},
        "artifacts": sorted(paths(client, found.info.run_id)),
        "inputs": [(entry.dataset.name, entry.dataset.digest) for entry in found.inputs.dataset_inputs],
        "status": (found.info.status, found.info.end_time),
        "name": found.info.run_name,
    }


def paths(client: MlflowClient, run: str, folder: str | None = None) -> Iterator[str]:
    for entry in client.list_artifacts(run, folder):
        if entry.is_dir:
            yield from paths(client, run, entry.path)
        else:
            yield entry.path


def count(uri: str) -> int:
    client = MlflowClient(uri)
    return len(client.search_runs([found.experiment_id for found in client.search_experiments()]))


def test_the_names_in_mlflow(workspace: Workspace, tracking_uri: str, run: str) -> None:
    """Scores, guidance and steps bare; the rest in sections."""
    data = mlflow_run(workspace, tracking_uri, run).data
    names = {name for name in data.metrics if not name.startswith("system/")}
    assert {name for name in names if "/" not in name} == {"guidance", "steps", "alignment"}
    assert "alignment/shape" in names
    assert {name for name in names if name.partition("/")[0] in ("cost", "progress")} == {
        "cost/images",
        "cost/truncated_prompts",
        "cost/seconds_per_image",
        "cost/images_per_second",
        "cost/peak_memory_mb",
        "cost/start_seconds",
        "progress/images_done",
        "progress/images_per_second",
    }
    assert {name.partition("/")[0] for name in names if "/" in name} <= {"alignment", "interval", "cost", "progress"}


def test_time_stamps_are_those_of_the_rows(workspace: Workspace, tracking_uri: str, run: str) -> None:
    found = mlflow_run(workspace, tracking_uri, run)
    with workspace.reading() as session:
        row = session.scalars(select(Run)).one()
        value = session.scalars(select(MetricValue).where(MetricValue.name == "alignment")).one()
        times = {"guidance": row.started_at, "alignment": value.created_at, "cost/images": row.ended_at}
    history = {key: MlflowClient(tracking_uri).get_metric_history(found.info.run_id, key) for key in times}
    assert {key: [point.timestamp for point in points] for key, points in history.items()} == {
        key: [int(time.timestamp() * 1000)] for key, time in times.items() if time is not None
    }


def test_written_again_nothing_changes(workspace: Workspace, tracking_uri: str, run: str) -> None:
    before = shape(tracking_uri, mlflow_run(workspace, tracking_uri, run))
    for address in (run, "latest", "run"):
        (sent,) = resync(workspace, [address], tracking_uri)
        assert (sent.run, sent.state, sent.reason) == (run, "sent", None)
    assert shape(tracking_uri, mlflow_run(workspace, tracking_uri, run)) == before
    assert count(tracking_uri) == 1
    assert resync(workspace, [], None) == []


@pytest.mark.parametrize("gone", ["deleted", "lost"])
def test_a_run_that_mlflow_has_no_more_is_made_anew(
    workspace: Workspace, tracking_uri: str, run: str, gone: str
) -> None:
    old = mlflow_run(workspace, tracking_uri, run)
    before = shape(tracking_uri, old)
    MlflowClient(tracking_uri).delete_run(old.info.run_id)
    if gone == "lost":
        MlflowClient(tracking_uri)._tracking_client.store._hard_delete_run(old.info.run_id)
    for _ in range(2):
        (sent,) = resync(workspace, [run], tracking_uri)
        assert (sent.state, sent.reason) == ("sent", None)
        found = mlflow_run(workspace, tracking_uri, run)
        assert found.info.run_id == sent.mlflow_run_id != old.info.run_id
        assert shape(tracking_uri, found) == before
        assert found.info.start_time == before["metrics"]["guidance"][0][1]
    assert count(tracking_uri) == 1


def test_a_run_moves_to_a_teams_store(
    workspace: Workspace, tracking_uri: str, run: str, other_uri: str, tracker: Tracker
) -> None:
    before = shape(tracking_uri, mlflow_run(workspace, tracking_uri, run))
    for _ in range(2):
        (sent,) = resync(workspace, [run], other_uri)
        assert (sent.state, sent.reason) == ("sent", None)
        assert shape(other_uri, mlflow_run(workspace, other_uri, run)) == before
    assert (count(other_uri), count(tracking_uri)) == (1, 1)  # where it was it stays as it was
    score(workspace, tracker, [run], Request(metrics=("clip",), clip="shapes"))  # goes where the run is now
    assert "clip_score" in mlflow_run(workspace, other_uri, run).data.metrics
    assert unsent(workspace) == []


@pytest.mark.slow
def test_a_sweep_moves_with_its_cells(
    workspace: Workspace, tracking_uri: str, other_uri: str, tracker: Tracker, tmp_path: Path
) -> None:
    experiment = Experiment(
        name="grid",
        experiment="tests",
        prompts=PROMPTS,
        settings={"batch_size": 2, "device": "cpu"},
        axes={"steps": [2, 3]},
        evaluate=True,
    )
    outcome = sweeping.run_sweep(workspace, tracker, experiment, fresh=False, allow_pickle=False)
    report = tmp_path / "report.html"
    ranked = compare.ranking(workspace, sweep="grid", by="alignment", report=report)
    compare.log_comparison(workspace, tracking_uri, outcome.mlflow_run_id, ranked.comparison, report)
    client = MlflowClient(tracking_uri)
    assert unsent(workspace) == []
    before = shape(tracking_uri, client.get_run(outcome.mlflow_run_id))
    assert before["tags"]["mlflow.note.content"]
    assert {"comparison.json", "report/report.html"} <= set(before["artifacts"])
    cells = [cell.run for cell in outcome.cells]
    (first,) = [sent for sent in resync(workspace, [str(cells[0])], other_uri) if sent.run == cells[0]]
    assert first.state == "sent"
    assert count(other_uri) == 2  # with its parent
    assert len(resync(workspace, ["grid"], other_uri)) == 3
    with workspace.reading() as session:
        parent = session.scalars(select(Sweep)).one()
    assert parent.mlflow_run_id is not None
    there = MlflowClient(other_uri)
    assert shape(other_uri, there.get_run(parent.mlflow_run_id)) == before
    for cell in cells:
        found = mlflow_run(workspace, other_uri, str(cell))
        assert found.data.tags["mlflow.parentRunId"] == parent.mlflow_run_id
        assert found.data.tags["t2i.sweep"] == "grid"
    assert count(other_uri) == 3
    with pytest.raises(TrackingError, match=f"is at {other_uri}: set MLFLOW_TRACKING_URI to it, or move it back"):
        sweeping.run_sweep(workspace, tracker, experiment, fresh=False, allow_pickle=False)
    with Tracker(other_uri, workspace.outbox) as moved:
        again = sweeping.run_sweep(workspace, moved, experiment, fresh=False, allow_pickle=False)
    assert [cell.state for cell in again.cells] == ["taken over"] * 2


def test_a_cell_killed_after_its_last_row_is_sent_when_the_sweep_goes_on(
    workspace: Workspace, tracking_uri: str, tracker: Tracker
) -> None:
    experiment = Experiment(
        name="grid", experiment="tests", prompts=PROMPTS, settings={"steps": 2, "device": "cpu"}, evaluate=False
    )
    made = sweeping.run_sweep(workspace, tracker, experiment, fresh=False, allow_pickle=False)
    with workspace.begin() as session:
        row = session.scalars(select(Run)).one()
        projection.remember(row, sent={})
    client = MlflowClient(tracking_uri)
    client.update_run(str(row.mlflow_run_id), status="RUNNING")
    assert unsent(workspace) == [row.uuid]
    again = sweeping.run_sweep(workspace, tracker, experiment, fresh=False, allow_pickle=False)
    assert ([cell.state for cell in again.cells], again.sweep) == (["taken over"], made.sweep)
    assert client.get_run(str(row.mlflow_run_id)).info.status == "FINISHED"
    assert unsent(workspace) == []


def test_what_an_outage_held_back_is_known_and_sent(
    workspace: Workspace, tracking_uri: str, run: str, tracker: Tracker, caplog: pytest.LogCaptureFixture
) -> None:
    store = Path(tracking_uri.removeprefix("sqlite:///"))
    store.rename(store.with_suffix(".away"))
    score(workspace, tracker, [run], Request(metrics=("clip",), clip="shapes"))
    assert "not all of run is in MLflow" in caplog.text
    assert unsent(workspace) == [run]
    (sent,) = resync(workspace, [], None)
    assert (sent.state, sent.name) == ("pending", "run")
    assert sent.reason is not None
    assert "is gone, and run" in sent.reason
    store.with_suffix(".away").rename(store)
    assert resync(workspace, [], None) == [Sent(run, "run", "sent", sent.mlflow_run_id)]
    assert "clip_score" in mlflow_run(workspace, tracking_uri, run).data.metrics
    assert unsent(workspace) == []


def test_a_run_that_another_process_writes_is_left_to_it(workspace: Workspace, run: str) -> None:
    with projection._alone(workspace, run):
        (sent,) = resync(workspace, [run], None)
        assert (sent.state, sent.complete) == ("busy", False)
    assert list(workspace.outbox.iterdir()) == []


def test_a_run_of_an_earlier_version_gets_the_new_names(
    workspace: Workspace, tracking_uri: str, run: str, tracker: Tracker
) -> None:
    """Nothing is known of its MLflow side, so that only what is named is written."""
    with workspace.begin() as session:
        row = session.scalars(select(Run)).one()
        row.config = {key: value for key, value in row.config.items() if key not in (projection.STATE, "cost")}
    client = MlflowClient(tracking_uri)
    old = client.get_run(str(row.mlflow_run_id))
    before = client.get_metric_history(old.info.run_id, "guidance")
    client.log_metric(old.info.run_id, "images", 2)
    assert unsent(workspace) == resync(workspace, [], None) == []
    assert score(workspace, tracker, [run], Request(metrics=("alignment",)))[0].measured == 0
    assert unsent(workspace) == []
    (sent,) = resync(workspace, [run], tracking_uri)
    assert sent.state == "sent"
    assert {"images", "cost/images"} <= client.get_run(old.info.run_id).data.metrics.keys()
    assert client.get_metric_history(old.info.run_id, "guidance") == before


def test_pictures_that_are_gone_are_left_out(workspace: Workspace, tracking_uri: str, run: str, other_uri: str) -> None:
    for path in workspace.home.glob("images/*/*.png"):
        path.unlink()
    (sent,) = resync(workspace, [run], other_uri)
    assert sent.state == "sent"
    found = shape(other_uri, mlflow_run(workspace, other_uri, run))
    assert found["artifacts"] == ["images.jsonl", "images.parquet", "manifest.csv", "scores.json"]


def test_no_password_is_stored(workspace: Workspace, run: str, tracking_uri: str) -> None:
    with workspace.begin() as session:
        row = session.scalars(select(Run)).one()
        row.config = {**row.config, projection.STATE: {"uri": "http://mlflow:1", "sent": {}}}
        assert home_of(row, "http://me:secret@mlflow:1") == "http://me:secret@mlflow:1"
        assert home_of(row, "http://me:secret@elsewhere:1") == "http://mlflow:1"


def test_an_unknown_address(workspace: Workspace, run: str) -> None:
    with pytest.raises(NotFound, match="no run 'nothing'"):
        resync(workspace, ["nothing"], None)


KILLED = """
import os, signal, sys
from pathlib import Path
from t2i_track import tracking
from t2i_track.runs.evaluate import Request, score
from t2i_track.workspace import Workspace

tracking.write = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
workspace = Workspace(home=Path(sys.argv[1]))
with tracking.Tracker(sys.argv[2], workspace.outbox) as tracker:
    score(workspace, tracker, ["run"], Request(metrics=("clip",), clip="shapes"))
"""


@pytest.mark.slow
@pytest.mark.parametrize("then", ["resync", "evaluate"])
def test_scores_survive_a_kill_between_database_and_mlflow(
    workspace: Workspace, tracking_uri: str, run: str, tracker: Tracker, then: str
) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(workspace.home), tracking_uri], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert "clip_score" not in mlflow_run(workspace, tracking_uri, run).data.metrics
    assert unsent(workspace) == [run]
    if then == "resync":
        (sent,) = resync(workspace, [], None)
        assert sent.state == "sent"
    else:
        assert score(workspace, tracker, ["run"], Request(metrics=("clip",), clip="shapes"))[0].measured == 0
    assert "clip_score" in mlflow_run(workspace, tracking_uri, run).data.metrics
    assert unsent(workspace) == []


@pytest.mark.slow
@pytest.mark.parametrize("first", ["elsewhere", "tests"])
def test_a_sweeps_parent_leads_to_the_cells_that_it_took_over(
    workspace: Workspace, tracking_uri: str, tracker: Tracker, first: str
) -> None:
    """They stay under their own sweep, which may be in another experiment."""
    sweeps = {}
    for name, place, steps in (("one", first, [2]), ("two", "tests", [2, 3])):
        experiment = Experiment(
            name=name,
            experiment=place,
            prompts=PROMPTS,
            settings={"batch_size": 2, "device": "cpu"},
            axes={"steps": steps},
            evaluate=True,
        )
        sweeps[name] = sweeping.run_sweep(workspace, tracker, experiment, fresh=False, allow_pickle=False)
    taken, made = sweeps["two"].cells
    assert (taken.state, made.state) == ("taken over", "made")
    cell = mlflow_run(workspace, tracking_uri, str(taken.run))
    assert cell.data.tags["mlflow.parentRunId"] == sweeps["one"].mlflow_run_id
    client = MlflowClient(tracking_uri)
    link = f"- cell 0: [{cell.info.run_name}](#/runs/{cell.info.run_id}) in `{first}`"
    tags = client.get_run(sweeps["two"].mlflow_run_id).data.tags
    assert tags["t2i.taken_over"] == f'{{"0": "{cell.info.run_id}"}}'
    assert tags["mlflow.note.content"].splitlines()[-1] == link
    assert "t2i.taken_over" not in client.get_run(sweeps["one"].mlflow_run_id).data.tags
    ranked = compare.ranking(workspace, sweep="two", by="alignment")
    compare.log_comparison(workspace, tracking_uri, sweeps["two"].mlflow_run_id, ranked.comparison, None)
    described = client.get_run(sweeps["two"].mlflow_run_id).data.tags["mlflow.note.content"]
    assert described.splitlines()[-1] == link
    assert len(described) > len(tags["mlflow.note.content"])
    assert unsent(workspace) == []


@pytest.mark.parametrize("error", [DatabaseError("locked"), OSError("full")], ids=["locked", "full"])
def test_a_database_that_is_busy_is_tried_again(
    error: Exception, workspace: Workspace, tracking_uri: str, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the thread that sends, where what nobody catches would be a traceback."""
    jobs: list[Any] = []

    def refuse(*_: Any, **__: Any) -> None:
        raise error

    with Tracker(tracking_uri, workspace.outbox) as tracker:
        monkeypatch.setattr(tracker, "later", lambda _run_id, job: jobs.append(job))
        with workspace.reading() as session:
            stored = session.scalars(select(Run).where(Run.uuid == run)).one()
        projection.start(workspace, tracker, stored, None)
        monkeypatch.setattr(projection, "_send", refuse)
        with pytest.raises(TrackingError, match="cannot keep what was sent to MLflow"):
            jobs[0]()
