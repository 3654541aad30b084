from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from t2i_track.cli import _end_in_order
from t2i_track.cli import cli as command
from t2i_track.settings import DECLARED, Settings

HEAVY = (
    "torch",
    "mlflow",
    "diffusers",
    "transformers",
    "torch_fidelity",
    "sqlalchemy",
    "pandas",
    "numpy",
    "plotly",
    "rich",
    "filelock",
    "numpy.ma",
)
Cli = Callable[..., Any]


def loaded_by(*arguments: str) -> set[str]:
    code = f"import sys; sys.argv = ['t2i', *{list(arguments)!r}]\n"
    code += "from t2i_track.cli import main\n"
    code += "try:\n    main()\nexcept SystemExit:\n    pass\n"
    code += f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr.splitlines()[-1].replace("'", '"')))


@pytest.mark.parametrize("arguments", [["--help"], ["generate", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    assert loaded_by(*arguments) == set()


@pytest.mark.parametrize("arguments", [["compare", "--help"], ["evaluate", "--help"], ["sweep", "--help"]])
def test_help_that_lists_metrics_imports_numpy_only(arguments: list[str]) -> None:
    assert loaded_by(*arguments) == {"numpy"}


@pytest.mark.parametrize("arguments", [["runs"], ["compare"], ["db", "query", "SELECT 1"]])
def test_reading_imports_no_torch(arguments: list[str], tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    CliRunner().invoke(command, ["db", "upgrade", "--home", home], catch_exceptions=False)
    assert loaded_by(*arguments, "--home", home) <= {"sqlalchemy", "numpy"}


def commands(group: click.Group, prefix: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    found = []
    for name in group.list_commands(context):
        child = group.get_command(context, name)
        assert child is not None
        found += commands(child, (*prefix, name)) if isinstance(child, click.Group) else [((*prefix, name), child)]
    return found


@pytest.mark.parametrize(
    ("path", "found"), commands(command), ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_every_command_and_option_is_explained(path: tuple[str, ...], found: click.Command) -> None:
    assert found.help
    for parameter in found.params:
        if isinstance(parameter, click.Option) and parameter.name not in {"evaluate", "help"}:
            assert parameter.help, parameter.name


def test_options_are_the_settings() -> None:
    generate = command.get_command(click.Context(command), "generate")
    assert generate is not None
    options = {parameter.name: parameter for parameter in generate.params}
    defaults = Settings()
    for name in DECLARED:
        assert options[name].default in (getattr(defaults, name), None) or getattr(defaults, name) is None


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["generat"], 2, "no command 'generat'; did you mean 'generate'?"),
        (["generate", "--guidnce", "3"], 2, "No such option"),
        (["generate", "--scheduler", "eulr"], 2, "'eulr' is not one of"),
        (["generate", "--guidance", "nan"], 1, "guidance must be a finite number, not nan"),
        (["generate", "--steps", "0"], 1, "steps must be in [1, 10000], not 0"),
        (["generate", "--height", "60"], 1, "height must be a positive multiple of 8, not 60"),
        (["generate", "--manifest", "gone.csv"], 1, "gone.csv"),
        (["generate", "--manifest", "empty.csv"], 1, "empty.csv"),
        (["generate", "--prompt", "a", "--manifest", "x.csv"], 1, "exclude each other"),
        (["generate", "--prompt", "a", "--num", "5"], 1, "num 5 is more than the 1 prompts"),
        (["generate", "--model", "nowhere/at all/x"], 1, "no model folder 'nowhere/at all/x'"),
        (["generate", "--config", "gone.yaml"], 1, "gone.yaml"),
        (["generate", "--resume", "abcdef"], 1, "no run"),
        (["generate", "--home", "/proc/none"], 1, "cannot make the home folder /proc/none"),
        (["show", "abcdef"], 1, "no run database"),
        (["compare"], 1, "no run database"),
        (["sweep", "--guidance", "1,,2"], 2, "has an empty value"),
        (["sweep", "--guidance", "1,2,1.0"], 1, "axis 'guidance' has '1' twice"),
        (["sweep", "--steps", "0,2", "--dry-run"], 1, "steps must be in [1, 10000], not 0"),
        (
            ["sweep", *(f"--{axis}={','.join(map(str, range(1, 1001)))}" for axis in ("seed", "steps", "guidance"))],
            1,
            "1000000000 cells (1000 guidance x 1000 steps x 1000 seed) are more than the 10,000 that a sweep may have",
        ),
        (["sweep", "typo.yaml"], 1, "unknown key 'axis'; did you mean 'axes'?"),
        (["db", "query", "SELECT 1"], 1, "no run database"),
        (["cache", "prune", "--max-size", "big"], 2, "'big' is not a size"),
        (["evaluate"], 2, "Missing argument 'RUN...'"),
    ],
)
def test_wrong_input_is_one_line(
    arguments: list[str], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.csv").write_text("caption\n")
    (tmp_path / "typo.yaml").write_text("name: x\naxis:\n  guidance: [1, 2]\n")
    before = sorted(tmp_path.iterdir())
    done = subprocess.run([sys.executable, "-m", "t2i_track", *arguments], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    if code == 1:
        assert len(done.stderr.splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before  # nothing half written


def test_underscores_are_dashes(tmp_path: Path) -> None:
    """Old command lines wrote --out_csv and --min_len."""
    paths = {"images_root": tmp_path, "annotations": tmp_path / "x.json", "out_csv": tmp_path / "o.csv", "min_len": 3}
    options = [word for name, value in paths.items() for word in (f"--{name}", str(value))]
    result = CliRunner().invoke(command, ["data", "coco", *options])
    assert "x.json" in str(result.exception)


def test_a_session_from_start_to_end(cli: Cli) -> None:
    """Two runs, their scores, their comparison, a query: as a newcomer would."""
    made = cli("generate", "--guidance", "1.2e1", "--num", 40, "--steps", 2, "--batch-size", 20, "--format", "json")
    assert made.code == 0, made.err
    record = json.loads(made.out)
    assert (record["images"], record["guidance"]) == (40, 12.0)
    assert {"fid", "alignment", "clip_score"} <= set(record["scores"])
    again = cli("generate", "--guidance", 3, "--num", 40, "--steps", 2, "--batch-size", 20, "--no-evaluate")
    assert again.code == 0, again.err
    scored = cli("evaluate", "latest", "--metrics", "fid,alignment", "--format", "json")
    assert scored.code == 0, scored.err
    assert {row["score"] for row in json.loads(scored.out)} >= {"fid", "alignment"}
    compared = cli("compare", "--by", "alignment", "--format", "json")
    assert compared.code == 0, compared.err
    assert len(json.loads(compared.out)["ranking"]) == 2
    both = cli("compare", record["run"], "latest")
    assert both.code == 0, both.err
    rows = cli("db", "query", "SELECT guidance, count(*) AS n FROM runs JOIN images ON run_id = runs.id GROUP BY 1")
    assert [line.split() for line in rows.out.splitlines()[2:]] == [["3", "40"], ["12", "40"]]
    listed = cli("runs", "--format", "csv")
    assert len(listed.out.splitlines()) == 3
    assert json.loads(cli("show", "latest", "--format", "json").out)["images"] == 40
    assert cli("doctor").code == 0
    unchanged = cli("evaluate", "latest", "--metrics", "fid", "--format", "csv")
    assert unchanged.code == 0, unchanged.err
    assert cli("cache", "prune", "--max-size", "0").code == 0


def test_nohup_is_heard() -> None:
    before = {name: signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGHUP)}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _end_in_order()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) == signal.default_int_handler
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
