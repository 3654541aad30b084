"""What tests rely on where all homes have their rows on a server; on files the same must hold."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import homes_there
import pytest
from homes import STORED, copy_home, forget_database, has_database, rows, tables

from t2i_track.db import lineage
from t2i_track.db import session as database
from t2i_track.workspace import DATABASE, Workspace

COUNT = """
import sys
from pathlib import Path
from sqlalchemy import text
from t2i_track.workspace import Workspace
with Workspace(Path(sys.argv[1])).reading() as session:
    print(session.scalar(text("SELECT count(*) FROM prompts")))
"""


def prompts(home: Path) -> list[str]:
    return [row["text"] for row in rows(home, "SELECT text FROM prompts ORDER BY id")]


def write(home: Path, *texts: str) -> None:
    with Workspace(home).begin() as session:
        lineage.store_prompts(session, texts)


def test_the_rows_are_where_the_suite_was_told(tmp_path: Path) -> None:
    assert not has_database(tmp_path)
    write(tmp_path, "a")
    assert has_database(tmp_path)
    assert (tmp_path / DATABASE).exists() is not homes_there.in_use()


def test_another_program_finds_them_by_any_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "home", "a", "b")
    (tmp_path / "link").symlink_to("home")
    for path in ("home", tmp_path / "home", "home/../link"):
        command = [sys.executable, "-c", COUNT, path]
        assert subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout == "2\n"


def test_a_copy_is_one(tmp_path: Path) -> None:
    write(tmp_path / "one", "a")
    copy_home(tmp_path / "one", tmp_path / "two")
    write(tmp_path / "two", "b")
    assert (prompts(tmp_path / "one"), prompts(tmp_path / "two")) == (["a"], ["a", "b"])
    forget_database(tmp_path / "two")
    assert not has_database(tmp_path / "two")


def test_a_copy_of_a_stored_home_has_its_schema(tmp_path: Path) -> None:
    home = copy_home(STORED / "schema-0001", tmp_path / "home")
    assert rows(home, "SELECT version_num FROM alembic_version") == [{"version_num": "0001"}]
    before = len(tables(home))
    database.upgrade(Workspace(home).url)
    assert len(tables(home)) > before
    write(home, "a prompt of today")
