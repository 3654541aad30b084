"""`make migration`: the script is written for a change of the tables, and upgrades a database that has rows."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT

from t2i_track.db.session import REVISIONS

HEAD = REVISIONS[-1]
NEXT = f"{int(HEAD) + 1:04d}"
STORED = Path(__file__).parent / "data" / "schema-0001" / "t2i.db"
COUNT = """
import sqlite3
from t2i_track.db import session
session.upgrade("sqlite:///t2i.db")
opened = sqlite3.connect("t2i.db")
print(*(opened.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in ("runs", "images", "metric_values")))
print(opened.execute("SELECT version_num FROM alembic_version").fetchone()[0])
"""

pytestmark = pytest.mark.slow

Python = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The package and its migrations, to be changed."""
    for name in ("t2i_track", "migrations"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    shutil.copyfile(STORED, tmp_path / "t2i.db")
    return tmp_path


@pytest.fixture
def python(checkout: Path) -> Python:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=checkout,
            env={**os.environ, "PYTHONPATH": str(checkout)},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


def change(checkout: Path, before: str, after: str) -> None:
    tables = checkout / "t2i_track" / "db" / "models.py"
    text = tables.read_text(encoding="utf-8")
    assert before in text
    tables.write_text(text.replace(before, after), encoding="utf-8")


LORA = "    lora: Mapped[str | None] = mapped_column(Text)\n"


@pytest.mark.parametrize(
    ("after", "written"),
    [
        (
            LORA + "    seen_at: Mapped[datetime | None] = mapped_column(UtcDateTime)\n",
            "batch_op.add_column(sa.Column('seen_at', sa.DateTime(), nullable=True))",
        ),
        # SQLite cannot do this to a table: Alembic makes a new one, copies the rows and drops the old one.
        ("    lora: Mapped[str | None] = mapped_column(String(500))\n", "type_=sa.String(length=500)"),
    ],
)
def test_a_changed_table_gets_a_migration(after: str, written: str, checkout: Path, python: Python) -> None:
    change(checkout, LORA, after)
    done = python("migrations/new.py", "Runs", "have", "another", "lora")
    assert done.returncode == 0, done.stderr
    script = checkout / "migrations" / "versions" / f"{NEXT}_runs_have_another_lora.py"
    text = script.read_text(encoding="utf-8")
    assert written in text
    assert text.startswith(f'"""Runs have another lora\n\nRevision: {NEXT}, after {HEAD}\n"""\n')
    assert f"{script}: read it" in done.stdout
    assert python("migrations/new.py", "again").stderr == (
        "t2i_track/db/models.py says nothing that the last migration does not\n"
    )
    before = python("-c", COUNT.replace("session.upgrade", "str"))
    assert before.stdout.split() == ["5", "20", "56", "0001"]
    done = python("-c", COUNT)
    assert done.stdout.split() == ["5", "20", "56", NEXT], done.stderr


def test_a_migration_that_leaves_rows_without_what_they_name_changes_nothing(checkout: Path, python: Python) -> None:
    (checkout / "migrations" / "versions" / f"{NEXT}_lossy.py").write_text(
        f"from alembic import op\n\nrevision, down_revision = '{NEXT}', '{HEAD}'\n\n\n"
        "def upgrade() -> None:\n    op.execute('DELETE FROM sweeps')\n"
    )
    done = python("-c", COUNT)
    reason = f"migration {NEXT} leaves rows of sweep_runs without their sweeps: it was taken back"
    assert done.stderr.splitlines()[-1] == f"t2i_track.errors.DatabaseError: {reason}"
    assert python("-c", COUNT.replace("session.upgrade", "str")).stdout.split() == ["5", "20", "56", HEAD]


def test_a_migration_wants_words(python: Python) -> None:
    assert python("migrations/new.py").stderr == 'say what changes: make migration m="runs have a clip_skip"\n'
