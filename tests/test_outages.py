"""A server that is away: which is waited for. tests/faults/test_postgres.py stops a real one."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from conftest import free_port
from psycopg import errors
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from test_db import make_run

from t2i_track.db import lineage, outages
from t2i_track.db.outages import is_away
from t2i_track.errors import T2IError
from t2i_track.workspace import Workspace


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (psycopg.OperationalError("connection refused"), True),
        (errors.AdminShutdown("terminating connection"), True),
        (errors.CannotConnectNow("starting up"), True),
        (errors.TooManyConnections("too many clients already"), True),
        (errors.ConnectionFailure("lost"), True),
        (errors.DeadlockDetected("deadlock"), False),
        (errors.QueryCanceled("by the user"), False),
        (errors.DiskFull("no space"), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_is_an_absence(error: psycopg.OperationalError, away: bool) -> None:
    assert is_away(OperationalError("SELECT 1", {}, error)) is away


def test_a_refusal_is_none() -> None:
    assert not is_away(IntegrityError("INSERT", {}, errors.UniqueViolation("twice")))
    assert is_away(DBAPIError("SELECT 1", {}, psycopg.Error("gone"), connection_invalidated=True))


def test_one_that_never_answered_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(outages, "pause", lambda _: pytest.fail("it waits"))
    workspace = Workspace(tmp_path, f"postgresql+psycopg://postgres@127.0.0.1:{free_port()}/postgres")
    with (
        pytest.raises(T2IError, match=r"^cannot use the database at .*refused.*: check --home or --db-url$"),
        workspace.begin(),
    ):
        pass


def test_rows_that_were_committed_unheard_are_added_once(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with workspace.begin() as session:
        run = make_run(session)
        prompts = lineage.store_prompts(session, ["a"])
        record = {"prompt": "a", "replicate": 0, "seed": 1, "sha256": "c" * 64, "pixels_sha256": "d" * 64, "width": 64}
        record |= {"height": 64, "tokens": 5, "truncated": False, "seconds": 0.5}
        records = [{**record, "prompt_index": index, "path": f"{index}.png"} for index in range(2)]
        for _ in range(2):
            lineage.add_images(session, run.id, prompts, records, again=True)
        assert lineage.made_images(session, run) == {(0, 0), (1, 0)}
