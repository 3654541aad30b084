"""One image made again: bit-equal from the database and from the PNG alone, and honest where it cannot be."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PilImage
from sqlalchemy import select

import t2i_track
from t2i_track.db.models import Image
from t2i_track.errors import ModelError, NotFound, SettingsError
from t2i_track.images import png
from t2i_track.runs.reproduce import reproduce
from t2i_track.workspace import Workspace


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, fresh_mlflow_store: Path) -> tuple[Workspace, list[Path]]:
    """A run of three images in batches of two: the last batch is padded."""
    folder = tmp_path_factory.mktemp("reproduce")
    shutil.copyfile(fresh_mlflow_store, folder / "mlflow.db")
    workspace = Workspace(home=folder / "home")
    t2i_track.generate(
        prompt=["a red circle", "a blue star", "two green squares"], steps=3, batch_size=2, device="cpu",
        negative_prompt="grey", scheduler="euler-a", evaluate=False, experiment="tests", home=workspace.home,
        tracking_uri=f"sqlite:///{folder / 'mlflow.db'}",
    )  # fmt: skip
    with workspace.reading() as session:
        images = session.scalars(select(Image).order_by(Image.prompt_index))
        return workspace, [workspace.image_path(image) for image in images]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_image_of_the_database_is_bit_equal(made: tuple[Workspace, list[Path]], place: int) -> None:
    workspace, paths = made
    with workspace.reading() as session:
        image = session.scalars(select(Image).where(Image.prompt_index == place)).one()
    found = reproduce(workspace, image.pixels_sha256[:12])
    assert found.equal
    assert found.largest_difference == 0
    assert found.differing == 0.0
    assert found.pixels_sha256 == image.pixels_sha256
    assert found.notes == ()
    assert paths[place].is_file()


def test_a_png_needs_no_database(made: tuple[Workspace, list[Path]], tmp_path: Path) -> None:
    alone = tmp_path / "mailed.png"
    shutil.copyfile(made[1][1], alone)
    found = reproduce(Workspace(home=tmp_path / "nothing"), str(alone), out=tmp_path / "again.png")
    assert found.equal
    assert not (tmp_path / "nothing").exists()
    assert (png.read_pixels(tmp_path / "again.png") == png.read_pixels(alone)).all()
    assert png.read_record(tmp_path / "again.png") == png.read_record(alone)


def test_a_record_of_before_memory_formats_is_contiguous(
    made: tuple[Workspace, list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = png.read_record(made[1][0])
    assert record is not None
    assert record.pop("memory_format") == "channels-last"
    old = tmp_path / "old.png"
    old.write_bytes(png.encode(png.read_pixels(made[1][0]), record))
    chosen: list[str] = []
    monkeypatch.setattr("t2i_track.images.loading.set_memory_format", lambda _pipe, name: chosen.append(name))
    assert reproduce(made[0], str(old)).close
    assert chosen == ["contiguous"]


def test_a_changed_file_is_found_out(made: tuple[Workspace, list[Path]], tmp_path: Path) -> None:
    record = png.read_record(made[1][0])
    assert record is not None
    changed = png.read_pixels(made[1][0]).copy()
    changed[0, 0] ^= 255
    touched = tmp_path / "touched.png"
    touched.write_bytes(png.encode(changed, record))
    found = reproduce(made[0], str(touched))
    assert found.equal  # the picture is again what was recorded; the file is not
    assert found.largest_difference is not None
    assert found.largest_difference > 100
    assert "another hash" in found.notes[0]


def test_another_outcome_is_not_called_equal(made: tuple[Workspace, list[Path]], tmp_path: Path) -> None:
    record = png.read_record(made[1][0])
    assert record is not None
    other = tmp_path / "other.png"
    other.write_bytes(png.encode(png.read_pixels(made[1][0]), {**record, "seed": record["seed"] ^ 1}))
    found = reproduce(made[0], str(other))
    assert not found.equal
    assert not found.close


def test_other_weights_are_refused(made: tuple[Workspace, list[Path]], tmp_path: Path) -> None:
    record = png.read_record(made[1][0])
    assert record is not None
    other = tmp_path / "other.png"
    other.write_bytes(png.encode(png.read_pixels(made[1][0]), {**record, "weights_sha256": "0" * 64}))
    with pytest.raises(ModelError, match="000000000000 then"):
        reproduce(made[0], str(other))


def test_what_is_no_image(made: tuple[Workspace, list[Path]], tmp_path: Path) -> None:
    plain = tmp_path / "plain.png"
    PilImage.fromarray(np.zeros((8, 8, 3), np.uint8)).save(plain)
    with pytest.raises(NotFound, match="has no record"):
        reproduce(made[0], str(plain))
    with pytest.raises(NotFound, match="no image 'nowhere'"):
        reproduce(made[0], "nowhere")
    with pytest.raises(SettingsError, match="cannot write"):
        reproduce(made[0], str(made[1][0]), out=tmp_path / "no" / "such" / "folder.png")


def test_the_command_says_how_it_came_out(made: tuple[Workspace, list[Path]], cli) -> None:
    done = cli("reproduce", made[1][2], "--home", made[0].home)
    assert done.code == 0, done.err
    assert "equal               yes" in done.out
