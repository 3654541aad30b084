"""How many images a batch has where that is left open, and that it stays what was found out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from t2i_track import api
from t2i_track.db.lineage import find_run
from t2i_track.images import batch_size
from t2i_track.images.loading import LoadedPipeline
from t2i_track.images.schedulers import set_scheduler
from t2i_track.settings import AUTO, Settings
from t2i_track.workspace import Workspace


def settings(pipeline: LoadedPipeline, **chosen: Any) -> Settings:
    found = Settings(**{"steps": 20, "scheduler": "ddim", "height": 64, "width": 64, "device": "cpu", **chosen})
    set_scheduler(pipeline.pipe, pipeline.configs["scheduler"], found)
    return found


@pytest.mark.parametrize(("fits", "found"), [(1, 1), (3, 2), (4, 4), (9, 8), (100, 16)])
def test_it_grows_to_what_fits(
    fits: int, found: int, pipeline: LoadedPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = pipeline.pipe.unet.forward

    def full(sample: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if len(sample) > 2 * fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(sample, *args, **kwargs)

    monkeypatch.setattr(pipeline.pipe.unet, "forward", full)
    monkeypatch.setattr(batch_size, "GAIN", 0.0)  # this machine's noise is not the question
    assert batch_size.largest(pipeline.pipe, settings(pipeline), 16) == found


@pytest.mark.parametrize(
    ("rates", "found"), [([1.0, 1.9, 3.0, 3.1], 4), ([1.0, 1.0], 1), ([1.0, 2.0, 4.0, 8.0, 16.0], 16)]
)
def test_it_stops_where_more_do_not_pay(rates: list[float], found: int, monkeypatch: pytest.MonkeyPatch) -> None:
    told = iter(rates)
    monkeypatch.setattr(batch_size, "_made", lambda *_: ([], next(told)))
    assert batch_size.largest(None, Settings(device="cpu"), 16) == found


@pytest.mark.slow
def test_what_was_found_out_is_stored_before_the_first_image_and_kept(
    tmp_path: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr("t2i_track.images.batch_sizes.largest", lambda *_: asked.append(1) or 3)
    places = {"home": tmp_path / "home", "tracking_uri": tracking_uri, "evaluate": False, "steps": 2}
    many = api.generate(batch_size="auto", num=5, **places)
    few = api.generate(batch_size="auto", num=2, **places)
    with Workspace(home=tmp_path / "home").reading() as session:
        assert find_run(session, many.summary.run).batch_size == 3
        assert find_run(session, few.summary.run).batch_size == 2
        assert find_run(session, many.summary.run).config["settings"]["batch_size"] == AUTO
    assert len(asked) == 1
    (tmp_path / "home" / "cache" / "batch_sizes.json").write_text("{")
    api.generate(batch_size="auto", num=5, seed=1, **places)
    assert len(asked) == 2
    assert list(json.loads((tmp_path / "home" / "cache" / "batch_sizes.json").read_text()).values()) == [3]


@pytest.mark.slow
def test_a_run_smaller_than_its_batch_stores_the_batch_that_it_used(tmp_path: Path, tracking_uri: str) -> None:
    places = {"home": tmp_path / "home", "tracking_uri": tracking_uri, "evaluate": False, "steps": 2}
    for prompts, each, used in ((["a"], 1, 1), (["a", "b"], 2, 4), ([str(number) for number in range(9)], 1, 8)):
        made = api.generate(prompt=prompts, images_per_prompt=each, **places)
        with Workspace(home=tmp_path / "home").reading() as session:
            assert find_run(session, made.summary.run).batch_size == used


def test_as_an_axis_it_is_shown_as_it_is_written(tmp_path: Path, cli: Callable[..., Any]) -> None:
    grid = {"batch_size": [2, "auto"], "num": 2, "home": tmp_path / "home"}
    assert [row["batch_size"] for row in api.sweep(dry_run=True, **grid).rows()] == [2, "auto"]
    told = cli("sweep", "--batch-size", "2,auto", "--num", 2, "--dry-run", "--format", "csv")
    assert told.code == 0, told.err
    assert [line.split(",")[1] for line in told.out.splitlines()] == ["batch_size", "2", "auto"]
