"""A secret in any option or environment variable of any command is told nowhere: not in words, files or MLflow."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pandas
import pytest

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
