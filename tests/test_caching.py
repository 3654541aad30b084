"""``--cache-interval``: attention that is extrapolated between steps, on small models of every family that takes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from t2i_track.errors import SettingsError
from t2i_track.images.encoding import PromptEncoder
from t2i_track.images.families import FAMILIES
from t2i_track.images.fits import require_fit
from t2i_track.images.loading import LoadedPipeline, load
from t2i_track.images.sampling import Job, jobs, sample
from t2i_track.images.schedulers import resolved, set_scheduler
from t2i_track.settings import Settings, Values

CACHED = {"flux-dev": "FluxPipeline", "qwen-image": "QwenImagePipeline", "flux2-klein": "Flux2KleinPipeline"}
PROMPTS = ("a red cat", "a blue dog", "a green bird", "a grey fish")
STEPS, INTERVAL = 8, 3
WORKED_OUT = 5
"""Of the 8 steps the first three, the fifth and the eighth."""


def test_every_family_that_takes_a_cache_is_tried() -> None:
    assert set(CACHED.values()) == {name for name, family in FAMILIES.items() if family.cached}


@pytest.fixture(params=CACHED)
def pipeline(request: pytest.FixtureRequest, tiny: Callable[[str], Path]) -> LoadedPipeline:
    return load(Settings(model=str(tiny(request.param)), device="cpu", cache_interval=INTERVAL))


def settled(pipeline: LoadedPipeline, steps: int = STEPS) -> Values:
    asked = Settings(
        guidance=4.0,
        steps=steps,
        batch_size=2,
        height=64,
        width=64,
        device="cpu",
        dtype="fp32",
        cache_interval=INTERVAL,
    )
    settings = resolved(pipeline.configs["scheduler"], dataclasses.replace(asked, model=pipeline.name))
    require_fit(settings, pipeline.pipeline_class, pipeline.configs)
    set_scheduler(pipeline.pipe, pipeline.configs["scheduler"], settings)
    return settings


def made(pipeline: LoadedPipeline, todo: list[Job] | None = None) -> NDArray[Any]:
    settings = settled(pipeline)
    stream = sample(pipeline.pipe, PromptEncoder(pipeline.pipe, settings), todo or jobs(PROMPTS, 42, 1), settings)
    return np.array([picture.pixels for picture in stream], dtype=int)


def test_a_picture_is_its_own_and_another_than_without(pipeline: LoadedPipeline) -> None:
    """Neither the pictures beside it nor those before it, nor a batch that failed, move it."""
    todo, together = list(jobs(PROMPTS, 42, 1)), made(pipeline)
    assert (made(pipeline, todo[::-1])[::-1] == together).all()
    assert (made(pipeline, todo[3:])[0] == together[3]).all()

    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("in the middle of a call")

    handle = pipeline.pipe.transformer.proj_out.register_forward_pre_hook(fails)
    with pytest.raises(RuntimeError, match="in the middle"):
        made(pipeline, todo[:2])
    handle.remove()
    assert (made(pipeline, todo[:2]) == together[:2]).all()

    pipeline.pipe.transformer.disable_cache()
    assert (made(pipeline) != together).any()


def test_attention_is_worked_out_in_the_steps_that_are_said(pipeline: LoadedPipeline) -> None:
    attention = pipeline.pipe.transformer.transformer_blocks[0].attn
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    attention.to_out[0].register_forward_hook(count)
    made(pipeline, list(jobs(PROMPTS[:1], 42, 1)))
    guided = pipeline.family.guided(settled(pipeline), pipeline.family.guided_by(pipeline.configs))
    assert calls == WORKED_OUT * (2 if guided else 1)


def test_it_is_refused_where_it_would_be_ignored(pipeline: LoadedPipeline) -> None:
    with pytest.raises(SettingsError, match="cache_interval 3 would be ignored with 3 steps"):
        settled(pipeline, steps=3)
