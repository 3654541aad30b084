"""Several commands at once on one home, each a process of its own: nothing is made twice, lost or half written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import Result, Warm
from sqlalchemy import func, select

from t2i_track.db.models import Image, MetricValue, Run, RunStatus, Sweep, SweepRun
from t2i_track.runs.projection import pending
from t2i_track.workspace import Workspace

pytestmark = pytest.mark.slow

SMALL = ["--num", "12", "--batch-size", "4", "--device", "cpu", "--no-evaluate"]


class Pair:
    """Two command lines that start at the same instant."""

    def __init__(self, folder: Path, uri: str, warm: Sequence[Warm]) -> None:
        self.folder, self._uri, self._warm = folder, uri, warm
        self.home = Workspace(folder / "t2i-data")

    def run(self, *commands: Sequence[object]) -> list[Result]:
        from concurrent.futures import ThreadPoolExecutor

        environment = {"MLFLOW_TRACKING_URI": self._uri, "OMP_NUM_THREADS": "1"}
        with ThreadPoolExecutor(len(commands)) as starters:
            started = [
                starters.submit(warm.run, command, self.folder, environment)
                for warm, command in zip(self._warm, commands, strict=False)
            ]
            return [one.result() for one in started]


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    server = Warm(tmp_path_factory.mktemp("warm-second"))
    yield server
    server.close()


@pytest.fixture
def at_once(tmp_path: Path, tracking_uri: str, warm: Warm, second: Warm) -> Pair:
    (tmp_path / "work").mkdir()
    return Pair(tmp_path / "work", tracking_uri, [warm, second])


def pictures(workspace: Workspace) -> list[tuple[Any, ...]]:
    """What decides each picture, and what came of it."""
    with workspace.reading() as session:
        query = select(Run.guidance, Image.prompt_index, Image.seed, Image.pixels_sha256).join(Run)
        return [tuple(row) for row in session.execute(query.order_by(Run.guidance, Run.id, Image.prompt_index))]


def sound(workspace: Workspace) -> None:
    """Every row has its file and every file its row, and MLflow has all."""
    with workspace.reading() as session:
        named = {workspace.image_path(image) for image in session.scalars(select(Image))}
        assert {path for path in workspace.home.glob("images/*/*") if path.name != ".lock"} == named
        assert set(session.scalars(select(Run.status))) == {RunStatus.FINISHED}
        assert pending(session, workspace) == []


def undisturbed(at_once: Pair, *arguments: object) -> list[tuple[Any, ...]]:
    (ended,) = at_once.run([*arguments, "--home", "undisturbed"])
    assert ended.code == 0, ended.err
    return pictures(Workspace(at_once.folder / "undisturbed"))


def interrupt(workspace: Workspace) -> str:
    """The run as a kill leaves it after its first pictures."""
    with workspace.begin() as session:
        run = session.scalars(select(Run)).one()
        run.status, run.ended_at = RunStatus.RUNNING, None
        for image in session.scalars(select(Image).where(Image.prompt_index >= 4)):
            workspace.image_path(image).unlink()
            session.delete(image)
        return run.uuid


def test_two_resumes_of_one_run(at_once: Pair) -> None:
    (made,) = at_once.run(["generate", *SMALL, "--steps", 8])
    assert made.code == 0, made.err
    before = pictures(at_once.home)
    run = interrupt(at_once.home)
    ended = at_once.run(*[["generate", "--resume", run, "--no-evaluate"]] * 2)
    assert sorted(one.code for one in ended) in ([0, 1], [0, 0]), [one.err for one in ended]
    for one in ended:
        if one.code:
            last = one.err.splitlines()[-1]
            assert last == f"t2i: run {run[:12]} is being made by another process: wait for it to end"
    assert pictures(at_once.home) == before
    sound(at_once.home)


def test_two_sweeps_of_one_file(at_once: Pair) -> None:
    (at_once.folder / "grid.yaml").write_text(
        "name: grid\nprompts: [one big red circle on a white background, one big blue star on a white background]\n"
        "settings: {batch_size: 1, device: cpu}\naxes: {guidance: [1, 4], steps: [3, 5]}\nevaluate: false\n"
    )
    ended = at_once.run(*[["sweep", "grid.yaml"]] * 2)
    assert sorted(one.code for one in ended) in ([0, 1], [0, 0]), [one.err for one in ended]
    for one in ended:
        if one.code:
            assert one.out == ""
            assert one.err.splitlines()[-1].startswith("t2i: sweep grid is being run by another process: wait for it")
    again = at_once.run(["sweep", "grid.yaml"])[0]
    assert again.code == 0, again.err
    with at_once.home.reading() as session:
        assert session.scalar(select(func.count()).select_from(Sweep)) == 1
        assert session.scalar(select(func.count()).select_from(SweepRun)) == 4
        assert session.scalar(select(func.count()).select_from(Run)) == 4
    assert not list(at_once.home.home.glob(".*"))
    sound(at_once.home)
    assert pictures(at_once.home) == undisturbed(at_once, "sweep", "grid.yaml")


def test_evaluate_and_compare_while_generating(at_once: Pair) -> None:
    """Of another run of the same experiment: both read a database that is written meanwhile."""
    for guidance in (1, 2):
        (made,) = at_once.run(["generate", *SMALL, "--steps", 2, "--guidance", guidance])
        assert made.code == 0, made.err
    names = [run["run"] for run in json.loads(at_once.run(["runs", "--format", "json"])[0].out)]
    generate = ["generate", *SMALL, "--steps", 10, "--guidance", 9]
    scored, made = at_once.run(["evaluate", *names, "--metrics", "alignment", "--format", "json"], generate)
    assert (scored.code, made.code) == (0, 0), scored.err + made.err
    compared, more = at_once.run(
        ["compare", "--experiment", "t2i", "--by", "alignment", "--format", "json"],
        ["generate", *SMALL, "--steps", 10, "--guidance", 10],
    )
    assert (compared.code, more.code) == (0, 0), compared.err + more.err
    assert {row["run"][:12] for row in json.loads(compared.out)["ranking"]} == set(names)
    with at_once.home.reading() as session:
        assert session.scalar(select(func.count()).where(MetricValue.name == "alignment")) == 2
    sound(at_once.home)
    assert len(pictures(at_once.home)) == 4 * 12
