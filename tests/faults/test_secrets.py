"""A secret in any option or environment variable of any command is told nowhere: not in words, files or MLflow."""

from __future__ import annotations

import base64
import itertools
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import pandas
import pytest
from mlflow.tracking import MlflowClient
from mlflow_server import FaultyServer, application

from t2i_track import cli as command_line
from t2i_track.tracking import patience

pytestmark = pytest.mark.slow

MARK = "S3cr3t"
NUMBERS = itertools.count(1)


def planted(form: str = "postgresql://u:{0}@127.0.0.1:1/db?password={0}") -> str:
    """An address with a secret of its own, so that a failure says where it was planted."""
    return form.format(f"{MARK}{next(NUMBERS):04}x")


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    with click.Context(group) as context:
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            if isinstance(command, click.Group):
                yield from commands(command, (*path, name))
            else:
                yield (*path, name), command


COMMANDS = dict(commands(command_line.cli))


def variable(path: tuple[str, ...], parameter: click.Parameter) -> str:
    named = parameter.envvar
    return str(named) if named else "_".join(["T2I", *path, str(parameter.name)]).upper().replace("-", "_")


def planting(path: tuple[str, ...]) -> list[tuple[list[str], dict[str, str]]]:
    """Arguments and environment, each with a secret in one place."""
    found: list[tuple[list[str], dict[str, str]]] = []
    for parameter in COMMANDS[path].params:
        if isinstance(parameter, click.Option):
            if not parameter.is_flag:
                found.append(([parameter.opts[-1], planted()], {}))
            found.append(([], {variable(path, parameter): planted()}))
        else:
            found.append(([planted()], {}))
    others = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID")
    return found + [([], {name: planted()}) for name in (*others, patience.VARIABLE)]


MADE = ["--num", "1", "--steps", "2", "--device", "cpu"]
NEEDED: dict[tuple[str, ...], list[str]] = {
    ("data", "coco"): ["--images-root", ".", "--annotations", "none.json", "--out-csv", "out.csv"],
    ("data", "shapes"): ["--out", "shapes", "--num", "1"],
    ("generate",): [*MADE, "--no-evaluate", "--tracking-uri", "http://127.0.0.1:1"],
    ("sweep",): [*MADE, "--no-evaluate", "--tracking-uri", "http://127.0.0.1:1"],
    ("evaluate",): ["latest"],
    ("gate",): ["latest", "--protocol", "none"],
    ("show",): ["latest"],
    ("reproduce",): ["1"],
    ("db", "query"): ["SELECT 1"],
    ("plan",): ["--detect", "0.1"],
    ("cache", "prune"): ["--max-size", "1GB"],
}
"""What a command wants besides; a server that is not there ends those that would make pictures."""


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any, caplog: Any) -> Callable[..., str]:
    """All that a command says and logs, run in this process; of one that becomes another program, its command line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def become(_program: str, arguments: list[str], _environment: object) -> None:
        raise click.ClickException(" ".join(arguments))

    monkeypatch.setattr(os, "execvpe", become)

    def run(arguments: list[str], environment: dict[str, str]) -> str:
        caplog.clear()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["t2i", *arguments])
            for name, value in environment.items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit):
                command_line.main()
        captured = capfd.readouterr()
        return str(captured.out + captured.err + caplog.text)

    return run


def on_disk(folder: Path) -> list[str]:
    """Files that hold a secret, or are named by one."""
    found = []
    for path in folder.rglob("*"):
        content = b""
        if path.is_file():
            content = pandas.read_parquet(path).to_csv().encode() if path.suffix == ".parquet" else path.read_bytes()
        if MARK.encode() in content or MARK in path.name:
            found.append(str(path.relative_to(folder)))
    return found


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_no_option_or_variable_of_a_command_tells_its_secret(
    path: tuple[str, ...], told: Callable[..., str], tmp_path: Path
) -> None:
    for arguments, environment in planting(path):
        said = told([*path, *NEEDED.get(path, []), *arguments], environment)
        assert MARK not in said, (arguments, environment)
        assert "t2i: unexpected" not in said, (arguments, environment, said)
    assert on_disk(tmp_path) == []


class Locked(FaultyServer):
    """MLflow's server behind a name and a password, or a token."""

    def __init__(self, application: Any, port: int, allowed: str) -> None:
        self.allowed, self.refused = allowed, 0
        super().__init__(application, port)

    def _answer(self, environ: dict[str, Any], respond: Callable[..., Any]) -> Iterable[bytes]:
        if environ.pop("HTTP_AUTHORIZATION", None) == self.allowed:  # as a proxy does, MLflow sees nothing of it
            return super()._answer(environ, respond)
        self.refused += 1
        respond("401 Unauthorized", [("Content-Type", "text/plain")])
        return [b"who are you?"]


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"me:{password}".encode()).decode()


IN_USE = f"{MARK}in-use:@/?x"
"""As a password it has to be quoted in an address."""
WAYS: dict[str, tuple[str, str, dict[str, str]]] = {
    "address": (f"me:{quote(IN_USE, safe='')}@", basic(IN_USE), {}),
    "variables": ("", basic(IN_USE), {"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": IN_USE}),
    "token": ("", f"Bearer {IN_USE}", {"MLFLOW_TRACKING_TOKEN": IN_USE}),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_password_of_a_store_that_takes_it_is_told_nowhere(
    way: str, cli: Callable[..., Any], fresh_mlflow_store: Path, tmp_path: Path, port: int, monkeypatch: Any
) -> None:
    """Runs, scores, a sweep, a report and what is sent late: all of it arrives, and nothing holds the secret."""
    user, allowed, variables = WAYS[way]
    folder = tmp_path / "server"
    folder.mkdir()
    shutil.copyfile(fresh_mlflow_store, folder / "mlflow.db")
    server = Locked(application(folder / "mlflow.db", monkeypatch), port, allowed)
    uri = f"http://{user}127.0.0.1:{port}"
    env = {**variables, "MLFLOW_TRACKING_URI": uri, "NO_PROXY": "127.0.0.1"}
    wrong = cli(
        "generate",
        *MADE,
        env={**env, "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}", **dict.fromkeys(variables, "no")},
    )
    assert (wrong.code, server.refused > 0) == (1, True), wrong.err
    server.refused = 0
    walk: list[list[str]] = [["show", "latest", "--format", "json"], ["doctor"]]
    if way == "address":
        walk += [["sweep", *MADE, "--guidance", "1,2", "--report", "sweep.html"], ["compare", "--report", "page.html"]]
        walk += [
            ["evaluate", "latest", "--metrics", "is"],
            ["runs", "--format", "json"],
            ["resync", "--format", "json"],
        ]
    try:
        made = cli("generate", *MADE, "--num", "12", "--tracking-uri", uri, env=variables | {"NO_PROXY": "127.0.0.1"})
        done = [made, *(cli(*arguments, env=env) for arguments in walk)]
    finally:
        server.stop()
    assert server.refused == 0
    said = wrong.out + wrong.err + "".join(ended.out + ended.err for ended in done)
    assert [ended.code for ended in done if ended.code not in (0, 1)] == [], said
    assert made.code == 0, said
    for secret in (MARK, quote(IN_USE, safe=""), allowed.split()[1]):
        assert secret not in said
    found = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").search_runs(["0", "1", "2"])
    assert {run.info.status for run in found} == {"FINISHED"}
    assert sum("fid" in run.data.metrics for run in found) >= 1
    assert any((folder / "artifacts").rglob("*.parquet"))
    assert on_disk(tmp_path) == []


def test_every_option_and_variable_is_planted() -> None:
    """The walk reaches what is known to hold addresses, in both ways of giving them."""
    places = planting(("generate",))
    assert {"--db-url", "--tracking-uri", "--reference", "--lora"} <= {words[0] for words, _ in places if words}
    assert {"T2I_DB_URL", "MLFLOW_TRACKING_URI", "T2I_GENERATE_REFERENCE", "T2I_HOME"} <= {
        name for _, environment in places for name in environment
    }
    assert variable(("data", "coco"), COMMANDS["data", "coco"].params[0]) == "T2I_DATA_COCO_IMAGES_ROOT"


@pytest.mark.parametrize("arguments", [["runs", "--home"], ["data", "shapes", "--out"], ["generate", "--outdir"]])
@pytest.mark.parametrize("address", ["postgresql://h/db", "http://h:5000", "file:///x"])
def test_an_address_is_no_folder(arguments: list[str], address: str, told: Callable[..., str], tmp_path: Path) -> None:
    assert f"'{address}' is an address: give a file or folder" in told([*arguments, address], {})
    assert list(tmp_path.iterdir()) == []
    for folder in ("a:b", "a//b", "c:/x"):
        assert "is an address" not in told(["runs", "--home", folder], {})
