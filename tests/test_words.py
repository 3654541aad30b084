"""Tags, notes and names of runs: in both stores, and to filter by."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from stored_scores import store_run

from t2i_track.errors import CompareError, NotFound, SettingsError
from t2i_track.runs import words
from t2i_track.runs.generate import Generator
from t2i_track.runs.rows import run_rows
from t2i_track.runs.show import record_of
from t2i_track.runs.show import run_rows as listed
from t2i_track.tracking import Tracker
from t2i_track.workspace import Workspace


def stored(workspace: Workspace, *names: str) -> None:
    with workspace.begin() as session:
        for name in names:
            store_run(session, name=name)


def names(workspace: Workspace, condition: str) -> set[str]:
    with workspace.reading() as session:
        return {row["name"] for row in listed(session, where=condition)}


def test_runs_are_found_by_what_was_said(workspace: Workspace, tracking_uri: str) -> None:
    stored(workspace, "one", "two", "three")
    words.tag(workspace, tracking_uri, ["one", "two"], {"quality": "good", "paper": "figure-3"})
    words.tag(workspace, tracking_uri, ["three"], {"quality": "poor"})
    words.note(workspace, tracking_uri, "two", "hands are wrong")
    assert names(workspace, "tag.quality = 'good'") == {"one", "two"}
    assert names(workspace, "tag.quality = 'good' and note like '%hands%'") == {"two"}
    assert names(workspace, "tag.paper is null") == {"three"}
    with pytest.raises(CompareError, match=r"tag\.qualty.*tag\.quality"):
        names(workspace, "tag.qualty = 'good'")
    with pytest.raises(CompareError, match="quality"):
        names(workspace, "tag.quality > 3")
    with workspace.reading() as session:
        assert [dict(row.tags) for row in run_rows(session)][2] == {"quality": "poor"}
        record = record_of(session, workspace, "two")
    assert (record["tags"], record["note"]) == ({"paper": "figure-3", "quality": "good"}, "hands are wrong")


def test_another_value_replaces_and_remove_takes_away(workspace: Workspace, tracking_uri: str) -> None:
    stored(workspace, "one")
    words.tag(workspace, tracking_uri, ["one"], {"a": "1", "b": "2"})
    said = words.tag(workspace, tracking_uri, ["one"], {"a": "3"}, remove=["b"])
    assert [(one.tags, one.unsent) for one in said] == [({"a": "3"}, False)]
    assert words.note(workspace, tracking_uri, "one", "x").note == "x"
    assert words.note(workspace, tracking_uri, "one", "").note is None


@pytest.mark.parametrize(
    ("tags", "remove", "message"),
    [
        ({}, [], "no tag was given: write KEY=VALUE, or --remove KEY"),
        ({"1a": "x"}, [], "'1a' cannot be a tag: begin with a letter"),
        ({"a b": "x"}, [], "'a b' cannot be a tag"),
        ({"a": ""}, [], "the value of tag a is empty: give one"),
        ({"a": "x" * 501}, [], "the value of tag a has 501 characters: give at most 500"),
        ({"a": "\0"}, [], "the value of tag a '.x00' cannot be stored"),
        ({"a": "x"}, ["a"], "tag a is both given and removed"),
        ({}, ["b"], "run two has no tag 'b'; it has known"),
    ],
)
def test_what_cannot_be_said_changes_nothing(
    workspace: Workspace, tracking_uri: str, tags: dict[str, str], remove: list[str], message: str
) -> None:
    stored(workspace, "one", "two")
    words.tag(workspace, tracking_uri, ["two"], {"known": "x"})
    with pytest.raises(SettingsError, match=message):
        words.tag(workspace, tracking_uri, ["two", "one"], tags, remove)
    with pytest.raises(NotFound):
        words.tag(workspace, tracking_uri, ["two", "none"], {"a": "1"})
    with workspace.reading() as session:
        assert [dict(row.tags) for row in run_rows(session)] == [{}, {"known": "x"}]


@pytest.mark.parametrize(
    ("name", "message"), [("", "empty"), ("latest", "newest"), ("x" * 251, "251"), ("\ud800", "cannot be stored")]
)
def test_a_name_is_one(workspace: Workspace, tracking_uri: str, name: str, message: str) -> None:
    stored(workspace, "one")
    with pytest.raises(SettingsError, match=message):
        words.rename(workspace, tracking_uri, "one", name)


@pytest.mark.slow
def test_mlflow_is_told(workspace: Workspace, tracker: Tracker, tracking_uri: str) -> None:
    from test_generate import PROMPTS, plan

    summary = Generator(workspace, tracker).generate(plan(PROMPTS[:1]))
    assert summary.mlflow_run_id is not None
    words.tag(workspace, tracking_uri, [summary.run], {"quality": "good", "round": "1"})
    words.note(workspace, tracking_uri, summary.run, "a note")
    said = words.rename(workspace, tracking_uri, summary.run, "another name")
    assert (said.name, said.unsent) == ("another name", False)
    client = MlflowClient(tracking_uri)
    run = client.get_run(summary.mlflow_run_id)
    told = {key: run.data.tags.get(key) for key in ("t2i.tag.quality", "t2i.tag.round", "mlflow.note.content")}
    assert told == {"t2i.tag.quality": "good", "t2i.tag.round": "1", "mlflow.note.content": "a note"}
    assert run.info.run_name == "another name"
    words.tag(workspace, tracking_uri, [summary.run], {}, remove=["round"])
    words.note(workspace, tracking_uri, summary.run, "")
    tags = client.get_run(summary.mlflow_run_id).data.tags
    assert ("t2i.tag.round" in tags, tags["mlflow.note.content"]) == (False, "")
    assert Path(summary.folder).is_dir()


def test_what_mlflow_does_not_hear_waits(workspace: Workspace, tmp_path: Path) -> None:
    stored(workspace, "one")
    with workspace.begin() as session:
        from t2i_track.db import lineage

        lineage.find_run(session, "one").mlflow_run_id = "0" * 32
    said = words.tag(workspace, f"sqlite:///{tmp_path / 'none.db'}", ["one"], {"a": "1"})
    assert (said[0].tags, said[0].unsent) == ({"a": "1"}, True)
