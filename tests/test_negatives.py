"""A negative prompt for each row of a manifest: what it replaces, where it is told, and that it is never ignored."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from homes import copy_home
from sqlalchemy import select

from t2i_track import api, assets
from t2i_track.db.models import Image, ManifestEntry, Run, RunStatus
from t2i_track.errors import ManifestError, SettingsError
from t2i_track.images import png
from t2i_track.images.encoding import PromptEncoder, are_cut
from t2i_track.images.fits import require_fit
from t2i_track.images.loading import LoadedPipeline, set_memory_format
from t2i_track.images.model import configs_in
from t2i_track.images.sampling import jobs, sample
from t2i_track.images.schedulers import set_scheduler
from t2i_track.prompts import manifest
from t2i_track.prompts.manifest import Entry, Manifest
from t2i_track.runs.plan import values_of
from t2i_track.runs.reproduce import reproduce
from t2i_track.runs.rows import image_rows, run_rows
from t2i_track.runs.show import record_of
from t2i_track.settings import Settings
from t2i_track.workspace import Workspace

ROWS = [("a red circle", "grey"), ("a blue star", None), ("two green squares", "a white background")]
SHARED = "black"
USED = ["grey", SHARED, "a white background"]
LONG = "grey " * 100


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, fresh_mlflow_store: Path) -> SimpleNamespace:
    """A run of three prompts in batches of two, with a shared negative prompt for the second."""
    folder = tmp_path_factory.mktemp("negatives")
    shutil.copyfile(fresh_mlflow_store, folder / "mlflow.db")
    table = folder / "prompts.jsonl"
    table.write_text("\n".join(json.dumps({"caption": text, "negative_prompt": own}) for text, own in ROWS))
    workspace = Workspace(home=folder / "home")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    outcome = api.generate(
        manifest=str(table), steps=2, batch_size=2, device="cpu", negative_prompt=SHARED, evaluate=False,
        experiment="tests", home=workspace.home, tracking_uri=uri,
    )  # fmt: skip
    with workspace.reading() as session:
        images = list(session.scalars(select(Image).order_by(Image.prompt_index)))
        paths = [workspace.image_path(image) for image in images]
    return SimpleNamespace(workspace=workspace, uri=uri, table=table, run=outcome.summary, images=images, paths=paths)


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".json", ".parquet"])
def test_every_format_has_the_column(ending: str, tmp_path: Path) -> None:
    file, frame = tmp_path / f"m{ending}", pd.DataFrame(ROWS, columns=["caption", "Negative_Prompt"])
    if ending in (".jsonl", ".json"):
        frame.columns = ["caption", "negative_prompt"]
        frame.to_json(file, orient="records", lines=ending == ".jsonl")
    elif ending == ".parquet":
        frame.to_parquet(file)
    else:
        frame.to_csv(file, sep="," if ending == ".csv" else "\t", index=False)
    assert manifest.load(file).negative_prompts == ["grey", None, "a white background"]


def test_it_is_text_without_spare_white_space(tmp_path: Path) -> None:
    file = tmp_path / "m.jsonl"
    file.write_text('{"caption": "a", "negative_prompt": " b\\n c "}\n{"caption": "d", "negative_prompt": "  "}')
    assert manifest.load(file).entries == (Entry("a", negative_prompt="b c"), Entry("d"))
    file.write_text('{"caption": "a", "negative_prompt": 7}')
    with pytest.raises(ManifestError, match=r"line 1: negative_prompt must be text, not 7$"):
        manifest.load(file)


def test_the_hash_counts_it_and_no_empty_cell() -> None:
    without = Manifest("m", (Entry("a", "7"), Entry("b")))
    assert without.sha256 == hashlib.sha256(b'["a","7",null]\n["b",null,null]\n').hexdigest()
    one = Manifest("m", (Entry("a", "7", negative_prompt="x"), Entry("b")))
    other = Manifest("m", (Entry("a", "7"), Entry("b", negative_prompt="x")))
    assert one.sha256 == hashlib.sha256(b'["a","7",null,"x"]\n["b",null,null]\n').hexdigest()
    assert len({without.sha256, one.sha256, other.sha256}) == 3


def test_the_database_and_every_picture_have_it(made: SimpleNamespace) -> None:
    with made.workspace.reading() as session:
        entries = session.scalars(select(ManifestEntry.negative_prompt).order_by(ManifestEntry.position))
        assert list(entries) == [own for _, own in ROWS]
        shown = [record_of(session, made.workspace, str(image.id)) for image in made.images]
        rows = image_rows(session, made.workspace, run_rows(session))
        run = record_of(session, made.workspace, made.run.run)
    assert [record["made_with"]["negative_prompt"] for record in shown] == USED
    assert [f"Negative prompt: {text}" in record["parameters"] for text, record in zip(USED, shown, strict=True)]
    assert [row.record["negative_prompt"] for row in rows] == USED
    assert run["manifest"]["negative_prompts"] == 2
    records: list[Any] = [png.read_record(path) for path in made.paths]
    assert [record["negative_prompt"] for record in records] == USED


def test_each_picture_is_that_of_a_run_with_its_negative_prompt(
    made: SimpleNamespace, pipeline: LoadedPipeline
) -> None:
    with made.workspace.reading() as session:
        values = values_of(session.scalars(select(Run)).one())
    set_memory_format(pipeline.pipe, str(values.memory_format))
    set_scheduler(pipeline.pipe, pipeline.configs["scheduler"], values)
    todo = list(jobs([text for text, _ in ROWS], values.seed, 1))
    for place, text in enumerate(USED):
        alike = Settings.from_mapping({**values.to_dict(), "negative_prompt": text})
        (picture,) = sample(pipeline.pipe, PromptEncoder(pipeline.pipe, alike), [todo[place]], alike)
        assert png.pixels_sha256(picture.pixels) == made.images[place].pixels_sha256


@pytest.mark.parametrize("place", [0, 1, 2])
def test_it_is_reproduced_by_its_row_and_as_a_strangers_picture(
    made: SimpleNamespace, place: int, tmp_path: Path
) -> None:
    assert reproduce(made.workspace, str(made.images[place].id)).equal
    alone = tmp_path / "mailed.png"
    shutil.copyfile(made.paths[place], alone)
    assert reproduce(Workspace(home=tmp_path / "nothing"), str(alone)).equal


def test_a_resume_makes_the_same_pictures(made: SimpleNamespace, tmp_path: Path) -> None:
    home = tmp_path / "home"
    copy_home(made.workspace.home, home)
    workspace = Workspace(home=home)
    with workspace.begin() as session:
        run = session.scalars(select(Run)).one()
        run.status = RunStatus.FAILED
        for image in session.scalars(select(Image).where(Image.prompt_index != 1)):
            workspace.image_path(image).unlink()
            session.delete(image)
    api.generate(resume=made.run.run, home=home, tracking_uri=made.uri, evaluate=False)
    with workspace.reading() as session:
        again = session.scalars(select(Image).order_by(Image.prompt_index))
        assert [image.sha256 for image in again] == [image.sha256 for image in made.images]


def test_mlflow_lists_it_beside_the_prompts(made: SimpleNamespace, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    client, run = MlflowClient(made.uri), made.run.mlflow_run_id
    frame = pd.read_parquet(client.download_artifacts(run, "images.parquet", str(tmp_path)))
    assert list(frame["negative_prompt"]) == USED
    table = json.loads(Path(client.download_artifacts(run, "prompts.json", str(tmp_path))).read_text())
    assert table["columns"][:3] == ["prompt", "image", "negative_prompt"]
    assert [row[2] for row in table["data"]] == USED
    again = manifest.load(client.download_artifacts(run, "manifest.csv", str(tmp_path)))
    assert again.sha256 == manifest.load(made.table).sha256


@pytest.mark.parametrize(
    ("negatives", "chosen", "reason"),
    [
        (["x", None], {"guidance": 1.0}, "the manifest's negative_prompt 'x' would be ignored at guidance 1: leave"),
        (["x", "y"], {"negative_prompt": "z"}, "negative_prompt 'z' would be ignored: every row of the manifest has"),
    ],
)
def test_what_would_be_ignored_is_refused(negatives: list[str | None], chosen: dict[str, Any], reason: str) -> None:
    configs = configs_in(assets.shapes_sd(), "shapes")
    with pytest.raises(SettingsError) as told:
        require_fit(Settings(**chosen), "StableDiffusionPipeline", configs, negatives)
    assert str(told.value).startswith(reason)


def test_where_pictures_are_guided_only_against_one_every_row_needs_one(tiny: Callable[[str], Path]) -> None:
    configs, guided = configs_in(tiny("flux-dev"), "flux"), {"true_cfg_scale": 4.0, "guidance": 3.0}
    require_fit(Settings(**guided), "FluxPipeline", configs, ["x", "y"])
    require_fit(Settings(**guided, negative_prompt="z"), "FluxPipeline", configs, ["x", None])
    with pytest.raises(SettingsError, match=r"^true_cfg_scale 4 would be ignored: .* \(each row of a manifest may"):
        require_fit(Settings(**guided), "FluxPipeline", configs, ["x", None])
    with pytest.raises(SettingsError, match=r"^the manifest's negative_prompt 'x' would be ignored: guidance is an in"):
        require_fit(Settings(guidance=3.0), "FluxPipeline", configs, ["x", "y"])


def test_it_is_refused_before_anything_is_made(made: SimpleNamespace, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with pytest.raises(SettingsError, match="the manifest's negative_prompt 'grey' would be ignored"):
        api.generate(manifest=str(made.table), guidance=1.0, home=home, tracking_uri=made.uri)
    assert not home.exists()


def test_those_that_are_cut_are_counted(pipeline: LoadedPipeline, made: SimpleNamespace, tmp_path: Path) -> None:
    assert are_cut(pipeline.pipe, [LONG, "grey"], Settings()) == [True, False]
    table = tmp_path / "prompts.jsonl"
    table.write_text("\n".join(json.dumps({"caption": "a", "negative_prompt": own}) for own in (LONG, "grey", LONG)))
    outcome = api.generate(
        manifest=str(table), steps=2, device="cpu", evaluate=False, home=tmp_path / "home", tracking_uri=made.uri
    )
    assert outcome.summary.negatives_truncated == 2
    assert not outcome.summary.negative_truncated
    assert outcome.notes == [
        "the manifest's negative prompts of 2 prompts are longer than the encoder's window and were cut"
    ]


def test_neither_place_nor_company_matters(pipeline: LoadedPipeline) -> None:
    todo = list(jobs([text for text, _ in ROWS], 1, 2, {0: "grey", 2: "a white background"}))
    settings = Settings(steps=2, scheduler="pndm", batch_size=4, height=64, width=64)
    set_scheduler(pipeline.pipe, pipeline.configs["scheduler"], settings)

    def pixels(some: Any) -> dict[Any, Any]:
        stream = sample(pipeline.pipe, PromptEncoder(pipeline.pipe, settings), some, settings)
        return {picture.job: picture.pixels for picture in stream}

    together = pixels(todo)
    for some in (todo[::-1], todo[3:4]):
        for job, found in pixels(some).items():
            np.testing.assert_array_equal(found, together[job])
