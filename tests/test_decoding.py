"""Pictures that are not finite: found one by one, decoded or made again in fp32, and never scored without a word."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sqlalchemy import select

import t2i_track
from t2i_track.db.models import Image, Run
from t2i_track.errors import BadImages
from t2i_track.images.decoding import Note, in_fp32, is_half
from t2i_track.images.encoding import PromptEncoder
from t2i_track.images.loading import LoadedPipeline, load
from t2i_track.images.sampling import Job, Picture, jobs, sample
from t2i_track.runs import evaluate
from t2i_track.runs.content import image_frame
from t2i_track.runs.launch import Outcome
from t2i_track.runs.reproduce import reproduce
from t2i_track.runs.rows import _shown
from t2i_track.settings import Settings
from t2i_track.tracking import Tracker
from t2i_track.workspace import Workspace

PROMPTS = ["one big red circle", "two small blue stars", "a green cross"]
JOBS = list(jobs(PROMPTS, 42, 1))


def make(loaded: LoadedPipeline, todo: list[Job] = JOBS, **more: Any) -> list[Picture]:
    settings = Settings(**{"steps": 2, "height": 64, "width": 64, "batch_size": 2, "guidance": 3.0, **more})
    return list(sample(loaded.pipe, PromptEncoder(loaded.pipe, settings), todo, settings))


@pytest.fixture(scope="module", params=["bf16", "fp16"])
def half(request: pytest.FixtureRequest) -> LoadedPipeline:
    return load(Settings(device="cpu", dtype=request.param))


@contextmanager
def spoiling(module: Any, name: str, value: float, row: int, *, also_fp32: bool = False) -> Iterator[None]:
    """The module's function gives this value in that row of every full batch; in single precision only if asked."""
    original = getattr(module, name)

    def spoiled(given: torch.Tensor, *more: Any, **named: Any) -> tuple[torch.Tensor]:
        found = original(given, *more, **named)[0].clone()
        if given.dtype != torch.float32 or also_fp32:
            found[row % len(found) :: 2, 0, 0, 0] = value
        return (found,)

    setattr(module, name, spoiled)
    try:
        yield
    finally:
        delattr(module, name) if name in vars(module) else None


VALUES = [float("nan"), float("inf"), float("-inf")]


@pytest.mark.parametrize("value", VALUES)
def test_a_decoder_that_overflows_is_followed_by_one_in_fp32(half: LoadedPipeline, value: float) -> None:
    good = make(half)
    with spoiling(half.pipe.vae, "decode", value, row=1):
        found = make(half)
    assert [picture.note for picture in found] == [None, Note.DECODED, None]
    assert not any(picture.flagged for picture in found)
    for before, after in zip(good, found, strict=True):
        difference = np.abs(before.pixels.astype(int) - after.pixels.astype(int))
        assert difference.mean() < 3, "the same latents"
    assert is_half(half.pipe)


@pytest.mark.parametrize("value", VALUES)
def test_a_network_that_overflows_is_run_again_in_fp32(half: LoadedPipeline, value: float) -> None:
    with spoiling(half.pipe.unet, "forward", value, row=0):
        found = make(half, guidance=1.0)
    assert [picture.note for picture in found] == [Note.REMADE, None, Note.REMADE]
    assert [(picture.batch_size, picture.dtype) for picture in found] == [(1, "fp32"), (None, None), (1, "fp32")]
    with in_fp32(half.pipe.unet, half.pipe.vae, half.pipe.text_encoder):
        alone = make(half, [JOBS[2]], guidance=1.0, batch_size=1)
    np.testing.assert_array_equal(found[2].pixels, alone[0].pixels)


@pytest.mark.parametrize("value", VALUES)
def test_what_is_not_finite_in_fp32_either_is_black_and_says_so(half: LoadedPipeline, value: float) -> None:
    with spoiling(half.pipe.unet, "forward", value, row=0, also_fp32=True):
        found = make(half, guidance=1.0)
    assert [picture.note for picture in found] == [Note.NOT_FINITE, None, Note.NOT_FINITE]
    assert [picture.flagged for picture in found] == [True, False, True]
    assert [bool(picture.pixels.any()) for picture in found] == [False, True, False]


def test_absurd_guidance_is_flagged(pipeline: LoadedPipeline) -> None:
    found = make(pipeline, guidance=1e38, steps=4)
    assert {(picture.flagged, picture.note, bool(picture.pixels.any())) for picture in found} == {
        (True, Note.NOT_FINITE.value, False)
    }


def test_the_company_of_a_spoiled_picture_does_not_matter(half: LoadedPipeline) -> None:
    good = make(half, guidance=1.0)
    with spoiling(half.pipe.unet, "forward", float("nan"), row=0):
        found = make(half, guidance=1.0)
    np.testing.assert_array_equal(found[1].pixels, good[1].pixels)


def test_the_weights_are_left_as_they_were(half: LoadedPipeline) -> None:
    before = {name: tensor.clone() for name, tensor in half.pipe.vae.state_dict().items()}
    with in_fp32(half.pipe.vae):
        assert half.pipe.vae.dtype == torch.float32
    after = half.pipe.vae.state_dict()
    assert all(tensor.dtype == after[name].dtype for name, tensor in before.items())
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def run(workspace: Workspace, tracking_uri: str, **settings: Any) -> Outcome:
    """A run over embedded captions, which are scored unless something speaks against it."""
    where: dict[str, Any] = {"home": workspace.home, "tracking_uri": tracking_uri, "experiment": "tests"}
    return t2i_track.generate(**where, **{"steps": 2, "batch_size": 2, "device": "cpu", "num": 4, **settings})


def rows(workspace: Workspace) -> list[tuple[bool, str | None, int | None, str | None]]:
    with workspace.reading() as session:
        images = session.scalars(select(Image).order_by(Image.run_id, Image.prompt_index))
        return [(image.flagged, image.note, image.batch_size, image.dtype) for image in images]


def test_a_run_of_nothing_finite_says_so_and_is_not_scored(tmp_path: Path, tracking_uri: str) -> None:
    workspace = Workspace(home=tmp_path / "home")
    outcome = run(workspace, tracking_uri, guidance=1e38, steps=4)
    assert outcome.scored is None
    assert outcome.notes == [
        "4 of 4 images are not finite in fp32, so black, and will not be scored: try less --guidance"
    ]
    assert (outcome.summary.flagged, outcome.summary.not_finite, outcome.summary.mended) == (4, 4, 0)
    assert rows(workspace) == [(True, Note.NOT_FINITE, None, None)] * 4
    with (
        Tracker(tracking_uri, workspace.outbox) as tracker,
        pytest.raises(
            BadImages, match=r"^4 of 4 pictures of run .* are not finite, so black: .* with less --guidance$"
        ),
    ):
        evaluate.score(workspace, tracker, ["latest"], evaluate.Request(skip_bad=True))


def test_some_that_are_not_finite_are_left_out_with_their_number_or_refused(
    tmp_path: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(home=tmp_path / "home")
    from diffusers import AutoencoderKL

    decode = AutoencoderKL.decode

    def spoil_row_1(vae: Any, latents: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        latents = latents.clone()
        latents[1:2, 0, 0, 0] = float("nan")
        return decode(vae, latents, *args, **kwargs)

    with monkeypatch.context() as spoiled:
        spoiled.setattr(AutoencoderKL, "decode", spoil_row_1)
        outcome = run(workspace, tracking_uri, steps=3)
        with workspace.reading() as session:
            black = session.scalars(select(Image).where(Image.flagged)).first()
            assert black is not None
        assert reproduce(workspace, str(black.id)).recorded_sha256 == black.pixels_sha256
    assert outcome.scored is None
    assert [flagged for flagged, *_ in rows(workspace)] == [False, True, False, True]
    request = evaluate.Request(metrics=("alignment",))
    with Tracker(tracking_uri, workspace.outbox) as tracker:
        with pytest.raises(BadImages, match=r"^2 of 4 pictures .*, or score the rest with --skip-bad$"):
            evaluate.score(workspace, tracker, ["latest"], request)
        found = evaluate.score(workspace, tracker, ["latest"], evaluate.Request(metrics=("alignment",), skip_bad=True))[
            0
        ]
    assert {score["n"] for score in found.scores if score["name"] == "alignment"} == {2}
    assert found.warnings[0].endswith("are not finite, so black: they were left out")


def test_a_run_in_half_precision_counts_what_was_mended(
    tmp_path: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(home=tmp_path / "home")
    from diffusers import AutoencoderKL

    original = AutoencoderKL.decode

    def overflowing(vae: Any, latents: torch.Tensor, *more: Any, **named: Any) -> Any:
        found = original(vae, latents, *more, **named)
        return (found[0] * float("inf"),) if latents.dtype == torch.bfloat16 else found

    monkeypatch.setattr(AutoencoderKL, "decode", overflowing)
    outcome = run(workspace, tracking_uri, dtype="bf16")
    assert outcome.notes[0] == "4 of 4 images overflowed in half precision and were made in fp32"
    assert outcome.scored is not None
    assert rows(workspace) == [(False, Note.DECODED, None, None)] * 4
    assert reproduce(workspace, "1").equal
    with workspace.begin() as session:
        frame = image_frame(session, session.scalars(select(Run)).one())
        assert list(frame["note"]) == [Note.DECODED] * 4
        image = session.scalars(select(Image)).first()
        assert image is not None
        image.dtype, image.batch_size, image.note = "fp32", 1, Note.REMADE.value
        shown = _shown(image, workspace)
    assert (shown["dtype"], shown["batch_size"], shown["note"]) == ("fp32", 1, Note.REMADE)
