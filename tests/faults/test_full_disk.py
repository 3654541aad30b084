"""A disk that is full at each of a run's writes: the message names the place, and afterwards nothing is missing."""

from __future__ import annotations

import errno
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking import MlflowClient
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from t2i_track import cli
from t2i_track.db import lineage
from t2i_track.db.models import Image, Run
from t2i_track.errors import T2IError
from t2i_track.prompts import manifest as manifests
from t2i_track.runs.generate import Generator
from t2i_track.runs.plan import Plan
from t2i_track.runs.projection import pending
from t2i_track.runs.resync import resync
from t2i_track.settings import Settings
from t2i_track.tracking import Tracker
from t2i_track.workspace import Workspace

PROMPTS = [f"one big {colour} circle on a white background" for colour in ("red", "blue", "green")]


class _Full:
    """A stream on a full disk."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __enter__(self) -> _Full:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def fileno(self) -> int:
        return int(self._stream.fileno())

    def write(self, _content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def full_database(*_: object, **__: object) -> None:
    raise OperationalError("INSERT", {}, sqlite3.OperationalError("database or disk is full"))


def full_folder(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", "/tmp")


def fill(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    if place == "a picture":
        opened = Path.open
        monkeypatch.setattr(
            Path,
            "open",
            lambda path, mode="r", *a, **k: (_Full if mode == "xb" else lambda s: s)(opened(path, mode, *a, **k)),
        )
    elif place == "a row":
        monkeypatch.setattr(lineage, "add_images", full_database)
    elif place == "the database altogether":
        monkeypatch.setattr(lineage, "add_images", full_database)
        monkeypatch.setattr(lineage, "finish_run", full_database)
    elif place == "the temporary folder":
        monkeypatch.setattr(tempfile, "TemporaryDirectory", full_folder)
    elif place == "the locks":
        monkeypatch.setattr("t2i_track.runs.projection.alone", full_folder)
    else:
        monkeypatch.setattr(SqlAlchemyStore, "log_batch", full_database)


def generate(workspace: Workspace, uri: str, act: Callable[[Generator], Any]) -> Any:
    with Tracker(uri, workspace.outbox, window=0.01, retry=0.1) as tracker:
        return act(Generator(workspace, tracker))


def plan() -> Plan:
    settings = Settings(steps=2, batch_size=1, device="cpu")
    return Plan(settings=settings, manifest=manifests.from_prompts(PROMPTS), experiment="tests")


def pixels(workspace: Workspace) -> list[str]:
    with workspace.reading() as session:
        return list(session.scalars(select(Image.pixels_sha256).order_by(Image.prompt_index)))


FULL = "the disk of the database at "
STOPS = {"a picture": "images/", "a row": FULL, "the database altogether": FULL}


@pytest.mark.parametrize("place", [*STOPS, "the temporary folder", "the locks", "MLflow"])
def test_after_making_room_nothing_is_missing(
    workspace: Workspace, tracking_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    with monkeypatch.context() as full:
        make = Generator._make

        def begun(self: Generator, *args: Any) -> Any:
            for number, count in enumerate(make(self, *args)):
                if number == 0:
                    fill(full, place)
                yield count

        full.setattr(Generator, "_make", begun)
        if place in STOPS:
            with pytest.raises(
                T2IError, match=r"stopped \(.*(full|No space left).*put that right, then: t2i generate --re"
            ) as told:
                generate(workspace, tracking_uri, lambda generator: generator.generate(plan()))
            assert STOPS[place] in str(told.value)
        else:
            assert generate(workspace, tracking_uri, lambda generator: generator.generate(plan())).unsent
    if place in STOPS:
        assert 0 < len(pixels(workspace)) < len(PROMPTS)
        assert generate(workspace, tracking_uri, lambda generator: generator.resume("latest")).images == len(PROMPTS)
    assert all(sent.complete for sent in resync(workspace, [], None))
    with workspace.reading() as session:
        run = session.scalars(select(Run)).one()
        assert (run.status.value, run.error, pending(session, workspace)) == ("finished", None, [])
    found = MlflowClient(tracking_uri).get_run(str(run.mlflow_run_id))
    assert (found.info.status, found.data.metrics["cost/images"]) == ("FINISHED", len(PROMPTS))
    assert "t2i.reason" not in found.data.tags
    assert not list(workspace.home.rglob("*.tmp"))
    undisturbed = Workspace(home=tmp_path / "undisturbed")
    generate(undisturbed, tracking_uri, lambda generator: generator.generate(plan()))
    assert pixels(workspace) == pixels(undisturbed)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(home=tmp_path / "home")


@pytest.mark.parametrize("fails", [full_database, full_folder])
def test_elsewhere_it_is_one_line(
    fails: Callable[[], None], workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def fill_up(**_: object) -> None:
        with workspace.begin():
            fails()

    monkeypatch.setattr(cli.cli, "main", fill_up)
    with pytest.raises(SystemExit):
        cli.main()
    (line,) = capsys.readouterr().err.splitlines()
    assert "is full" in line
    assert "make room there" in line
