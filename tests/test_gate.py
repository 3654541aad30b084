"""Which stored values a gate takes, and what it says of the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from stored_scores import FID, pictures_sha256, store_run, store_score

from t2i_track import assets
from t2i_track.db.models import Run
from t2i_track.metrics.extractors import resolve, resolve_clip
from t2i_track.metrics.protocol import ProtocolRecord
from t2i_track.runs.gate import gate
from t2i_track.workspace import Workspace

Gated = Callable[..., tuple[list[dict[str, Any]], list[str]]]
WINDOW = "fid has no value measured as the protocol says, window 0 to 10 "


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path / "home")
    with workspace.begin() as session:
        store_run(session, "run")
        store_run(session, "other")
    return workspace


@pytest.fixture
def gated(workspace: Workspace, tmp_path: Path) -> Gated:
    """Stores values of the run and asks the gate."""

    def ask(*values: tuple[float, ProtocolRecord], score: str = "fid", **said: object) -> Any:
        with workspace.begin() as session:
            run = session.scalars(select(Run).where(Run.name == "run")).one()
            for value, how in values:
                store_score(session, run, score, value, how)
        own = tmp_path / "own.yaml"
        own.write_text(f"evaluation: {said!r}\nwindows: {{{score}: [0, 10]}}\n")
        return gate(workspace, ["run"], str(own))

    return ask


def test_what_was_measured_is_stated(gated: Gated) -> None:
    rows, failures = gated((5.0, FID))
    assert failures == []
    assert rows == [
        {
            "run": "run", "score": "fid", "value": 5.0, "low": 0.0, "high": 10.0, "inside": True,
            "measured": "shapes 22222222, 2 images, 64x64 bilinear, then its own, against shapes (33333333, 2048 "
            "pictures)",
        }
    ]  # fmt: skip


def test_a_newer_value_of_another_reference_hides_none(gated: Gated) -> None:
    gray = replace(FID, reference="gray", reference_sha256="4" * 64, reference_n=8)
    rows, failures = gated((5.0, FID), (50.0, gray), reference="shapes")
    assert (rows[0]["value"], failures) == (5.0, [])
    rows, failures = gated(reference_sha256="44444444")
    assert (rows[0]["value"], failures) == (50.0, ["run: fid is 50, window 0 to 10"])


@pytest.mark.parametrize(
    ("changes", "said", "why"),
    [
        ({}, {"extractor": "inception-v3-compat"}, "its extractor is shapes, not inception-v3-compat"),
        ({}, {"resize": 256}, "its resize is 64x64 bilinear, then its own, not 256x256"),
        ({}, {"n": 3}, "its number of images is 2, not 3"),
        ({"n": 1}, {}, "its number of images is 1, not 2"),
        ({}, {"reference_sha256": "4" * 64}, "its reference is shapes (33333333, 2048 pictures), not 44444444"),
        ({}, {"reference": "COCO"}, "its reference is shapes (33333333, 2048 pictures), not COCO"),
        ({"reference": "gray"}, {"reference": "shapes"}, "its reference is gray (33333333, 2048 pictures), not shapes"),
        ({"reference": "run 0123"}, {},
         "its reference is run 0123 (33333333, 2048 pictures), and the protocol names no run"),
        ({"parameters": {"kid_subsets": 9}}, {"parameters": {"kid_subsets": 10}}, "its kid_subsets is 9, not 10"),
        ({"extractor": "inception-v3-compat"}, {"extractor": "inception-v3-compat"},
         "its inception-v3-compat weights hash is 22222222, not 6726825d"),
        ({"extractor": "dinov2"}, {"extractor": "dinov2:nowhere/nothing"},
         "its dinov2 model cannot be compared: the protocol's is not on this machine"),
    ],
)  # fmt: skip
def test_what_was_measured_otherwise_is_refused_in_words(
    changes: dict[str, Any], said: dict[str, Any], why: str, gated: Gated
) -> None:
    rows, failures = gated((5.0, replace(FID, **changes)), **said)
    assert rows[0]["value"] is None
    assert failures == [f"run: {WINDOW}(5 does not count, {why})"]


def test_a_run_is_not_its_own_reference(gated: Gated, workspace: Workspace) -> None:
    with workspace.reading() as session:
        runs = {run.name: run for run in session.scalars(select(Run))}
    itself = replace(FID, reference="renamed", reference_sha256=pictures_sha256(runs["run"], "pixels"))
    refused = f"run: {WINDOW}(0 does not count, its reference is the run itself)"
    assert gated((0.0, itself))[1] == [refused]
    copies = replace(itself, reference="copies", reference_sha256=pictures_sha256(runs["run"]))
    assert gated((0.0, copies))[1] == [refused.replace("itself)", "itself; 1 older neither)")]
    other = replace(itself, reference="run abc", reference_sha256=pictures_sha256(runs["other"], "pixels"))
    assert gated((7.0, other), reference="run:other")[0][0]["value"] == 7.0


def test_what_the_protocol_leaves_open_is_asked_for(gated: Gated) -> None:
    gray = replace(FID, reference="gray", reference_sha256="4" * 64, reference_n=8)
    assert gated((5.0, FID), (6.0, gray))[1] == [
        f"run: {WINDOW}(the protocol leaves open which is meant, reference shapes (33333333, 2048 pictures) or gray "
        "(44444444, 8 pictures): say that in its evaluation)"
    ]


def test_newer_libraries_replace_older_ones(gated: Gated) -> None:
    newer = replace(FID, reference="moved", versions={"torch": "3", "config_sha256": "5" * 64})
    assert gated((5.0, FID), (6.0, newer))[0][0]["value"] == 6.0


def test_the_networks_are_known_by_their_files(gated: Gated, workspace: Workspace) -> None:
    own = resolve("shapes", workspace.cache)
    how = replace(FID, weights_sha256=own.weights_sha256, versions=own.versions)
    assert gated((5.0, how), extractor="shapes")[1] == []
    clip = resolve_clip("shapes", workspace.cache)[0]
    ours = ProtocolRecord("clip", "clip", clip.weights_sha256, "embedding", "64x64", 2, None, None, None,
                          versions=clip.versions)  # fmt: skip
    for spec in ("shapes", str(assets.shapes_clip())):
        assert gated((9.0, ours), score="clip_score", clip=spec)[1] == []
    changed = replace(ours, versions={**clip.versions, "config_sha256": "5" * 64})
    rows, failures = gated((8.0, changed), score="clip_score", clip="shapes")
    assert (rows[0]["value"], failures) == (9.0, [])
