"""What an evaluation is asked for, and what is found out before the first image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from homes import has_database
from summaries import summary

from t2i_track import api
from t2i_track.cli import cli
from t2i_track.cli.sweep import print_swept
from t2i_track.errors import Interrupted, MetricError, T2IError
from t2i_track.metrics import extractors
from t2i_track.metrics.extractors import SHAPES_DIMENSION
from t2i_track.results import SweepResult
from t2i_track.runs.evaluate import before_generation
from t2i_track.runs.grid import build
from t2i_track.runs.launch import Outcome
from t2i_track.runs.request import Request
from t2i_track.runs.sweep import CellOutcome, SweepOutcome, run_sweep
from t2i_track.settings import Settings
from t2i_track.workspace import Workspace

CAPTIONS, OTHERS = (
    ["a small red circle on a white background", "two small red stars on a white background"],
    ["a dog on a beach"],
)
LARGE = {"model": "somebody/model", "height": 512, "width": 512}


@pytest.fixture
def pictures(tmp_path: Path) -> str:
    (tmp_path / "pictures").mkdir()
    for colour in ("red", "blue"):
        PIL.Image.new("RGB", (64, 64), colour).save(tmp_path / "pictures" / f"{colour}.png")
    return str(tmp_path / "pictures")


@pytest.fixture
def no_inception(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv(extractors.WEIGHTS_VARIABLE, raising=False)
    monkeypatch.setattr(extractors, "INCEPTION_URL", "http://127.0.0.1:9/weights.pth")


def ask(workspace: Workspace, prompts: list[str], wanted: bool | None, reference: str | None, **settings: Any) -> None:
    before_generation(workspace, Settings(**settings), prompts, wanted=wanted, reference=reference)


@pytest.mark.parametrize(
    ("request_", "options"),
    [
        (Request(), ""),
        (Request(metrics=("fid",), skip_bad=True), "--skip-bad"),
        (
            Request(reference="my photos", extractor="dinov2:base", weights=Path("w.pth"), clip="c", resize=256),
            "--extractor dinov2:base --extractor-weights w.pth --clip c --reference 'my photos' --resize 256",
        ),
        (Request(protocol="shapes", device="cpu"), "--device cpu --protocol shapes"),
    ],
)
def test_a_request_as_options(request_: Request, options: str) -> None:
    assert request_.options() == options


@pytest.mark.usefixtures("no_inception")
@pytest.mark.parametrize(("prompts", "settings"), [(OTHERS, {}), (OTHERS, LARGE), (CAPTIONS, LARGE)])
def test_weights_that_are_not_here_are_found_out_first(
    workspace: Workspace, pictures: str, prompts: list[str], settings: dict[str, Any]
) -> None:
    with pytest.raises(
        MetricError, match=r"nothing was made, .*weights-inception.*cannot be fetched.*--no-evaluate leaves them out$"
    ):
        ask(workspace, prompts, None, pictures, **settings)


@pytest.mark.parametrize(
    ("prompts", "wanted", "reference", "message"),
    [
        (OTHERS, True, None, "nothing was made, .* nothing to measure these by, so give --reference"),
        (CAPTIONS, None, "nowhere", "nothing was made, .* no reference 'nowhere'"),
        (CAPTIONS, True, "run:0123456789ab", "nothing was made, .*(?i:database)"),
    ],
)
def test_a_reference_that_is_missing_is_found_out_first(
    workspace: Workspace, prompts: list[str], wanted: bool | None, reference: str | None, message: str
) -> None:
    with pytest.raises(MetricError, match=message):
        ask(workspace, prompts, wanted, reference)


@pytest.mark.parametrize("wanted", [None, True])
def test_a_reference_that_is_too_small_is_found_out_first(
    workspace: Workspace, pictures: str, wanted: bool | None
) -> None:
    ask(workspace, CAPTIONS, wanted, pictures)
    (Path(pictures) / "red.png").unlink()
    with pytest.raises(MetricError, match=r"nothing was made, .* needs a reference of 2 pictures, .* has 1 picture"):
        ask(workspace, CAPTIONS, wanted, pictures)
    ask(workspace, CAPTIONS, False, pictures)


@pytest.mark.usefixtures("no_inception")
@pytest.mark.parametrize(
    ("prompts", "wanted", "reference", "settings"),
    [
        (CAPTIONS, True, None, {}),
        (CAPTIONS, None, "pictures", {}),
        (OTHERS, None, None, {}),
        (OTHERS, False, "nowhere", {}),
        (CAPTIONS, True, None, {"model": "somebody/small"}),  # its own size may be the embedded one
        (CAPTIONS, True, None, {"model": "somebody/small", "height": 64, "width": 64}),
    ],
)
def test_what_can_be_measured_or_is_not_asked_for(
    workspace: Workspace, pictures: str, prompts: list[str], wanted: bool | None, reference: str | None,
    settings: dict[str, Any],
) -> None:  # fmt: skip
    ask(workspace, prompts, wanted, pictures if reference == "pictures" else reference, **settings)


SUMMARY = summary(images=1, made=1)


@pytest.mark.parametrize("fmt", ["json", "table"])
def test_what_was_made_is_told_where_it_cannot_be_scored(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fmt: str
) -> None:
    monkeypatch.setattr(api, "generate", lambda **_: Outcome(SUMMARY, None, [], "the reference is gone"))
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with pytest.raises(T2IError, match=r"^the reference is gone$"):
        cli.main(["generate", "--format", fmt], standalone_mode=False)
    printed = capsys.readouterr().out
    assert SUMMARY.folder in printed
    if fmt == "json":
        assert json.loads(printed) | {"unscored": "the reference is gone", "images": 1} == json.loads(printed)


def test_a_sweep_that_cannot_be_compared_tells_its_cells(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = (
        CellOutcome(0, Settings(), "made", "a" * 32),
        CellOutcome(1, Settings(), "failed", "b" * 32, "the reference is gone"),
    )
    found = SweepResult(SweepOutcome("c" * 32, "s", "d" * 32, cells), None, "no fid")
    with pytest.raises(T2IError, match="1 of 2 cells failed"):
        print_swept(found, workspace, "json")
    assert json.loads(capsys.readouterr().out) == [
        {"cell": 0, "state": "made", "run": "a" * 32, "error": None},
        {"cell": 1, "state": "failed", "run": "b" * 32, "error": "the reference is gone"},
    ]


def test_a_sweep_makes_nothing_that_it_could_not_score(workspace: Workspace) -> None:
    grid = {"name": "s", "prompts": CAPTIONS, "axes": {"steps": [2, 3]}, "reference": "nowhere"}
    with pytest.raises(MetricError, match=r"nothing was made, .* no reference 'nowhere'"):
        run_sweep(workspace, None, build(grid, "test"), fresh=False, allow_pickle=False)  # type: ignore[arg-type]
    assert not has_database(workspace.home)


@pytest.mark.slow
@pytest.mark.parametrize("error", [MetricError("gone"), RuntimeError("out of memory"), KeyboardInterrupt()])
def test_a_run_whose_scoring_fails_is_still_returned(
    workspace: Workspace, tracking_uri: str, pictures: str, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("t2i_track.runs.evaluate.after_generation", failing)

    def generated() -> Outcome:
        return api.generate(
            prompt=CAPTIONS[0], steps=2, batch_size=1, device="cpu", reference=pictures, tracking_uri=tracking_uri,
            home=workspace.home,
        )  # fmt: skip

    if isinstance(error, KeyboardInterrupt):
        with pytest.raises(Interrupted, match=r"its 1 images are in .*: t2i evaluate [0-9a-f]{12} --reference "):
            generated()
        return
    told = "RuntimeError: out of memory" if isinstance(error, RuntimeError) else "gone"
    made = generated()
    assert (made.summary.images, made.scored, made.unscored) == (1, None, told)
    assert made.lines()[-1] == f"not scored: {told}"


@pytest.mark.parametrize("dimension", [20, 2048, SHAPES_DIMENSION + 1])
def test_statistics_of_another_network_are_found_out_first(
    workspace: Workspace, tmp_path: Path, dimension: int
) -> None:
    np.savez(tmp_path / "stats.npz", mu=np.zeros(dimension), sigma=np.eye(dimension))
    with pytest.raises(MetricError, match=rf"nothing was made, .* have {dimension} dimensions and the images. 128"):
        ask(workspace, CAPTIONS, None, str(tmp_path / "stats.npz"))
    np.savez(tmp_path / "stats.npz", mu=np.zeros(SHAPES_DIMENSION), sigma=np.eye(SHAPES_DIMENSION))
    ask(workspace, CAPTIONS, None, str(tmp_path / "stats.npz"))
