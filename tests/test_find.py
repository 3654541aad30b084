"""Pictures by the words of their prompts and by the settings of their runs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click
import pytest
import stored_scores
from click.testing import CliRunner
from conftest import ROOT
from stored_scores import store_run, store_score

from t2i_track.cli import cli as commands
from t2i_track.errors import CompareError, NotFound, SettingsError
from t2i_track.runs import find as finding
from t2i_track.runs.find import find
from t2i_track.workspace import Workspace

PROMPTS = ("a red circle", "A Blue star, 50% off", "Été à Paris", "红色的猫", "قطة حمراء", "one \x1b[2J_red_ star")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Runs of guidance 3, 7 and 12 and 10, 20 and 30 steps, the last of another experiment; images 1 to 18."""
    workspace = Workspace(home=tmp_path_factory.mktemp("found") / "a home")
    with pytest.MonkeyPatch.context() as patch, workspace.begin() as session:
        patch.setattr(stored_scores, "PROMPTS", PROMPTS)
        for name, guidance, steps, experiment in (("a", 3.0, 10, "e"), ("b", 7.0, 20, "e"), ("c", 12.0, 30, "f")):
            run = store_run(session, name, guidance=guidance, steps=steps, experiment=experiment)
            store_score(session, run, "fid", guidance)
    return workspace


def found(home: Workspace, *words: str, limit: int = 20, **chosen: Any) -> list[int]:
    with home.reading() as session:
        return [row["id"] for row in find(session, home, words, limit=limit, **chosen).rows]


@pytest.mark.parametrize(
    ("words", "places"),
    [
        (["RED"], [6, 1]),
        (["red", "circle"], [1]),
        (["circle red"], []),
        (["star", "blue"], [2]),
        (["0% o"], [2]),
        (["%"], [2]),
        (["_red_"], [6]),
        (["été"], [3]),
        (["ÉTÉ", "paris"], [3]),
        (["红色"], [4]),
        (["猫", "红"], [4]),
        (["حمراء"], [5]),
        (["'; drop table images; --"], []),
    ],
)
def test_all_words_in_any_case_and_alphabet(home: Workspace, words: list[str], places: list[int]) -> None:
    newest = [place + 12 for place in places]
    assert found(home, *words) == [*newest, *(place + 6 for place in places), *places], "the newest first"


@pytest.mark.parametrize(
    ("guidance", "runs"),
    [
        ("7", {"b"}),
        ("7.0", {"b"}),
        (">7", {"c"}),
        (">= 7", {"b", "c"}),
        ("<7", {"a"}),
        ("<=7", {"a", "b"}),
        ("!=7", {"a", "c"}),
        ("=12", {"c"}),
        ("3..7", {"a", "b"}),
        ("4 .. 5.5", set()),
    ],
)
def test_comparisons(home: Workspace, guidance: str, runs: set[str]) -> None:
    first = {"a": 1, "b": 7, "c": 13}
    assert set(found(home, "circle", guidance=guidance)) == {first[name] for name in runs}


@pytest.mark.parametrize("wrong", ["seven", ">", "7..", "1,2", "> 7 or 1", "", "nan", "7..3"])
def test_what_is_no_comparison(home: Workspace, wrong: str) -> None:
    with pytest.raises(SettingsError, match=f"^steps '{wrong}'"):
        found(home, steps=wrong)


def test_the_other_conditions(home: Workspace) -> None:
    assert found(home, "circle", steps=">10", experiment="e") == [7]
    assert found(home, "circle", where="guidance > 3 and fid < 10") == [7]
    assert found(home, "circle", where="guidance > 100") == []
    assert found(home, limit=2) == [18, 17]
    with pytest.raises(NotFound, match="no experiment 'g'"):
        found(home, experiment="g")
    with pytest.raises(CompareError, match="--where: no column 'gidance'"):
        found(home, where="gidance > 3")


def test_the_newest_are_looked_through_first(home: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    for recent in (0, 1, 7, 100):
        monkeypatch.setattr(finding, "RECENT", recent)
        assert found(home, "star", limit=3) == [18, 14, 12]
        assert found(home, "circle", where="guidance < 10") == [7, 1]


def t2i(home: Workspace, *words: str) -> Any:
    return CliRunner().invoke(commands, ["find", *words, "--home", str(home.home)])


def test_paths_are_for_programs(home: Workspace) -> None:
    plain, ended = t2i(home, "circle", "--format", "paths"), t2i(home, "circle", "-0")
    expected = [f"{home.home}/{name}/0.png" for name in "cba"]
    assert plain.stdout == "".join(f"{path}\n" for path in expected)
    assert ended.stdout_bytes == b"".join(os.fsencode(path) + b"\0" for path in expected)


def test_no_path_is_an_option(home: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "-home").symlink_to(home.home)
    monkeypatch.chdir(tmp_path)
    assert t2i(Workspace(home=Path("-home")), "circle", "--limit", "1", "-0").stdout == "./-home/c/0.png\0"


def test_tables_hold_nothing_that_a_terminal_obeys(home: Workspace) -> None:
    shown = t2i(home, "_red_", "--limit", "1")
    lines = shown.stdout.splitlines()
    assert lines[0].split() == ["id", "run", "guidance", "steps", "seed", "prompt", "path"]
    assert "one \\x1b[2J_red_ star" in lines[2]
    assert shown.stderr == "the 1 newest; --limit shows more\n"
    (row,) = json.loads(t2i(home, "_red_", "--limit", "1", "--format", "json").stdout)
    assert (row["id"], row["prompt"], row["guidance"]) == (18, PROMPTS[-1], 12.0)


@pytest.mark.parametrize(
    ("fmt", "empty"), [("json", "[]\n"), ("paths", ""), ("csv", "id,run,guidance,steps,seed,prompt,path\n")]
)
def test_nothing_found_is_no_failure(home: Workspace, fmt: str, empty: str) -> None:
    shown = t2i(home, "no\x1bwhere", "--steps", "10", "--format", fmt)
    assert (shown.exit_code, shown.stdout) == (0, empty)
    assert shown.stderr == "no picture found for no\\x1bwhere --steps 10\n"


def test_the_page_has_the_words_of_the_command() -> None:
    text = (ROOT / "docs" / "find.md").read_text(encoding="utf-8")
    command = commands.get_command(click.Context(commands), "find")
    assert command is not None
    options = {word for one in command.params for word in one.opts if word.startswith("--")}
    assert {word for word in options if word not in text} == {"--home", "--db-url", "--home-in"}
