"""Every family through the one path: pure, equal to a plain call, resumed after a kill, shown, made again, compared."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny as small
import torch
from conftest import Warm
from homes import has_database
from sqlalchemy import select

from t2i_track import api
from t2i_track.db.models import Image, Run
from t2i_track.errors import ModelError, SettingsError
from t2i_track.images.encoding import PromptEncoder, token_counts, window
from t2i_track.images.families import FAMILIES, Guidance, family_of
from t2i_track.images.fits import notes_on_use, require_fit
from t2i_track.images.loading import LoadedPipeline, check_local, load
from t2i_track.images.model import configs_in
from t2i_track.images.sampling import Job, call_arguments, jobs, sample
from t2i_track.images.schedulers import resolved, set_scheduler
from t2i_track.schedulers import network_calls
from t2i_track.settings import Settings, Values
from t2i_track.workspace import Workspace

RUN = sorted(name for name in small.FAMILIES if name not in ("cogview4", "sd1-safety", "sdxl-plain-zeros"))
PROMPTS = ["a red circle", "two large blue squares on a green background, seen from above", "x"]
SIDE, STEPS = 64, 4
NEGATIVE = "ugly"
ACROSS_BATCH_SIZES = 1
"""Of 255."""


@pytest.fixture(scope="module")
def loaded(tiny: Callable[[str], Path]) -> Callable[[str], LoadedPipeline]:
    found: dict[str, LoadedPipeline] = {}

    def get(name: str) -> LoadedPipeline:
        if name not in found:
            found.clear()
            found[name] = load(Settings(model=str(tiny(name)), device="cpu"))
        return found[name]

    return get


def settled(pipeline: LoadedPipeline, **chosen: Any) -> Values:
    """The settings as a run resolves them, with their scheduler in the pipeline."""
    asked = Settings(
        **{"guidance": 5.0, "steps": STEPS, "batch_size": 3, "height": SIDE, "width": SIDE, "device": "cpu", **chosen}
    )
    settings = resolved(pipeline.configs["scheduler"], dataclasses.replace(asked, model=pipeline.name))
    require_fit(settings, pipeline.pipeline_class, pipeline.configs)
    set_scheduler(pipeline.pipe, pipeline.configs["scheduler"], settings)
    return settings


def made(pipeline: LoadedPipeline, settings: Values, todo: list[Job] | None = None) -> np.ndarray[Any, Any]:
    stream = sample(pipeline.pipe, PromptEncoder(pipeline.pipe, settings), todo or jobs(PROMPTS, 42, 1), settings)
    return np.array([picture.pixels for picture in stream], dtype=int)


def plain(pipeline: LoadedPipeline, settings: Values, **given: Any) -> np.ndarray[Any, Any]:
    """What a user's own call of the pipeline makes of the same generators."""
    generators = [torch.Generator().manual_seed(job.seed) for job in jobs(PROMPTS, 42, 1)]
    arguments = call_arguments(pipeline.pipe, settings)
    arguments.pop("negative_prompt", None)
    output = pipeline.pipe(prompt=list(PROMPTS), generator=generators, output_type="np", **{**arguments, **given})
    return np.asarray((output.images * 255).round(), dtype=int)


@pytest.mark.parametrize("name", RUN)
def test_a_picture_is_what_a_plain_call_makes(name: str, loaded: Callable[[str], LoadedPipeline]) -> None:
    """Without a negative prompt and with one, where the model takes one."""
    pipeline = loaded(name)
    settings = settled(pipeline)
    # Qwen-Image guides only against a negative prompt; where none is given it is the one of its model card.
    none = {"negative_prompt": [" "] * 3} if name == "qwen-image" else {}
    # Its embeddings are padded to one length, so that company does not matter.
    rounding = 2 if pipeline.family.padded else 0
    assert abs(made(pipeline, settings) - plain(pipeline, settings, **none)).max() <= rounding
    further = {"true_cfg_scale": 4.0} if pipeline.family.true_cfg else {}
    if pipeline.family.guided_by(pipeline.configs) is not Guidance.FREE and not further:
        with pytest.raises(SettingsError, match=r"^negative_prompt 'ugly' would be ignored: guidance is"):
            settled(pipeline, negative_prompt=NEGATIVE)
        return
    settings = settled(pipeline, negative_prompt=NEGATIVE, **further)
    with_negative = made(pipeline, settings)
    assert (with_negative != made(pipeline, settled(pipeline))).any()
    if name != "flux2-klein":  # its call takes a negative prompt only as embeddings
        settings = settled(pipeline, negative_prompt=NEGATIVE, **further)
        assert abs(with_negative - plain(pipeline, settings, negative_prompt=[NEGATIVE] * 3)).max() <= rounding


@pytest.mark.parametrize("name", RUN)
def test_company_place_and_batch_size_do_not_matter(name: str, loaded: Callable[[str], LoadedPipeline]) -> None:
    pipeline = loaded(name)
    settings = settled(pipeline)
    together = made(pipeline, settings)
    todo = list(jobs(PROMPTS, 42, 1))
    tolerance = 1 if name == "lumina2" else 0  # its network works at the longest prompt of a batch
    assert abs(made(pipeline, settings, todo[::-1])[::-1] - together).max() <= tolerance
    assert abs(made(pipeline, settings, todo[1:2])[0] - together[1]).max() <= tolerance
    alone = made(pipeline, dataclasses.replace(settings, batch_size=1))
    assert abs(alone - together).max() <= ACROSS_BATCH_SIZES


@pytest.mark.parametrize("name", RUN)
def test_each_prompt_may_have_a_negative_prompt_of_its_own(name: str, loaded: Callable[[str], LoadedPipeline]) -> None:
    """A batch with several is what each of them makes, an empty one too where the model is guided without."""
    pipeline = loaded(name)
    further = {"true_cfg_scale": 4.0, "negative_prompt": "x"} if pipeline.family.true_cfg else {}
    if pipeline.family.guided_by(pipeline.configs) is not Guidance.FREE and not further:
        with pytest.raises(SettingsError, match=r"^the manifest's negative_prompt 'ugly' would be ignored: guidance"):
            require_fit(settled(pipeline), pipeline.pipeline_class, pipeline.configs, [NEGATIVE, None])
        return
    shared = settled(pipeline, **further)
    texts = [NEGATIVE, shared.negative_prompt, "blurred and far too dark, with no colours in it"]
    own = {place: text for place, text in enumerate(texts) if text != shared.negative_prompt}
    together = made(pipeline, shared, list(jobs(PROMPTS, 42, 1, own)))
    for place, text in enumerate(texts):
        settings = settled(pipeline, **{**further, "negative_prompt": text})
        tolerance = 1 if name == "lumina2" else 0  # as above
        assert abs(made(pipeline, settings)[place] - together[place]).max() <= tolerance


@pytest.mark.parametrize("name", RUN)
def test_guidance_is_what_the_family_says(name: str, loaded: Callable[[str], LoadedPipeline]) -> None:
    """Whether it moves pictures, and how often the network is called, with how many rows."""
    pipeline = loaded(name)
    by, family = pipeline.family.guided_by(pipeline.configs), pipeline.family
    part = pipeline.pipe.unet if hasattr(pipeline.pipe, "unet") else pipeline.pipe.transformer
    rows: list[int] = []

    def count(_: Any, args: Any, kwargs: Any) -> None:
        first = args[0] if args else kwargs.get("hidden_states", kwargs.get("sample", kwargs.get("x")))
        rows.append(len(first))

    hook = part.register_forward_pre_hook(count, with_kwargs=True)
    try:
        at = {guidance: made(pipeline, settled(pipeline, guidance=guidance)) for guidance in (1.0, 7.0)}
        rows.clear()
        settings = settled(pipeline)
        made(pipeline, settings)
        work = sum(rows)
    finally:
        hook.remove()
    assert (at[1.0] != at[7.0]).any() == (by is not Guidance.NONE)
    halves = 2 if family.guided(settings, by) else 1
    assert work == 3 * halves * network_calls(settings.scheduler, STEPS)


@pytest.mark.parametrize("name", RUN)
def test_tokens_are_counted(name: str, loaded: Callable[[str], LoadedPipeline]) -> None:
    pipe = loaded(name).pipe
    short, long = token_counts(pipe, ["a", "a b c d e f g h i j k l m n o p " * 400])
    assert short < window(pipe, {}) < long


@pytest.mark.parametrize("name", RUN)
@pytest.mark.slow
def test_a_session_with_each(
    name: str, tiny: Callable[[str], Path], tmp_path: Path, tracking_uri: str, warm: Warm, monkeypatch: Any
) -> None:
    """Four images, killed and resumed, shown, made again elsewhere, swept over guidance and steps, compared."""
    model, home = tiny(name), tmp_path / "home"
    places = {"home": str(home), "tracking_uri": tracking_uri}
    chosen: dict[str, Any] = {"model": str(model), "height": SIDE, "width": SIDE, "batch_size": 3, "num": 4, "steps": 2}
    words = [word for key, value in chosen.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    words += ["--guidance", "5", "--home", str(home), "--tracking-uri", tracking_uri, "--no-evaluate"]
    stop = {"at": "t2i_track.db.lineage:add_images", "call": 2, "when": "before", "signals": ["SIGKILL"], "pause": 0}
    killed = warm.run(["generate", *words], tmp_path, {"OMP_NUM_THREADS": "1"}, stop=stopped(stop, tmp_path))
    assert killed.code == -9, killed.err
    run = api.generate(resume="latest", evaluate=False, **places)
    assert run.summary.images == 4
    assert run.summary.made >= 1

    axes = {"steps": [2, 3], "guidance": [5.0, 1.0], "zip": True}
    found = api.sweep(**places, **{**chosen, **axes, "evaluate": False, "name": "both"})
    assert [cell.state for cell in found.outcome.cells] == ["taken over", "made"]
    api.evaluate(*[cell.run for cell in found.outcome.cells], metrics="alignment", **places)
    comparison = api.compare(sweep="both", by="alignment", **places)
    assert len(comparison.rows()) == 2

    workspace = Workspace(home=home)
    with workspace.reading() as session:
        stored = session.scalars(select(Run)).first()
        assert stored is not None
        assert stored.model.pipeline_class in FAMILIES
        assert stored.scheduler != "model"
        image = session.scalars(select(Image).where(Image.run_id == stored.id)).first()
        assert image is not None
        path = workspace.image_path(image)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(path, elsewhere / "picture.png")
    monkeypatch.chdir(elsewhere)
    again = api.reproduce("picture.png", model=model, home=elsewhere / "none")
    assert again.equal, again


def stopped(stop: dict[str, Any], folder: Path) -> dict[str, Any]:
    return {**stop, "told": str(folder / "told")}


@pytest.mark.parametrize("name", [*small.REFUSED, "cogview4", "unknown-class", "no-class", "list-index"])
def test_other_classes_are_refused_before_a_run_is_made(name: str, tiny: Callable[[str], Path], tmp_path: Path) -> None:
    model = tiny(name)
    with pytest.raises(ModelError) as told:
        check_local(Settings(model=str(model)))
    assert str(model) in str(told.value)
    assert "\n" not in str(told.value)
    with pytest.raises(ModelError):
        api.generate(model=str(model), num=1, home=tmp_path / "home", tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    assert not has_database(tmp_path / "home")


@pytest.mark.parametrize(
    ("name", "chosen", "reason"),
    [
        ("sd-lcm", {"scheduler": "pndm"}, "scheduler pndm is for noise models, and this one (with LCMScheduler) is a"),
        ("lcm-class", {"scheduler": "euler"}, "scheduler euler is for noise models"),
        ("sd2-zero-snr", {"scheduler": "pndm"}, "scheduler pndm would leave out rescale_betas_zero_snr True"),
        ("sd3", {"scheduler": "euler"}, "scheduler euler is for noise models, and this one"),
        ("flux-dev", {"scheduler": "flow-heun"}, "scheduler flow-heun is for flow models, and this one"),
        ("flux-dev", {"negative_prompt": "x"}, "negative_prompt 'x' would be ignored: guidance is an input of the"),
        ("flux-dev", {"true_cfg_scale": 4.0}, "true_cfg_scale 4 would be ignored: Flux.1 dev, schnell guides by it"),
        ("sd1", {"true_cfg_scale": 4.0}, "true_cfg_scale 4.0 would be ignored by StableDiffusionPipeline"),
        ("qwen-image", {"true_cfg_scale": 4.0}, "true_cfg_scale 4.0 would be ignored by QwenImagePipeline"),
        ("sd1", {"max_sequence_length": 128}, "max_sequence_length 128 would be ignored by StableDiffusionPipeline"),
        ("sd1", {"negative_prompt": "x", "guidance": 1.0}, "negative_prompt 'x' would be ignored at guidance 1"),
        ("z-image", {"negative_prompt": "x", "guidance": 0.0}, "negative_prompt 'x' would be ignored at guidance 0"),
        ("sana", {"height": 72, "width": 64}, "height must be a multiple of 32 for Sana, not 72: try 64"),
        ("sd3", {"height": 72, "width": 64}, "height must be a multiple of 16 for Stable Diffusion 3, 3.5, not 72"),
        ("sd1", {"steps": 2000}, "scheduler pndm cannot do steps 2000"),
        ("sd-lcm", {"steps": 60}, "scheduler lcm cannot do steps 60"),
        ("sd1", {"cache_interval": 3}, "cache_interval 3 cannot be for Stable Diffusion 1.x, 2.x, only for Flux.1 dev"),
        ("flux-dev", {"cache_interval": 3, "steps": 3}, "cache_interval 3 would be ignored with 3 steps: the first 3"),
        ("lumina2", {"compile": "default"}, "compile default cannot be for Lumina-Image 2, whose prompts' lengths are"),
        ("z-image", {"compile": "default"}, "compile default cannot be for Z-Image, whose prompts' lengths are its"),
        ("sd1", {"compile": "default", "offload": "model"}, "compile default cannot be with offload model: leave one"),
        (
            "flux-dev",
            {"compile": "default", "cache_interval": 3, "steps": 9},
            "compile default cannot be with cache_interval 3: leave one of them out",
        ),
        ("sd1", {"quantize": "int8", "offload": "group"}, "quantize int8 cannot be with offload group: leave one of"),
        (
            "sd1",
            {"vae_tiling": "on", "height": 32, "width": 32},
            "vae_tiling on would be ignored: a picture of 32 x 32",
        ),
        ("sd1", {"clip_skip": 9}, "clip_skip 9 leaves none of the text encoder's"),
    ],
)
def test_what_a_model_would_ignore_is_refused(
    name: str, chosen: dict[str, Any], reason: str, tiny: Callable[[str], Path]
) -> None:
    """From its configurations alone."""
    with pytest.raises(SettingsError) as told:
        check_local(Settings(model=str(tiny(name)), **chosen))
    assert str(told.value).startswith(reason)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        ("sd-lcm", {"steps": 4}),
        ("sd2-zero-snr", {"scheduler": "ddim"}),
        ("flux-dev", {"negative_prompt": "x", "true_cfg_scale": 4.0}),
        ("flux-dev", {"scheduler": "flow-unipc", "max_sequence_length": 128}),
        ("sd3", {"scheduler": "flow-heun", "shift": 5.0}),
        ("sana", {"scheduler": "flow-dpm++"}),
        ("z-image", {"negative_prompt": "x", "guidance": 0.5}),
        ("sd1", {"scheduler": "euler", "sigmas": "karras"}),
    ],
)
def test_what_it_takes_is_taken(
    name: str, chosen: dict[str, Any], loaded: Callable[[str], LoadedPipeline], tiny: Callable[[str], Path]
) -> None:
    check_local(Settings(model=str(tiny(name)), **chosen))
    pipeline = loaded(name)
    pictures = made(pipeline, settled(pipeline, **{"steps": 3, **chosen}))
    assert pictures.std() > 1


@pytest.mark.parametrize(
    ("name", "chosen", "notes"),
    [
        ("sd1", {}, []),
        ("sdxl-turbo", {"steps": 4, "guidance": 1.0}, []),
        ("flux-schnell", {"steps": 4}, ["guidance 7.5 does nothing: this model was made to do without"]),
        ("sd-lcm", {"steps": 30}, ["30 steps: this model was made for 8 or fewer (a consistency model)"]),
        (
            "sdxl-turbo",
            {},
            [
                "30 steps: this model was made for 8 or fewer (its scheduler's trailing timesteps)",
                "guidance 7.5: this model was made to do without (its scheduler's trailing timesteps)",
            ],
        ),
    ],
)
def test_what_a_model_was_made_for_is_said(
    name: str, chosen: dict[str, Any], notes: list[str], tiny: Callable[[str], Path]
) -> None:
    folder = tiny(name)
    index = json.loads((folder / "model_index.json").read_text())
    configs = configs_in(folder, name)
    settings = resolved(configs["scheduler"], Settings(model="m", **chosen))
    assert notes_on_use(settings, index["_class_name"], configs) == notes


def test_every_family_has_a_small_one() -> None:
    classes = {family_class(name) for name in RUN}
    assert classes == set(FAMILIES)


def family_class(name: str) -> str:
    source = small.BUILDERS[name]
    return type(source()).__name__


def test_a_class_that_is_none_is_one_line() -> None:
    for wrong in (None, ["pipeline", "Mine"], "FooPipeline", {"a": 1}, 3):
        with pytest.raises(ModelError, match=r"no family of models here has that class"):
            family_of(wrong, "m")


def test_schedulers_on_a_flow_model_are_refused_before_the_first_cell(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    file = Path(__file__).parents[1] / "experiments" / "schedulers.yaml"
    with pytest.raises(SettingsError, match=r"^scheduler pndm is for noise models, and this one \(with FlowMatchEuler"):
        api.sweep(
            file, model=str(tiny("flux-dev")), num=1, home=tmp_path / "home", tracking_uri=f"sqlite:///{tmp_path}/m.db"
        )
    assert not has_database(tmp_path / "home")
    assert not (tmp_path / "m.db").exists()


@pytest.mark.slow
def test_the_models_own_scheduler_and_its_name_are_one_setting(tmp_path: Path, tracking_uri: str) -> None:
    """In the fingerprint, so that a sweep takes over what was made under the other name, and in what is shown."""
    places = {"home": tmp_path / "home", "tracking_uri": tracking_uri, "evaluate": False}
    own = api.generate(num=1, steps=2, **places)
    assert (own.summary.scheduler, own.summary.name) == ("pndm", "pndm-g7.5-s2-seed42")
    found = api.sweep(num=1, steps=2, scheduler=["pndm", "ddim"], name="s", **places)
    assert [cell.state for cell in found.outcome.cells] == ["taken over", "made"]
    again = api.generate(resume=own.summary.run, scheduler="pndm", **places)
    assert again.summary.made == 0


@pytest.mark.parametrize("offload", ["model", "sequential", "group"])
def test_offloading_where_it_would_be_ignored_is_refused(offload: str) -> None:
    with pytest.raises(SettingsError, match=f"^offload {offload} would be ignored on cpu, whose own memory is where"):
        load(Settings(device="cpu", offload=offload))


def test_the_index_says_which_scheduler_a_model_has(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    """As diffusers takes it, whatever class saved the configuration."""
    model = tmp_path / "model"
    shutil.copytree(tiny("sd1"), model)
    for own, name in (("EulerDiscreteScheduler", "euler"), ("KDPM2DiscreteScheduler", "KDPM2DiscreteScheduler")):
        index = json.loads((model / "model_index.json").read_text()) | {"scheduler": ["diffusers", own]}
        (model / "model_index.json").write_text(json.dumps(index))
        before = configs_in(model, "m")["scheduler"]
        after = load(Settings(model=str(model), device="cpu")).configs["scheduler"]
        assert before["_class_name"] == after["_class_name"] == own
        assert resolved(before, Settings()).scheduler == resolved(after, Settings()).scheduler == name
