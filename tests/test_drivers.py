"""Many programs that write one database at once."""

from __future__ import annotations

import multiprocessing
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from drivers import PROMPTS
from sqlalchemy import create_engine, func, select
from sqlalchemy.orm import Session
from test_db import add_image, fresh_postgres, make_run, postgres_server

from t2i_track.db import lineage, workers
from t2i_track.db import session as database
from t2i_track.db.models import Base, Image, Run
from t2i_track.workspace import Workspace

PROGRAMS = multiprocessing.get_context("spawn")
DRIVERS, RUNS, IMAGES = 8, 4, 4


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'home' / 't2i.db'}"
        return
    yield from fresh_postgres(postgres_server(), "drivers")


def counts(url: str) -> dict[str, int]:
    engine = create_engine(url)
    with engine.connect() as connection:
        found = {
            table.name: connection.scalar(select(func.count()).select_from(table)) or 0
            for table in Base.metadata.sorted_tables
        }
    engine.dispose()
    return found


@pytest.mark.slow
def test_eight_drivers_at_once_lose_and_double_no_row(url: str, tmp_path: Path) -> None:
    words = [sys.executable, ROOT / "tests" / "drivers.py", DRIVERS, RUNS, tmp_path / "home", url]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(word) for word in words], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240
    )
    said = "".join(path.read_text() for path in sorted(tmp_path.glob("err-*")))
    assert done.stdout == f"{[0] * DRIVERS}\n", said + done.stderr
    # On a machine that is busy they say how far they are, and that they wait.
    assert not re.search("locked|[Ee]rror|cannot", said), said
    runs = DRIVERS * RUNS
    assert counts(url) == {
        **dict.fromkeys(counts(url), 0), "models": 1, "manifests": DRIVERS, "prompts": PROMPTS,
        "manifest_entries": DRIVERS * PROMPTS, "runs": runs, "images": runs * IMAGES,
    }  # fmt: skip
    workspace = Workspace(tmp_path / "home", url)
    with workspace.reading() as session:
        assert {run.status for run in session.scalars(select(Run))} == {"finished"}
        rows = session.scalars(select(Image).order_by(Image.run_id, Image.prompt_index)).all()
        for image in rows:
            number = int(image.run.name.removeprefix("run ").partition("-")[0])
            assert image.prompt.text == f"prompt {(image.prompt_index + 5 * number) % PROMPTS}"
            assert workspace.image_path(image).is_file()
        assert [image.prompt_index for image in rows] == [*range(IMAGES)] * runs


def store_shared(url: str, number: int, gate: Any) -> None:
    """Everything that runs share, in an order of its own."""
    workspace = Workspace(Path(os.devnull).parent, url)
    gate.wait(60)
    for turn in range(10):
        steps = [(models,), (prompts, number), (prompts, number + 1), (manifest,), (makers,), (scores, number)]
        with workspace.begin() as session:
            for step, *more in steps[number:] + steps[:number]:
                step(session, turn, *more)


def models(session: Session, turn: int) -> None:
    for sha256 in (None, "0" * 64):
        lineage.store_model(session, name=f"{turn}", revision="", weights_sha256=sha256, pipeline_class="")


def makers(session: Session, turn: int) -> None:
    workers.store_worker(session, {"host": "h", "process": turn, "device": "cpu", "environment": {}})


def prompts(session: Session, turn: int, number: int) -> None:
    lineage.store_prompts(session, [f"{turn} {place * (-1) ** number}" for place in range(20)])


def manifest(session: Session, turn: int) -> None:
    entries = [{"prompt": f"{turn} {place}"} for place in "abc"]
    lineage.store_manifest(session, name="m", sha256=f"{turn:064}", entries=entries)


def scores(session: Session, turn: int, number: int) -> None:
    for name in ("fid", "clip")[:: (-1) ** number]:
        score(session, turn, name)


def score(session: Session, turn: int, name: str) -> None:
    values = {"metric": name, "n": 1, "parameters": {}, "versions": {}}
    protocol = lineage.store_protocol(session, f"{turn}-{name}", values)
    run = session.scalars(select(Run)).one()
    lineage.store_value(session, run, name, protocol, {"value": 1.0, "n": 1})
    images = dict.fromkeys(session.scalars(select(Image.id)), 0.5)
    lineage.store_image_scores(session, name, protocol, images)


@pytest.mark.slow
def test_what_runs_share_is_stored_once(url: str) -> None:
    engine = database.writable_engine(url)
    with database.sessions(engine).begin() as session:
        add_image(session, make_run(session), 0)
    engine.dispose()
    before = counts(url)
    gate = PROGRAMS.Barrier(4)
    programs = [PROGRAMS.Process(target=store_shared, args=(url, number, gate)) for number in range(4)]
    for program in programs:
        program.start()
    for program in programs:
        program.join(120)
    assert [program.exitcode for program in programs] == [0] * 4
    added = {"models": 20, "prompts": 10 * 42, "manifests": 10, "manifest_entries": 30, "workers": 10}
    added |= {"protocols": 20, "metric_values": 20, "image_scores": 20}
    assert counts(url) == {name: number + added.get(name, 0) for name, number in before.items()}
