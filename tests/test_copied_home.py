"""A home that is copied to another folder is the same home: nothing in it points back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from foreign_pictures import a1111, png
from homes import copy_home
from mlflow_artifacts import artifacts

from t2i_track import api
from t2i_track.db.models import Image, Run
from t2i_track.workspace import Workspace


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory, fresh_mlflow_store: Path) -> tuple[Path, str, str, str]:
    """The copy of a home with two scored runs and an imported one, the original being gone; and the runs' ids."""
    root = tmp_path_factory.mktemp("copied")
    shutil.copyfile(fresh_mlflow_store, root / "mlflow.db")
    where: dict[str, Any] = {"home": root / "home", "tracking_uri": f"sqlite:///{root}/mlflow.db"}
    made = [api.generate(num=8, steps=2, guidance=guidance, evaluate=False, **where) for guidance in (2, 4)]
    api.evaluate(*(one.summary.run for one in made), metrics="alignment", **where)
    for number in range(2):
        png(root / "outputs" / f"{number}.png", number, a1111(f"cat {number}", number, 7))
    imported = api.import_pictures(root / "outputs", copy=True, **where).runs[0].run
    (root / "elsewhere").mkdir()
    copy_home(root / "home", root / "elsewhere" / "copy")
    for gone in ("home", "outputs"):
        shutil.rmtree(root / gone)
    (root / "mlflow.db").unlink()
    return root / "elsewhere" / "copy", made[0].summary.run, made[1].summary.run, imported


Copied = tuple[Path, str, str, str]


def test_nothing_in_it_is_absolute(copied: Copied) -> None:
    from sqlalchemy import select

    with Workspace(copied[0]).reading() as session:
        assert not [image.path for image in session.scalars(select(Image)) if Path(image.path).is_absolute()]
        assert all(copied[0].joinpath(image.path).is_file() for image in session.scalars(select(Image)))
        assert all(run.config.get("outdir") is None for run in session.scalars(select(Run)))


def test_it_is_read_as_before(copied: Copied, cli: Any, tmp_path: Path) -> None:
    home, one, other, imported = copied
    for run, number in ((one, 8), (imported, 2)):
        shown = json.loads(cli("show", run, "--home", home, "--format", "json").out)
        assert shown["images"] == number
    assert str(home) in json.loads(cli("show", one, "--home", home, "--format", "json").out)["folder"]
    report = cli("compare", one, other, "--home", home, "--report", tmp_path / "report.html")
    assert report.code == 0, report.err
    # With its pictures: each is a data address of some hundred characters at least.
    assert (tmp_path / "report.html").read_text(encoding="utf-8").count("data:image/") >= 16
    asked = cli("db", "query", "SELECT count(*) AS n FROM images", "--home", home, "--format", "json")
    assert json.loads(asked.out) == [{"n": 18}]
    exported = api.export(one, imported, out=tmp_path / "out", home=home)
    assert exported.images == 10


def test_its_pictures_are_made_again(copied: Copied) -> None:
    home, one, *_ = copied
    with Workspace(home).reading() as session:
        image = session.query(Image).join(Run).filter(Run.uuid == one).first()
        assert image is not None
        path = home / image.path
    assert api.reproduce(path, home=home).equal
    assert api.reproduce(str(image.id), home=home).equal


def test_resync_brings_everything_to_another_mlflow(copied: Copied, cli: Any, tracking_uri: str) -> None:
    from mlflow.tracking import MlflowClient

    home, one, other, imported = copied
    sent = cli("resync", one, other, imported, "--to", tracking_uri, "--home", home)
    assert sent.code == 0, sent.err
    client = MlflowClient(tracking_uri)
    for run in (one, imported):
        with Workspace(home).reading() as session:
            stored = session.query(Run).filter_by(uuid=run).one()
        names = artifacts(client, str(stored.mlflow_run_id))
        assert {"images.parquet", "images.jsonl", "manifest.csv"} <= {Path(name).name for name in names}
        assert any("sample_grid" in name for name in names)
        assert client.get_run(str(stored.mlflow_run_id)).data.tags.get("t2i.origin") == stored.origin


def test_an_import_goes_on_in_it(copied: Copied, tmp_path: Path, tracking_uri: str) -> None:
    home = tmp_path / "home"
    copy_home(copied[0], home)
    png(tmp_path / "outputs" / "0.png", 0, a1111("cat 0", 0, 7))
    png(tmp_path / "outputs" / "2.png", 2, a1111("cat 2", 2, 7))
    found = api.import_pictures(tmp_path / "outputs", home=home, tracking_uri=tracking_uri, copy=True)
    assert (found.known, [run.run for run in found.runs], found.runs[0].images) == (1, [copied[3]], 3)
