"""Checkpoints of one file, and a VAE in place of the model's: loaded as they are, hashed, and refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import checkpoint
import pytest
import torch
from safetensors.torch import load_file, save_file

import t2i_track
from t2i_track import assets
from t2i_track.errors import ModelError, PickledWeights, SettingsError
from t2i_track.images.loading import LoadedPipeline, check_local, load
from t2i_track.runs.reproduce import reproduce
from t2i_track.settings import Settings
from t2i_track.workspace import Workspace

VAE = "vae/diffusion_pytorch_model.safetensors"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The embedded model without its weights."""
    shutil.copytree(assets.shapes_sd(), tmp_path / "config", ignore=shutil.ignore_patterns("*.safetensors"))
    return tmp_path / "config"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    checkpoint.write(assets.shapes_sd(), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def same(one: LoadedPipeline, other: LoadedPipeline, *components: str) -> bool:
    for component in components:
        state, expected = (getattr(found.pipe, component).state_dict() for found in (one, other))
        assert state.keys() == expected.keys()
        if not all(torch.equal(state[key], expected[key]) for key in state):
            return False
    return True


def test_a_checkpoint_is_the_model_that_it_was_made_from(file: Path, config: Path, pipeline: LoadedPipeline) -> None:
    settings = Settings(model=str(file), model_config=str(config), device="cpu")
    check_local(settings)
    loaded = load(settings)
    assert same(loaded, pipeline, "unet", "vae", "text_encoder")
    assert loaded.pipeline_class == "StableDiffusionPipeline"
    tensors = load_file(file)
    save_file({**tensors, "first_stage_model.quant_conv.bias": tensors["first_stage_model.quant_conv.bias"] + 1}, file)
    assert load(settings).weights_sha256 != loaded.weights_sha256


def test_weights_beside_the_configuration_are_not_read(file: Path, config: Path, pipeline: LoadedPipeline) -> None:
    (config / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"not to be read")
    loaded = load(Settings(model=str(file), model_config=str(config), device="cpu"))
    assert same(loaded, pipeline, "unet")


def without(prefix: str, file: Path) -> None:
    save_file({key: tensor for key, tensor in load_file(file).items() if not key.startswith(prefix)}, file)


@pytest.mark.parametrize(
    "prefix",
    ["model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "model.diffusion_model.out.2.",
     "first_stage_model.decoder.conv_out.", "cond_stage_model.transformer.text_model.final_layer_norm."],
)  # fmt: skip
def test_a_checkpoint_that_lacks_something_is_refused(file: Path, config: Path, prefix: str) -> None:
    without(prefix, file)
    with pytest.raises(ModelError, match=r"^model '.*model\.safetensors'") as told:
        load(Settings(model=str(file), model_config=str(config), device="cpu"))
    assert "\n" not in str(told.value)


def test_what_a_checkpoint_needs_is_said(file: Path, config: Path, tmp_path: Path) -> None:
    def refused(error: type[Exception], message: str, **settings: Any) -> None:
        with pytest.raises(error, match=message):
            check_local(Settings(**{"model": str(file), "model_config": str(config), **settings}))

    refused(ModelError, r"is one file of weights: say with --model-config which pipeline it is", model_config=None)
    refused(ModelError, r"model_config '.*gone' has no model_index\.json", model_config=str(tmp_path / "gone"))
    refused(SettingsError, r"variant 'fp16' would be ignored: '.*' is one file", variant="fp16")
    refused(SettingsError, r"model_config '.*config' would be ignored: 'shapes' is no single file", model="shapes")
    (tmp_path / "old.ckpt").write_bytes(b"pickled")
    refused(PickledWeights, r"old\.ckpt' is not \.safetensors", model=str(tmp_path / "old.ckpt"))
    file.write_bytes(file.read_bytes()[:-1])
    refused(ModelError, r"model\.safetensors is cut short")
    shutil.rmtree(config / "vae")
    checkpoint.write(assets.shapes_sd(), file)
    refused(ModelError, r"model_config '.*config' has no folder vae/")


def another_vae(folder: Path, *, shift: float = 0.01) -> Path:
    """A VAE's folder with other weights than the embedded one's."""
    shutil.copytree(assets.shapes_sd() / "vae", folder)
    tensors = {key: tensor + shift for key, tensor in load_file(folder / Path(VAE).name).items()}
    save_file(tensors, folder / Path(VAE).name)
    return folder


def test_a_vae_takes_the_place_of_the_models(tmp_path: Path, pipeline: LoadedPipeline) -> None:
    folder = another_vae(tmp_path / "other")
    loaded = load(Settings(vae=str(folder), device="cpu"))
    assert same(loaded, pipeline, "unet", "text_encoder")
    state = loaded.pipe.vae.state_dict()
    assert all(torch.equal(state[key], tensor.float()) for key, tensor in load_file(folder / Path(VAE).name).items())

    whole = tmp_path / "whole"
    shutil.copytree(assets.shapes_sd(), whole)
    shutil.copy(folder / Path(VAE).name, whole / VAE)
    assert load(Settings(model=str(whole), device="cpu")).weights_sha256 == loaded.weights_sha256
    assert load(Settings(vae=str(whole), device="cpu")).weights_sha256 == loaded.weights_sha256
    assert load(Settings(vae=str(assets.shapes_sd()), device="cpu")).weights_sha256 == pipeline.weights_sha256

    one = load(Settings(vae=str(folder / Path(VAE).name), device="cpu"))
    assert same(one, loaded, "vae", "unet")
    assert one.weights_sha256 == loaded.weights_sha256


def test_a_vae_takes_the_place_of_a_checkpoints(file: Path, config: Path, tmp_path: Path) -> None:
    settings = {"model": str(file), "model_config": str(config), "device": "cpu"}
    folder = another_vae(tmp_path / "other")
    own, given = load(Settings(**settings)), load(Settings(**settings, vae=str(folder)))
    assert same(own, given, "unet", "text_encoder")
    assert same(given, load(Settings(vae=str(folder), device="cpu")), "vae")
    assert own.weights_sha256 != given.weights_sha256


def test_what_is_no_vae_for_the_model_is_refused(tmp_path: Path) -> None:
    folder = another_vae(tmp_path / "other")
    written = json.loads((folder / "config.json").read_text())

    def refused(message: str, vae: Path | str = folder, **changes: Any) -> None:
        (folder / "config.json").write_text(json.dumps({**written, **changes}))
        with pytest.raises(ModelError, match=message):
            check_local(Settings(vae=str(vae)))

    refused(r"vae '.*other' has 16 latent channels, and that of 'shapes' 4", latent_channels=16)
    refused(r"other' is no VAE \(its config\.json names UNet2DConditionModel", _class_name="UNet2DConditionModel")
    refused(r"no VAE './gone': give a folder", "./gone")
    refused(r"no config\.json: --vae takes a VAE", tmp_path)
    (folder / Path(VAE).name).write_bytes(b"")
    refused(r"is cut short, or no \.safetensors file")
    model = tmp_path / "no-vae"
    shutil.copytree(assets.shapes_sd(), model)
    index = json.loads((model / "model_index.json").read_text())
    (model / "model_index.json").write_text(json.dumps({**index, "vae": [None, None]}))
    with pytest.raises(SettingsError, match=r"^vae '.*' would be ignored: '.*' has no vae; leave it out"):
        check_local(Settings(model=str(model), vae=str(folder)))


def test_a_picture_of_another_vae_is_made_again_only_with_it(
    file: Path, config: Path, tmp_path: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    another_vae(tmp_path / "other")
    workspace = Workspace(home=tmp_path / "home")
    monkeypatch.chdir(tmp_path)
    given: dict[str, Any] = {"steps": 2, "batch_size": 1, "device": "cpu", "guidance": 1.0, "vae": "other"}
    made = t2i_track.generate(
        prompt="a red circle", model=file.name, model_config=config.name, home=workspace.home,
        tracking_uri=tracking_uri, evaluate=False, **given,
    ).summary  # fmt: skip
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert reproduce(workspace, "1").equal
    picture = next(Path(made.folder).glob("*.png"))
    lost = Workspace(home=tmp_path / "none")
    with pytest.raises(ModelError, match=r"no run here has used the model of this record .* with --model$"):
        reproduce(lost, str(picture))
    places = {"model": str(file), "model_config": str(config)}
    with pytest.raises(ModelError, match=r"no run here has used the vae of this record .* with --vae$"):
        reproduce(lost, str(picture), **places)
    assert reproduce(lost, str(picture), **places, vae=str(tmp_path / "other")).equal
    shutil.move(tmp_path / "other", tmp_path / "moved")
    assert reproduce(workspace, "1", vae=str(tmp_path / "moved")).equal
    with pytest.raises(ModelError, match=r"are not those of the record"):
        reproduce(workspace, "1", vae=str(assets.shapes_sd()))
