"""Weighted prompts: what the syntax means, what is refused, and that weights move pictures, and nothing else does."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from homes import copy_home
from sqlalchemy import select

from t2i_track import api, assets
from t2i_track.db.models import Image, Run, RunStatus
from t2i_track.errors import SettingsError
from t2i_track.images import png
from t2i_track.images.encoding import PromptEncoder, are_cut
from t2i_track.images.families import FAMILIES
from t2i_track.images.fits import require_fit
from t2i_track.images.loading import LoadedPipeline, load
from t2i_track.images.model import configs_in
from t2i_track.images.sampling import jobs, sample
from t2i_track.images.schedulers import set_scheduler
from t2i_track.images.weighting import weighted
from t2i_track.runs.reproduce import reproduce
from t2i_track.settings import Settings
from t2i_track.workspace import Workspace

PLAIN = ["one big red circle on a white background", "two small blue stars"]
ONE = ["one big (red)1.0 circle on a white background", "two (small blue)1 stars"]
HEAVY = ["one big (red)1.6 circle on a white background", "two (small blue)0.3 stars"]
NEGATIVE = "(green)1.3 square"


@pytest.fixture(scope="module", params=["shapes", "sdxl"])
def loaded(request: pytest.FixtureRequest, tiny: Callable[[str], Path], pipeline: LoadedPipeline) -> LoadedPipeline:
    return pipeline if request.param == "shapes" else load(Settings(model=str(tiny(request.param)), device="cpu"))


def made(loaded: LoadedPipeline, prompts: list[str], some: slice = slice(None), **chosen: Any) -> np.ndarray[Any, Any]:
    settings = Settings(
        **{"prompt_weighting": "compel", "steps": 2, "batch_size": 2, "height": 64, "width": 64, "guidance": 5.0}
        | {"scheduler": "ddim", "device": "cpu"} | chosen
    )  # fmt: skip
    require_fit(settings, loaded.pipeline_class, loaded.configs)
    set_scheduler(loaded.pipe, loaded.configs["scheduler"], settings)
    todo = list(jobs(prompts, 42, 1))[some]
    return np.array(
        [one.pixels for one in sample(loaded.pipe, PromptEncoder(loaded.pipe, settings), todo, settings)], dtype=int
    )


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("a red cat", [("a red cat", 1.0)]),
        ("a (red)1.4 cat", [("a", 1.0), ("red", 1.4), ("cat", 1.0)]),
        ("a red++ cat", [("a", 1.0), ("red", 1.1**2), ("cat", 1.0)]),
        ("(a (red)1.5 cat)0.5", [("a", 0.5), ("red", 0.75), ("cat", 0.5)]),
        ("a (red)1.0 cat", [("a red cat", 1.0)]),
        (r"a \(red\) well-known cat", [("a (red) well-known cat", 1.0)]),
    ],
)
def test_the_syntax_is_compels(prompt: str, parts: list[tuple[str, float]]) -> None:
    found = weighted(prompt)
    assert list(found.texts) == [text for text, _ in parts]
    assert list(found.weights) == pytest.approx([weight for _, weight in parts])


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("a (red:1.4) cat", "'(red:1.4)' is how other programs write a weight, and compel writes (red)1.4"),
        ('("a", "b").and()', "only weights are taken"),
        ('("a", "b").blend(1, 0.5)', "only weights are taken"),
        ('a "cat".swap("dog")', "only weights are taken"),
        ("a cat withLora(x, 0.5)", "only weights are taken"),
        ("((((a))))", "its brackets are 4 deep, and 3 is the most"),
        ("(" * 40 + "a", "its brackets are 40 deep"),
        ("(a)1.1 " * 4000, "it has more than 16384 characters"),
    ],
)
def test_what_would_be_ignored_is_refused_in_one_line(prompt: str, reason: str) -> None:
    with pytest.raises(SettingsError) as told:
        weighted(prompt)
    assert f"cannot be weighted: {reason}" in str(told.value)
    assert "\n" not in str(told.value)


def test_weight_one_is_no_weight_and_another_moves_the_picture(loaded: LoadedPipeline) -> None:
    none = made(loaded, PLAIN, prompt_weighting="none")
    assert abs(made(loaded, PLAIN) - none).max() <= 1
    assert abs(made(loaded, ONE) - none).max() <= 1
    for heavy, plain in zip(made(loaded, HEAVY), none, strict=True):
        assert abs(heavy - plain).max() > 1
    assert abs(made(loaded, PLAIN, negative_prompt="green square") - none).max() > 1
    green = made(loaded, PLAIN, negative_prompt="green square", prompt_weighting="none")
    assert abs(made(loaded, PLAIN, negative_prompt="(green square)1") - green).max() <= 1
    assert abs(made(loaded, PLAIN, negative_prompt=NEGATIVE) - green).max() > 1


def test_neither_batch_nor_order_nor_company_matters(loaded: LoadedPipeline) -> None:
    both = made(loaded, HEAVY, negative_prompt=NEGATIVE)
    assert (made(loaded, HEAVY, slice(1, 2), negative_prompt=NEGATIVE)[0] == both[1]).all()
    assert (made(loaded, HEAVY, slice(None, None, -1), negative_prompt=NEGATIVE)[::-1] == both).all()
    assert abs(made(loaded, HEAVY, negative_prompt=NEGATIVE, batch_size=1) - both).max() <= 2


def test_tokens_are_those_of_the_words_and_what_is_beyond_the_window_is_cut(loaded: LoadedPipeline) -> None:
    encode = {name: PromptEncoder(loaded.pipe, Settings(prompt_weighting=name)) for name in ("none", "compel")}
    for plain, heavy in zip(encode["none"](PLAIN), encode["compel"](HEAVY), strict=True):
        assert heavy.tokens == plain.tokens
    long = "(red)1.5 " * 100
    (found,) = encode["compel"]([long])
    assert found.truncated
    assert found.tokens == 102
    assert len(found.inputs["prompt_embeds"]) == 77
    # What is within the window is as without the rest.
    (within,) = encode["compel"](["(red)1.5 " * 75])
    assert not within.truncated
    assert torch.equal(found.inputs["prompt_embeds"], within.inputs["prompt_embeds"])
    weighed = Settings(prompt_weighting="compel")
    assert are_cut(loaded.pipe, [long, "(red)1.5 " * 75], weighed) == [True, False]


@pytest.mark.parametrize(("model", "name"), [("sd1", "sd1-embedding-long"), ("sdxl", "sdxl-embedding")])
def test_embeddings_count_with_all_their_vectors(model: str, name: str, tiny: Callable[[str], Path]) -> None:
    pipeline = load(Settings(model=str(tiny(model)), embedding=str(tiny(name)), device="cpu"))
    token = pipeline.adapters.tokens[0].token
    encode = {name: PromptEncoder(pipeline.pipe, Settings(prompt_weighting=name)) for name in ("none", "compel")}
    (plain,), (alike,) = encode["none"]([f"a {token} cat"]), encode["compel"]([f"a ({token})1 cat"])
    (heavy,) = encode["compel"]([f"a ({token})1.5 cat"])
    assert plain.tokens == alike.tokens == heavy.tokens
    for key, tensor in plain.inputs.items():
        torch.testing.assert_close(alike.inputs[key], tensor)
    assert not torch.allclose(heavy.inputs["prompt_embeds"], plain.inputs["prompt_embeds"])


@pytest.mark.parametrize("name", sorted(name for name, family in FAMILIES.items() if not family.weighted))
def test_other_families_are_refused_by_name(name: str) -> None:
    from t2i_track.images.fits import _require_weighting

    with pytest.raises(SettingsError) as told:
        _require_weighting(FAMILIES[name], Settings(prompt_weighting="compel"))
    assert str(told.value) == (
        f"prompt_weighting compel cannot be for {FAMILIES[name].title}, only for Stable Diffusion 1.x, 2.x and Stable"
        " Diffusion XL, Turbo, Lightning: leave it out"
    )


def test_it_is_refused_from_configurations_alone(tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny("flux-dev")
    with pytest.raises(SettingsError, match="prompt_weighting compel cannot be for Flux"):
        require_fit(Settings(prompt_weighting="compel"), "FluxPipeline", configs_in(folder, "flux"))
    here = configs_in(assets.shapes_sd(), "shapes")
    for other in ({"clip_skip": 1}, {"offload": "sequential"}):
        with pytest.raises(SettingsError, match=f"prompt_weighting compel .* {next(iter(other))}"):
            require_fit(Settings(prompt_weighting="compel", **other), "StableDiffusionPipeline", here)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"compel, which is not installed: pip install 't2i-track\[weighting\]'"):
        require_fit(Settings(prompt_weighting="compel"), "StableDiffusionPipeline", here)
    require_fit(Settings(), "StableDiffusionPipeline", here)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, fresh_mlflow_store: Path) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("weighting")
    shutil.copyfile(fresh_mlflow_store, folder / "mlflow.db")
    workspace, uri = Workspace(home=folder / "home"), f"sqlite:///{folder / 'mlflow.db'}"
    outcome = api.generate(
        prompt=[*HEAVY, *PLAIN], steps=2, batch_size=2, device="cpu", negative_prompt=NEGATIVE, evaluate=False,
        prompt_weighting="compel", home=workspace.home, tracking_uri=uri,
    )  # fmt: skip
    return SimpleNamespace(workspace=workspace, uri=uri, id=outcome.summary.run)


def test_a_run_is_recorded_resumed_and_reproduced(run: SimpleNamespace, tmp_path: Path) -> None:
    home = tmp_path / "home"
    copy_home(run.workspace.home, home)
    workspace = Workspace(home=home)
    with workspace.begin() as session:
        before = {image.prompt_index: image.sha256 for image in session.scalars(select(Image))}
        session.scalars(select(Run)).one().status = RunStatus.FAILED
        for image in session.scalars(select(Image).where(Image.prompt_index.in_([0, 3]))):
            workspace.image_path(image).unlink()
            session.delete(image)
    api.generate(resume=run.id, home=home, tracking_uri=run.uri, evaluate=False)
    with workspace.reading() as session:
        images = list(session.scalars(select(Image).order_by(Image.prompt_index)))
        path = workspace.image_path(images[0])
    assert {image.prompt_index: image.sha256 for image in images} == before
    record: Any = png.read_record(path)
    assert record["prompt_weighting"] == "compel"
    assert record["prompt"] == HEAVY[0]
    assert reproduce(workspace, str(images[1].id)).equal
    shutil.copyfile(path, tmp_path / "mailed.png")
    assert reproduce(Workspace(home=tmp_path / "nothing"), str(tmp_path / "mailed.png")).equal


def test_a_prompt_that_cannot_be_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for given in ({"prompt": ["a (red:1.4) cat"]}, {"prompt": ["a"], "negative_prompt": "(x:2)"}):
        with pytest.raises(SettingsError, match="is how other programs write a weight"):
            api.generate(prompt_weighting="compel", home=home, tracking_uri=f"sqlite:///{tmp_path}/mlflow.db", **given)
    assert not home.exists()
