"""A walk over every declared setting: each is changed in turn, and everything that follows from it must follow.

A setting that is declared but does not reach one of these places fails here by its name.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import click
import pytest
from sqlalchemy.orm import Session

from t2i_track import assets
from t2i_track.cli import cli as commands
from t2i_track.db.models import Run
from t2i_track.errors import SettingsError
from t2i_track.images.adapters import Adapters
from t2i_track.images.encoding import PromptEncoder
from t2i_track.images.executors import Loaded, Prepared
from t2i_track.images.families import FAMILIES
from t2i_track.images.fits import require_fit
from t2i_track.images.model import configs_in
from t2i_track.images.sampling import Job, sample
from t2i_track.metrics.published import check_protocol, parse_protocol
from t2i_track.prompts.manifest import from_prompts
from t2i_track.ranking import RunRow, compare_two
from t2i_track.ranking.cost import cost_of_each
from t2i_track.runs import record
from t2i_track.runs.grid import build
from t2i_track.runs.plan import Plan, create_run, settings_of, values_of
from t2i_track.runs.rates import Rates
from t2i_track.runs.request import protocol_settings
from t2i_track.runs.rows import run_rows
from t2i_track.settings import COSTLY, COUNTED, DECLARED, RECORDED, Decides, Resolved, Settings, Stage, Values, option
from t2i_track.workspace import Workspace

RESOLVED = {"height": 64, "width": 64, "dtype": "fp32", "memory_format": "channels-last", "device": "cpu", "num": 2,
            "lora": "one"}  # fmt: skip
OTHERS: dict[str, Any] = {"height": 72, "width": 72, "device": "cuda", "revision": "abc", "num": 1, "guidance": 3.0}
"""Another value of a setting where ``other`` finds none by its declaration."""
BY_CONTENT = {"model", "vae", "lora", "embedding"}
"""Known to the fingerprint by the hash of their tensors, not by their names."""
NO_ARGUMENT = {"scheduler", "sigmas", "shift", "negative_prompt", "prompt_weighting", "batch_size"}
"""They act at their stage by what is done there, not as an argument of that name."""


def other(name: str) -> Any:
    """A value that the setting may have and that is not the one of ``base``."""
    declared, now = DECLARED[name], getattr(base(), name)
    if name in OTHERS:
        return OTHERS[name]
    if declared.choices:
        return next(choice for choice in declared.choices if choice != now)
    if declared.kind is str:
        return "other"
    step = 1 if declared.kind is int else (declared.most or 2.0) / 2
    return (declared.least if now is None else now) + step


def base(**changes: Any) -> Settings:
    return Settings(**{**RESOLVED, **changes})


def changed(name: str) -> Settings:
    return base(**{name: other(name)})


def resolved(settings: Values) -> Resolved:
    return Resolved(
        settings=settings, weights_sha256="w" * 64, lora_sha256=None, scheduler_config={}, manifest_sha256="m" * 64
    )


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(home=tmp_path_factory.mktemp("walk"))


def store(session: Session, settings: Settings) -> Run:
    """A finished run in the database; nothing of it is made."""
    plan = Plan(settings=settings, manifest=from_prompts(["a", "b"]), experiment="walk", run_name="run")
    loaded = Loaded(
        revision=settings.revision or "",
        weights_sha256="w" * 64,
        pipeline_class="StableDiffusionPipeline",
        adapters=Adapters(),
        dtype=str(settings.dtype),
        device=str(settings.device),
        scheduler_config={},
        environment={"threads": 1, "versions": {}},
        machine={},
        seconds=None,
    )
    call = FAMILIES["StableDiffusionPipeline"].call_arguments(settings)
    prepared = Prepared(loaded, settings, call, 2, [], False, 0)
    run = create_run(session, plan, resolved(settings), prepared)
    run.seconds_per_image = 1.0
    session.flush()
    return run


@pytest.fixture(scope="module")
def stored(workspace: Workspace) -> dict[str, str]:
    """Setting -> the run in which it alone was changed; "" is the run in which none was."""
    with workspace.begin() as session:
        runs = {"": store(session, base()).uuid}
        runs |= {name: store(session, changed(name)).uuid for name in DECLARED}
    return runs


@pytest.fixture
def session(workspace: Workspace, stored: dict[str, str]) -> Iterator[Session]:
    with workspace.reading() as opened:
        yield opened


@pytest.fixture(scope="module")
def rows(workspace: Workspace, stored: dict[str, str]) -> dict[str, RunRow]:
    with workspace.reading() as session:
        found = {row.run: row for row in run_rows(session)}
    return {name: found[uuid] for name, uuid in stored.items()}


def run_of(session: Session, stored: dict[str, str], name: str) -> Run:
    return session.query(Run).filter_by(uuid=stored[name]).one()


every = pytest.mark.parametrize("name", DECLARED)


def test_the_first_law_and_the_bill() -> None:
    """What decides the pixels, exactly or by rounding, and what decides the cost, in words of their own."""
    pixels = "guidance steps scheduler eta guidance_rescale clip_skip seed model vae lora negative_prompt height width"
    pixels += (
        " dtype sigmas shift true_cfg_scale max_sequence_length lora_scale embedding prompt_weighting cache_interval"
        " quantize vae_tiling"
    )
    rounding = "memory_format batch_size device compile"
    cost = "guidance steps scheduler model vae lora height width dtype memory_format batch_size device"
    cost += " true_cfg_scale max_sequence_length offload cache_interval compile quantize vae_tiling"
    of = {kind: {name for name, declared in DECLARED.items() if declared.decides is kind} for kind in Decides}
    assert of[Decides.PIXELS] == set(pixels.split())
    assert of[Decides.ROUNDING] == set(rounding.split())
    assert of[Decides.EXTENT] == {"num", "images_per_prompt"}
    assert set(COSTLY) == set(cost.split())


@every
def test_it_says_what_it_is(name: str) -> None:
    declared = DECLARED[name]
    assert declared.help.endswith(".")
    default = Values.__dataclass_fields__[name].default
    assert default is not None or declared.open, "None must be said in words"
    assert not declared.later or declared.neutral is not None or default is None, "older runs have the neutral value"
    if declared.stage in (Stage.CALL, Stage.ENCODE, Stage.SCHEDULER):
        assert (declared.passed_as is None) == (name in NO_ARGUMENT)


@every
@pytest.mark.parametrize("command", ["generate", "sweep"])
def test_it_is_an_option(name: str, command: str) -> None:
    found = commands.get_command(click.Context(commands), command)
    assert found is not None
    options = {opt: parameter for parameter in found.params for opt in parameter.opts}
    parameter = options[option(name)]
    assert isinstance(parameter, click.Option)
    assert parameter.help
    assert parameter.help.startswith(DECLARED[name].help)
    assert parameter.show_default or parameter.multiple


@every
def test_it_is_an_axis_if_it_says_so(name: str) -> None:
    needs = DECLARED[name].needs
    held = {} if needs is None else {needs: getattr(base(), needs)}
    both = [value for value in (getattr(base(), name), other(name)) if value is not None]
    values: dict[str, Any] = {"axes": {name: both}, "settings": held}
    if not DECLARED[name].axis:
        with pytest.raises(SettingsError, match="cannot vary"):
            build(values, "test")
        return
    assert [getattr(cell, name) for cell in build(values, "test").cells()] == values["axes"][name]


@every
def test_a_wrong_value_is_named(name: str) -> None:
    with pytest.raises(SettingsError, match=name.replace("_", "[ _]")):
        Settings.from_mapping({name: [1]})


@every
def test_the_fingerprint_changes_if_it_decides_the_images(name: str) -> None:
    differs = resolved(changed(name)).fingerprint != resolved(base()).fingerprint
    assert differs == (DECLARED[name].decides is not Decides.NOTHING and name not in BY_CONTENT)


@every
def test_one_pictures_fingerprint_changes_if_it_decides_pixels(name: str) -> None:
    """Not with how many there are; each has its own seed; what is loaded counts by its hash."""
    decides = DECLARED[name].decides not in (Decides.NOTHING, Decides.EXTENT) and name not in {"seed", *BY_CONTENT}
    assert (resolved(changed(name)).picture_fingerprint != resolved(base()).picture_fingerprint) is decides


@pytest.mark.parametrize("name", [name for name, declared in DECLARED.items() if declared.later])
def test_a_later_setting_leaves_older_fingerprints_and_records_alone(name: str) -> None:
    neutral = base(**{name: DECLARED[name].neutral})
    others = {key: value for key, value in base().to_dict().items() if key != name}
    assert Values.stored(others).to_dict() == neutral.to_dict()
    assert resolved(Values.stored(others)).fingerprint == resolved(neutral).fingerprint


@every
def test_the_database_keeps_it(name: str, session: Session, stored: dict[str, str], rows: dict[str, RunRow]) -> None:
    run = run_of(session, stored, name)
    assert getattr(values_of(run), name) == other(name)
    assert getattr(settings_of(run), name) == other(name)
    assert getattr(rows[name], name) == other(name)
    assert values_of(run) == Values(**changed(name).to_dict() | {"revision": run.model.revision})


@every
def test_mlflow_and_the_picture_get_it(name: str, session: Session, stored: dict[str, str]) -> None:
    run = run_of(session, stored, name)
    assert record.parameters(run)[name] == other(name)
    shared = record.picture_record(run)
    if name == "seed":
        assert shared["base_seed"] == other(name)
    elif DECLARED[name].decides is Decides.EXTENT:
        assert name not in shared
    else:
        assert name in RECORDED
        assert shared[name] == other(name)
        assert getattr(Values.stored(shared), name) == other(name), "made again with another value"


@every
def test_two_runs_say_that_they_differ_in_it(name: str, rows: dict[str, RunRow]) -> None:
    differing = compare_two(rows[""], rows[name]).differing
    expected = {name} if DECLARED[name].decides is not Decides.NOTHING else set()
    assert set(differing) == expected


@every
def test_runs_that_cost_the_same_share_their_timings(name: str, rows: dict[str, RunRow]) -> None:
    twice = dataclasses.replace(rows[name], seconds_per_image=3.0)
    found = cost_of_each([rows[""], twice])
    shared = found[rows[""].run].seconds == found[twice.run].seconds
    # Guidance costs by being there at all, of either name.
    assert shared == (name not in COSTLY or name in ("guidance", "true_cfg_scale"))


@every
def test_an_estimate_rests_on_the_timings_of_equal_work(name: str, session: Session) -> None:
    alike = {other for other in DECLARED if other not in COSTLY or other in COUNTED}
    found = Rates(session).image(changed(name))
    assert found is not None
    assert found.runs == (1 + len(alike) if name in alike else 1)


@every
def test_a_protocol_may_demand_it(name: str, session: Session, stored: dict[str, str]) -> None:
    demanded = other(name)
    protocol = dataclasses.replace(parse_protocol(f"run: {{{name}: x}}", "p"), run={name: demanded})
    assert check_protocol(protocol, protocol_settings(run_of(session, stored, name))) == []
    assert [found.setting for found in check_protocol(protocol, protocol_settings(run_of(session, stored, "")))] == [
        name
    ]


class StableDiffusionPipeline:
    """A pipeline of that name which notes what it is given."""

    def __init__(self) -> None:
        self.encoded: list[dict[str, Any]] = []
        self.called: list[dict[str, Any]] = []
        self.tokenizer: Any = _Tokenizer()
        self._execution_device = "cpu"
        self.config: dict[str, Any] = {}
        self.text_encoder = self.unet = self.scheduler = SimpleNamespace(config={})
        self.vae = SimpleNamespace(config={}, decode=lambda latents, **_: (latents[:, :3],))

    def encode_prompt(self, prompt: list[str], **given: Any) -> Any:
        import torch

        self.encoded.append(given)
        embeds = torch.zeros(len(prompt), 2, 3)
        return embeds, embeds if given["do_classifier_free_guidance"] else None

    def __call__(self, **given: Any) -> Any:
        import torch

        self.called.append(given)
        (image,) = self.vae.decode(torch.zeros(len(given["prompt_embeds"]), 4, 8, 8), return_dict=False)
        return SimpleNamespace(images=image.permute(0, 2, 3, 1).numpy())


def takes(function: Any, *names: str) -> None:
    """Have the function say that it takes these arguments."""
    parameters = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in names]
    self = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    function.__signature__ = inspect.Signature([self, *parameters])


ARGUMENTS = [declared.passed_as for declared in DECLARED.values() if declared.passed_as is not None]
EMBEDS = ("prompt_embeds", "negative_prompt_embeds")
takes(StableDiffusionPipeline.__call__, *ARGUMENTS, *EMBEDS, "negative_prompt", "generator", "output_type")
takes(StableDiffusionPipeline.encode_prompt, *ARGUMENTS, "do_classifier_free_guidance", "negative_prompt")


class _Tokenizer:
    model_max_length = 77

    def __call__(self, texts: list[str], **_: object) -> Any:
        return SimpleNamespace(input_ids=[[0]] * len(texts))


@pytest.mark.parametrize("name", [name for name, declared in DECLARED.items() if declared.passed_as])
def test_it_reaches_its_stage(name: str) -> None:
    declared, settings, pipe = DECLARED[name], changed(name), StableDiffusionPipeline()
    assert declared.passed_as is not None
    next(sample(pipe, PromptEncoder(pipe, settings), [Job(0, 0, "a", 1)], settings))
    if declared.stage is Stage.ENCODE:
        of_prompts = [given for given in pipe.encoded if not given["do_classifier_free_guidance"]]
        assert [given[declared.passed_as] for given in of_prompts] == [other(name)]
        return
    assert pipe.called[0][declared.passed_as] == other(name)


@pytest.mark.parametrize("name", [name for name, declared in DECLARED.items() if declared.needs_guidance])
def test_what_needs_guidance_is_refused_without(name: str) -> None:
    class_name, configs = "StableDiffusionPipeline", configs_in(assets.shapes_sd(), "shapes")
    with pytest.raises(SettingsError, match=f"{name} .* would be ignored at guidance 1: .*--guidance above 1"):
        require_fit(base(guidance=1.0, **{name: other(name)}), class_name, configs)
    require_fit(base(guidance=1.0, **{name: DECLARED[name].neutral}), class_name, configs)
    require_fit(base(guidance=1.5, **{name: other(name)}), class_name, configs)


@pytest.mark.parametrize("name", [name for name, declared in DECLARED.items() if declared.needs])
def test_what_needs_another_setting_is_refused_without(name: str) -> None:
    needs = DECLARED[name].needs
    assert needs is not None
    with pytest.raises(SettingsError, match=f"{name} .* would be ignored without a {needs}: .*--{needs}"):
        base(**{needs: None, name: other(name)})
    assert getattr(base(**{needs: None}), name) == DECLARED[name].neutral
