"""Stored runs and images as `compare` takes them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy.orm import Session
from stored_scores import FID, store_run, store_score

from t2i_track.db import lineage
from t2i_track.db.models import Run, RunStatus, Sweep
from t2i_track.errors import NotFound
from t2i_track.metrics.evaluate import EvaluationResult
from t2i_track.ranking import compare
from t2i_track.runs.compare import pair
from t2i_track.runs.evaluate import _scored
from t2i_track.runs.rows import image_rows, run_rows
from t2i_track.workspace import Workspace

GRAY = replace(FID, reference="gray", reference_sha256="4" * 64, reference_n=8)
OF_RUN = replace(FID, reference="run 0123456789ab", reference_sha256="5" * 64, reference_n=8)
CLIP = replace(FID, metric="clip", extractor="clip", reference=None, reference_sha256=None, reference_n=None)
OTHER_CLIP = replace(CLIP, weights_sha256="7" * 64)


def test_all_values_of_a_score_are_read(session: Session) -> None:
    run = store_run(session, "a")
    for value, how in ((1.0, FID), (2.0, GRAY)):
        store_score(session, run, "fid", value, how)
    store_score(session, run, "clip_score", 30.0, CLIP)
    row = run_rows(session)[0]
    assert {name: score.value for name, score in row.scores.items()} == {"fid": 2.0, "clip_score": 30.0}
    assert [score.value for score in row.every_score("fid")] == [1.0, 2.0]
    assert [score.value for score in row.every_score("clip_score")] == [30.0]
    assert (list(row.all_scores), row.every_score("kid_mean")) == (["fid"], ())


def test_runs_are_ranked_by_the_values_that_can_be_compared(session: Session) -> None:
    for name, value in (("a", 3.0), ("b", 1.0), ("c", 2.0)):
        store_score(session, store_run(session, name), "fid", value)
    store_score(session, session.get_one(Run, 2), "fid", 100.0, GRAY)
    found = compare(run_rows(session))
    assert [(entry.row.name, entry.score.value) for entry in found.ranking] == [("b", 1.0), ("c", 2.0), ("a", 3.0)]
    assert found.excluded == ()


TWICE = {"num": 1, "images_per_prompt": 2}


def told_apart(session: Session) -> list[str]:
    """Why runs are not ranked with the others."""
    return [one.reason for one in compare(run_rows(session), "fid").excluded]


def test_earlier_values_of_as_many_images_of_fewer_prompts_never_meet_the_others(session: Session) -> None:
    for name in ("a", "b"):
        store_score(session, store_run(session, name), "fid", 1.0)
    store_score(session, store_run(session, "twice", **TWICE), "fid", 2.0)
    assert told_apart(session) == ["another protocol: images_per_prompt is 2, not 1"]


def test_earlier_values_meet_new_ones_of_the_same_pictures(session: Session) -> None:
    new = replace(FID, parameters={"images_per_prompt": 2})
    store_score(session, store_run(session, "older", **TWICE), "fid", 1.0)
    store_score(session, store_run(session, "newer", **TWICE), "fid", 2.0, new)
    both = store_run(session, "both", **TWICE)
    store_score(session, both, "fid", 3.0)
    store_score(session, both, "fid", 3.0, new)
    assert told_apart(session) == []
    assert {score.protocol for row in run_rows(session) for score in row.every_score("fid")} == {new.fingerprint}
    assert [len(row.every_score("fid")) for row in run_rows(session)] == [1, 1, 1]


@pytest.mark.parametrize(("prompts", "apart"), [("6" * 64, 0), ("7" * 64, 1), (None, 1)])
def test_earlier_values_of_what_skipping_left_meet_where_it_left_the_same(
    session: Session, prompts: str | None, apart: int
) -> None:
    for name, left in (("a", "6" * 64), ("b", "6" * 64), ("c", prompts)):
        store_score(session, store_run(session, name), "fid", 1.0, replace(FID, n=1), prompts=left)
    assert len(told_apart(session)) == apart
    assert all("scored_prompts_sha256 is" in reason for reason in told_apart(session))


def test_values_of_two_classes_of_device_never_meet(session: Session) -> None:
    for name, versions in (("a", {}), ("b", {}), ("c", {"device": "cuda"})):
        store_score(session, store_run(session, name), "fid", 1.0, replace(FID, versions=versions))
    assert told_apart(session) == ["another protocol: device is cuda, not cpu"]


def test_scores_of_images_of_an_earlier_version(session: Session, workspace: Workspace) -> None:
    run = store_run(session, "a", **TWICE)
    store_score(session, run, "clip_score", 30.0, CLIP, images=30.0)
    [row] = run_rows(session)
    images = image_rows(session, workspace, [row])
    assert [image.scores for image in images] == [{"clip_score": 30.0}] * 2
    assert {image.protocols["clip_score"] for image in images} == {row.scores["clip_score"].protocol}


def test_scores_of_images_are_those_of_the_run_s_protocol(session: Session, workspace: Workspace) -> None:
    run = store_run(session, "a")
    store_score(session, run, "clip_score", 30.0, CLIP, images=30.0)
    store_score(session, run, "clip_score", 90.0, OTHER_CLIP, images=90.0)
    [row] = run_rows(session)
    older = replace(row, scores={"clip_score": row.every_score("clip_score")[0]})
    for of, value in ((row, 90.0), (older, 30.0)):
        images = image_rows(session, workspace, [of])
        assert [image.scores for image in images] == [{"clip_score": value}] * 2
        assert {image.protocols["clip_score"] for image in images} == {of.scores["clip_score"].protocol}


def test_two_runs_prompt_by_prompt_under_one_protocol_only(workspace: Workspace) -> None:
    with workspace.begin() as session:
        for name, value, how in (("a", 30.0, CLIP), ("b", 90.0, OTHER_CLIP)):
            store_score(session, store_run(session, name), "clip_score", value, how, images=value)
    found = pair(workspace, "a", "b")
    assert (found.prompts, found.changes) == ((), ())
    assert "clip_score: not compared prompt by prompt" in found.notes[0]
    with workspace.begin() as session:
        store_score(session, session.get_one(Run, 1), "clip_score", 95.0, OTHER_CLIP, images=95.0)
        store_score(session, session.get_one(Run, 2), "clip_score", 20.0, replace(CLIP, n=1), images=20.0)
    found = pair(workspace, "a", "b")
    assert [(one.a_wins, one.b_wins) for one in found.prompts] == [(2, 0)]
    assert {(one.a, one.b) for one in found.changes} == {(95.0, 90.0)}


def test_an_evaluation_shows_the_values_that_were_asked_for(workspace: Workspace) -> None:
    with workspace.begin() as session:
        run = store_run(session, "a")
        for value, how in ((1.0, FID), (2.0, GRAY)):
            store_score(session, run, "fid", value, how)
    for value, how in ((1.0, FID), (2.0, GRAY)):
        found = _scored(workspace, run, {("fid", how.fingerprint)}, EvaluationResult([], []), None)
        assert found.values()["fid"]["value"] == value


def test_options_come_with_the_values_that_were_measured_with_them(session: Session) -> None:
    store_score(session, store_run(session, "default"), "fid", 1.0)
    store_score(session, store_run(session, "earlier"), "fid", 1.0, GRAY)
    store_score(session, store_run(session, "of a run"), "fid", 1.0, OF_RUN)
    how = {GRAY.fingerprint: "--reference gray --skip-bad"}
    store_score(session, store_run(session, "known", config={"evaluated": how}), "fid", 1.0, GRAY)
    assert {row.name: row.scores["fid"].options for row in run_rows(session)} == {
        "default": "",
        "earlier": "--reference gray",
        "of a run": "--reference run:0123456789ab",
        "known": "--reference gray --skip-bad",
    }


def store_sweep(session: Session, experiment: str, asked: str, *cells: Run) -> None:
    """A sweep that was ``asked`` for in one experiment, and joined an MLflow run in another."""
    spec = {"name": experiment, "experiment": asked}
    status = RunStatus.FINISHED
    sweep = Sweep(uuid=lineage.new_uuid(), name=experiment, experiment=experiment, status=status, spec=spec)
    session.add(sweep)
    session.flush()
    for place, run in enumerate(cells):
        lineage.add_to_sweep(session, sweep.id, run, place)


def test_an_experiment_has_the_cells_of_its_sweeps(session: Session) -> None:
    taken_over, other = (
        store_run(session, "taken over", experiment="t2i"),
        store_run(session, "other", experiment="t2i"),
    )
    made = store_run(session, "made", experiment="guidance")
    joined = store_run(session, "joined", experiment="Default")
    store_sweep(session, "guidance", "guidance", taken_over, made)
    store_sweep(session, "Default", "steps", joined, taken_over)
    for name, runs in {
        "guidance": ["taken over", "made"],
        "steps": ["taken over", "joined"],
        "Default": ["taken over", "joined"],
        "t2i": ["taken over", "other"],
    }.items():
        lineage.require_experiment(session, name)
        assert [row.name for row in run_rows(session, experiment=name)] == runs
        assert {run.name for run in lineage.list_runs(session, experiment=name)} == set(runs)
    assert other.experiment == "t2i"
    with pytest.raises(NotFound, match="no experiment 'step'; there is steps"):
        lineage.require_experiment(session, "step")
