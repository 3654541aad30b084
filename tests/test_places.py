"""Model folders and LoRAs are stored so that they are found from any folder and in a copied home, never as ids."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from homes import copy_home
from sqlalchemy import select

import t2i_track
from t2i_track import assets
from t2i_track.db.models import Image, Model
from t2i_track.errors import ModelError, SettingsError
from t2i_track.runs.launch import Outcome
from t2i_track.runs.plan import folder_name
from t2i_track.runs.reproduce import reproduce
from t2i_track.settings import Settings
from t2i_track.workspace import Workspace


def generate(workspace: Workspace, tracking_uri: str, resume: str | None = None, **settings: Any) -> Outcome:
    given = {"steps": 2, "batch_size": 1, "device": "cpu", "num": 1, "guidance": 1.0} if resume is None else {}
    where: dict[str, Any] = {"home": workspace.home, "tracking_uri": tracking_uri, "experiment": "tests"}
    prompt = () if resume else "a red circle"
    return t2i_track.generate(prompt=prompt, resume=resume, evaluate=False, **where, **given, **settings)


def stored(workspace: Workspace) -> str:
    with workspace.reading() as session:
        return session.scalars(select(Model.name)).one()


def test_a_folder_outside_the_home_is_stored_absolute(
    tmp_path: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(assets.shapes_sd(), tmp_path / "models" / "sd")
    workspace = Workspace(home=tmp_path / "home")
    monkeypatch.chdir(tmp_path)
    run = generate(workspace, tracking_uri, model="models/sd").summary.run
    assert stored(workspace) == (tmp_path / "models" / "sd").as_posix()
    assert generate(workspace, tracking_uri, resume=run, model="./models/../models/sd").summary.made == 0
    with pytest.raises(SettingsError, match="was made with model"):
        generate(workspace, tracking_uri, resume=run, model="shapes")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert reproduce(workspace, "1").equal


def test_a_copied_home_works_with_the_model_in_it(
    tmp_path: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, copy = tmp_path / "home", tmp_path / "copy"
    shutil.copytree(assets.shapes_sd(), home / "models" / "sd")
    monkeypatch.chdir(home)
    run = generate(Workspace(home=home), tracking_uri, model="models/sd").summary.run
    assert stored(Workspace(home=home)) == "./models/sd"
    monkeypatch.chdir(tmp_path)
    copy_home(home, copy)
    shutil.rmtree(home)
    workspace = Workspace(home=copy)
    with workspace.reading() as session:
        path = workspace.image_path(session.scalars(select(Image)).one())
    assert reproduce(workspace, "1").equal
    assert reproduce(workspace, str(path)).equal
    assert generate(workspace, tracking_uri, resume=run).summary.made == 0


def test_a_folder_that_is_gone_does_not_become_an_id(
    tmp_path: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that an earlier version stored as it was typed."""
    shutil.copytree(assets.shapes_sd(), tmp_path / "models" / "sd")
    workspace = Workspace(home=tmp_path / "home")
    monkeypatch.chdir(tmp_path)
    generate(workspace, tracking_uri, model="models/sd")
    with workspace.begin() as session:
        session.scalars(select(Model)).one().name = "models/sd"
    assert reproduce(workspace, "1").equal
    monkeypatch.setattr("t2i_track.images.source.fetch", lambda *_: pytest.fail("the hub was asked"))
    shutil.rmtree(tmp_path / "models")
    with pytest.raises(ModelError, match=r"no model folder '\./models/sd'"):
        reproduce(workspace, "1")


@pytest.mark.parametrize(
    ("model", "revision", "name"),
    [
        ("shapes", "", "shapes"),
        ("owner/name", "0123abcd", "owner/name"),
        ("models/sd", "", "./models/sd"),
        ("sd", "", "sd"),
        ("/models/sd", "", "/models/sd"),
        ("~/sd", "", "~/sd"),
        ("../sd", "", "../sd"),
    ],
)
def test_names_of_folders(model: str, revision: str, name: str) -> None:
    assert folder_name(model, revision) == name


def test_ids_and_what_is_not_there_are_stored_as_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    workspace = Workspace(home=tmp_path / "home")
    for model in ("shapes", "owner/name", "./gone"):
        assert workspace.stored_settings(Settings(model=model)).model == model
    (tmp_path / "a.safetensors").touch()
    assert workspace.stored_settings(Settings(lora="a.safetensors")).lora == str(tmp_path / "a.safetensors")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "b.safetensors").touch()
    kept = workspace.stored_settings(Settings(lora="home/b.safetensors"))
    assert kept.lora == "./b.safetensors"
    assert workspace.located(kept).lora == str(tmp_path / "home" / "b.safetensors")
