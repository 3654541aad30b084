"""A picture's file is gone, cut, damaged or another picture: it is named, and never scored or shown as the recorded."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from homes import copy_home
from mlflow.tracking import MlflowClient
from sqlalchemy import select

from t2i_track.db.models import Image, Run, RunStatus
from t2i_track.errors import BadImages, SettingsError
from t2i_track.prompts import manifest as manifests
from t2i_track.runs import projection
from t2i_track.runs.compare import ranking
from t2i_track.runs.evaluate import Scored, score
from t2i_track.runs.generate import Generator
from t2i_track.runs.plan import Plan
from t2i_track.runs.reproduce import reproduce
from t2i_track.runs.request import Request
from t2i_track.runs.resync import resync
from t2i_track.settings import Settings
from t2i_track.tracking import Tracker
from t2i_track.workspace import Workspace

pytestmark = pytest.mark.slow

PROMPTS = [f"one big {colour} {shape} on a white background"
           for colour in ("red", "blue", "green") for shape in ("circle", "square")]  # fmt: skip
PLACE = 1
"""Of the picture that something happens to."""


def generate(workspace: Workspace, uri: str, **changes: Any) -> None:
    settings = Settings(steps=2, batch_size=1, device="cpu", **changes)
    with Tracker(uri, workspace.outbox) as tracker:
        plan = Plan(settings=settings, manifest=manifests.from_prompts(PROMPTS), experiment="tests")
        Generator(workspace, tracker).generate(plan)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, fresh_mlflow_store: Path) -> tuple[Path, Path]:
    """A home with two runs, the first in the same pictures' places as the second, and their MLflow store."""
    folder = tmp_path_factory.mktemp("changed")
    shutil.copyfile(fresh_mlflow_store, folder / "mlflow.db")
    for guidance in (1.0, 5.0):
        generate(Workspace(folder / "home"), f"sqlite:///{folder / 'mlflow.db'}", guidance=guidance)
    return folder / "home", folder / "mlflow.db"


@pytest.fixture
def workspace(made: tuple[Path, Path], tmp_path: Path) -> Workspace:
    return Workspace(copy_home(made[0], tmp_path / "home"))


@pytest.fixture
def tracking(made: tuple[Path, Path], tmp_path: Path) -> str:
    return f"sqlite:///{shutil.copyfile(made[1], tmp_path / 'mlflow.db')}"


def paths(workspace: Workspace, run: str = "latest") -> list[Path]:
    from t2i_track.db import lineage

    with workspace.reading() as session:
        found = lineage.find_run(session, run)
        images = session.scalars(select(Image).where(Image.run_id == found.id).order_by(Image.prompt_index))
        return [workspace.image_path(image) for image in images]


def runs(workspace: Workspace) -> list[str]:
    with workspace.reading() as session:
        return list(session.scalars(select(Run.uuid).order_by(Run.guidance)))


def evaluate(workspace: Workspace, uri: str, metric: str, run: str = "latest", **request: Any) -> Scored:
    with Tracker(uri, workspace.outbox) as tracker:
        asked = Request(metrics=(metric,), extractor="shapes", device="cpu", **request)
        return score(workspace, tracker, [run], asked)[0]


def opened(path: Path) -> PIL.Image.Image:
    with PIL.Image.open(path) as picture:
        return picture.convert("RGB")


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 40] ^= 1
    path.write_bytes(content)


def another(path: Path) -> None:
    PIL.Image.new("RGB", (64, 64), "teal").save(path)


def one_pixel(path: Path) -> None:
    picture = opened(path)
    red, green, blue = picture.getpixel((3, 3))
    picture.putpixel((3, 3), (red ^ 1, green, blue))
    picture.save(path)


ANOTHER = "not the picture that was recorded"
CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "removed": (lambda path: path.unlink(), "No such file or directory"),
    "its folder removed": (lambda path: shutil.rmtree(path.parent), "No such file or directory"),
    "a folder in its place": (lambda path: (path.unlink(), path.mkdir()), "Is a directory"),
    "empty": (lambda path: path.write_bytes(b""), "an empty file"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-100]), ".+"),
    "a bit flipped": (flipped, ".+"),
    "no picture": (lambda path: path.write_text("<html>"), "cannot identify image file"),
    "one pixel": (one_pixel, ANOTHER),
    "another picture": (another, ANOTHER),
    "another size": (lambda path: PIL.Image.new("RGB", (16, 16)).save(path), ANOTHER),
    "the picture beside it": (lambda path: shutil.copyfile(sorted(path.parent.glob("*.png"))[0], path), ANOTHER),
}
OURS = ("the picture beside it", "one pixel", "truncated", "a bit flipped", "removed")


def change(workspace: Workspace, how: str, run: str = "latest") -> str:
    """What is then said of the picture."""
    act, reason = CHANGES[how]
    path = paths(workspace, run)[PLACE]
    act(path)
    return f"{re.escape(path.name)} \\({reason}\\)"


@pytest.fixture(scope="module")
def undisturbed(made: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> float:
    folder = tmp_path_factory.mktemp("undisturbed")
    workspace = Workspace(copy_home(made[0], folder / "home"))
    uri = f"sqlite:///{shutil.copyfile(made[1], folder / 'mlflow.db')}"
    return float(evaluate(workspace, uri, "vendi").values()["vendi"]["value"])


@pytest.mark.parametrize(
    ("how", "known"),
    [*((how, "features") for how in CHANGES), *((how, "no features") for how in ("removed", "another picture"))],
)
def test_it_is_never_scored(
    workspace: Workspace, tracking: str, tmp_path: Path, undisturbed: float, how: str, known: str
) -> None:
    """Neither it nor, from the cache, what was there; brought back, it is scored as it ever was."""
    if known == "features":
        evaluate(workspace, tracking, "alignment")
    kept = Path(shutil.copytree(paths(workspace)[0].parent, tmp_path / "kept"))
    said = change(workspace, how)
    lost = len(PROMPTS) if how == "its folder removed" else 1
    said = said if lost == 1 else said.replace(re.escape(paths(workspace)[PLACE].name), r"\S+")
    with pytest.raises(BadImages, match=f"(?s){lost} of 6 pictures cannot be scored: {said}|none of the 6 pictures"):
        evaluate(workspace, tracking, "vendi")
    if lost == 1:
        rest = evaluate(workspace, tracking, "vendi", skip_bad=True)
        assert [(found["n"], found["value"] != undisturbed) for found in rest.scores] == [(5, True)]
        assert re.fullmatch(f"1 of 6 pictures were left out: {said}", rest.warnings[0])
    shutil.rmtree(kept.parent / "home" / "images" / kept.name, ignore_errors=True)
    shutil.rmtree(paths(workspace)[0].parent, ignore_errors=True)
    shutil.copytree(kept, paths(workspace)[0].parent)
    assert evaluate(workspace, tracking, "vendi").values()["vendi"]["value"] == undisturbed


@pytest.mark.parametrize("how", ["one pixel", "removed"])
def test_scores_that_are_known_say_that_they_are_of_what_was(workspace: Workspace, tracking: str, how: str) -> None:
    before = evaluate(workspace, tracking, "vendi")
    assert before.warnings == ()
    said = change(workspace, how)
    after = evaluate(workspace, tracking, "vendi")
    assert (after.measured, after.scores) == (0, before.scores)
    (line,) = after.warnings
    assert re.fullmatch(f"1 of 6 pictures of run .* the first is {said}: these scores are of the recorded ones", line)


@pytest.mark.parametrize("how", ["the picture beside it", "removed"])
def test_in_a_reference_it_is_named(workspace: Workspace, tracking: str, how: str) -> None:
    first, second = runs(workspace)
    said = change(workspace, how, second)
    with pytest.raises(BadImages, match=f"1 of 6 reference pictures cannot be scored: .*{said}"):
        evaluate(workspace, tracking, "kid", first, reference=f"run:{second}", parameters={"kid_subset_size": 5})


def recompressed(path: Path) -> None:
    """As by a program that makes files smaller, and drops their texts."""
    opened(path).save(path, optimize=True)


def touched(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)


@pytest.mark.parametrize("act", [recompressed, touched])
def test_the_same_pixels_in_another_file_are_the_picture(
    workspace: Workspace, tracking: str, act: Callable[[Path], None], undisturbed: float
) -> None:
    act(paths(workspace)[PLACE])
    found = evaluate(workspace, tracking, "vendi")
    assert (found.values()["vendi"]["value"], found.warnings) == (undisturbed, ())


def test_of_equal_pictures_only_the_changed_one_is_named(workspace: Workspace, tracking: str) -> None:
    """Two pictures with one hash have one row of features."""
    first, second = paths(workspace)[:2]
    with workspace.begin() as session:
        images = session.scalars(select(Image).order_by(Image.path)).all()
        twin, other = (next(i for i in images if workspace.image_path(i) == path) for path in (first, second))
        other.sha256, other.pixels_sha256 = twin.sha256, twin.pixels_sha256
    with pytest.raises(BadImages, match=f"1 of 6 pictures cannot be scored: {re.escape(second.name)} "):
        evaluate(workspace, tracking, "vendi")
    shutil.copyfile(first, second)
    assert evaluate(workspace, tracking, "vendi").scores[0]["n"] == 6


def interrupt(workspace: Workspace) -> None:
    """The last run as one that was stopped before its last picture."""
    with workspace.begin() as session:
        run = session.scalars(select(Run).order_by(Run.id.desc())).first()
        assert run is not None
        run.status = RunStatus.INTERRUPTED
        last = session.scalars(select(Image).where(Image.run_id == run.id).order_by(Image.id.desc())).first()
        session.delete(last)


@pytest.mark.parametrize(
    ("how", "stopped"),
    [*((how, True) for how in OURS), ("removed", False), ("another picture", False), ("its folder removed", False)],
)
def test_a_run_with_it_does_not_go_on(workspace: Workspace, tracking: str, how: str, stopped: bool) -> None:
    """The command in the message makes it again, and then the run does."""
    if stopped:
        interrupt(workspace)
    change(workspace, how)
    with Tracker(tracking, workspace.outbox) as tracker:
        with pytest.raises(SettingsError, match=r"of [56] pictures of run .* are not what was made, the first") as told:
            Generator(workspace, tracker).resume("latest")
        with workspace.reading() as session:
            run = session.scalars(select(Run).order_by(Run.id.desc())).first()
            assert run is not None
            assert (run.status, run.error) == (RunStatus.INTERRUPTED if stopped else RunStatus.FINISHED, None)
        if how == "its folder removed":
            return
        image, out = re.findall(r"`t2i reproduce (\d+) --out (\S+)`", str(told.value))[0]
        assert Path(out) == paths(workspace)[PLACE]
        assert reproduce(workspace, image, out=Path(out)).equal
        summary = Generator(workspace, tracker).resume("latest")
    assert (summary.made, summary.images) == (int(stopped), 6)


@pytest.mark.parametrize("how", CHANGES)
def test_the_report_shows_none_in_its_place(workspace: Workspace, tracking: str, tmp_path: Path, how: str) -> None:
    for run in runs(workspace):
        evaluate(workspace, tracking, "vendi", run)
    change(workspace, how)
    expected = "file is another picture" if CHANGES[how][1] == ANOTHER else "file unreadable"
    expected = "file missing" if "removed" in how else expected
    ranking(workspace, by="vendi", report=tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    data = json.loads(re.findall(r'id="data">(.*?)</script>', page)[0])
    last = next(run for run in data["runs"] if run["run"] == runs(workspace)[1])
    shown = next(image for image in last["images"] if data["prompts"][image["prompt"]]["index"] == PLACE)
    assert (shown["picture"], shown["lost"], shown["look"]) == (None, expected, None)
    assert data["missing"] == (6 if how == "its folder removed" else 1)


@pytest.mark.parametrize("how", ["the picture beside it", "another picture", "one pixel"])
@pytest.mark.parametrize("address", ["its path", "its id"])
def test_it_is_the_recorded_one_that_is_made_again(workspace: Workspace, how: str, address: str) -> None:
    """Also where the file is a picture of ours, with a record of its own."""
    path = paths(workspace)[PLACE]
    change(workspace, how)
    with workspace.reading() as session:
        image = session.scalars(select(Image).where(Image.path == workspace.stored_path(path))).one()
    found = reproduce(workspace, str(path if address == "its path" else image.id))
    assert (found.prompt, found.seed, found.equal) == (PROMPTS[PLACE], image.seed, True)
    assert "the file is not what was made: its pixels have another hash than the record" in found.notes


@pytest.mark.parametrize("how", ["truncated", "a bit flipped", "another size"])
def test_a_file_that_is_not_the_picture_is_said_to_be_none(workspace: Workspace, how: str) -> None:
    path = paths(workspace)[PLACE]
    change(workspace, how)
    found = reproduce(workspace, str(path))
    assert found.equal
    assert re.match(r"the file (cannot be decoded|is 16 x 16, not 64 x 64)", found.notes[0])


def test_mlflow_gets_the_recorded_pictures_only(workspace: Workspace, tracking: str, tmp_path: Path) -> None:
    change(workspace, "the picture beside it")
    run = runs(workspace)[1]
    with workspace.begin() as session:
        stored = session.scalars(select(Run).where(Run.uuid == run)).one()
        projection.remember(stored, sent={}, uri=tracking)
    (sent,) = resync(workspace, [run], None)
    assert sent.complete
    table = json.loads(
        Path(MlflowClient(tracking).download_artifacts(str(sent.mlflow_run_id), "prompts.json")).read_text()
    )
    assert [row[table["columns"].index("prompt_index")] for row in table["data"]] == [0, 2, 3, 4, 5]
