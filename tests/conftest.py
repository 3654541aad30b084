"""Fixtures: a workspace, a session, a tracking store, a command line, the embedded pipeline."""

from __future__ import annotations

import json
import os
import random
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from t2i_track.tracking import Tracker
    from t2i_track.workspace import Workspace

ROOT = Path(__file__).resolve().parents[1]
THERE = Path(__file__).parent / "postgresql"
sys.path.insert(0, str(THERE))
import homes_there  # noqa: E402 - from the folder that the programs that the tests start have on their path

PROGRAMS = {"warm", "serve", "ui", "browser"}
"""Fixtures that start whole programs: `t2i`, a tracking server, MLflow's user interface, a browser."""


def pytest_configure() -> None:
    """``T2I_TEST_DATABASE=postgresql``: each home has a database of its own on the server instead of a file."""
    match os.environ.get("T2I_TEST_DATABASE", "sqlite"):
        case "postgresql" if "T2I_TEST_POSTGRES" in os.environ:
            os.environ[homes_there.PREFIX] = f"t2i_test_{os.getpid()}_"
            os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(THERE), os.environ.get("PYTHONPATH"))))
            homes_there.install()
        case "sqlite":
            os.environ.pop(homes_there.PREFIX, None)
        case other:
            raise pytest.UsageError(f"T2I_TEST_DATABASE is '{other}': sqlite, or postgresql with T2I_TEST_POSTGRES")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that starts a whole program is slow; those that start one without a fixture are marked where they are."""
    for item in items:
        if not PROGRAMS.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)
        of_the_file = item.get_closest_marker("sqlite_only")
        if of_the_file and homes_there.in_use():
            (reason,) = of_the_file.args
            item.add_marker(pytest.mark.skip(reason=f"sqlite_only: {reason}"))


@pytest.fixture(autouse=True, scope="module")
def _databases() -> Iterator[None]:
    """The homes of a file's tests are of no use to another's, and the databases take room."""
    yield
    if homes_there.in_use():
        homes_there.drop_all()


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the person who runs the tests reaches them."""
    for name in list(os.environ):
        if name.startswith(("T2I_", "MLFLOW_")) and not name.startswith("T2I_TEST_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real captions and photographs, which the project does not ship."""
    folder = Path(os.environ.get("T2I_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "tiny_coco").is_dir():
        pytest.skip(f"no test data at {folder}; T2I_TEST_DATA names it")
    return folder


@pytest.fixture
def tracking_uri(tmp_path_factory: pytest.TempPathFactory, fresh_mlflow_store: Path) -> str:
    """An MLflow store of this test's own."""
    import shutil

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    shutil.copyfile(fresh_mlflow_store, path)
    return f"sqlite:///{path}"


@pytest.fixture(scope="session")
def fresh_mlflow_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database; to make one takes MLflow seconds, to copy it nothing."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("mlflow-template") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A home folder that is still to be made."""
    from t2i_track.workspace import Workspace

    return Workspace(home=tmp_path / "home")


@pytest.fixture
def session(workspace: Workspace) -> Iterator[Session]:
    """Its database, open for writing."""
    with workspace.begin() as opened:
        yield opened


@pytest.fixture
def tracker(workspace: Workspace, tracking_uri: str) -> Iterator[Tracker]:
    """MLflow's side of what is made there."""
    from t2i_track.tracking import Tracker

    with Tracker(tracking_uri, workspace.outbox) as opened:
        yield opened


@pytest.fixture
def port() -> int:
    return free_port()


def free_port() -> int:
    """One of this machine that nobody listens on, nor will: no system gives it to a connection, no other process of
    these tests looks there."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    for number in random.sample(range(20_000 + 1000 * worker, 21_000 + 1000 * worker), 1000):
        with suppress(OSError), socket.socket() as free:
            free.bind(("127.0.0.1", number))
            return number
    raise AssertionError("no free port")


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


class Warm:
    """`t2i` in a process of its own that need not import torch, diffusers and mlflow anew (see ``warm.py``)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None

    def run(
        self, arguments: Sequence[object], cwd: Path, env: Mapping[str, str], timeout: float = 240, **stopped: Any
    ) -> Result:
        """``stopped`` is a ``stop`` or ``blows``, see ``warm.py``."""
        out, err = self._folder / "out", self._folder / "err"
        request = {"arguments": [str(word) for word in arguments], "cwd": str(cwd), "env": {**os.environ, **env}}
        request |= stopped
        answer = self._ask({**request, "out": str(out), "err": str(err)}, timeout)
        errors = err.read_text(encoding="utf-8")
        assert "Traceback" not in errors, errors
        return Result(answer["code"], out.read_text(encoding="utf-8"), errors)

    def _ask(self, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        process = self._process or self._start()
        assert process.stdin is not None
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        return self._answer(process, timeout)

    def _start(self) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "warm.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert self._answer(self._process, 120) == {"threads": ["MainThread"]}
        return self._process

    def _answer(self, process: subprocess.Popen[str], timeout: float) -> dict[str, Any]:
        assert process.stdout is not None
        with selectors.DefaultSelector() as waiting:
            waiting.register(process.stdout, selectors.EVENT_READ)
            if not waiting.select(timeout):
                self.close()
                pytest.fail(f"no end after {timeout} s")
        answer: dict[str, Any] = json.loads(process.stdout.readline())
        return answer

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    server = Warm(tmp_path_factory.mktemp("warm"))
    yield server
    server.close()


@pytest.fixture
def cli(tmp_path: Path, tracking_uri: str, warm: Warm) -> Callable[..., Result]:
    """Runs `t2i` in a process of its own, in an empty folder, with one thread."""
    folder = tmp_path / "work"
    folder.mkdir()

    def run(*arguments: object, env: dict[str, str] | None = None, timeout: float = 240) -> Result:
        settings = {"MLFLOW_TRACKING_URI": tracking_uri, "OMP_NUM_THREADS": "1", **(env or {})}
        return warm.run(arguments, folder, settings, timeout)

    return run


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The path of a small random pipeline, a variant of one, a LoRA or an embedding by its name (``tests/tiny``).

    Each is made once, and shared: only to be read. To change one, copy it.
    """
    import tiny

    home = tmp_path_factory.mktemp("tiny")
    return lambda name: tiny.build(name, home)


@pytest.fixture(scope="session")
def pipeline() -> object:
    """The embedded model, loaded once."""
    from t2i_track.images.loading import load
    from t2i_track.settings import Settings

    return load(Settings(device="cpu"))
