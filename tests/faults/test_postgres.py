"""PostgreSQL goes away in the middle of a run: waited for, or one line and equal rows after a resume."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import free_port
from sqlalchemy import NullPool, create_engine, select, text

from t2i_track.db import lineage, outages
from t2i_track.db.address import where
from t2i_track.db.models import Image, Run
from t2i_track.errors import T2IError
from t2i_track.prompts import manifest as manifests
from t2i_track.runs.generate import Generator
from t2i_track.runs.plan import Plan
from t2i_track.runs.projection import pending
from t2i_track.settings import Settings
from t2i_track.tracking import Tracker
from t2i_track.workspace import Workspace

ROOT = Path(__file__).parents[2]
PROMPTS = [f"one big {colour} circle on a white background" for colour in ("red", "blue", "green")]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("pg_ctl") is None, reason="no PostgreSQL on this machine"),
]


class Server:
    def __init__(self, port: int) -> None:
        words = subprocess.run([ROOT / ".ci" / "postgres", str(port)], capture_output=True, text=True, check=True)
        self.url, self._program, self._data = words.stdout.split()[-3:]

    def control(self, *words: str) -> None:
        owner = Path(self._data).stat()
        other = ["setpriv", f"--reuid={owner.st_uid}", f"--regid={owner.st_gid}", "--clear-groups"]
        command = [*(other if os.geteuid() == 0 else []), self._program, "-D", self._data, "-w", *words]
        subprocess.run(command, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)

    def stop(self) -> None:
        self.control("-m", "immediate", "stop")

    def start(self) -> None:
        # As .ci/postgres has started it: that is written down in the folder of its data.
        options = (Path(self._data) / "postmaster.opts").read_text().split("-c", 1)[1].replace('"', "")
        self.control("-l", f"{self._data}/../log", "-o", f"-c{options.strip()}", "start")

    def restart(self) -> None:
        self.control("-m", "immediate", "restart")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    running = Server(free_port())
    yield running
    running.stop()
    shutil.rmtree(Path(running._data).parent)


@pytest.fixture
def workspace(server: Server, tmp_path: Path) -> Iterator[Workspace]:
    # No pool: its connections would be broken by the test.
    admin = create_engine(server.url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    name = f"t2i_{uuid.uuid4().hex}"
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    found = Workspace(tmp_path / "home", admin.url.set(database=name).render_as_string(hide_password=False))
    yield found
    found.engine.dispose()


def act(workspace: Workspace, uri: str, resume: bool = False) -> Any:
    plan = Plan(
        settings=Settings(steps=2, batch_size=1, device="cpu"),
        manifest=manifests.from_prompts(PROMPTS),
        experiment="tests",
    )
    with Tracker(uri, workspace.outbox, window=0.01, retry=0.1) as tracker:
        generator = Generator(workspace, tracker)
        return generator.resume("latest") if resume else generator.generate(plan)


def rows(workspace: Workspace) -> list[tuple[Any, ...]]:
    columns = (Image.prompt_index, Image.seed, Image.pixels_sha256, Image.sha256.is_not(None))
    with workspace.reading() as session:
        return [tuple(row) for row in session.execute(select(*columns).order_by(Image.prompt_index))]


@pytest.fixture
def second_batch(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Something happens before the rows of the second batch are written, when they are and nothing is committed, or
    when they are committed."""
    add, log = lineage.add_images, Generator._log_progress

    def plan(event: Callable[[], object], when: str) -> None:
        batches: list[str] = []

        def happens(now: str) -> None:
            batches.append(now)
            if now == when and batches.count(now) == 2:
                event()

        def added(*arguments: Any, **named: Any) -> int:
            happens("before")
            count = add(*arguments, **named)
            happens("uncommitted")
            return count

        def logged(*arguments: Any) -> None:
            happens("committed")
            log(*arguments)

        monkeypatch.setattr(lineage, "add_images", added)
        monkeypatch.setattr(Generator, "_log_progress", logged)

    return plan


MOMENTS = ("before", "uncommitted", "committed")


@pytest.mark.parametrize("when", MOMENTS)
def test_a_database_that_comes_back_is_waited_for(
    workspace: Workspace,
    server: Server,
    tracking_uri: str,
    second_batch: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    when: str,
) -> None:
    starts: list[float] = []
    starter = threading.Lock()

    def starting(seconds: float) -> None:
        with starter:  # the thread that sends to MLflow may wait too
            starts.append(seconds)
            if len(starts) == 1:
                server.start()

    second_batch(server.stop, when)
    monkeypatch.setattr(outages, "pause", starting)
    with caplog.at_level(logging.WARNING, "t2i_track.db"):
        made = act(workspace, tracking_uri)
    assert (made.images, made.made, made.status, made.unsent) == (len(PROMPTS), len(PROMPTS), "finished", False)
    assert set(starts) == {outages.PAUSE_SECONDS}
    said = [record.getMessage() for record in caplog.records if record.name == outages.__name__]
    assert len(said) == 2
    assert said[0].startswith(f"the database at {where(workspace.url)} does not answer (")
    assert said[0].endswith("): it is tried again for 120 s")
    assert said[1] == f"the database at {where(workspace.url)} answers again"
    undisturbed = Workspace(tmp_path / "undisturbed")
    act(undisturbed, tracking_uri)
    assert rows(workspace) == rows(undisturbed)


@pytest.mark.parametrize("when", MOMENTS)
def test_a_run_whose_database_stays_away_is_resumed(
    workspace: Workspace,
    server: Server,
    tracking_uri: str,
    second_batch: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    when: str,
) -> None:
    second_batch(server.stop, when)
    monkeypatch.setattr(outages, "WAIT_SECONDS", 0.0)
    monkeypatch.setattr(outages, "PAUSE_SECONDS", 0.01)
    try:
        with pytest.raises(T2IError, match=r"run \w{12} stopped \(.*then: t2i generate --resume") as told:
            act(workspace, tracking_uri)
    finally:
        server.start()
    assert len(str(told.value).splitlines()) == 1
    assert 0 < len(rows(workspace)) < len(PROMPTS)
    assert act(workspace, tracking_uri, resume=True).images == len(PROMPTS)
    with workspace.reading() as session:
        run = session.scalars(select(Run)).one()
        assert (run.status.value, run.error, pending(session, workspace)) == ("finished", None, [])
    assert len(list(workspace.home.glob("images/*/*.png"))) == len(PROMPTS)
    assert not list(workspace.home.rglob("*.tmp"))
    undisturbed = Workspace(tmp_path / "undisturbed")
    act(undisturbed, tracking_uri)
    assert rows(workspace) == rows(undisturbed)


def test_a_restart_between_two_batches_is_not_noticed(
    workspace: Workspace,
    server: Server,
    tracking_uri: str,
    second_batch: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    second_batch(server.restart, "committed")
    made = act(workspace, tracking_uri)
    assert (made.images, made.status, made.unsent) == (len(PROMPTS), "finished", False)
    assert not [record for record in caplog.records if record.name == outages.__name__]
