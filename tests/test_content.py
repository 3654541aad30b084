"""Which of several values MLflow gets, and that all go into its artifact."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session
from stored_scores import FID, store_run, store_score

from t2i_track.cli.record import image_sections, run_sections
from t2i_track.db.models import Run
from t2i_track.metrics.protocol import ProtocolRecord
from t2i_track.runs.content import parts
from t2i_track.runs.evaluate import _send_peers
from t2i_track.runs.show import record_of
from t2i_track.workspace import Workspace

GRAY = replace(FID, reference="gray", reference_sha256="4" * 64, reference_n=8)
CLIP = replace(FID, metric="clip", extractor="clip", reference=None, reference_sha256=None, reference_n=None)
OTHER_CLIP = replace(CLIP, weights_sha256="7" * 64)


def sent(session: Session, workspace: Workspace, run: Run) -> tuple[float | None, str, str]:
    """Its FID in MLflow with the protocol beside it, and the part's digest."""
    part = parts(session, workspace, run)["scores"]
    content = part.content()
    return content.metrics["fid"][0], str(content.tags["t2i.protocol.fid"]), part.digest


def scored(session: Session, name: str, *values: tuple[float, ProtocolRecord], **fields: Any) -> Run:
    run = store_run(session, name, **fields)
    for value, how in values:
        store_score(session, run, "fid", value, how)
    return run


def test_mlflow_gets_the_value_that_can_be_compared(session: Session, workspace: Workspace) -> None:
    first = scored(session, "a", (1.0, FID))
    both = scored(session, "b", (2.0, FID), (20.0, GRAY))
    assert sent(session, workspace, both)[:2] == (2.0, FID.fingerprint)
    before = sent(session, workspace, first)
    scored(session, "elsewhere", (30.0, GRAY), experiment="other")
    assert sent(session, workspace, both)[0] == 2.0
    scored(session, "c", (30.0, GRAY))
    assert sent(session, workspace, both)[:2] == (20.0, GRAY.fingerprint)
    assert sent(session, workspace, first) == before  # it has no other


def test_a_run_without_the_usual_protocol_sends_its_newest(session: Session, workspace: Workspace) -> None:
    usual = replace(FID, versions={"torch": "1"})
    for name in ("a", "b", "c"):
        scored(session, name, (1.0, usual))
    assert sent(session, workspace, scored(session, "d", (2.0, FID), (20.0, GRAY)))[:2] == (20.0, GRAY.fingerprint)


def test_a_change_of_the_usual_protocol_is_sent(session: Session, workspace: Workspace) -> None:
    both = scored(session, "b", (2.0, GRAY), (20.0, FID))
    digest = sent(session, workspace, both)[2]
    scored(session, "a", (1.0, FID))
    assert sent(session, workspace, both)[2] == digest
    for name in ("c", "d"):
        scored(session, name, (3.0, GRAY))
    assert sent(session, workspace, both)[::2] != (20.0, digest)
    metrics = parts(session, workspace, both)["scores"].content().metrics
    times = [metrics[name][1] for name in ("fid", "interval/fid_low")]
    assert times[0] == times[1] == max(value.created_at for value in session.get_one(Run, 4).metric_values)


def test_all_values_are_in_the_artifact(session: Session, workspace: Workspace, tmp_path: Path) -> None:
    run = scored(session, "a", (2.0, FID), (20.0, GRAY), (float("inf"), OTHER_CLIP))
    files = parts(session, workspace, run)["scores"].content().files
    assert files is not None
    files(tmp_path)
    found = json.loads((tmp_path / "scores.json").read_text(), parse_constant=lambda word: pytest.fail(word))
    assert [(one["value"], one["protocol"]["reference"]) for one in found] == [
        (2.0, "shapes"),
        (20.0, "gray"),
        (None, None),
    ]


def test_show_names_the_protocols_of_an_image_s_scores(session: Session, workspace: Workspace) -> None:
    made_on: dict[str, Any] = {"threads": 1, "versions": {}}
    run = store_run(session, "a", config={"lora_sha256": None}, environment=made_on)
    store_score(session, run, "clip_score", 30.0, CLIP, images=30.0)
    one = record_of(session, workspace, "a/0.png")
    assert [(score["name"], score["value"]) for score in one["scores"]] == [("clip_score", 30.0)]
    [section] = [one for one in image_sections(one) if one.title == "Scores"]
    assert [column.title for column in section.columns] == ["score", "value"]

    store_score(session, run, "clip_score", 90.0, OTHER_CLIP, images=90.0)
    two = record_of(session, workspace, "a/0.png")
    assert [score["value"] for score in two["scores"]] == [30.0, 90.0]
    fingerprints = [score["protocol"]["fingerprint"][:8] for score in two["scores"]]
    assert fingerprints == [CLIP.fingerprint[:8], OTHER_CLIP.fingerprint[:8]]
    [section] = [one for one in image_sections(two) if one.title == "Scores"]
    assert [column.cells for column in section.columns] == [fingerprints, ["clip_score"] * 2, ["30", "90"]]
    assert section.lines == [f"{fingerprints[1]}: weights_sha256 is 77777777, not 22222222"]


def test_show_tells_in_what_a_run_s_protocols_differ(session: Session, workspace: Workspace) -> None:
    run = scored(session, "a", (2.0, FID), (20.0, GRAY))
    run.environment = {"versions": {}}
    record = record_of(session, workspace, "a")
    [section] = [one for one in run_sections(record, []) if one.title == "Scores"]
    told = "reference is gray, not shapes, reference_sha256 is 44444444, not 33333333, reference_n is 8, not 2048"
    assert section.lines[-1] == f"{GRAY.fingerprint[:8]}: {told}"


def test_a_new_usual_protocol_is_sent_for_all_that_have_it(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent_again: list[str] = []
    monkeypatch.setattr("t2i_track.runs.projection.send", lambda _w, _t, row: sent_again.append(row.name))
    with workspace.begin() as session:
        run = scored(session, "a", (1.0, FID), (10.0, GRAY))
        scored(session, "b", (2.0, FID), (20.0, GRAY))
        scored(session, "only one", (2.0, FID))
        scored(session, "elsewhere", (2.0, FID), (20.0, GRAY), experiment="other")
    _send_peers(workspace, None, [run])  # type: ignore[arg-type]
    assert sent_again == ["a", "b"]
