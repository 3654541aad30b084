"""``--compile``, ``--quantize``, ``--vae-tiling``: pictures are their own, what would be ignored is refused.

What a compiler makes of a graph is torch's to test: here graphs are run as they were traced.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sqlalchemy import select

from t2i_track import api
from t2i_track.db.models import Image, Run
from t2i_track.errors import ModelError, SettingsError
from t2i_track.images import compiling, quantizing
from t2i_track.images.encoding import PromptEncoder
from t2i_track.images.executors.worker import Worker
from t2i_track.images.fits import require_fit
from t2i_track.images.loading import LoadedPipeline, load
from t2i_track.images.lora import set_scales
from t2i_track.images.sampling import Job, jobs, sample
from t2i_track.images.schedulers import resolved, set_scheduler
from t2i_track.images.tiling import set_tiling, tile_of
from t2i_track.runs.reproduce import reproduce
from t2i_track.runs.script import script_of
from t2i_track.settings import QUANTIZATIONS, Settings
from t2i_track.workspace import Workspace

PROMPTS = ("a red circle", "two blue squares", "x")
ON_CPUS = [one for one in QUANTIZATIONS if one not in ("none", quantizing.DYNAMIC_FP8)]
COMPILING = 5.0
"""Seconds that the backend of these tests takes: more than a batch of a small model."""
TILED = {"vae_tiling": "on", "height": 96, "width": 96}


@dataclasses.dataclass
class Backend:
    """Runs each graph as it was traced, and counts them."""

    graphs: int = 0
    seconds: float = 0.0

    def __call__(self, graph: Any, inputs: Any, **given: Any) -> Any:
        self.graphs += 1
        time.sleep(self.seconds)
        return graph.forward


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    found = Backend()
    monkeypatch.setattr(compiling, "BACKEND", found)
    yield found
    torch._dynamo.reset()


def made(loaded: LoadedPipeline, todo: list[Job] | None = None, **chosen: Any) -> dict[int, np.ndarray[Any, Any]]:
    """The pictures by their prompts' numbers."""
    size = {"steps": 2, "batch_size": 2, "height": 64, "width": 64, "guidance": 4.0, "device": "cpu", "dtype": "fp32"}
    asked = dataclasses.replace(Settings(**{**size, **chosen}), model=loaded.name)
    settings = resolved(loaded.configs["scheduler"], asked)
    require_fit(settings, loaded.pipeline_class, loaded.configs)
    set_scheduler(loaded.pipe, loaded.configs["scheduler"], settings)
    set_scales(loaded.pipe, settings)
    set_tiling(loaded.pipe, settings)
    stream = sample(loaded.pipe, PromptEncoder(loaded.pipe, settings), todo or jobs(PROMPTS, 42, 1), settings)
    return {picture.job.prompt_index: picture.pixels.astype(int) for picture in stream}


def require_own(loaded: LoadedPipeline, **chosen: Any) -> dict[int, np.ndarray[Any, Any]]:
    """The pictures, each being the same in another order and alone."""
    todo, found = list(jobs(PROMPTS, 42, 1)), made(loaded, **chosen)
    for some in (todo[::-1], todo[2:]):
        for number, pixels in made(loaded, some, **chosen).items():
            assert (pixels == found[number]).all()
    return found


def differs(a: dict[int, Any], b: dict[int, Any]) -> bool:
    return any((a[number] != b[number]).any() for number in a)


@dataclasses.dataclass
class Store:
    """A home and its MLflow store."""

    workspace: Workspace
    uri: str

    def run(self, **chosen: Any) -> tuple[Run, list[Image], Any]:
        """A new run of two prompts, its images, and what was told of it."""
        given = {"prompt": list(PROMPTS[:2]), "steps": 2, "batch_size": 2, "device": "cpu", **chosen}
        told = api.generate(evaluate=False, home=self.workspace.home, tracking_uri=self.uri, **given)
        with self.workspace.reading() as session:
            run = session.scalars(select(Run).where(Run.uuid == told.summary.run)).one()
            images = list(session.scalars(select(Image).where(Image.run_id == run.id)))
            assert run.model.weights_sha256
            session.expunge_all()
        return run, images, told.summary


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, fresh_mlflow_store: Path) -> Store:
    folder = tmp_path_factory.mktemp("faster")
    shutil.copyfile(fresh_mlflow_store, folder / "mlflow.db")
    return Store(Workspace(home=folder / "home"), f"sqlite:///{folder / 'mlflow.db'}")


def test_a_compiled_run_is_recorded_timed_without_the_compiling_and_made_again(
    store: Store, backend: Backend, tiny: Callable[[str], Path]
) -> None:
    backend.seconds = COMPILING
    model = {"model": str(tiny("flux-dev")), "height": 64, "width": 64}
    plain, as_plain, _ = store.run(**model)
    run, images, _ = store.run(**model, compile="default")
    assert backend.graphs == 2, "each of the two kinds of blocks is compiled once"
    assert max(image.seconds or 0.0 for image in images) * len(images) < COMPILING
    assert [one.pixels_sha256 for one in images] == [one.pixels_sha256 for one in as_plain]
    assert run.model_id == plain.model_id, "the weights are those of the files"
    assert run.config["resolved"]["compile"] == "default"
    assert reproduce(store.workspace, str(images[0].id)).equal
    with store.workspace.reading() as session:
        assert "(network.compile_repeated_blocks if blocks else network.compile)(fullgraph=True, dynamic=False" in (
            script_of(session, store.workspace, str(images[0].id))
        )


def test_compiled_pictures_are_their_own(backend: Backend, tiny: Callable[[str], Path]) -> None:
    """A smaller batch is compiled for itself, and leaves them as they are."""
    loaded = load(Settings(model=str(tiny("flux-dev")), device="cpu", compile="default"))
    names = set(loaded.pipe.transformer.state_dict())
    found = require_own(loaded, compile="default")
    assert backend.graphs == 2
    made(loaded, list(jobs(PROMPTS[:1], 42, 1)), compile="default", batch_size=1)
    assert not differs(made(loaded, compile="default"), found)
    assert backend.graphs == 4
    assert set(loaded.pipe.transformer.state_dict()) == names
    with compiling.eagerly(Settings(compile="default")):
        assert not differs(made(loaded, compile="default", batch_size=3), found)
    assert backend.graphs == 4


def test_a_lora_beside_what_is_compiled_and_quantized_keeps_its_scale(
    backend: Backend, tiny: Callable[[str], Path]
) -> None:
    """Two graphs, for each scale."""
    chosen = {"compile": "default", "quantize": "int8", "lora": str(tiny("flux-lora"))}
    loaded = load(Settings(model=str(tiny("flux-dev")), device="cpu", **chosen))
    assert differs(made(loaded, **chosen), made(loaded, **chosen, lora_scale=0.5))
    assert backend.graphs == 4
    without = load(Settings(model=str(tiny("flux-dev")), device="cpu", quantize="int8"))
    assert len(quantizing.layers(loaded.pipe)) == len(quantizing.layers(without.pipe))


def test_an_output_of_a_graph_is_not_written_over() -> None:
    network = torch.nn.Identity()
    shared = torch.zeros(2)
    network._compiled_call_impl = lambda: (shared, "as it is")  # type: ignore[method-assign]
    compiling._copy_outputs(network)
    (first, word), (second, _) = network(), network()
    shared += 1
    assert (first.tolist(), second.tolist(), word) == ([0.0, 0.0], [0.0, 0.0], "as it is")


def test_what_cannot_be_compiled_is_one_line(monkeypatch: pytest.MonkeyPatch, tiny: Callable[[str], Path]) -> None:
    """A U-Net, which is one graph as a whole."""

    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("no such\ninstruction")

    monkeypatch.setattr(compiling, "BACKEND", fails)
    loaded = load(Settings(model=str(tiny("sd1")), device="cpu", compile="default"))
    with pytest.raises(ModelError, match=r"^compile default: this model cannot be compiled \(.*no such instruction.*"):
        made(loaded, compile="default")
    torch._dynamo.reset()


def test_a_compiler_and_a_device_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import cpp_builder
    from torch._inductor.exc import InvalidCxxCompiler

    with pytest.raises(
        SettingsError, match=r"^compile reduce-overhead would be ignored on cpu, which has no CUDA graphs"
    ):
        load(Settings(device="cpu", compile="reduce-overhead"))
    with pytest.raises(SettingsError, match=r"^compile default was never tried on mps"):
        compiling.require_compiler(Settings(compile="default"), "mps")

    def none() -> str:
        raise InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", none)
    with pytest.raises(
        SettingsError, match=r"^compile default needs a C\+\+ compiler .* not on this machine: install it"
    ):
        load(Settings(device="cpu", compile="default"))


@pytest.mark.parametrize("how", ON_CPUS)
def test_quantized_pictures_are_their_own(how: str, pipeline: LoadedPipeline) -> None:
    loaded = load(Settings(device="cpu", quantize=how))
    assert loaded.weights_sha256 == pipeline.weights_sha256
    found = require_own(loaded, quantize=how)
    assert differs(found, made(pipeline))


def test_a_quantized_run_says_by_what_and_is_made_again(store: Store) -> None:
    plain, *_ = store.run()
    run, images, told = store.run(quantize="int8")
    (note,) = [note for note in told.notes if note.startswith("quantize")]
    version = run.environment["versions"]["torchao"]
    assert note == (
        "quantize int8: 40 of the network's 53 linear layers, by Int8WeightOnlyConfig (a scale a row) of torchao"
        f" {version}"
    )
    assert run.model_id == plain.model_id
    assert reproduce(store.workspace, str(images[0].id)).equal


def test_what_cannot_be_quantized_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        SettingsError, match=r"^quantize fp8dq needs a GPU that multiplies 8-bit floats, and cpu does not"
    ):
        load(Settings(device="cpu", quantize="fp8dq"))
    monkeypatch.setattr(quantizing, "_multiplies_fp8", lambda device: True)
    with pytest.raises(
        SettingsError, match=r"^quantize fp8dq with a scale a row is for bf16, not fp32: give --dtype bf16"
    ):
        load(Settings(device="cpu", quantize="fp8dq"))
    with pytest.raises(SettingsError, match=r"^quantize int8 was never tried on mps"):
        quantizing.require_quantizable(Settings(quantize="int8"), "mps", "fp32")
    monkeypatch.setattr(quantizing, "TOKENS", "nothing")
    with pytest.raises(SettingsError, match=r"^quantize int8 would be ignored: this model has no layer for it"):
        load(Settings(device="cpu", quantize="int8"))


def test_without_torchao_its_extra_is_named(monkeypatch: pytest.MonkeyPatch, pipeline: LoadedPipeline) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None if name == "torchao" else find(name))
    with pytest.raises(
        SettingsError, match=r"^quantize int8 needs torchao, .* pip install 't2i-track\[quantize\]', or"
    ):
        made(pipeline, quantize="int8")


def test_tiled_pictures_are_their_own_and_other_ones(pipeline: LoadedPipeline) -> None:
    whole = made(pipeline, height=96, width=96)
    assert differs(require_own(pipeline, **TILED), whole)
    assert not differs(made(pipeline, height=96, width=96), whole)


def test_a_tiled_run_has_no_note_and_is_made_again_in_tiles(store: Store) -> None:
    _, as_whole, _ = store.run(height=96, width=96)
    _, images, told = store.run(**TILED)
    assert (told.tiled, {image.note for image in images}) == (0, {None})
    assert [one.pixels_sha256 for one in images] != [one.pixels_sha256 for one in as_whole]
    assert reproduce(store.workspace, str(images[0].id)).equal
    assert reproduce(store.workspace, str(as_whole[0].id)).equal
    with store.workspace.reading() as session:
        assert "pipe.vae.enable_tiling()" in script_of(session, store.workspace, str(images[0].id))


def test_tiling_changes_in_a_loaded_model(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    for number, tiling in enumerate(("off", "on", "off")):
        assert (worker.load(Settings(device="cpu", vae_tiling=tiling)).seconds is None) == (number > 0)


def test_tiles_that_would_not_be_made_are_refused(pipeline: LoadedPipeline) -> None:
    with pytest.raises(
        SettingsError, match=r"^vae_tiling on would be ignored: a picture of 64 x 64 is no larger than one"
    ):
        made(pipeline, vae_tiling="on")
    made(pipeline, vae_tiling="on", width=72)
    set_tiling(pipeline.pipe, Settings())  # which other tests use too
    assert tile_of({"_class_name": "AutoencoderTiny"}) == (512, 512)
    assert tile_of({"_class_name": "VQModel"}) is None


def test_yaml_reads_off_and_on_as_false_and_true() -> None:
    assert Settings.from_mapping({"vae_tiling": True}).vae_tiling == "on"
    assert Settings.from_mapping({"vae_tiling": False}).vae_tiling == "off"
