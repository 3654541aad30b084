"""What an earlier run has made is not made again: the same pictures, own rows, files that outlive each other."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from test_generate import FAST, PROMPTS, plan, rows

from t2i_track import files
from t2i_track.db.models import Image, Run
from t2i_track.errors import SettingsError
from t2i_track.files import link
from t2i_track.images import png
from t2i_track.images.decoding import Note
from t2i_track.runs import launch
from t2i_track.runs import sweep as sweeping
from t2i_track.runs.generate import Generator
from t2i_track.runs.grid import build
from t2i_track.settings import Resolved, Settings
from t2i_track.tracking import Tracker
from t2i_track.workspace import Workspace

pytestmark = pytest.mark.slow


@pytest.fixture
def generator(workspace: Workspace, tracker: Tracker) -> Generator:
    return Generator(workspace, tracker)


def made_there(workspace: Workspace) -> int:
    with workspace.reading() as session:
        return session.scalar(select(func.count()).where(Image.made_by.is_(None))) or 0


def sweep(workspace: Workspace, tracker: Tracker, fresh: bool = False, **changes: Any) -> Any:
    values = {
        "name": "grid",
        "experiment": "tests",
        "prompts": PROMPTS[:3],
        "settings": {"batch_size": 2, "device": "cpu"},
        "axes": {"guidance": [1, 3], "steps": [2, 3]},
        "evaluate": False,
    }
    return sweeping.run_sweep(workspace, tracker, build({**values, **changes}, "test"), fresh=fresh, allow_pickle=False)


def test_a_longer_run_makes_what_is_new(workspace: Workspace, generator: Generator) -> None:
    first = generator.generate(plan(PROMPTS[:4]))
    second = generator.generate(plan(PROMPTS))
    assert (first.made, first.reused, second.made, second.reused, second.images) == (4, 0, 1, 4, 5)
    before, after = rows(workspace, first.run), rows(workspace, second.run)
    assert [row.pixels_sha256 for row in before] == [row.pixels_sha256 for row in after[:4]]
    assert [(row.made_by, row.seconds) for row in after[:4]] == [(first.run, None)] * 4
    assert after[4].made_by is None
    assert launch.notes_on(second)[0] == "4 of 5 images are those of earlier runs: --fresh makes them anew"
    for one, other in zip(before, after[:4], strict=True):
        mine, theirs = workspace.image_path(other), workspace.image_path(one)
        assert mine.parent == Path(second.folder)
        assert mine.samefile(theirs)


def test_what_is_reused_is_what_would_be_made(workspace: Workspace, generator: Generator) -> None:
    generator.generate(plan(PROMPTS[:3], guidance=1.0))
    reused = generator.generate(plan(PROMPTS, guidance=1.0))
    fresh = generator.generate(plan(PROMPTS, guidance=1.0, fresh=True))
    assert (reused.made, reused.reused, fresh.made, fresh.reused) == (2, 3, 5, 0)  # the third was alone in its batch
    told = [[(row.seed, row.pixels_sha256, row.tokens) for row in rows(workspace, run.run)] for run in (reused, fresh)]
    assert told[0] == told[1]


def test_a_runs_speed_is_that_of_what_it_made(workspace: Workspace, generator: Generator) -> None:
    generator.generate(plan(PROMPTS[:4]))
    mixed, whole = generator.generate(plan(PROMPTS)), generator.generate(plan(PROMPTS[:4]))
    with workspace.reading() as session:
        seconds = {run.uuid: run.seconds_per_image for run in session.scalars(select(Run))}
    assert seconds[mixed.run] == rows(workspace, mixed.run)[4].seconds
    assert (seconds[whole.run], whole.images_per_second, whole.made) == (None, None, 0)


def test_other_pictures_are_not_taken(workspace: Workspace, generator: Generator) -> None:
    generator.generate(plan(PROMPTS[:2]))
    for changes in ({"guidance": 4.0}, {"seed": 43}, {"memory_format": "contiguous"}):
        assert generator.generate(plan(PROMPTS[:2], **changes)).reused == 0


@pytest.mark.parametrize("name", ["weights_sha256", "lora_sha256", "embedding_sha256", "scheduler_config"])
def test_what_is_loaded_decides(name: str) -> None:
    settings = Settings(**FAST)
    known: dict[str, Any] = {"weights_sha256": "a", "lora_sha256": None, "scheduler_config": {"a": 1}}
    resolved = Resolved(settings=settings, manifest_sha256="b", **known)
    other = dataclasses.replace(resolved, **{name: {"a": 2} if name == "scheduler_config" else "c"})
    assert resolved.picture_fingerprint != other.picture_fingerprint
    more = dataclasses.replace(resolved, manifest_sha256="d", settings=dataclasses.replace(settings, num=3, seed=1))
    assert resolved.picture_fingerprint == more.picture_fingerprint


def test_a_rows_own_negative_prompt_decides(workspace: Workspace, generator: Generator) -> None:
    whole = plan(PROMPTS[:3])
    first, *others = whole.manifest.entries
    entries = (dataclasses.replace(first, negative_prompt="dark"), *others)
    generator.generate(whole)
    changed = dataclasses.replace(whole, manifest=dataclasses.replace(whole.manifest, entries=entries))
    assert generator.generate(changed).reused == 2


def test_what_was_not_made_as_its_run_says_is_made_again(workspace: Workspace, generator: Generator) -> None:
    generator.generate(plan(PROMPTS[:3]))
    with workspace.begin() as session:
        session.scalars(select(Image)).first().note = Note.HALVED.value  # type: ignore[union-attr]
    assert generator.generate(plan(PROMPTS[:3])).reused == 2


def test_another_machine_makes_its_own(
    workspace: Workspace, generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator.generate(plan(PROMPTS[:2]))
    monkeypatch.setattr("t2i_track.images.executors.worker.machine", lambda _device: {"torch": "another"})
    assert generator.generate(plan(PROMPTS[:2])).reused == 0


def test_two_overlapping_grids_cost_their_union(workspace: Workspace, tracker: Tracker) -> None:
    one = sweep(workspace, tracker, name="one", axes={"guidance": [1, 3, 5], "steps": [2, 3, 4]})
    two = sweep(workspace, tracker, name="two", axes={"guidance": [3, 5, 7], "steps": [3, 4, 5]}, prompts=PROMPTS[:4])
    assert len(one.cells) == len(two.cells) == 9
    assert made_there(workspace) == 9 * 3 + 9 * 4 - 4 * 3  # of the four cells that both have the second makes a fourth
    assert sorted({note for cell in two.cells for note in cell.notes}) == [
        "3 of 4 images are those of earlier runs: --fresh makes them anew"
    ]


def test_fresh_sweeps_make_all(workspace: Workspace, tracker: Tracker) -> None:
    sweep(workspace, tracker)
    sweep(workspace, tracker, fresh=True)
    assert made_there(workspace) == 2 * 4 * 3


@pytest.mark.parametrize("damage", ["gone", "another", "cut"])
def test_a_picture_that_is_not_what_was_made_is_made_again(
    workspace: Workspace, generator: Generator, damage: str
) -> None:
    first = generator.generate(plan(PROMPTS[:4]))
    paths = [workspace.image_path(row) for row in rows(workspace, first.run)]
    if damage == "gone":
        paths[0].unlink()
    elif damage == "another":
        shutil.copyfile(paths[1], paths[0])
    else:
        os.truncate(paths[0], 100)
    second = generator.generate(plan(PROMPTS[:4]))
    assert (second.made, second.reused) == (1, 3)
    assert all(
        png.pixels_sha256(png.read_pixels(workspace.image_path(row))) == row.pixels_sha256
        for row in rows(workspace, second.run)
    )


def test_a_run_outlives_the_one_that_made_its_pictures(
    workspace: Workspace, generator: Generator, tmp_path: Path
) -> None:
    first = generator.generate(plan(PROMPTS[:4]))
    second = generator.generate(plan(PROMPTS[:4]))
    elsewhere = generator.generate(plan(PROMPTS[:4], outdir=tmp_path / "mine"))
    shutil.rmtree(first.folder)
    third = generator.generate(plan(PROMPTS[:4]))
    assert (second.reused, elsewhere.reused, third.reused) == (4, 4, 0)  # of the first only, which is gone
    assert {row.made_by for row in rows(workspace, elsewhere.run)} == {first.run}
    assert len(list((tmp_path / "mine").rglob("*.png"))) == 4


def test_where_a_disk_has_no_links_it_is_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(b"picture")
    target.write_bytes(b"what a killed run left")
    link(source, target)
    link(source, target)
    assert (target.read_bytes(), target.samefile(source)) == (b"picture", True)

    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(files.Path, "hardlink_to", refuse)
    link(source, tmp_path / "c")
    assert ((tmp_path / "c").read_bytes(), (tmp_path / "c").samefile(source)) == (b"picture", False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]


def test_a_resumed_run_is_not_made_fresh(workspace: Workspace) -> None:
    with pytest.raises(SettingsError, match="--fresh is of new runs: leave it out to resume one"):
        launch.generate(
            workspace,
            settings={},
            manifest=None,
            prompts=(),
            tracking_uri=None,
            outdir=None,
            experiment=None,
            run_name=None,
            resume="latest",
            fresh=True,
            mark_ai=True,
            evaluate=None,
            reference=None,
            allow_pickle=False,
        )
