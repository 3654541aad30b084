"""Several commands under one ``MLFLOW_RUN_ID``: the first has the MLflow run, the others get their own under it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from homes import has_database
from mlflow.tracking import MlflowClient
from sqlalchemy import select

from t2i_track.db.models import Run, RunStatus, Sweep
from t2i_track.errors import Interrupted, Missing
from t2i_track.prompts import manifest as manifests
from t2i_track.runs import joining
from t2i_track.runs import sweep as sweeping
from t2i_track.runs.generate import Generator
from t2i_track.runs.grid import Experiment
from t2i_track.runs.plan import Plan, Summary
from t2i_track.runs.projection import pending
from t2i_track.settings import Settings
from t2i_track.tracking import Tracker
from t2i_track.workspace import Workspace

PROMPTS = ["one big red circle on a white background"]


@pytest.fixture
def opened(tracking_uri: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A run of MLflow's in an experiment of its own, as `mlflow run` leaves it to this process."""
    client = MlflowClient(tracking_uri)
    run = client.create_run(client.create_experiment("theirs")).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run)
    return str(run)


def plan(**changes: Any) -> Plan:
    settings = Settings(steps=2, device="cpu", **changes)
    manifest = manifests.from_prompts(PROMPTS)
    return Plan(settings=settings, manifest=manifest, experiment="ours", join=joining.joined_run())


def generate(workspace: Workspace, tracker: Tracker, **changes: Any) -> Summary:
    return Generator(workspace, tracker).generate(plan(**changes))


def sweep(workspace: Workspace, tracker: Tracker) -> str:
    settings = {"steps": 2, "device": "cpu"}
    experiment = Experiment(experiment="ours", prompts=PROMPTS, settings=settings, evaluate=False)
    return sweeping.run_sweep(workspace, tracker, experiment, fresh=False, allow_pickle=False).mlflow_run_id


def test_the_second_run_goes_under_the_first(
    workspace: Workspace, tracker: Tracker, tracking_uri: str, opened: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = MlflowClient(tracking_uri)
    first = generate(workspace, tracker, guidance=1.0)
    assert first.mlflow_run_id == opened
    before = client.get_run(opened).to_dictionary()
    second, third = (generate(workspace, tracker, guidance=guidance) for guidance in (2.0, 3.0))
    assert client.get_run(opened).to_dictionary() == before
    assert len({opened, second.mlflow_run_id, third.mlflow_run_id}) == 3
    for summary in (second, third):
        assert summary.experiment == "theirs"
        child = client.get_run(str(summary.mlflow_run_id))
        assert child.data.tags["mlflow.parentRunId"] == opened
        assert child.data.tags["t2i.run"] == summary.run
        assert (child.info.status, child.data.params["guidance"]) == ("FINISHED", str(summary.guidance))
    assert caplog.text.count(f"the MLflow run {opened} (MLFLOW_RUN_ID) is that of another run") == 2
    with workspace.reading() as session:
        assert pending(session, workspace) == []


@pytest.mark.parametrize("sweep_first", [True, False])
def test_a_sweep_and_a_run(
    workspace: Workspace, tracker: Tracker, tracking_uri: str, opened: str, sweep_first: bool
) -> None:
    client = MlflowClient(tracking_uri)
    one = sweep(workspace, tracker) if sweep_first else generate(workspace, tracker, guidance=2.0).mlflow_run_id
    assert one == opened
    before = client.get_run(opened).to_dictionary()
    other = generate(workspace, tracker, guidance=2.0).mlflow_run_id if sweep_first else sweep(workspace, tracker)
    assert client.get_run(opened).to_dictionary() == before
    assert client.get_run(str(other)).data.tags["mlflow.parentRunId"] == opened
    with workspace.reading() as session:
        parent, runs = session.scalars(select(Sweep)).one(), list(session.scalars(select(Run)))
    cells = [run for run in runs if run.guidance == Settings().guidance]
    assert {run.experiment for run in runs} == {parent.experiment} == {"theirs"}
    for cell in cells:
        assert client.get_run(str(cell.mlflow_run_id)).data.tags["mlflow.parentRunId"] == parent.mlflow_run_id


def test_the_second_run_has_another_database(
    workspace: Workspace, tracker: Tracker, tracking_uri: str, opened: str, tmp_path: Path
) -> None:
    client = MlflowClient(tracking_uri)
    generate(workspace, tracker)
    before = client.get_run(opened).to_dictionary()
    second = generate(Workspace(home=tmp_path / "other"), tracker)
    assert client.get_run(opened).to_dictionary() == before
    assert client.get_run(str(second.mlflow_run_id)).data.tags["mlflow.parentRunId"] == opened


def test_of_two_at_the_same_instant_one_has_it(
    workspace: Workspace, tracker: Tracker, opened: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have asked MLflow, and neither has claimed it yet."""
    asked, found = threading.Barrier(2), joining.tracking.joined(tracker.uri, opened)

    def joined(uri: str, run: str) -> Any:
        asked.wait(timeout=20)
        return found

    for name in ("a", "b"):
        with workspace.begin() as session:
            session.add(Sweep(uuid=name * 32, name=name, experiment="ours", status=RunStatus.RUNNING, spec={}))
    with workspace.reading() as session:
        rows = list(session.scalars(select(Sweep)))
    monkeypatch.setattr(joining.tracking, "joined", joined)
    parents: list[str | None] = []
    threads = [
        threading.Thread(target=lambda row=row: parents.append(joining.join(workspace, tracker.uri, row, opened)))
        for row in rows
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(parents) == {None, opened}
    assert sorted(row.mlflow_run_id or "" for row in rows) == ["", opened]


@pytest.mark.parametrize("gone", ["unknown", "deleted"])
def test_a_run_that_is_not_there_is_refused_before_anything_is_begun(
    workspace: Workspace,
    tracker: Tracker,
    tracking_uri: str,
    opened: str,
    gone: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if gone == "deleted":
        MlflowClient(tracking_uri).delete_run(opened)
    else:
        monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    for command in (generate, sweep):
        with pytest.raises(Missing, match=r"MLFLOW_RUN_ID is \w+, and MLflow at .* has no such run: unset it"):
            command(workspace, tracker)
    assert not has_database(workspace.home)


def test_a_run_that_goes_on_keeps_its_place(
    workspace: Workspace, tracker: Tracker, tracking_uri: str, opened: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also under another MLFLOW_RUN_ID; and the reason why it was stopped is gone."""
    generator = Generator(workspace, tracker)
    make = Generator._make

    def stopped(*_: object) -> Iterator[int]:
        raise KeyboardInterrupt
        yield 0

    monkeypatch.setattr(Generator, "_make", stopped)
    with pytest.raises(Interrupted):
        generator.generate(plan())
    client = MlflowClient(tracking_uri)
    assert client.get_run(opened).data.tags["t2i.reason"] == "interrupted by the user"
    monkeypatch.setattr(Generator, "_make", make)
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    assert generator.resume("latest").mlflow_run_id == opened
    found = client.get_run(opened)
    assert (found.info.status, found.data.tags.get("t2i.reason")) == ("FINISHED", None)


def test_a_sweep_that_goes_on_loses_the_reason_why_it_was_stopped(
    workspace: Workspace, tracker: Tracker, tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, resolve = MlflowClient(tracking_uri), Generator.prepare

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Generator, "prepare", stopped)
    with pytest.raises(Interrupted):
        sweep(workspace, tracker)
    with workspace.reading() as session:
        parent = str(session.scalars(select(Sweep)).one().mlflow_run_id)
    assert client.get_run(parent).data.tags["t2i.reason"] == "interrupted by the user"
    monkeypatch.setattr(Generator, "prepare", resolve)
    assert sweep(workspace, tracker) == parent
    found = client.get_run(parent)
    assert (found.info.status, found.data.tags.get("t2i.reason")) == ("FINISHED", None)
