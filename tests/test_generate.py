"""Whole runs in this process, with the embedded model and a real MLflow store."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from homes import has_database
from mlflow.tracking import MlflowClient
from sqlalchemy import select

from t2i_track import assets
from t2i_track.db.models import Image, Run, RunStatus
from t2i_track.errors import Busy, Interrupted, ModelError, NotFound, SettingsError, T2IError, TrackingError
from t2i_track.images import png
from t2i_track.images.sampling import initial_latents, jobs
from t2i_track.images.seeds import image_seed
from t2i_track.images.writing import Record
from t2i_track.prompts import manifest as manifests
from t2i_track.runs.generate import Generator
from t2i_track.runs.plan import Plan, Summary
from t2i_track.runs.reproduce import reproduce
from t2i_track.settings import Settings, Values
from t2i_track.tracking import Tracker
from t2i_track.workspace import Workspace

PROMPTS = [f"one big {colour} circle on a white background" for colour in ("red", "blue", "green", "pink", "cyan")]
FAST: dict[str, Any] = {"steps": 2, "batch_size": 2, "device": "cpu", "guidance": 3.0}


@pytest.fixture
def generator(workspace: Workspace, tracker: Tracker) -> Generator:
    return Generator(workspace, tracker)


def plan(prompts: list[str] = PROMPTS, **changes: Any) -> Plan:
    own = {name: changes.pop(name) for name in list(changes) if name in Plan.__dataclass_fields__}
    settings = Settings(**{**FAST, **changes})
    return Plan(settings=settings, manifest=manifests.from_prompts(prompts), experiment="tests", **own)


def rows(workspace: Workspace, run: str) -> list[Image]:
    with workspace.reading() as session:
        query = select(Image).join(Run).where(Run.uuid == run).order_by(Image.prompt_index, Image.replicate)
        return list(session.scalars(query))


def hashes(workspace: Workspace, run: str) -> dict[tuple[int, int], tuple[int, str]]:
    return {(row.prompt_index, row.replicate): (row.seed, row.pixels_sha256) for row in rows(workspace, run)}


def test_rows_files_chunks_and_artifacts_agree(
    workspace: Workspace, generator: Generator, tracking_uri: str, shared_data: Path, tmp_path: Path
) -> None:
    from t2i_track.prompts.coco import sample

    coco = shared_data / "tiny_coco"
    sample(coco / "annotations" / "captions_val2017.json", coco / "val2017", tmp_path / "coco.csv", k=16)
    manifest = manifests.load(tmp_path / "coco.csv")
    summary = generator.generate(
        Plan(settings=Settings(**{**FAST, "batch_size": 8}), manifest=manifest, experiment="coco", run_name="captions")
    )
    found = rows(workspace, summary.run)
    assert summary.images == summary.made == len(found) == 16
    client = MlflowClient(tracking_uri)
    assert summary.mlflow_run_id is not None
    frame = pd.read_parquet(client.download_artifacts(summary.mlflow_run_id, "images.parquet", str(tmp_path)))
    for row, entry, logged in zip(found, manifest.entries, frame.to_dict("records"), strict=True):
        assert row.seed == image_seed(42, row.prompt_index, 0) == logged["seed"]
        path = workspace.image_path(row)
        record = png.read_record(path)
        assert record is not None
        assert record["prompt"] == entry.prompt == logged["prompt"]
        assert record["seed"] == row.seed
        pixels = png.pixels_sha256(png.read_pixels(path))
        assert pixels == row.pixels_sha256 == record["pixels_sha256"] == logged["pixels_sha256"]
        assert row.sha256 == hashlib.sha256(path.read_bytes()).hexdigest() == logged["sha256"]
    run = client.get_run(summary.mlflow_run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["guidance"] == "3.0"
    assert run.data.metrics["guidance"] == 3.0
    assert run.data.metrics["steps"] == 2
    assert run.data.metrics["cost/images"] == 16
    assert run.data.metrics["cost/images_per_second"] > 0
    assert run.data.metrics["cost/peak_memory_mb"] > 0
    assert run.data.tags["t2i.run"] == summary.run
    assert run.inputs.dataset_inputs[0].dataset.digest == manifest.sha256[:36]
    names = {item.path for item in client.list_artifacts(summary.mlflow_run_id)}
    assert {"images.parquet", "images.jsonl", "manifest.csv", "prompts.json", "images"} <= names
    assert client.search_runs([run.info.experiment_id], "metrics.guidance > 2.5")
    assert not client.search_runs([run.info.experiment_id], "metrics.guidance > 3.5")


def test_energy_is_kept_where_the_machine_has_a_meter(
    workspace: Workspace, generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Meter:
        def __init__(self, device: str) -> None:
            self.device = device

        def read(self) -> dict[str, float]:
            return {f"{self.device}_joules": 20.0}

    monkeypatch.setattr("t2i_track.runs.generate.Meter", Meter)
    metered = generator.generate(plan(num=4))
    monkeypatch.setattr(Meter, "read", lambda _: {})
    bare = generator.generate(plan(num=4, seed=7))
    with workspace.reading() as session:
        cost = {run.uuid: run.config["cost"] for run in session.scalars(select(Run))}
    assert (cost[metered.run]["cpu_joules"], cost[metered.run]["metered_images"]) == (20.0, 4)
    assert not {"cpu_joules", "metered_images"} & set(cost[bare.run])


def test_a_longer_run_begins_with_the_shorter_one(workspace: Workspace, generator: Generator) -> None:
    short = generator.generate(plan(num=2))
    long = generator.generate(plan(images_per_prompt=2))
    few, many = hashes(workspace, short.run), hashes(workspace, long.run)
    assert len(few) == 2
    assert len(many) == 10
    assert few == {place: many[place] for place in few}


def test_the_latents_of_a_stored_image_follow_from_its_row(workspace: Workspace, generator: Generator) -> None:
    import torch

    summary = generator.generate(plan(num=1))
    row = rows(workspace, summary.run)[0]
    job = next(iter(jobs(PROMPTS, 42, 1)))
    assert row.seed == job.seed
    assert initial_latents(job, (4, 16, 16), torch.float32).shape == (4, 16, 16)


class Stop(BaseException):
    """Stands for a crash: nothing of ours catches it."""


def stop_after(monkeypatch: pytest.MonkeyPatch, count: int, error: BaseException) -> None:
    """Raise from the pipeline's side after so many pictures."""
    from t2i_track.images.executors import worker as making

    original = making.sample

    def stopping(*args: Any, **kwargs: Any) -> Iterator[Any]:
        for number, picture in enumerate(original(*args, **kwargs)):
            if number == count:
                raise error
            yield picture

    monkeypatch.setattr(making, "sample", stopping)


@pytest.mark.parametrize("count", [0, 2, 3, 4])
def test_an_interrupted_run_is_marked_and_resumes(
    workspace: Workspace,
    generator: Generator,
    tracking_uri: str,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
) -> None:
    undisturbed = generator.generate(plan())
    with monkeypatch.context() as patch:
        stop_after(patch, count, KeyboardInterrupt())
        with pytest.raises(Interrupted, match="t2i generate --resume"):
            generator.generate(plan(run_name="stopped", fresh=True))
    client = MlflowClient(tracking_uri)
    with workspace.reading() as session:
        run = session.scalars(select(Run).where(Run.name == "stopped")).one()
        assert (run.status, run.error) == (RunStatus.INTERRUPTED, "interrupted by the user")
    assert run.mlflow_run_id is not None
    assert client.get_run(run.mlflow_run_id).info.status == "KILLED"
    assert client.get_run(run.mlflow_run_id).data.tags["t2i.reason"] == "interrupted by the user"
    before = len(rows(workspace, run.uuid))
    assert before == count  # what was finished is kept
    (workspace.run_folder(run) / "000009-1.png.77.tmp").write_bytes(b"half")
    summary = generator.resume("stopped")
    assert summary.made == 5 - before
    assert hashes(workspace, run.uuid) == hashes(workspace, undisturbed.run)
    assert sorted(path.name for path in workspace.run_folder(run).iterdir()) == [
        Path(row.path).name for row in rows(workspace, run.uuid)
    ]
    assert client.get_run(run.mlflow_run_id).info.status == "FINISHED"
    assert len(client.search_runs([client.get_run(run.mlflow_run_id).info.experiment_id])) == 2


def test_a_failure_is_marked_in_both_stores(
    workspace: Workspace, generator: Generator, tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(monkeypatch, 2, RuntimeError("the model broke"))
    with pytest.raises(RuntimeError, match="the model broke"):
        generator.generate(plan(run_name="broken"))
    with workspace.reading() as session:
        run = session.scalars(select(Run)).one()
        assert (run.status, run.error) == (RunStatus.FAILED, "RuntimeError: the model broke")
        assert run.mlflow_run_id is not None
        assert MlflowClient(tracking_uri).get_run(run.mlflow_run_id).info.status == "FAILED"


def test_a_full_disk_is_one_line(workspace: Workspace, generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Record:
        raise OSError(28, "No space left on device", "x.png")

    monkeypatch.setattr("t2i_track.images.writing._write", full)
    with pytest.raises(T2IError, match=r"No space left on device: x\.png.*--resume"):
        generator.generate(plan())


def test_resuming_a_finished_run_makes_nothing(workspace: Workspace, generator: Generator) -> None:
    first = generator.generate(plan())
    files = {path: path.stat().st_mtime_ns for path in Path(first.folder).iterdir()}
    again = generator.resume(first.run)
    assert (again.made, again.images, again.mlflow_run_id) == (0, 5, first.mlflow_run_id)
    assert {path: path.stat().st_mtime_ns for path in Path(first.folder).iterdir()} == files


def test_resume_refuses_changes(workspace: Workspace, generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = generator.generate(plan())
    with pytest.raises(SettingsError, match=r"was made with guidance 3.0, not 4.0"):
        generator.resume(summary.run, {"guidance": 4.0, "steps": 2})
    with pytest.raises(NotFound, match="no run 'unheard-of'"):
        generator.resume("unheard-of")
    with workspace.begin() as session:
        run = session.scalars(select(Run)).one()
        run.model.weights_sha256, run.status = "other", RunStatus.INTERRUPTED
    with pytest.raises(ModelError, match="have changed since run"):
        generator.resume(summary.run)


def test_resume_refuses_another_scheduler_configuration(
    workspace: Workspace, generator: Generator, tracker: Tracker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The weights' hash is over the tensors, so a model's scheduler_config.json may change under it."""
    model = tmp_path / "sd"
    shutil.copytree(assets.shapes_sd(), model)
    with monkeypatch.context() as patch:
        stop_after(patch, 2, KeyboardInterrupt())
        with pytest.raises(Interrupted):
            generator.generate(plan(run_name="stopped", model=str(model)))
    file = model / "scheduler" / "scheduler_config.json"
    before = file.read_text()
    for key, value in (("beta_end", 0.02), ("prediction_type", "v_prediction"), ("timestep_spacing", "trailing")):
        file.write_text(json.dumps({**json.loads(before), key: value}))
        with pytest.raises(ModelError, match=rf"scheduler configuration .* has changed .* \({key}\): put it back"):
            Generator(workspace, tracker).resume("stopped")
    file.write_text(before)
    assert Generator(workspace, tracker).resume("stopped").made == 3


def test_a_joined_run_keeps_what_was_typed(workspace: Workspace, tracker: Tracker, tracking_uri: str) -> None:
    client = MlflowClient(tracking_uri)
    opened = client.create_run(client.create_experiment("project"))
    client.log_param(opened.info.run_id, "guidance", "1.2e1")
    client.log_param(opened.info.run_id, "num", "1")
    summary = Generator(workspace, tracker).generate(plan(guidance=12.0, num=1, join=opened.info.run_id))
    assert (summary.mlflow_run_id, summary.experiment) == (opened.info.run_id, "project")
    with workspace.reading() as session:
        assert session.scalars(select(Run)).one().experiment == "project"
    run = client.get_run(opened.info.run_id)
    assert run.data.params["guidance"] == "1.2e1"
    assert run.data.metrics["guidance"] == 12.0
    assert not [name for name in run.data.params if name.endswith("_resolved")]


def test_no_tracking_server_no_run(workspace: Workspace) -> None:
    with (
        Tracker("http://127.0.0.1:9", workspace.outbox) as tracker,
        pytest.raises(TrackingError, match=r"127\.0\.0\.1:9"),
    ):
        Generator(workspace, tracker).generate(plan())
    assert not has_database(workspace.home)


def test_long_prompts_are_counted(workspace: Workspace, generator: Generator) -> None:
    summary: Summary = generator.generate(plan(["short words", "one red circle " * 170]))
    assert summary.truncated == 1
    assert [(row.truncated, row.tokens > 77) for row in rows(workspace, summary.run)] == [(False, False), (True, True)]


def test_a_negative_prompt_that_is_cut_is_said(workspace: Workspace, generator: Generator) -> None:
    from t2i_track.runs.launch import notes_on

    note = "the negative prompt is longer than the encoder's window and was cut"
    long = "blurred and dark " * 60
    for text, cut in (("", False), ("blurred", False), (long, True)):
        summary = generator.generate(plan(["one"], guidance=5.0, negative_prompt=text))
        again = generator.resume(summary.run)
        assert [note in notes_on(one) for one in (summary, again)] == [cut, cut]


def test_the_record_is_enough(workspace: Workspace, generator: Generator) -> None:
    """Law 1: a picture made from nothing but its PNG's record has the same pixels."""
    summary = generator.generate(plan(guidance=5.0, negative_prompt="blurred", scheduler="euler-a"))
    row = rows(workspace, summary.run)[3]
    record = png.read_record(workspace.image_path(row))
    assert record is not None
    json.dumps(record)
    from t2i_track.images.encoding import PromptEncoder
    from t2i_track.images.loading import load, set_memory_format
    from t2i_track.images.sampling import Job, sample
    from t2i_track.images.schedulers import set_scheduler

    settings = Values.stored(record)
    loaded = load(settings)
    set_memory_format(loaded.pipe, record["memory_format"])
    assert loaded.weights_sha256 == record["weights_sha256"]
    assert set_scheduler(loaded.pipe, loaded.configs["scheduler"], settings) == record["scheduler_config"]
    job = Job(record["prompt_index"], record["replicate"], record["prompt"], record["seed"])
    picture = next(sample(loaded.pipe, PromptEncoder(loaded.pipe, settings), [job], settings))
    assert png.pixels_sha256(picture.pixels) == record["pixels_sha256"]


def test_two_processes_cannot_make_one_run(workspace: Workspace, generator: Generator) -> None:
    from filelock import FileLock

    summary = generator.generate(plan(num=1))
    with workspace.begin() as session:
        session.scalars(select(Run)).one().status = RunStatus.INTERRUPTED
    with FileLock(Path(summary.folder) / ".lock"), pytest.raises(Busy, match="being made by another process"):
        generator.resume(summary.run)


def test_an_unwritable_outdir(workspace: Workspace, generator: Generator, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SettingsError, match="cannot write"):
        generator.generate(plan(outdir=tmp_path / "file"))


def test_outdir_is_outside_home(workspace: Workspace, generator: Generator, tmp_path: Path) -> None:
    summary = generator.generate(plan(num=1, outdir=tmp_path / "elsewhere"))
    row = rows(workspace, summary.run)[0]
    assert workspace.image_path(row).is_file()
    assert workspace.image_path(row).is_relative_to(tmp_path / "elsewhere")
    assert generator.resume(summary.run).made == 0


def test_a_mark_changes_no_pixels_and_a_resume_keeps_it(
    workspace: Workspace, generator: Generator, tracker: Tracker
) -> None:
    marked = generator.generate(plan(num=2))
    plain = generator.generate(plan(num=2, mark_ai=False))
    assert hashes(workspace, marked.run) == hashes(workspace, plain.run)
    with workspace.begin() as session:
        runs = {run.uuid: run for run in session.scalars(select(Run))}
        assert runs[marked.run].settings_sha256 == runs[plain.run].settings_sha256
        for run in runs.values():
            last = run.images[-1]
            workspace.image_path(last).unlink()
            session.delete(last)
    for run, is_marked in ((marked.run, True), (plain.run, False)):
        assert generator.resume(run).made == 1
        paths = [workspace.image_path(row) for row in rows(workspace, run)]
        assert [png.is_marked(path) for path in paths] == [is_marked, is_marked]
        again = workspace.home / "again.png"
        assert reproduce(workspace, str(paths[0]), out=again).equal
        assert again.read_bytes() == paths[0].read_bytes()


def test_an_error_leaves_the_model_to_others(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """What its traceback holds would keep the lock, until another thread collects it, which cannot give it back."""

    def fails(*_: Any) -> None:
        raise RuntimeError("no file")

    monkeypatch.setattr("t2i_track.images.writing._write", fails)
    with pytest.raises(RuntimeError, match="no file") as kept:
        generator.generate(plan(num=4))
    lock = generator._executor._worker._lock  # type: ignore[attr-defined]
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: lock.acquire(blocking=False) and lock.release() is None).result()
    assert kept.traceback
