"""What `t2i show` says of an image's siblings: the same prompt and seed under other settings."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from sqlalchemy import select
from stored_scores import store_run

from t2i_track.cli import cli as commands
from t2i_track.db.models import Image
from t2i_track.runs import show
from t2i_track.workspace import Workspace

MADE = {"config": {"lora_sha256": None}, "environment": {"threads": 1, "versions": {}}}
"""What a picture's record takes from its run."""


@pytest.fixture
def home(workspace: Workspace) -> Workspace:
    """Four runs over the same two prompts and seeds; the last of other seeds."""
    with workspace.begin() as session:
        for name, guidance in (("a", 3.0), ("b", 7.0), ("c", 12.0), ("d", 20.0)):
            store_run(session, name, guidance=guidance, **MADE)
        for image in session.scalars(select(Image).where(Image.id > 6)):
            image.seed = 100
    return workspace


def shown(home: Workspace, *words: str) -> str:
    result = CliRunner().invoke(commands, ["show", *words, "--home", str(home.home)])
    assert result.exit_code == 0, result.output
    return result.output


def test_siblings_are_of_the_same_prompt_and_seed_in_other_runs(home: Workspace) -> None:
    record = json.loads(shown(home, "1", "--format", "json"))
    assert [(one["id"], one["name"], one["guidance"]) for one in record["siblings"]] == [(5, "c", 12.0), (3, "b", 7.0)]
    assert record["siblings"][0]["path"] == f"{home.home}/c/0.png"
    assert record["sibling_count"] == 2
    assert json.loads(shown(home, "7", "--format", "json"))["siblings"] == []


def test_many_siblings_are_counted(home: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(show, "MOST_SIBLINGS", 1)
    lines = shown(home, "1").splitlines()
    at = lines.index("Same prompt and seed in other runs")
    assert lines[at + 1].split() == ["name", "guidance", "steps", "scheduler", "path"]
    assert lines[at + 2].split() == ["c", "12", "10", "pndm", f"{home.home}/c/0.png"]
    assert lines[at + 3] == "  ... and 1 more"
    assert "Same prompt" not in shown(home, "7")


def test_an_unknown_seed_has_no_siblings(home: Workspace) -> None:
    with home.begin() as session:
        for image in session.scalars(select(Image)):
            image.seed = None
    assert json.loads(shown(home, "1", "--format", "json"))["sibling_count"] == 0
