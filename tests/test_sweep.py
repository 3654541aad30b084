"""Sweeps over the embedded model, with a real MLflow store."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from mlflow.tracking import MlflowClient
from sqlalchemy import select

from t2i_track import assets
from t2i_track.cli.ended import sweep_lines
from t2i_track.db.models import Image, Run, RunStatus, Sweep
from t2i_track.errors import CompareError, Interrupted, NotFound, SettingsError
from t2i_track.images.executors import worker as making
from t2i_track.runs import compare as comparing
from t2i_track.runs import generate as generation
from t2i_track.runs import sweep as sweeping
from t2i_track.runs.forecast import forecast
from t2i_track.runs.grid import Experiment, build
from t2i_track.runs.rows import run_rows
from t2i_track.tracking import Tracker
from t2i_track.workspace import Workspace

pytestmark = pytest.mark.slow


def grid(**changes: Any) -> Experiment:
    values = {
        "name": "small",
        "experiment": "tests",
        "prompts": ["a red circle", "a blue star", "a green cross"],
        "settings": {"batch_size": 2, "device": "cpu"},
        "axes": {"guidance": [1, 3], "steps": [2, 3]},
        "evaluate": False,
    }
    return build({**values, **changes}, "test")


def sweep(workspace: Workspace, tracker: Tracker, experiment: Experiment, fresh: bool = False) -> Any:
    return sweeping.run_sweep(workspace, tracker, experiment, fresh=fresh, allow_pickle=False)


def states(outcome: Any) -> list[str]:
    return [cell.state for cell in outcome.cells]


def children(client: MlflowClient, parent: str) -> list[Any]:
    experiment = client.get_run(parent).info.experiment_id
    return list(client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent}'"))


def test_a_grid_is_one_parent_with_a_child_a_cell(
    workspace: Workspace, tracker: Tracker, tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[str] = []
    original = making.load
    monkeypatch.setattr(making, "load", lambda settings, **more: loads.append("x") or original(settings, **more))
    outcome = sweep(workspace, tracker, grid())
    assert states(outcome) == ["made"] * 4
    assert loads == ["x"]
    client = MlflowClient(tracking_uri)
    assert len(children(client, outcome.mlflow_run_id)) == 4
    assert client.get_run(outcome.mlflow_run_id).info.status == "FINISHED"
    with workspace.reading() as session:
        runs = list(session.scalars(select(Run).order_by(Run.id)))
        assert [(run.guidance, run.steps) for run in runs] == [(1, 2), (1, 3), (3, 2), (3, 3)]
        seeds = {tuple(image.seed for image in run.images) for run in runs}
        assert len(seeds) == 1  # paired: the same prompt starts from the same noise in every cell
    again = sweep(workspace, tracker, grid())
    assert states(again) == ["taken over"] * 4
    assert again.mlflow_run_id == outcome.mlflow_run_id
    assert len(children(client, outcome.mlflow_run_id)) == 4
    wider = sweep(workspace, tracker, grid(name="wider", axes={"guidance": [1, 3, 5], "steps": [2, 3]}))
    assert states(wider) == ["taken over"] * 4 + ["made"] * 2
    with workspace.reading() as session:  # a run that two sweeps have belongs to the one that is asked for
        assert [row.sweep for row in run_rows(session, sweep=outcome.sweep)] == [outcome.name] * 4
        assert [row.sweep for row in run_rows(session, sweep="wider")] == ["wider"] * 6
    fresh = sweep(workspace, tracker, grid(axes={"steps": [2]}), fresh=True)
    assert states(fresh) == ["made"]


@pytest.mark.parametrize("count", [1, 7])
def test_an_interrupted_sweep_goes_on(
    workspace: Workspace, tracker: Tracker, tracking_uri: str, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    made = 0
    original = making.sample

    def stopping(*args: Any, **kwargs: Any) -> Iterator[Any]:
        nonlocal made
        for picture in original(*args, **kwargs):
            if made == count:
                raise KeyboardInterrupt
            made += 1
            yield picture

    with monkeypatch.context() as patch:
        patch.setattr(making, "sample", stopping)
        with pytest.raises(Interrupted, match="the same command goes on"):
            sweep(workspace, tracker, grid())
    with workspace.reading() as session:
        assert session.scalars(select(Sweep)).one().status == RunStatus.INTERRUPTED
        assert len(session.scalars(select(Image)).all()) == count
    outcome = sweep(workspace, tracker, grid())
    assert states(outcome)[count // 3] == "resumed"
    assert len(children(MlflowClient(tracking_uri), outcome.mlflow_run_id)) == 4
    with workspace.reading() as session:
        assert len(session.scalars(select(Run)).all()) == 4
        assert len(session.scalars(select(Image)).all()) == 12


def test_a_failed_cell_does_not_stop_the_others(
    workspace: Workspace, tracker: Tracker, tracking_uri: str, tmp_path: Path
) -> None:
    axes = {"model": [str(tmp_path / "gone"), "shapes"], "steps": [2]}
    outcome = sweep(workspace, tracker, grid(axes=axes))
    assert states(outcome) == ["failed", "made"]
    assert "no model folder" in outcome.failed[0].error
    assert MlflowClient(tracking_uri).get_run(outcome.mlflow_run_id).info.status == "FAILED"


def test_what_a_run_would_say_a_cell_says_too(workspace: Workspace, tracker: Tracker) -> None:
    """Cells that were taken over say it again; scores that nobody asked for are not tried where they are refused."""
    black = (
        "note of cell 1: 3 of 3 images are not finite in fp32, so black, and will not be scored: try less --guidance"
    )
    axes = {"guidance": [3, 1e38], "steps": [2]}
    for state in ("made", "taken over"):
        outcome = sweep(workspace, tracker, grid(axes=axes, prompts=[], evaluate=None, settings={"num": 3}))
        assert states(outcome) == [state, state]
        assert black in outcome.notes()
        assert sweep_lines(outcome)[1 : 1 + len(outcome.notes())] == outcome.notes()


def test_what_is_used_of_a_reference_is_said_once(workspace: Workspace, tracker: Tracker, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a.png", "b.png", "a copy.png"):
        PIL.Image.new("RGB", (64, 64), "red" if name[0] == "a" else "blue").save(folder / name)
    changes = {"prompts": [], "settings": {"num": 3}, "axes": {"guidance": [2, 3], "steps": [2]}, "evaluate": None}
    outcome = sweep(workspace, tracker, grid(**changes, reference=str(folder)))
    said = [note for note in outcome.notes() if "pictures used" in note]
    assert len(said) == 1
    assert said[0].startswith(f"note: reference {folder}: 2 pictures used, 1 file left out")


def test_an_unexpected_error_is_a_failed_cell(
    workspace: Workspace, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = generation.Generator.generate

    def failing(self: generation.Generator, plan: Any, prepared: Any = None) -> Any:
        if plan.settings.steps == 2:
            raise RuntimeError("the model broke")
        return original(self, plan)

    monkeypatch.setattr(generation.Generator, "generate", failing)
    outcome = sweep(workspace, tracker, grid(axes={"steps": [2, 3]}))
    assert states(outcome) == ["failed", "made"]
    assert outcome.failed[0].error == "RuntimeError: the model broke"


def test_a_forecast_reads_only(workspace: Workspace, tracker: Tracker) -> None:
    cells, total = forecast(workspace, grid())
    assert total.seconds is None
    assert [(cell.images, cell.made, cell.seconds) for cell in cells] == [(3, 0, None)] * 4
    assert not workspace.home.exists()
    sweep(workspace, tracker, grid(axes={"steps": [2]}))
    (two, four), total = forecast(workspace, grid(axes={"steps": [2, 4]}))
    assert (two.made, four.made) == (0, 0)
    assert two.seconds is not None
    assert four.seconds is not None
    assert four.seconds.mean == pytest.approx(two.seconds.mean * 5 / 3)  # pndm calls the network n + 1 times
    assert total.pictures == two.seconds.plus(four.seconds)
    assert total.start is not None
    assert total.start.mean > 0, "the run that loaded the model says how long that took"
    assert total.seconds == total.pictures.plus(total.start)
    (done,), total = forecast(workspace, grid(axes={"steps": [2]}))
    assert (done.made, total.pictures, total.unknown) == (3, None, 0)
    (heun, ddim), _ = forecast(
        workspace, grid(axes={"scheduler": ["heun", "ddim"]}, settings={"steps": 4, "batch_size": 2})
    )
    assert heun.seconds is not None
    assert ddim.seconds is not None
    assert heun.seconds.mean / ddim.seconds.mean == pytest.approx(7 / 4)  # 2 n - 1 and n


def test_comparing_what_cannot_be_compared(workspace: Workspace, tracker: Tracker) -> None:
    outcome = sweep(workspace, tracker, grid(axes={"steps": [2, 3]}))
    with pytest.raises(CompareError, match="evaluate"):
        comparing.ranking(workspace)
    with pytest.raises(NotFound, match="no experiment 'other'; there is tests"):
        comparing.ranking(workspace, experiment="other")
    with pytest.raises(CompareError, match="the same run"):
        comparing.pair(workspace, outcome.cells[0].run, outcome.cells[0].run)


IMPOSSIBLE = r"scheduler pndm cannot do steps 501: it begins at timestep 501 of 1000, .* --steps 500 or 901 works$"


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"steps": [2, 501]}, IMPOSSIBLE),
        ({"scheduler": ["ddim", "pndm"], "steps": [2, 501]}, "scheduler ddim cannot do steps 501: "),
        ({"scheduler": ["pndm", "unipc"], "steps": [999]}, "scheduler unipc cannot do steps 999: "),
        (
            {"model": ["shapes", "COPY"], "steps": [2, 3]},
            "scheduler pndm cannot do steps 2: it begins at timestep 2, beyond",
        ),
    ],
)
def test_steps_that_a_cell_cannot_do_are_refused_before_the_first(
    workspace: Workspace,
    tracker: Tracker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    axes: dict[str, list[Any]],
    message: str,
) -> None:
    """By the sweep and its dry run alike, by the schedulers' configurations alone."""
    monkeypatch.setattr(making, "load", lambda *_, **__: pytest.fail("a model was loaded"))
    copy = tmp_path / "copy"
    shutil.copytree(assets.shapes_sd(), copy, ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((assets.shapes_sd() / "scheduler" / "scheduler_config.json").read_text())
    (copy / "scheduler" / "scheduler_config.json").write_text(json.dumps(config | {"num_train_timesteps": 2}))
    experiment = grid(axes={name: [str(copy) if value == "COPY" else value for value in v] for name, v in axes.items()})
    for entry in (forecast, lambda *_: sweep(workspace, tracker, experiment)):
        with pytest.raises(SettingsError, match=message):
            entry(workspace, experiment)


def test_a_forecast_asks_nothing_of_models_that_are_not_here(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "broken" / "scheduler").mkdir(parents=True)
    (tmp_path / "broken" / "scheduler" / "scheduler_config.json").write_text("[]")
    models = ["owner/name", str(tmp_path / "gone"), str(tmp_path), str(tmp_path / "broken"), "shapes"]
    cells, _ = forecast(workspace, grid(axes={"model": models, "steps": [2]}))
    assert [cell.settings.model for cell in cells] == models
    excluded = {"axes": {"scheduler": ["pndm", "euler"], "steps": [2, 501]}, "exclude": [{"steps": 501}]}
    assert len(forecast(workspace, grid(**excluded))[0]) == 2
