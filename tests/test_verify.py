"""A run that is damaged in every way: each is named with its path, and what can be made again is."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import homes_there
import numpy as np
import pytest
from homes import STORED, copy_home
from PIL import Image as PilImage
from sqlalchemy import select, update

import t2i_track
from t2i_track.db import session as database
from t2i_track.db import sqlite
from t2i_track.db.models import Image, ImageScore, MetricValue, Prompt, Run, RunStatus
from t2i_track.db.types import utc_now
from t2i_track.errors import NotFound
from t2i_track.files import alone
from t2i_track.images import png
from t2i_track.runs.faults import Kind
from t2i_track.runs.repair import repair
from t2i_track.runs.reproduce import Places
from t2i_track.runs.verify import Verification, verify
from t2i_track.workspace import Workspace

NUM = 8


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, fresh_mlflow_store: Path) -> Iterator[Path]:
    """A home with a scored run of eight pictures in batches of four, and its MLflow store."""
    folder = tmp_path_factory.mktemp("verify")
    shutil.copyfile(fresh_mlflow_store, folder / "mlflow.db")
    t2i_track.generate(
        steps=2, num=NUM, batch_size=4, device="cpu", experiment="tests", run_name="eight", home=folder / "home",
        tracking_uri=f"sqlite:///{folder / 'mlflow.db'}",
    )  # fmt: skip
    sqlite.close_all()
    if homes_there.in_use():
        yield folder
        return
    with Workspace(folder / "home").reading() as held:  # a log beside the file neither comes nor goes meanwhile
        held.scalars(select(Run)).all()
        yield folder


@pytest.fixture
def home(template: Path, tmp_path: Path) -> Workspace:
    """A copy of its own; MLflow's side is that of the template."""
    return Workspace(home=copy_home(template / "home", tmp_path / "home"))


def files(workspace: Workspace) -> list[Path]:
    with workspace.reading() as session:
        return [workspace.image_path(image) for image in session.scalars(select(Image).order_by(Image.prompt_index))]


def told(found: Verification) -> dict[tuple[str, str], str]:
    return {(fault.kind.value, Path(fault.path).name): fault.what for fault in found.faults}


def write(path: Path, pixels: np.ndarray[Any, Any], record: Any) -> None:
    path.write_bytes(png.encode(pixels, record))


def damage(workspace: Workspace) -> dict[tuple[str, str], str]:
    """Ten ways on eight pictures and their folder; the faults that are due, and the words of each."""
    paths = files(workspace)
    folder = paths[0].parent
    originals = [path.read_bytes() for path in paths]
    paths[0].unlink()
    write(paths[1], png.read_pixels(paths[1]) ^ 1, png.read_record(paths[1]))
    paths[2].write_bytes(originals[2][:-200])
    paths[3].write_bytes(originals[4])
    paths[4].write_bytes(originals[3])
    paths[5].write_bytes(b"")
    write(paths[6], png.read_pixels(paths[6]), png.read_record(paths[6]) | {"prompt": "another", "seed": 1})
    PilImage.fromarray(png.read_pixels(paths[7])).save(paths[7])
    (folder / "notes.txt").write_text("not ours")
    (folder / f".{paths[0].name}.01234567.tmp").write_bytes(originals[0][:99])
    return {
        ("missing", paths[0].name): "the file is gone",
        ("changed", paths[1].name): "other pixels than were recorded",
        ("half-written", paths[2].name): "a PNG that is cut off",
        ("swapped", paths[3].name): f"it is the picture of {workspace.stored_path(paths[4])}",
        ("swapped", paths[4].name): f"it is the picture of {workspace.stored_path(paths[3])}",
        ("half-written", paths[5].name): "an empty file",
        ("record", paths[6].name): "its own record is not: seed is 1 in the file",
        ("record", paths[7].name): "there is no record of t2i-track in it",
        ("foreign", "notes.txt"): "a file that no row names",
        ("temporary", f".{paths[0].name}.01234567.tmp"): "left by a writer that was killed",
    }


def test_a_whole_run_is_as_it_was_recorded(home: Workspace) -> None:
    before = sorted(path.name for path in home.home.rglob("*"))
    found = verify(home)
    assert (found.runs, found.images, found.faults, found.notes) == (1, NUM, (), ())
    assert found.summary == "8 images of 1 run: all is as it was recorded"
    assert sorted(path.name for path in home.home.rglob("*")) == before, "reads never write"


def test_ten_ways_are_named_and_repaired(home: Workspace) -> None:
    originals = {path: path.read_bytes() for path in files(home)}
    due = damage(home)
    found = verify(home)
    assert {key: what for key, what in told(found).items() if due.get(key, "-") not in what} == {}
    assert told(found).keys() == due.keys()
    assert "10 faults (1 missing, 2 half-written, 1 changed, 2 swapped, 2 record, 1 temporary, 1 foreign)" in (
        found.summary
    )

    mended = repair(home, found, Places())
    assert [one.how for one in mended if not one.done] == []
    assert verify(home).faults == ()
    assert {path: path.read_bytes() for path in originals} == originals, "byte for byte, on the same machine"
    trash = sorted(path.name for path in (home.home / "trash").rglob("*") if path.is_file())
    kept = {name for kind, name in due if kind != "missing"}
    assert set(trash) == kept, "nothing is deleted"


def test_what_no_picture_can_be_made_of_is_left(home: Workspace) -> None:
    """The row was changed, not the file: a picture of the row is not the recorded one."""
    paths = files(home)
    with home.begin() as session:
        first, second = session.scalars(select(Image).order_by(Image.prompt_index).limit(2))
        first.pixels_sha256 = "0" * 64
        second.seed = 7
    paths[1].unlink()
    found = verify(home)
    assert (
        f"the file is as it was written, and its row says otherwise: pixels_sha256 is '{'0' * 0}"
        in (told(found)["record", paths[0].name])
    )
    assert "its seed is 7, and that of prompt 1, image 0 is" in told(found)["seed", paths[1].name]
    (left,) = repair(home, found, Places())
    assert not left.done
    assert "made again it has other pixels than were recorded, so nothing was replaced: within 2 of 255" in left.how
    assert not paths[1].exists()
    assert not (home.home / "trash").exists()


def prompt_of_another(home: Workspace) -> None:
    with home.begin() as session:
        first, second = session.scalars(select(Image).order_by(Image.prompt_index).limit(2))
        first.prompt_id = second.prompt_id


def prompt_text(home: Workspace) -> None:
    with home.begin() as session:
        session.execute(update(Prompt).where(Prompt.id == 1).values(text="another"))


def guidance(home: Workspace) -> None:
    with home.begin() as session:
        session.execute(update(Run).values(guidance=3.0))


def score(home: Workspace) -> None:
    with home.begin() as session:
        session.execute(update(MetricValue).where(MetricValue.name == "alignment").values(value=0.99))


def image_score(home: Workspace) -> None:
    with home.begin() as session:
        row = session.scalars(select(ImageScore).where(ImageScore.name == "alignment")).first()
        assert row is not None
        session.delete(row)


def fewer(home: Workspace) -> None:
    with home.begin() as session:
        image = session.scalars(select(Image).order_by(Image.prompt_index.desc())).first()
        assert image is not None
        session.delete(image)


def repainted(home: Workspace) -> None:
    """With a record that says so: it is no picture of another place."""
    path = files(home)[0]
    pixels = png.read_pixels(path) ^ 1
    write(path, pixels, png.read_record(path) | {"pixels_sha256": png.pixels_sha256(pixels)})


def from_elsewhere(home: Workspace) -> None:
    path = files(home)[0]
    pixels = png.read_pixels(path) ^ 1
    record = png.read_record(path) | {"pixels_sha256": png.pixels_sha256(pixels), "run": "e" * 32, "prompt_index": 3}
    write(path, pixels, record)


def name(home: Workspace) -> None:
    with home.begin() as session:
        session.execute(update(Run).values(name="other"))


@pytest.mark.parametrize(
    ("change", "kind", "what"),
    [
        (prompt_of_another, Kind.PROMPT, "its prompt is not number 0 of the run's manifest"),
        (prompt_text, Kind.PROMPT, "the prompt 'another' has another hash than was stored with it"),
        (guidance, Kind.RECORD, "guidance is 7.5 in the file, 3.0 in the row"),
        (guidance, Kind.MLFLOW, "parameter guidance is '7.5', not 3.0"),
        (score, Kind.SCORE, "alignment is 0.99, and the scores of its 8 images have the mean"),
        (score, Kind.MLFLOW, "metric alignment is"),
        (image_score, Kind.SCORE, "alignment is said to be of 8 images, and 7 have a score"),
        (fewer, Kind.INCOMPLETE, "finished with 7 of 8 images: `t2i generate --resume"),
        (fewer, Kind.FOREIGN, "a file that no row names"),
        (repainted, Kind.CHANGED, "other pixels than were recorded"),
        (from_elsewhere, Kind.SWAPPED, f"it is picture 3 of run '{'e' * 32}'"),
        (name, Kind.MLFLOW, "MLflow lacks its run: `t2i resync"),
    ],
)
def test_rows_that_were_changed(home: Workspace, change: Callable[[Workspace], None], kind: Kind, what: str) -> None:
    change(home)
    assert [fault for fault in verify(home).faults if fault.kind is kind and what in fault.what]


def test_a_picture_compressed_anew_is_no_fault(home: Workspace) -> None:
    path = files(home)[0]
    with PilImage.open(path) as image:
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_itxt("t2i", image.text["t2i"])
        image.save(path, pnginfo=info, compress_level=1)
    found = verify(home)
    assert found.faults == ()
    assert "1 of 8 files of run" in found.notes[0]


def test_mlflow_runs_that_are_deleted_or_gone(
    template: Path, home: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    from t2i_track.runs.projection import remember

    shutil.copyfile(template / "mlflow.db", tmp_path / "copy.db")
    uri = f"sqlite:///{tmp_path / 'copy.db'}"
    with home.begin() as session:
        run = session.scalars(select(Run)).one()
        remember(run, uri=uri)
        run_id = run.mlflow_run_id
    assert verify(home).faults == ()
    MlflowClient(uri).set_tag(run_id, "t2i.model", "another")
    MlflowClient(uri).update_run(run_id, status="RUNNING")
    MlflowClient(uri).log_metric(run_id, "alignment", 0.99)
    (fault,) = verify(home).faults
    assert (
        "in MLflow, tag t2i.model is 'another', not 'shapes'; its status is RUNNING, not FINISHED; metric" in fault.what
    )
    MlflowClient(uri).delete_tag(run_id, "t2i.run")
    assert "its tag t2i.run is gone" in verify(home).faults[0].what
    MlflowClient(uri).delete_run(run_id)
    (fault,) = verify(home).faults
    assert f"the MLflow run {run_id} is deleted: `mlflow runs restore" in fault.what
    assert verify(home, mlflow=False).faults == ()
    with home.begin() as session:
        remember(session.scalars(select(Run)).one(), uri=f"sqlite:///{tmp_path / 'gone.db'}")
    (fault,) = verify(home).faults
    assert f"the MLflow store {tmp_path / 'gone.db'} is gone" in fault.what
    with home.begin() as session:
        remember(session.scalars(select(Run)).one(), uri="http://127.0.0.1:9")
    found = verify(home)
    assert found.faults == ()
    assert "MLflow was not asked: MLflow at http://127.0.0.1:9 cannot be reached" in found.notes[0]


def test_which_runs_are_looked_at(home: Workspace) -> None:
    """A run that is being made has half of its files; of an imported one only the files are known; one is deleted."""
    damage(home)
    with home.reading() as session:
        run = session.scalars(select(Run)).one()
    with alone(home.run_lock(run), timeout=0):
        found = verify(home)
        assert {fault.kind for fault in found.faults} & {Kind.FOREIGN, Kind.TEMPORARY} == set()
        assert "is being made" in found.notes[0]
    with home.begin() as session:
        session.execute(update(Run).values(origin="ComfyUI", base_seed=None, status=RunStatus.FINISHED))
        session.execute(update(Image).values(seed=None))
    found = verify(home, mlflow=False)
    assert {fault.kind for fault in found.faults} == {Kind.MISSING, Kind.CHANGED, Kind.HALF, Kind.SWAPPED}
    assert repair(home, found, Places()) == []
    with home.begin() as session:
        session.execute(update(Run).values(deleted_at=utc_now()))
    assert verify(home).summary == "0 images of 0 runs: all is as it was recorded"
    with pytest.raises(NotFound, match="run 'eight' is in the trash: `t2i delete --undo eight` brings it back"):
        verify(home, ["eight"])


def reuse(home: Workspace) -> Path:
    """A second run that has the first run's first picture: a row of its own, and a further name of the file."""
    with home.begin() as session:
        run = session.scalars(select(Run)).one()
        columns = {column.key: getattr(run, column.key) for column in Run.__table__.columns if column.key != "id"}
        first = run.images[0]
        other = Run(**{**columns, "uuid": "f" * 32, "mlflow_run_id": None, "num": 1, "images_per_prompt": 1})
        session.add(other)
        session.flush()
        path = home.run_folder(other) / Path(first.path).name
        copied = {column.key: getattr(first, column.key) for column in Image.__table__.columns if column.key != "id"}
        changes = {"run_id": other.id, "made_by": run.uuid, "seconds": None, "path": home.stored_path(path)}
        session.add(Image(**{**copied, **changes}))
        path.parent.mkdir()
        path.hardlink_to(home.image_path(first))
    return path


def test_a_picture_that_another_run_has_made(home: Workspace) -> None:
    path = reuse(home)
    original = path.read_bytes()
    assert verify(home, mlflow=False).faults == ()
    path.unlink()
    found = verify(home, ["f" * 32], mlflow=False)
    assert [fault.kind for fault in found.faults] == [Kind.MISSING]
    (mended,) = repair(home, found, Places())
    assert f"taken from {home.stored_path(files(home)[0])}, which is the same picture" in mended.how
    assert path.stat().st_nlink == 2
    assert path.read_bytes() == original

    path.write_bytes(b"")  # which is the other name's content too
    found = verify(home, mlflow=False)
    assert [fault.kind for fault in found.faults] == [Kind.HALF, Kind.HALF]
    assert [one.done for one in repair(home, found, Places())] == [True, True]
    assert verify(home, mlflow=False).faults == ()
    assert path.read_bytes() == original
    assert path.stat().st_nlink == 2


@pytest.mark.parametrize("schema", sorted(path.name for path in STORED.glob("schema-*")))
def test_pictures_of_earlier_versions(schema: str, tmp_path: Path) -> None:
    """What their records do not say yet is no fault; the stored homes have the first picture of two runs."""
    workspace = Workspace(copy_home(STORED / schema, tmp_path / "home"))
    database.upgrade(workspace.url)
    kinds = [fault.kind for fault in verify(workspace, mlflow=False).faults]
    assert set(kinds) == {Kind.MISSING}
    there = len(list((tmp_path / "home").rglob("*.png")))
    assert there == 2
    assert len(kinds) == verify(workspace, mlflow=False).images - there


def test_the_command(home: Workspace, cli: Callable[..., Any]) -> None:
    clean = cli("verify", "--no-mlflow", "--home", home.home)
    assert (clean.code, clean.out) == (0, "8 images of 1 run: all is as it was recorded\n")
    path = files(home)[1]
    path.write_bytes(b"")
    torn = cli("verify", "eight", "--no-mlflow", "--format", "json", "--home", home.home)
    assert torn.code == 1
    assert "t2i: 1 of what is stored is not as it was recorded: `t2i verify --repair` makes again" in torn.err
    (fault,) = json.loads(torn.out)["faults"]
    assert (fault["kind"], Path(fault["path"]).name, fault["what"]) == ("half-written", path.name, "an empty file")
    repaired = cli("verify", "--repair", "--no-mlflow", "--home", home.home)
    assert repaired.code == 0, repaired.err
    assert "made again, bit-equal, what was there is in" in repaired.out


def test_the_page_names_every_kind() -> None:
    page = (Path(__file__).parents[1] / "docs" / "verify.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `([a-z-]+)` \|", page, re.M) == [kind.value for kind in Kind]
