"""What an evaluation is asked for, and what is found out before the first image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from t2i_track.errors import MetricError
from t2i_track.metrics import extractors
from t2i_track.runs.evaluate import before_generation
from t2i_track.runs.request import Request
from t2i_track.settings import Settings
from t2i_track.workspace import Workspace

CAPTIONS, OTHERS = (
    ["a small red circle on a white background", "two small red stars on a white background"],
    ["a dog on a beach"],
)
LARGE = {"model": "somebody/model", "height": 512, "width": 512}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(home=tmp_path / "home")


@pytest.fixture
def pictures(tmp_path: Path) -> str:
    (tmp_path / "pictures").mkdir()
    PIL.Image.new("RGB", (64, 64), "red").save(tmp_path / "pictures" / "one.png")
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
