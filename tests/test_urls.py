"""Addresses: no password of one is shown or stored, and a folder of any name is that folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from homes import has_database
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from test_db import postgres_server

from t2i_track import cli as command_line
from t2i_track.tracking import store
from t2i_track.urls import hidden, hidden_command, shown
from t2i_track.workspace import Workspace

SECRET = "S3cr3t!x"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql+psycopg://u:{}@h:5432/db", "postgresql+psycopg://h:5432/db"),
        ("http://{}@h:5000", "http://h:5000"),
        ("http://h:5000/path", "http://h:5000/path"),
        ("http://h:99999", "http://h:99999"),
        ("http://[::1]:5000/x", "http://[::1]:5000/x"),
        ("http://h:{}/x", "http://h:***"),
        ("https://h/x?token={}#{}", "https://h/x?token=***#***"),
        ("https://h/x?{}", "https://h/x?***"),
        ("postgresql://h/db?sslmode=require&password={}", "postgresql://h/db?sslmode=require&password=***"),
        ("mssql+pyodbc:///?odbc_connect=PWD%3D{}", "mssql+pyodbc:///?odbc_connect=***"),
        ("postgresql://u:a@{}/b@h/db", "postgresql://***@h/db"),
        ("postgresql://u:a?{}@h/db", "postgresql://***@h/db"),
        ("postgresql:/u:{}@h/db", "***@h/db"),
        ("u:{}@h/db", "***@h/db"),
        ("host=h password='{} x' user=u", "host=h password=*** user=u"),
        ("sqlite:////a b/x@y:z/t#.db", "sqlite:////a b/x@y:z/t#.db"),
        ("sqlite:///x.db?key={}", "sqlite:///x.db?key=***"),
        ("./runs@home", "./runs@home"),
        ("nonsense", "nonsense"),
        ("", ""),
    ],
)
def test_an_address_is_shown_without_its_secrets(url: str, expected: str) -> None:
    assert shown(url.format(SECRET, SECRET)) == expected


word = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)


@given(
    before=word,
    after=st.from_regex(r"[a-z]{1,8}(:[0-9]{1,5})?(/[a-z]{1,8})?", fullmatch=True),
    user=st.sampled_from(["", "u", "me"]),
)
@example(before="a@/?#&=;:[", after="host:5432/db", user="")
def test_no_password_gets_through(before: str, after: str, user: str) -> None:
    """Whatever characters stand unescaped around the secret, before the last '@'."""
    for scheme in ("postgresql+psycopg://", "http://", "mysql://"):
        address = f"{scheme}{user}:{before}{SECRET}{before}@{after}"
        assert SECRET not in shown(address)
        assert shown(address).endswith(after)
        said = f"Invalid url: {address} (and '{before}{SECRET}{before}')"
        assert SECRET not in hidden(said, address)


@given(st.text(max_size=60))
def test_any_text_is_shown(value: str) -> None:
    assert shown(shown(value)) == shown(value)
    hidden(value, value)


def test_words_are_left_alone() -> None:
    for said in ("tokens=77 in column tokens", "see https://example.org/a/b.", "a b@c: 12:30", 'role "reader" is gone'):
        assert hidden(said, "postgresql://reader@h/db") == said


@pytest.mark.parametrize(
    ("arguments", "recorded"),
    [
        (["--db-url", f"u:{SECRET} x@h/db"], "--db-url ***@h/db"),
        ([f"--db-url=postgresql://u:{SECRET} x@h/db"], "--db-url=postgresql://h/db"),
        (["--tracking_uri", f"http://{SECRET}@h"], "--tracking_uri http://h"),
        (["--to", f"http://u:{SECRET}@h"], "--to http://h"),
        (["--prompt", "a cat: 2 @ home"], "--prompt a cat: 2 @ home"),
        (["--run-name", f"http://u:{SECRET}@h"], "--run-name http://h"),
    ],
)
def test_a_command_is_recorded_without_secrets(arguments: list[str], recorded: str) -> None:
    assert hidden_command(["t2i", *arguments]) == f"t2i {recorded}"


FORMS = [
    "postgresql+psycopg://u:{}@127.0.0.1:1/db",
    "postgresql://u:{}@127.0.0.1:99999/db",
    "postgresql://u:{}@127.0.0.1:abc/db",
    "postgresql://u:a@{}/x@127.0.0.1:1/db",
    "postgresql://127.0.0.1:{}/db",
    "postgresql:/u:{}@127.0.0.1/db",
    "u:{}@127.0.0.1/db",
    "mysql://u:{}@127.0.0.1:1/db",
    "mysterydb://u:{}@h/db",
    "postgresql://u@127.0.0.1:1/db?password={}",
    "postgresql://127.0.0.1:1/db?token={}&sslcert={}",
    "sqlite:///x.db?password={}",
    "sqlite://u:{}@x.db",
    "http://u:{}@127.0.0.1:1",
    "http://u:{}@127.0.0.1:abc",
    "http://u:{}@[::1",
    "http://{}@127.0.0.1:1/?token={}",
    "https://127.0.0.1:1/#token={}",
    "nonsense://u:{}@h",
]
COMMANDS: list[list[str]] = [["runs"], ["db", "upgrade"], ["db", "current"], ["db", "query", "SELECT 1"], ["doctor"]]
COMMANDS += [["compare"], ["show", "latest"], ["resync"], ["generate", "--num", "1", "--steps", "2"]]
TRACKED = {"doctor", "generate", "resync"}


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any, caplog: Any) -> Callable[[list[str]], str]:
    """What a command that fails prints and logs, in this process; what it leaves on the disk has to be clean too."""
    monkeypatch.chdir(tmp_path)

    def run(arguments: list[str]) -> str:
        monkeypatch.setattr(sys, "argv", ["t2i", *arguments])
        with pytest.raises(SystemExit) as stopped:
            command_line.main()
        assert stopped.value.code in (1, 2), arguments
        captured = capfd.readouterr()
        said = captured.out + captured.err + caplog.text
        assert "t2i: unexpected" not in said, said
        return said

    return run


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_command_tells_a_secret(
    command: list[str], told: Callable[[list[str]], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for form in FORMS:
        url = form.format(*[SECRET] * 2)
        assert SECRET not in told([*command, "--db-url", url]), form
        assert SECRET not in told([*command, f"--db-url={url}", url]), form  # one argument too many, too
        with monkeypatch.context() as patch:
            patch.setenv("T2I_DB_URL", url)
            assert SECRET not in told(command), form
        if command[0] in TRACKED - {"resync"} and not form.startswith("sqlite:///"):
            option = "--tracking-uri"
            assert SECRET not in told([*command, option, url]), form
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


names = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=20)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=names.filter(lambda name: name not in (".", "..") and len(name.encode()) < 100))
@example("study?a")
@example("x%20y")
@example("a#b&c=d;e:f@g h")
@example("file:x?mode=ro")
@example(":memory:")
@example("ünï\u202e\u00a0")
def test_a_home_of_any_name_is_that_folder(name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder) / name)
        with workspace.begin() as session:
            session.execute(text("INSERT INTO prompts (text, sha256) VALUES ('a', 'b')"))
        with workspace.reading() as session:
            assert session.scalar(text("SELECT count(*) FROM prompts")) == 1
        workspace.engine.dispose()
        assert [path.name for path in Path(folder).iterdir()] == [name]
        assert has_database(Path(folder) / name)
        path = Path(folder) / name / "mlflow.db"
        assert store.sqlite_path(store.sqlite_uri(path)) == path
        store.check(store.sqlite_uri(path), create=True)


@pytest.mark.parametrize("name", ["study?a", "x%20y", "a#b&c d", "ünï:x@y"])
def test_mlflows_store_is_in_the_folder_of_any_name(
    name: str, tmp_path: Path, fresh_mlflow_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from t2i_track.tracking.opening import open_run
    from t2i_track.tracking.records import Opening

    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    shutil.copyfile(fresh_mlflow_store, folder / "mlflow.db")
    uri = store.resolve(None)
    assert store.sqlite_path(uri) == folder / "mlflow.db"
    run = open_run(uri, Opening("e", None))
    (tmp_path / "note.txt").write_text("x")
    store.client(uri).log_artifact(run.run_id, str(tmp_path / "note.txt"))
    assert [path.parent.parent.name for path in folder.glob("mlruns/*/artifacts/note.txt")] == [run.run_id]
    assert [entry.path for entry in store.client(uri).list_artifacts(run.run_id)] == ["note.txt"]


EVERYWHERE = os.urandom(6).hex()


@pytest.fixture
def reader() -> Iterator[str]:
    """An address of a PostgreSQL database with a password in it."""
    from sqlalchemy import create_engine
    from test_db import fresh_postgres

    for url in fresh_postgres(postgres_server(), "secrets"):
        admin = create_engine(url)
        yield admin.url.set(password=EVERYWHERE).render_as_string(hide_password=False)
        admin.dispose()


@pytest.mark.slow
def test_a_secret_that_works_is_stored_nowhere(cli: Callable[..., Any], reader: str, tmp_path: Path) -> None:
    """Passwords in use: not in output, the database, MLflow's store, pictures, tables or the report."""
    env = {"MLFLOW_TRACKING_PASSWORD": EVERYWHERE, "HF_TOKEN": EVERYWHERE, "MLFLOW_TRACKING_TOKEN": EVERYWHERE}
    made = cli("generate", "--num", 12, "--steps", 2, "--db-url", reader, "--images-per-prompt", 1, env=env)
    assert made.code == 0, made.err
    said = made.out + made.err
    for arguments in (["show", "latest", "--format", "json"], ["compare", "--report", "page.html"], ["doctor"]):
        ended = cli(*arguments, env={**env, "T2I_DB_URL": reader})
        said += ended.out + ended.err
    assert EVERYWHERE not in said
    dump = subprocess.run(["pg_dump", reader.replace("+psycopg", "")], capture_output=True, text=True)
    assert "--db-url" in dump.stdout
    assert EVERYWHERE not in dump.stdout
    import pandas
    from PIL import Image

    for path in tmp_path.rglob("*"):
        if path.suffix == ".png":
            with Image.open(path) as picture:
                assert EVERYWHERE not in str(picture.info)
        if path.suffix == ".parquet":
            assert EVERYWHERE not in pandas.read_parquet(path).to_csv()
        assert not path.is_file() or EVERYWHERE.encode() not in path.read_bytes(), path
