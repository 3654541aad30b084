"""Runs put into the trash: hidden everywhere, brought back whole, gone only by `t2i gc`; what others have stays."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Result
from mlflow.tracking import MlflowClient
from sqlalchemy import func, select
from test_generate import PROMPTS, plan, rows
from test_reuse import sweep

from t2i_track.db import lineage
from t2i_track.db import session as database
from t2i_track.db.models import Image, MetricValue, Run, RunTag, Sweep, SweepRun
from t2i_track.errors import Busy, NotFound
from t2i_track.files import alone
from t2i_track.runs import show, trash, verify, words
from t2i_track.runs.generate import Generator
from t2i_track.runs.rows import run_rows
from t2i_track.tracking import Tracker
from t2i_track.workspace import Workspace

pytestmark = pytest.mark.slow


@pytest.fixture
def generator(workspace: Workspace, tracker: Tracker) -> Generator:
    return Generator(workspace, tracker)


def names(workspace: Workspace) -> list[str]:
    with workspace.reading() as session:
        return sorted(row.name for row in run_rows(session))


def counted(workspace: Workspace, kind: Any) -> int:
    with workspace.reading() as session:
        session.info[database.WITH_DELETED] = True
        return session.scalar(select(func.count()).select_from(kind)) or 0


def is_whole(workspace: Workspace, run: str) -> bool:
    return not verify.verify(workspace, [run]).faults


def test_a_deleted_run_is_seen_nowhere_and_comes_back_whole(
    workspace: Workspace, generator: Generator, tracking_uri: str
) -> None:
    gone = generator.generate(plan(PROMPTS[:2], run_name="gone"))
    generator.generate(plan(PROMPTS[:2], run_name="kept", guidance=1.0))
    words.tag(workspace, tracking_uri, ["gone"], {"a": "b"})
    [moved] = trash.delete(workspace, tracking_uri, ["gone"])
    assert (moved.name, moved.images, moved.note, names(workspace)) == ("gone", 2, None, ["kept"])
    assert not Path(gone.folder).exists()
    receipt = json.loads((Path(str(moved.trash)) / "receipt.json").read_bytes())
    assert (receipt["run"]["name"], receipt["run"]["tags"]) == ("gone", {"a": "b"})
    client = MlflowClient(tracking_uri)
    assert client.get_run(str(gone.mlflow_run_id)).info.lifecycle_stage == "deleted"
    with workspace.reading() as session:
        for address in ("gone", gone.run, gone.run[:6], str(gone.mlflow_run_id)):
            with pytest.raises(NotFound, match=f"run '{address}' is in the trash: `t2i delete --undo"):
                lineage.find_run(session, address)
        with pytest.raises(NotFound):
            lineage.find_image(session, "1", workspace.home)
        assert lineage.find_run(session, "latest").name == "kept"
        assert [row["name"] for row in show.run_rows(session)] == ["kept"]
    [back] = trash.restore(workspace, tracking_uri, ["gone"])
    assert (back.name, back.images, names(workspace)) == ("gone", 2, ["gone", "kept"])
    assert is_whole(workspace, "gone")
    assert client.get_run(str(gone.mlflow_run_id)).info.lifecycle_stage == "active"
    assert not workspace.trash.exists() or not list(workspace.trash.iterdir())


def test_gc_takes_it_for_good_and_leaves_what_others_have(workspace: Workspace, generator: Generator) -> None:
    maker = generator.generate(plan(PROMPTS[:3], run_name="maker"))
    taker = generator.generate(plan(PROMPTS[:4], run_name="taker"))
    assert taker.reused == 3
    before = [row.sha256 for row in rows(workspace, taker.run)]
    trash.delete(workspace, None, [maker.run])
    found = trash.trashed(workspace)
    assert [(one.name, one.images) for one in found] == [("maker", 3)]
    trash.gc(workspace, found)
    assert (counted(workspace, Run), counted(workspace, Image)) == (1, 4)
    assert not (workspace.trash / maker.run[:12]).exists()
    assert [row.sha256 for row in rows(workspace, taker.run)] == before
    assert is_whole(workspace, taker.run)
    with pytest.raises(NotFound, match="in the trash"):
        trash.restore(workspace, None, [maker.run])


def test_of_two_sweeps_either_can_go(workspace: Workspace, tracker: Tracker, tracking_uri: str) -> None:
    one = sweep(workspace, tracker, name="one", axes={"guidance": [1, 3], "steps": [2]})
    two = sweep(workspace, tracker, name="two", axes={"guidance": [3, 5], "steps": [2]})
    moved = trash.delete(workspace, tracking_uri, ["one"])
    assert [found.name for found in moved] == ["one", "pndm-g1-s2-seed42"]
    assert MlflowClient(tracking_uri).get_run(one.mlflow_run_id).info.lifecycle_stage == "deleted"
    assert (counted(workspace, Sweep), counted(workspace, SweepRun)) == (1, 2)
    trash.gc(workspace, trash.trashed(workspace))
    with workspace.reading() as session:
        assert len(run_rows(session, sweep=two.sweep)) == 2
    assert is_whole(workspace, "pndm-g3-s2-seed42")
    again = sweep(workspace, tracker, name="one", axes={"guidance": [1, 3], "steps": [2]})
    assert [cell.state for cell in again.cells] == ["made", "taken over"]


def test_a_cell_that_was_deleted_is_made_again_and_one_brought_back_is_a_cell(
    workspace: Workspace, tracker: Tracker, tracking_uri: str
) -> None:
    grid = {"name": "one", "axes": {"guidance": [1, 3], "steps": [2]}}
    first = sweep(workspace, tracker, **grid)
    trash.delete(workspace, tracking_uri, [str(first.cells[0].run)])
    trash.restore(workspace, tracking_uri, [str(first.cells[0].run)])
    assert [cell.run for cell in sweep(workspace, tracker, **grid).cells] == [cell.run for cell in first.cells]
    trash.delete(workspace, tracking_uri, [str(first.cells[0].run)])
    again = sweep(workspace, tracker, **grid)
    assert [cell.state for cell in again.cells] == ["made", "taken over"]
    assert again.cells[0].run != first.cells[0].run


def test_what_stands_in_the_way(workspace: Workspace, generator: Generator, tmp_path: Path) -> None:
    summary = generator.generate(plan(PROMPTS[:1], outdir=tmp_path / "mine"))
    with pytest.raises(NotFound, match="no run or sweep 'none': 't2i runs' lists the runs"):
        trash.delete(workspace, None, ["none"])
    with alone(Path(summary.folder) / ".lock"), pytest.raises(Busy, match="being made by another process"):
        trash.delete(workspace, None, [summary.run])
    assert names(workspace) == [summary.name]
    [moved] = trash.delete(workspace, f"sqlite:///{tmp_path / 'another.db'}", [summary.run])
    assert moved.note is None  # the run says where its MLflow run is
    assert not Path(summary.folder).exists()
    trash.restore(workspace, None, [summary.run])
    assert is_whole(workspace, summary.run)


def test_mlflow_may_be_away(workspace: Workspace, generator: Generator, tracking_uri: str) -> None:
    summary = generator.generate(plan(PROMPTS[:1]))
    Path(tracking_uri.removeprefix("sqlite:///")).rename(workspace.home / "elsewhere.db")
    [moved] = trash.delete(workspace, tracking_uri, [summary.run])
    assert f"the MLflow run {summary.mlflow_run_id} is left as it is" in str(moved.note)
    assert names(workspace) == []


def test_a_delete_that_was_killed_before_it_moved(
    workspace: Workspace, generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [generator.generate(plan(PROMPTS[:1], guidance=guidance)) for guidance in (1.0, 3.0)]
    for summary in runs:
        with monkeypatch.context() as patch:
            patch.setattr(trash, "_move", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                trash.delete(workspace, None, [summary.run])
    trash.restore(workspace, None, [runs[0].run])
    assert is_whole(workspace, runs[0].run)
    trash.gc(workspace, trash.trashed(workspace))
    assert not Path(runs[1].folder).exists()
    assert counted(workspace, Run) == 1


def test_rows_of_all_tables_go(workspace: Workspace) -> None:
    from stored_scores import store_run, store_score

    with workspace.begin() as session:
        run = store_run(session, name="one")
        store_score(session, run, "fid", 1.0)
        run.tags = [RunTag(key="a", value="b")]
        run.deleted_at = run.created_at
    (workspace.trash / "verify-1").mkdir(parents=True)
    (workspace.trash / "verify-1" / "a.png").write_bytes(b"foreign")
    found = trash.trashed(workspace)
    assert [(one.name, one.bytes) for one in found] == [("one", 0), ("verify-1", 7)]
    assert trash.trashed(workspace, trash.timedelta(days=1)) == found[:0]
    trash.gc(workspace, found)
    assert [counted(workspace, kind) for kind in (Run, MetricValue, RunTag)] == [0, 0, 0]
    assert not workspace.trash.exists()


def test_the_command_asks(cli: Callable[..., Result], tmp_path: Path) -> None:
    made = cli("generate", "--num", 1, "--steps", 2, "--run-name", "a run", "--no-evaluate", "--format", "json")
    folder = tmp_path / "work" / json.loads(made.out)["folder"]
    asked = cli("delete", "latest")
    assert (asked.code, folder.is_dir()) == (1, True)
    assert "Put 1 run into the trash (a run)? There is nobody to ask: pass --yes" in asked.err
    assert cli("delete", "latest", "--yes").code == 0
    assert json.loads(cli("runs", "--format", "json").out) == []
    dry = cli("gc", "--dry-run", "--format", "json")
    assert [one["name"] for one in json.loads(dry.out)] == ["a run"]
    assert cli("delete", "--undo", "a run").code == 0
    assert folder.is_dir()
    assert cli("delete", "a run", "--yes").code == cli("gc", "--yes").code == 0
    assert not folder.exists()
