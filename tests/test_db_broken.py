"""Databases that are broken, cut, of other programs, or in a folder that this user cannot write: one line each."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from homes import STORED, copy_home

from t2i_track import cli as command_line
from t2i_track.db import session as database
from t2i_track.errors import DatabaseError, TrackingError
from t2i_track.runs import doctor
from t2i_track.tracking import store
from t2i_track.workspace import Workspace


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = copy_home(STORED / "schema-0002", tmp_path / "home")
    database.upgrade(Workspace(folder).url)
    return folder


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[object, str]]:
    """The exit status of a command in this process, and what it prints on stderr."""

    def run(*arguments: object) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", ["t2i", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            command_line.main()
        return stopped.value.code, capfd.readouterr().err

    return run


VALUES = {
    "runs.status = 'exploded'": "'exploded' is not among the defined enum values",
    "runs.config = '{\"half\": '": "holds '{\"half\": ' where JSON is due",
    "runs.created_at = 'yesterday'": "yesterday",
    "runs.started_at = 12": "holds a broken value",
    "runs.guidance = 'much'": "holds 'much' as guidance in runs, where float is due",
    "runs.steps = x'00ff'": "as steps in runs",
    "models.name = NULL": "holds 'None' as name in models",
    "runs.name = NULL": "holds 'None' as name in runs",
}


@pytest.mark.sqlite_only("a server refuses such values")
@pytest.mark.parametrize("change", VALUES)
def test_a_broken_value_is_one_line(change: str, home: Path, told: Callable[..., tuple[object, str]]) -> None:
    table, _, assignment = change.partition(".")
    with closing(sqlite3.connect(home / "t2i.db")) as opened:
        # The tables forbid NULL; another program, or a flipped bit, does not ask them.
        opened.executescript(
            "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = replace(sql, 'NOT NULL', '');"
            "PRAGMA writable_schema = RESET;"
        )
        opened.execute(f"UPDATE {table} SET {assignment}")
        opened.commit()
    for arguments in (["runs"], ["show", "latest"], ["compare"]):
        code, said = told(*arguments, "--home", home)
        assert "unexpected" not in said, arguments
        assert said.count("\n") == code, said
        if arguments[0] == "show":
            assert code == 1
            assert VALUES[change] in said
            assert "restore it from a copy" in said


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20_000])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096 : 3 * 4096] = b"\xff" * (2 * 4096)
    path.write_bytes(content)


def encrypt(path: Path) -> None:
    path.write_bytes(bytes(byte ^ 0x5A for byte in path.read_bytes()))


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def text(path: Path) -> None:
    path.write_text("not a database " * 500)


@pytest.mark.sqlite_only("a ruined file")
@pytest.mark.parametrize("ruin", [cut, flip, encrypt, folder, text])
@pytest.mark.parametrize(
    "arguments", [["runs"], ["db", "query", "SELECT * FROM images"], ["db", "upgrade"], ["db", "current"]]
)
def test_a_ruined_file_is_one_line(
    ruin: Callable[[Path], None], arguments: list[str], home: Path, told: Callable[..., tuple[object, str]]
) -> None:
    ruin(home / "t2i.db")
    code, said = told(*arguments, "--home", home)
    if (ruin, arguments[-1]) in {(cut, "current"), (flip, "current"), (cut, "upgrade"), (flip, "upgrade")}:
        assert "unexpected" not in said  # what they read may be whole
        return
    assert (code, said.count("\n")) == (1, 1), said
    assert said.startswith("t2i: ")
    assert "unexpected" not in said


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("nonsense://x", "MLflow has no store of the kind 'nonsense'"),
        ("http://127.0.0.1:abc", "its host or port is malformed"),
        ("http://127.0.0.1:99999", "its host or port is malformed"),
        ("http://[::1", "its host or port is malformed"),
        ("http://", "it names no host"),
        ("postgresql:///db", "it names no host"),
        ("sqlite://mlflow.db", "it names no file: write sqlite:///mlflow.db"),
        ("u:secret@h/db", "it has a user and no '://'"),
    ],
)
def test_doctor_finds_no_store_at_a_nonsense_address(url: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(TrackingError) as raised:
        store.check(url, create=True)
    assert f"cannot be reached ({reason}): start it or set MLFLOW_TRACKING_URI" in str(raised.value)
    found = {one.check: one for one in doctor.check(Workspace(tmp_path), url)}
    assert found["mlflow"].status == "broken"


@pytest.mark.parametrize(
    "url", ["nonsense", "mysql://u:p@h/db", "postgresql://127.0.0.1:1/db", "sqlite://x", "sqlite:////"]
)
def test_doctor_finds_a_database_that_cannot_be_used(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_mlflow", lambda *_: doctor.Finding("mlflow", "ok", ""))
    found = {one.check: one for one in doctor.check(Workspace(tmp_path, url), None)}
    assert found["database"].status == "broken"
    assert "\n" not in found["database"].detail
    assert {one.check: one.status for one in doctor.check(Workspace(tmp_path / "new"), None)}["database"] == "note"


def test_mlflows_database_is_not_ours(fresh_mlflow_store: Path) -> None:
    with pytest.raises(DatabaseError, match=r"is another program's \(it has tables alembic_version,"):
        database.writable_engine(f"sqlite:///{fresh_mlflow_store}")


READERS: list[list[str]] = [["runs"], ["show", "latest"], ["compare"], ["compare", "--report", "OUT/page.html"]]
READERS += [["db", "query", "SELECT count(*) FROM runs"], ["db", "current"]]
WRITERS = [["db", "upgrade"], ["generate", "--num", "1", "--steps", "2"], ["evaluate", "latest"], ["resync", "latest"]]
WRITERS += [["sweep", "--guidance", "1,2", "--steps", "2", "--num", "1"]]

AS_ANOTHER = """
import os, sys
sys.path[:0] = {path!r}
import t2i_track.cli, t2i_track.runs.compare, t2i_track.db.session, t2i_track.report.explorer
for number, arguments in enumerate({commands!r}):
    child = os.fork()
    if child == 0:
        sys.argv = ["t2i", *arguments]
        for descriptor, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{{name}}{{number}}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
        t2i_track.cli.run()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root can become another user")
@pytest.mark.parametrize(
    "log", ["none", pytest.param("empty", marks=pytest.mark.sqlite_only("the log beside the file"))]
)
def test_a_home_that_another_user_cannot_write(home: Path, log: str) -> None:
    """Reads work; writes are refused in one line, and nothing is made."""
    out = home.parent / "out"
    out.mkdir()
    if log == "empty":  # what a reader with more rights leaves
        (home / "t2i.db-wal").touch()
    before = sorted(path.relative_to(home).as_posix() for path in home.rglob("*"))
    commands = [[word.replace("OUT", str(out)) for word in [*one, "--home", str(home)]] for one in READERS + WRITERS]
    script = AS_ANOTHER.format(path=[str(Path(command_line.__file__).parents[2])], commands=commands)
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{out / 'mlflow.db'}", "HOME": str(out)}
    for path in [home, *home.rglob("*")]:
        os.chown(path, 65534, 65534)
    # Without its capabilities root is a user like any other, and can still read a Python that only root can.
    other = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-c", script]
    ended = subprocess.run(other, cwd=out, env=environment, capture_output=True, text=True, timeout=280)
    codes = [int(line) for line in ended.stdout.split()]
    said: list[Any] = [(out / f"err{number}").read_text() for number in range(len(codes))]
    assert len(codes) == len(commands), ended.stderr
    told = list(zip(commands, codes, said, strict=True))
    for arguments, code, words in told[: len(READERS)]:
        assert code == 0 or (code == 1 and words.count("\n") == 1), (arguments, words)
        assert "unexpected" not in words, (arguments, words)
        if arguments[0] in ("runs", "show", "db"):
            assert code == 0, (arguments, words)
    for arguments, code, words in told[len(READERS) :]:
        assert code == 1, (arguments, words)
        assert "cannot be written" in words.splitlines()[-1], (arguments, words)
        assert "unexpected" not in words, (arguments, words)
    assert sorted(path.relative_to(home).as_posix() for path in home.rglob("*")) == before
