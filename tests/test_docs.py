"""The pages for readers: their links, their commands and their examples are real, and their words are plain."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
import yaml
from homes import STORED, copy_home

from t2i_track.cli import cli
from t2i_track.db import session as database
from t2i_track.runs.grid import KEYS, build
from t2i_track.settings import DECLARED
from t2i_track.workspace import Workspace

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
TRIED = [README, *(ROOT / "docs" / f"{name}.md" for name in ("tutorial", "experiments", "clusters", "adaptive"))]
EXPERIMENTS = ROOT / "docs" / "experiments.md"

UNCLEAR = (
    "nothing is half there",
    "the numbers that decided",
    "on quieter days",
    "never of the batch",
    "each stored score carries 32 replicates",
    "runwayml/",
)
"""Sentences that were false or hard to understand, and the name under which SD 1.5 is no longer found."""


MOST_LINES = 140
"""Of the README: two screens."""


def named(path: Path) -> str:
    return path.name


def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced code of a page in one of these languages."""
    return [
        body
        for language, body in re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
        if language in languages
    ]


def commands(page: Path) -> list[list[str]]:
    """The words of every `t2i …` of a page: in shell blocks, in indented code, and within the text."""
    text = page.read_text(encoding="utf-8")
    lines = [line for body in blocks(page, "sh", "console") for line in body.splitlines()]
    lines += [line.strip() for line in re.findall(r"^ {4}.*", text, re.M)]
    found = []
    for line in lines:
        for inner in re.findall(r"\$\((t2i [^|)]*)", line):
            found.append(shlex.split(inner))
        line = re.sub(r"\$\([^)]*\)", "RUN", line.removeprefix("$ "))
        if line.startswith("t2i "):
            found.append(shlex.split(line, comments=True))
    return found


def inline(page: Path) -> list[list[str]]:
    """Commands within the text, whose values may be placeholders as in `--num N`."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return [shlex.split(command) for command in re.findall(r"(?<!`)`(t2i [^`\n]+)`(?!`)", text)]


def found_command(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that the words name, and what is left of them."""
    command: click.Command = cli
    rest = words[1:]
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        name, inner, rest = command.resolve_command(click.Context(command, **cli.context_settings), rest)
        assert inner is not None, name
        command = inner
    return command, rest


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_no_page_has_an_unclear_sentence(page: Path) -> None:
    text = " ".join(page.read_text(encoding="utf-8").lower().split())
    assert [phrase for phrase in UNCLEAR if phrase in text] == []


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub links them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"\w+:", link):
            continue
        target, _, anchor = link.partition("#")
        file = (page.parent / target).resolve() if target else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", TRIED, ids=named)
def test_every_command_of_the_pages_parses(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By click's own parser, without running: every command and option exists and takes such a value."""
    monkeypatch.chdir(ROOT)  # --config is read while the command line is parsed
    assert commands(page)
    for words in commands(page):
        command, rest = found_command(words)
        try:
            command.make_context(command.name, list(rest), parent=click.Context(cli, **cli.context_settings))
        except click.ClickException as error:
            pytest.fail(f"{shlex.join(words)}: {error.format_message()}")


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_option_within_the_text_exists(page: Path) -> None:
    unknown = []
    for words in inline(page):
        command, rest = found_command(words)
        known = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
        unknown += [
            (shlex.join(words), word)
            for word in rest
            if word.startswith("--") and word not in known | {"--help", "--version"}
        ]
    assert unknown == []


EXAMPLES = blocks(EXPERIMENTS, "yaml")


def test_there_are_examples_of_experiment_files() -> None:
    assert EXAMPLES


@pytest.mark.parametrize("text", EXAMPLES, ids=lambda text: yaml.safe_load(text)["name"])
def test_every_example_is_an_experiment(text: str) -> None:
    experiment = build(yaml.safe_load(text), "an example")
    assert list(experiment.cells())


@pytest.mark.parametrize(("name", "cells"), [("guidance-and-steps", 6), ("equal-time", 3), ("without-two", 4)])
def test_an_example_has_as_many_cells_as_the_text_says(name: str, cells: int) -> None:
    text = next(text for text in EXAMPLES if yaml.safe_load(text)["name"] == name)
    assert len(list(build(yaml.safe_load(text), name).cells())) == cells


def test_the_tables_name_every_key_and_every_setting() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", EXPERIMENTS.read_text(encoding="utf-8"), re.M)
    assert rows == [*KEYS, *DECLARED]


@pytest.fixture
def stored_home(tmp_path: Path) -> Path:
    """Runs that were made by an earlier version, with this version's schema."""
    folder = copy_home(STORED / "schema-0001", tmp_path / "home")
    database.upgrade(Workspace(folder).url)
    return folder


def test_the_readmes_questions_to_the_database_are_answered(
    stored_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("T2I_HOME", str(stored_home))
    (code,) = blocks(README, "python")
    exec(compile(code, str(README), "exec"), {})
    *of_guidance, record = capsys.readouterr().out.splitlines()
    # Runs of one guidance come in any order.
    assert sorted(of_guidance) == [
        "1.0 3142992634 images/bb9374dbd270/000000-3142992634.png",
        "3.0 3142992634 images/ff890972f98f/000000-3142992634.png",
        "5.0 3142992634 images/8b1d89d2079f/000000-3142992634.png",
        "7.5 3142992634 images/6dbd41223059/000000-3142992634.png",
        "7.5 393969088 images/bfc5c493f971/000000-393969088.png",
        "7.5 75971499 images/bfc5c493f971/000000.1-75971499.png",
    ]
    weights = "aac8a103153626fde70d6ce163a6a24a25a25555036a3b51ac67fc1f4c7783c4"
    assert record == f"a picture of one small orange triangle on a navy background 3142992634 7.5 4 {weights}"


def test_the_readme_fits_two_screens() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= MOST_LINES
