"""A folder of pictures that is no run is measured as runs are, and nothing of it is stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from homes import has_database

from t2i_track import api, shapes
from t2i_track.errors import MetricError

METRICS = ["fid", "kid"]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders of pictures of the embedded world, ``generated`` and ``real``."""
    root = tmp_path_factory.mktemp("folders")
    shapes.write(root / "all", 80, splits=("val",))
    for number, path in enumerate(sorted((root / "all").rglob("*.png"))):
        target = root / ("generated" if number < 40 else "real") / path.name
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
    (root / "generated" / "notes.txt").touch()
    return root


def test_a_folder_is_measured_and_kept_nowhere(drawn: Path, cli: Any, tmp_path: Path) -> None:
    options = ("--reference", drawn / "real", "--metrics", "fid,kid", "--extractor", "shapes", "--home", tmp_path / "h")
    found = cli("evaluate", drawn / "generated", *options, "--format", "json")
    assert found.code == 0, found.err
    rows = json.loads(found.out)
    assert {(row["score"], row["n"], len(row["protocol"])) for row in rows} >= {("fid", 40, 64), ("kid_mean", 40, 64)}
    assert "40 pictures used, 1 file left out (1 not pictures by their ending: notes.txt)" in found.err
    assert "reference " in found.err
    assert "stored nowhere: 't2i import' makes runs of the pictures" in found.err
    assert not has_database(tmp_path / "h")
    table = cli("evaluate", drawn / "generated", *options)
    assert "fid" in table.out
    assert f"next: t2i import {drawn / 'generated'}" in table.out


def test_the_value_is_that_of_a_run_of_these_pictures(drawn: Path, tmp_path: Path, tracking_uri: str) -> None:
    options: dict[str, Any] = {"reference": drawn / "real", "metrics": METRICS, "extractor": "shapes"}
    options |= {"home": tmp_path / "h", "tracking_uri": tracking_uri}
    folder = api.evaluate(str(drawn / "generated"), **options)
    found = api.import_pictures(drawn / "generated", home=tmp_path / "h", tracking_uri=tracking_uri)
    run = api.evaluate(found.runs[0].run, **options)
    values = {row["name"]: row["value"] for row in run.rows()}
    assert {row["name"]: row["value"] for row in folder.rows()} == pytest.approx(values, rel=1e-9)  # another order


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "nothing to measure of folder"),
        ({"reference": "generated"}, "cannot be its own reference"),
        ({"metrics": ["clip"], "clip": "shapes"}, "clip reads prompts, of which a folder tells none"),
        ({"metrics": ["alignment"], "extractor": "shapes"}, "alignment reads prompts"),
    ],
)
def test_what_cannot_be_measured_of_a_folder(drawn: Path, tmp_path: Path, options: dict[str, Any], reason: str) -> None:
    if "reference" in options:
        options = {"reference": drawn / options["reference"]}
    with pytest.raises(MetricError, match=reason):
        api.evaluate(str(drawn / "generated"), **options, home=tmp_path / "h")


def test_runs_and_folders_take_a_command_each(drawn: Path, tmp_path: Path) -> None:
    with pytest.raises(MetricError, match="is a folder and 'abcd' a run"):
        api.evaluate(str(drawn / "generated"), "abcd", home=tmp_path / "h")
