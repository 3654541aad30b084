from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from t2i_track.errors import ModelError, PickledWeights, SettingsError
from t2i_track.images.decoding import Note
from t2i_track.images.encoding import PromptEncoder
from t2i_track.images.fits import require_fit
from t2i_track.images.loading import LoadedPipeline, load, set_memory_format
from t2i_track.images.sampling import Job, initial_latents, jobs, sample
from t2i_track.images.schedulers import set_scheduler
from t2i_track.images.seeds import image_seed
from t2i_track.schedulers import Kind
from t2i_track.settings import MEMORY_FORMATS, SCHEDULERS, Settings
from t2i_track.texts import MOST_COUNTED

PROMPTS = [
    "one big red circle on a white background",
    "three small blue stars on a black background",
    "a yellow square to the left of a green cross on a grey background",
    "two big pink triangles on a navy background",
    "a cyan star above an orange circle on a beige background",
]
STEPS = 4
ACROSS_BATCH_SIZES = 2
"""Largest difference of an 8-bit channel between batch sizes, as docs/reproducibility.md states it."""


def make(
    loaded: LoadedPipeline,
    todo: list[Job],
    batch_size: int,
    *,
    guidance: float = 7.5,
    scheduler: str = "pndm",
    memory_format: str = "channels-last",
    **more: Any,
) -> dict[tuple[int, int], np.ndarray[Any, Any]]:
    settings = Settings(
        guidance=guidance, steps=STEPS, scheduler=scheduler, height=64, width=64, batch_size=batch_size, **more
    )
    set_memory_format(loaded.pipe, memory_format)
    set_scheduler(loaded.pipe, loaded.configs["scheduler"], settings)
    made = sample(loaded.pipe, PromptEncoder(loaded.pipe, settings), todo, settings)
    return {(picture.job.prompt_index, picture.job.replicate): picture.pixels for picture in made}


@pytest.fixture(scope="module")
def reference(pipeline: LoadedPipeline) -> dict[tuple[int, int], np.ndarray[Any, Any]]:
    return make(pipeline, list(jobs(PROMPTS, 42, 2)), 4)


@pytest.mark.parametrize("memory_format", MEMORY_FORMATS)
def test_order_company_and_padding_do_not_matter(pipeline: LoadedPipeline, memory_format: str) -> None:
    todo = list(jobs(PROMPTS, 42, 2))
    expected = make(pipeline, todo, 4, memory_format=memory_format)
    shuffled = random.Random(0).sample(todo, len(todo))
    for some in (todo[::-1], shuffled[:5], [todo[7]]):
        for place, pixels in make(pipeline, some, 4, memory_format=memory_format).items():
            np.testing.assert_array_equal(pixels, expected[place])


def test_memory_formats_agree_within_the_stated_tolerance(
    pipeline: LoadedPipeline, reference: dict[tuple[int, int], np.ndarray[Any, Any]]
) -> None:
    for place, pixels in make(pipeline, list(jobs(PROMPTS, 42, 2)), 4, memory_format="contiguous").items():
        difference = np.abs(pixels.astype(int) - reference[place].astype(int))
        assert difference.max() <= ACROSS_BATCH_SIZES, place


@pytest.mark.parametrize("batch_size", [1, 10])
def test_batch_sizes_agree_within_the_stated_tolerance(
    pipeline: LoadedPipeline, reference: dict[Any, Any], batch_size: int
) -> None:
    for place, pixels in make(pipeline, list(jobs(PROMPTS, 42, 2)), batch_size).items():
        difference = np.abs(pixels.astype(int) - reference[place].astype(int))
        assert difference.max() <= ACROSS_BATCH_SIZES, place


def test_latents_do_not_depend_on_the_batch(pipeline: LoadedPipeline) -> None:
    """What the pipeline starts from is what `initial_latents` says, bit by bit, at any batch size."""
    todo = list(jobs(PROMPTS, 42, 1))
    for batch_size in (1, 3):
        seen: list[torch.Tensor] = []
        original = pipeline.pipe.prepare_latents

        def spy(*args: Any, seen: list[torch.Tensor] = seen, original: Any = original, **kwargs: Any) -> torch.Tensor:
            seen.append(original(*args, **kwargs))
            return seen[-1]

        pipeline.pipe.prepare_latents = spy
        try:
            make(pipeline, todo, batch_size)
        finally:
            pipeline.pipe.prepare_latents = original
        found = torch.cat(seen)[: len(todo)]
        assert pipeline.pipe.scheduler.init_noise_sigma == 1.0
        for row, job in enumerate(todo):
            assert torch.equal(found[row], initial_latents(job, (4, 16, 16), torch.float32))


def plain_pipeline(memory_format: str) -> Any:
    """The embedded model as diffusers alone loads it."""
    from diffusers import StableDiffusionPipeline

    from t2i_track import assets

    plain = StableDiffusionPipeline.from_pretrained(assets.shapes_sd(), dtype=torch.float32)
    plain.set_progress_bar_config(disable=True)
    if memory_format == "channels-last":
        plain.unet.to(memory_format=torch.channels_last)
        plain.vae.to(memory_format=torch.channels_last)
    return plain


@pytest.mark.parametrize("memory_format", MEMORY_FORMATS)
def test_a_plain_pipeline_call_gives_the_same_picture(pipeline: LoadedPipeline, memory_format: str) -> None:
    plain = plain_pipeline(memory_format)
    seed = image_seed(42, 0, 0)
    for guidance in (7.5, 1.0):
        output = plain(
            PROMPTS[0],
            guidance_scale=guidance,
            num_inference_steps=STEPS,
            generator=torch.Generator("cpu").manual_seed(seed),
        )
        job = Job(0, 0, PROMPTS[0], seed)
        ours = make(pipeline, [job], 1, guidance=guidance, memory_format=memory_format)[0, 0]
        np.testing.assert_array_equal(ours, np.asarray(output.images[0]))


@pytest.mark.parametrize("scheduler", [name for name, kind in SCHEDULERS.items() if kind.kind is not Kind.FLOW])
def test_every_scheduler_is_pure(pipeline: LoadedPipeline, scheduler: str) -> None:
    """Also the one that draws noise in its steps (euler-a): from each image's own generator."""
    todo = list(jobs(PROMPTS[:3], 1, 1))
    together = make(pipeline, todo, 2, scheduler=scheduler)
    alone = make(pipeline, todo[1:2], 2, scheduler=scheduler)
    np.testing.assert_array_equal(alone[1, 0], together[1, 0])
    assert together[0, 0].std() > 0


def test_no_unconditional_half_without_guidance(pipeline: LoadedPipeline) -> None:
    rows: list[int] = []
    hook = pipeline.pipe.unet.register_forward_pre_hook(lambda _, args: rows.append(args[0].shape[0]))
    try:
        make(pipeline, list(jobs(PROMPTS[:2], 1, 1)), 2, guidance=1.0)
        assert set(rows) == {2}
        rows.clear()
        make(pipeline, list(jobs(PROMPTS[:2], 1, 1)), 2, guidance=1.5)
        assert set(rows) == {4}
    finally:
        hook.remove()


def test_prompts_are_encoded_once(pipeline: LoadedPipeline) -> None:
    encoder = PromptEncoder(pipeline.pipe, Settings(batch_size=4))
    calls: list[int] = []
    hook = pipeline.pipe.text_encoder.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        first = encoder([*PROMPTS, PROMPTS[0], ""])
        again = encoder([PROMPTS[4], ""])
    finally:
        hook.remove()
    assert len(calls) == 2  # six texts, four to a batch
    assert again == [first[4], first[6]]
    assert first[0].inputs["prompt_embeds"].shape == (77, pipeline.pipe.text_encoder.config.hidden_size)


def test_the_encoder_forgets_the_oldest(pipeline: LoadedPipeline) -> None:
    size = PromptEncoder(pipeline.pipe, Settings(batch_size=1))([""])[0].nbytes
    encoder = PromptEncoder(pipeline.pipe, Settings(batch_size=1), cache_bytes=2 * size)
    encoder(["a", "b", "c"])
    calls: list[int] = []
    hook = pipeline.pipe.text_encoder.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        encoder(["c"])
        assert calls == []
        encoder(["a"])
        assert calls == [1]
    finally:
        hook.remove()


@pytest.mark.parametrize(
    ("prompt", "truncated"), [("", False), ("红色的圆", False), ("🦊" * 5, False), ("one red circle " * 170, True)]
)
def test_any_text_is_a_prompt(pipeline: LoadedPipeline, prompt: str, truncated: bool) -> None:
    encoding = PromptEncoder(pipeline.pipe, Settings(batch_size=1))([prompt])[0]
    assert encoding.truncated is truncated
    assert (encoding.tokens > 77) is truncated
    assert make(pipeline, [Job(0, 0, prompt, 1)], 1)[0, 0].shape == (64, 64, 3)


LONG = {
    "words": "one red circle " * 14_000,
    "no white space": "x" * 200_000,
    "digits": "1" * 100_000,
    "Chinese": "猫" * 60_000,
    "marks": "!?" * 50_000,
    "lines": "a red\ncircle\t" * 10_000,
}


@pytest.mark.parametrize("kind", LONG)
def test_of_a_very_long_prompt_the_beginning_is_counted(pipeline: LoadedPipeline, kind: str) -> None:
    """And its embedding is that of the whole, which the pipeline's own encoder cuts."""
    pipe, seen = pipeline.pipe, []
    kind_of, call = type(pipe.tokenizer), type(pipe.tokenizer).__call__

    def watched(tokenizer: Any, texts: Any, **more: Any) -> Any:
        seen.extend(map(len, texts))
        return call(tokenizer, texts, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind_of, "__call__", watched)
        encoding = PromptEncoder(pipe, Settings(batch_size=1))([LONG[kind]])[0]
    assert max(seen) <= MOST_COUNTED
    assert encoding.truncated
    assert encoding.tokens > 1000
    with torch.inference_mode():
        whole, _ = pipe.encode_prompt([LONG[kind]], pipe.device, 1, do_classifier_free_guidance=False)
    assert torch.equal(encoding.inputs["prompt_embeds"], whole[0])


@pytest.mark.parametrize("prompt", [" " * 20_000 + "a red circle", "\n" * 17_000 + "a", " " * 40_000])
def test_a_long_prompt_of_white_space_is_not_cut(pipeline: LoadedPipeline, prompt: str) -> None:
    encoder = PromptEncoder(pipeline.pipe, Settings(batch_size=1))
    found, short = encoder([prompt, prompt.strip()])
    assert (found.tokens, found.truncated) == (short.tokens, False)
    assert torch.equal(found.inputs["prompt_embeds"], short.inputs["prompt_embeds"])


@pytest.mark.parametrize("words", [1000, MOST_COUNTED // 2, MOST_COUNTED // 2 + 1])
def test_the_count_of_other_prompts_is_of_all(pipeline: LoadedPipeline, words: int) -> None:
    encoding = PromptEncoder(pipeline.pipe, Settings(batch_size=1))(["a " * words])[0]
    assert encoding.tokens == 2 + min(words, MOST_COUNTED // 2)


def test_folders_that_cannot_be_loaded(tmp_path: Any) -> None:
    import shutil

    from t2i_track import assets

    with pytest.raises(ModelError, match=r"has no model_index\.json"):
        load(Settings(model=str(tmp_path), device="cpu"))
    with pytest.raises(ModelError, match="no model folder"):
        load(Settings(model=str(tmp_path / "gone"), device="cpu"))
    copy = tmp_path / "sd"
    shutil.copytree(assets.shapes_sd(), copy)
    for file in (copy / "unet").glob("*.safetensors"):
        file.unlink()
    with pytest.raises(ModelError, match="has no weights in unet/"):
        load(Settings(model=str(copy), device="cpu"))
    torch.save({}, copy / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(PickledWeights, match="unet/ has only pickled weights"):
        load(Settings(model=str(copy), device="cpu"))


def test_pickled_weights_load_when_allowed(tmp_path: Any) -> None:
    import shutil

    from safetensors.torch import load_file

    from t2i_track import assets

    copy = tmp_path / "sd"
    shutil.copytree(assets.shapes_sd(), copy)
    for file in (copy / "unet").glob("*.safetensors"):
        torch.save(load_file(file), copy / "unet" / "diffusion_pytorch_model.bin")
        file.unlink()
    loaded = load(Settings(model=str(copy), device="cpu"), allow_pickle=True)
    assert loaded.pipeline_class == "StableDiffusionPipeline"


def test_devices_that_are_not_here() -> None:
    from t2i_track.errors import SettingsError

    with pytest.raises(SettingsError, match="device 'tpu' is not on this machine: use --device cpu"):
        load(Settings(device="tpu"))


@pytest.mark.parametrize("memory_format", MEMORY_FORMATS)
def test_eta_is_what_a_plain_call_makes_of_it(pipeline: LoadedPipeline, memory_format: str) -> None:
    plain = plain_pipeline(memory_format)
    set_scheduler(plain, dict(plain.scheduler.config), Settings(scheduler="ddim"))
    seed = image_seed(42, 0, 0)
    output = plain(PROMPTS[0], num_inference_steps=STEPS, eta=0.8, generator=torch.Generator("cpu").manual_seed(seed))
    job = Job(0, 0, PROMPTS[0], seed)
    ours = make(pipeline, [job], 1, scheduler="ddim", memory_format=memory_format, eta=0.8)[0, 0]
    np.testing.assert_array_equal(ours, np.asarray(output.images[0]))
    without = make(pipeline, [job], 1, scheduler="ddim", memory_format=memory_format)[0, 0]
    assert (without != ours).any()


def test_eta_draws_each_image_its_own_noise(pipeline: LoadedPipeline) -> None:
    todo = list(jobs(PROMPTS[:3], 1, 1))
    together = make(pipeline, todo, 2, scheduler="ddim", eta=1.0)
    alone = make(pipeline, todo[1:2], 2, scheduler="ddim", eta=1.0)
    np.testing.assert_array_equal(alone[1, 0], together[1, 0])


def test_a_scheduler_that_ignores_eta_is_refused(pipeline: LoadedPipeline) -> None:
    with pytest.raises(SettingsError) as error:
        require_fit(Settings(scheduler="euler", eta=0.5), pipeline.pipeline_class, pipeline.configs)
    assert str(error.value) == (
        "eta 0.5 would be ignored by scheduler euler: leave it out, or take --scheduler ddim or tcd"
    )
    require_fit(Settings(scheduler="euler"), pipeline.pipeline_class, pipeline.configs)


def test_guidance_rescale_is_what_a_plain_call_makes_of_it(pipeline: LoadedPipeline) -> None:
    plain, seed = plain_pipeline("channels-last"), image_seed(42, 0, 0)
    given = {"num_inference_steps": STEPS, "guidance_scale": 7.5, "guidance_rescale": 0.7}
    output = plain(PROMPTS[0], generator=torch.Generator("cpu").manual_seed(seed), **given)
    job = Job(0, 0, PROMPTS[0], seed)
    ours = make(pipeline, [job], 1, guidance_rescale=0.7)[0, 0]
    np.testing.assert_array_equal(ours, np.asarray(output.images[0]))
    assert (make(pipeline, [job], 1)[0, 0] != ours).any()


def test_a_pipeline_that_does_not_take_an_argument_refuses_its_setting() -> None:
    configs = {"transformer": {}, "vae": {}, "scheduler": {"_class_name": "FlowMatchEulerDiscreteScheduler"}}
    with pytest.raises(SettingsError, match=r"^guidance_rescale 0.7 would be ignored by SanaPipeline: leave it out$"):
        require_fit(Settings(guidance_rescale=0.7), "SanaPipeline", configs)
    require_fit(Settings(), "SanaPipeline", configs)


def test_clip_skip_is_what_a_plain_call_makes_of_it(pipeline: LoadedPipeline) -> None:
    """With a negative prompt, whose embedding diffusers takes from the last layer all the same."""
    plain, seed = plain_pipeline("channels-last"), image_seed(42, 0, 0)
    plain.text_encoder.__dict__["text_model"] = plain.text_encoder  # else diffusers' clip_skip fails, see sampling
    given = {"num_inference_steps": STEPS, "clip_skip": 1, "negative_prompt": "a grey background"}
    output = plain(PROMPTS[0], generator=torch.Generator("cpu").manual_seed(seed), **given)
    job = Job(0, 0, PROMPTS[0], seed)
    ours = make(pipeline, [job], 1, clip_skip=1, negative_prompt="a grey background")[0, 0]
    np.testing.assert_array_equal(ours, np.asarray(output.images[0]))
    assert (make(pipeline, [job], 1, negative_prompt="a grey background")[0, 0] != ours).any()


def test_encodings_of_another_clip_skip_are_not_mixed_up(pipeline: LoadedPipeline) -> None:
    assert PromptEncoder.key(Settings(clip_skip=1)) != PromptEncoder.key(Settings())
    pipe = pipeline.pipe
    one, none = (PromptEncoder(pipe, Settings(clip_skip=skip, batch_size=1))(PROMPTS[:1])[0] for skip in (1, 0))
    ids = pipe.tokenizer(PROMPTS[:1], padding="max_length", return_tensors="pt").input_ids
    with torch.inference_mode():
        hidden = pipe.text_encoder(ids, output_hidden_states=True).hidden_states
        layers = [pipe.text_encoder.final_layer_norm(hidden[-1 - skip])[0] for skip in (1, 0)]
    assert torch.equal(one.inputs["prompt_embeds"], layers[0])
    assert torch.equal(none.inputs["prompt_embeds"], layers[1])


def test_more_layers_than_there_are_cannot_be_skipped(pipeline: LoadedPipeline) -> None:
    layers = pipeline.pipe.text_encoder.config.num_hidden_layers
    with pytest.raises(SettingsError, match=rf"^clip_skip {layers} leaves none of the text encoder's {layers} layers$"):
        require_fit(Settings(clip_skip=layers), pipeline.pipeline_class, pipeline.configs)
    require_fit(Settings(clip_skip=layers - 1), pipeline.pipeline_class, pipeline.configs)


def test_a_batch_that_does_not_fit_is_halved_and_says_so(
    pipeline: LoadedPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As often as it takes; the batches after it are not tried whole again, and its pictures are those of that size."""
    todo = list(jobs(PROMPTS, 42, 2))
    expected = make(pipeline, todo, 2)
    forward, tried = pipeline.pipe.unet.forward, []

    def full(sample: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        tried.append(len(sample) // 2)
        if len(sample) > 4:  # two pictures, each with its half without the prompt
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(sample, *args, **kwargs)

    monkeypatch.setattr(pipeline.pipe.unet, "forward", full)
    settings = Settings(steps=STEPS, scheduler="pndm", height=64, width=64, batch_size=8)
    set_scheduler(pipeline.pipe, pipeline.configs["scheduler"], settings)
    found = list(sample(pipeline.pipe, PromptEncoder(pipeline.pipe, settings), todo, settings))
    assert [tried.count(8), tried.count(4)] == [1, 1]
    assert {(picture.batch_size, picture.note) for picture in found} == {(2, Note.HALVED)}
    assert [picture.job for picture in found] == todo
    for picture in found:
        place = (picture.job.prompt_index, picture.job.replicate)
        np.testing.assert_array_equal(picture.pixels, expected[place])


def test_one_picture_that_does_not_fit_is_one_line(pipeline: LoadedPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\n2 GiB")

    monkeypatch.setattr(pipeline.pipe.unet, "forward", full)
    with pytest.raises(ModelError, match=r"^one picture of 64 x 64 does not fit in the memory of .*: try --offload"):
        make(pipeline, list(jobs(PROMPTS, 42, 1)), 4)
