"""Fixtures: a workspace, a session, a tracking store, a command line, the embedded pipeline."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the person who runs the tests reaches them."""
    for name in list(os.environ):
        if name.startswith(("T2I_", "MLFLOW_")) and name not in {"T2I_TEST_DATA", "T2I_TEST_POSTGRES"}:
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


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


@pytest.fixture
def cli(tmp_path: Path, tracking_uri: str) -> Callable[..., Result]:
    """Runs `t2i` in a process of its own, in an empty folder, with one thread."""
    folder = tmp_path / "work"
    folder.mkdir()

    def run(*arguments: object, env: dict[str, str] | None = None, timeout: float = 240) -> Result:
        done = subprocess.run(
            [sys.executable, "-m", "t2i_track", *map(str, arguments)],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, "MLFLOW_TRACKING_URI": tracking_uri, "OMP_NUM_THREADS": "1", **(env or {})},
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Result(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def pipeline() -> object:
    """The embedded model, loaded once."""
    from t2i_track.images.loading import load
    from t2i_track.settings import Settings

    return load(Settings(device="cpu"))
