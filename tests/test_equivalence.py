"""`t2i compare --equivalent-to` over stored runs, without a model."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image as Picture
from sqlalchemy import select
from sqlalchemy.orm import Session
from stored_scores import FID

from t2i_track import api
from t2i_track.cli import cli
from t2i_track.db import lineage
from t2i_track.db.models import Image, Run, RunStatus
from t2i_track.errors import CompareError
from t2i_track.metrics.protocol import digest
from t2i_track.ranking import Equivalence
from t2i_track.runs.equivalence import equivalent_to, spent
from t2i_track.workspace import Workspace

PROMPTS = tuple(f"prompt {place}" for place in range(256))
ALIGNMENT = replace(FID, metric="alignment", reference=None, reference_sha256=None, n=len(PROMPTS))
COST = {"peak_memory_mb": 700.0, "start_seconds": 1.0}
RIGHT = np.random.default_rng(0).choice([0.75, 1.0], len(PROMPTS), p=(0.2, 0.8))


def store(session: Session, name: str, scores: Any, seconds: float = 0.1, **changes: Any) -> Run:
    """A finished run of an image a prompt, in batches of 8, with an alignment of each image."""
    model = lineage.store_model(session, name="shapes", revision="", weights_sha256="0" * 64, pipeline_class="none")
    entries = [{"prompt": prompt} for prompt in PROMPTS]
    manifest = lineage.store_manifest(session, name="made up", sha256="1" * 64, entries=entries)
    values: dict[str, Any] = {
        "guidance": 3.0, "steps": 30, "scheduler": "pndm", "scheduler_config": {}, "negative_prompt": "", "lora": None,
        "height": 64, "width": 64, "dtype": "fp32", "device": "cpu", "batch_size": 8, "base_seed": 1,
        "num": len(PROMPTS), "images_per_prompt": 1, "settings_sha256": digest(name), "environment": {},
        "config": {"resolved": {"memory_format": "channels-last"}, "cost": COST}, "seconds_per_image": seconds,
        "experiment": "e", "status": RunStatus.FINISHED, **changes,
    }  # fmt: skip
    run = Run(uuid=digest(name)[:32], name=name, model=model, manifest=manifest, **values)
    session.add(run)
    session.flush()
    ids = {entry.prompt.text: entry.prompt_id for entry in manifest.entries}
    timing = seconds * np.exp(0.02 * np.random.default_rng(len(name)).normal(size=len(PROMPTS) // 8))
    lineage.add_images(session, run.id, ids, (
        {
            "prompt": prompt, "prompt_index": place, "replicate": 0, "seed": place, "path": f"{name}/{place}.png",
            "sha256": digest([name, place]), "pixels_sha256": digest([name, place, "pixels"]), "width": 64,
            "height": 64, "tokens": 5, "truncated": False, "flagged": False, "seconds": float(timing[place // 8]),
        }
        for place, prompt in enumerate(PROMPTS)
    ))  # fmt: skip
    record = {field: getattr(ALIGNMENT, field) for field in FID.__dataclass_fields__}
    protocol = lineage.store_protocol(session, ALIGNMENT.fingerprint, record)
    order = np.argsort([hashlib.sha256(prompt.encode()).hexdigest() for prompt in PROMPTS])
    parts = np.asarray(scores, dtype="<f8")[order].tobytes()
    value = {"value": float(np.mean(scores)), "n": len(PROMPTS), "replicates": None, "prompts_sha256": "9" * 64}
    lineage.store_value(session, run, "alignment", protocol, {**value, "parts": parts})
    places = session.execute(select(Image.id, Image.prompt_index).where(Image.run_id == run.id))
    lineage.store_image_scores(session, "alignment", protocol, {key: float(scores[at]) for key, at in places})
    session.flush()
    return run


def less(number: int, by: float) -> Any:
    scores = RIGHT.copy()
    scores[:number] -= by
    return scores


@pytest.fixture
def stored(workspace: Workspace) -> Workspace:
    """A base, a run that gives the same, one that is worse, one that failed, and one of another seed."""
    with workspace.begin() as session:
        store(session, "base", RIGHT)
        store(session, "same", RIGHT, 0.05, config={"resolved": {"memory_format": "contiguous"}, "cost": {}})
        store(session, "worse", less(60, 0.5), 0.03, steps=8)
        store(session, "failed", less(60, 0.5), steps=9, status=RunStatus.FAILED)
        other = RIGHT[::-1].copy()
        store(session, "other", other, base_seed=2)
    for name in ("base", "same", "worse", "other"):
        for place in range(3):
            path = workspace.home / name / f"{place}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Picture.new("RGB", (64, 64), (place * 40, 80, len(name) * 20)).save(path)
    return workspace


def t2i(workspace: Workspace, *arguments: str) -> str:
    done = CliRunner().invoke(cli, ["compare", *arguments, "--home", str(workspace.home)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_runs_are_held_against_a_base(stored: Workspace) -> None:
    found = equivalent_to(stored, "base", ["same", "worse"])
    assert [one.verdict for one in found.candidates] == ["equivalent", "worse"]
    assert found.margin.source == "seeds"
    assert found.margin.text.endswith("by 1 run of another seed")
    same, worse = found.candidates
    assert list(worse.differing) == ["steps"]
    assert same.speed is not None
    assert same.speed.low is not None
    assert 1.8 < same.speed.low < 2.0 < (same.speed.high or 0) < 2.2
    assert [item.prompt_index for item in worse.worst] == list(range(10))
    assert same.worst == ()


def test_the_other_runs_of_an_experiment_are_taken(stored: Workspace) -> None:
    found = equivalent_to(stored, "base", experiment="e", within=0.03)
    assert [one.row.name for one in found.candidates] == ["same", "worse", "other"]
    chosen = equivalent_to(stored, "base", where="steps < 30 and status = 'finished'")
    assert [one.row.name for one in chosen.candidates] == ["worse"]


@pytest.mark.parametrize(
    ("addresses", "message"),
    [
        ((), "no run to hold against the base"),
        (("base",), r"run 'base' \(.{8}\) is the base: name other runs"),
        (("failed",), r"run 'failed' \(.{8}\) is failed, not finished: `t2i generate --resume"),
    ],
)
def test_what_cannot_be_held_is_refused(stored: Workspace, addresses: tuple[str, ...], message: str) -> None:
    with pytest.raises(CompareError, match=message):
        equivalent_to(stored, "base", addresses)


def test_a_picture_is_of_one_run(stored: Workspace, tmp_path: Path) -> None:
    with pytest.raises(CompareError, match="a picture is of the base and one run: name one"):
        equivalent_to(stored, "base", ["same", "worse"], picture=tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


def test_batches_are_timed_in_order_and_reused_ones_left_out(stored: Workspace) -> None:
    with stored.begin() as session:
        run = lineage.find_run(session, "base")
        session.query(Image).filter_by(run_id=run.id, prompt_index=9).update({"seconds": None, "made_by": "x"})
        session.query(Image).filter(Image.run_id == run.id, Image.prompt_index < 8).update({"seconds": 0.4})
        session.query(Image).filter(Image.run_id == run.id, Image.prompt_index > 247).update({"seconds": None})
    with stored.reading() as session:
        found = spent(session, "base")
    assert len(found.seconds) == 30
    assert found.seconds[0] == pytest.approx(0.4)
    assert (found.alone, found.peak_memory_mb, found.joules) == (True, 700.0, None)


def test_energy_is_of_an_image_where_a_meter_was_there(stored: Workspace) -> None:
    with stored.begin() as session:
        run = lineage.find_run(session, "same")
        run.config = {**run.config, "cost": {"cpu_joules": 384.0, "gpu_joules": 128.0, "metered_images": 128}}
    assert equivalent_to(stored, "base", ["same"]).candidates[0].spent.joules == 4.0


def test_the_table_says_the_margin_the_verdicts_and_the_worst_prompts(stored: Workspace) -> None:
    told = t2i(stored, "--equivalent-to", "base", "same", "worse")
    assert re.search(r"^equivalent: alignment differs by at most 0\.0\d+ \(0\.25 of the standard deviation", told, re.M)
    assert re.search(r"^same \(.{8}\) +memory_format contiguous .* equivalent within the margin +(2|1\.9)", told, re.M)
    assert re.search(r"^worse \(.{8}\) +steps 8 .* worse by 0\.0\d+ to 0\.1", told, re.M)
    assert "Worst prompts of each run by alignment:" in told
    assert "memory_format contiguous: as good as the base in alignment, within 0.0" in told


def test_other_formats(stored: Workspace) -> None:
    record = json.loads(t2i(stored, "--equivalent-to", "base", "same", "worse", "--format", "json"))
    assert record["schema"] == "t2i-track/equivalence/1"
    assert [one["verdict"] for one in record["candidates"]] == ["equivalent", "worse"]
    lines = t2i(stored, "--equivalent-to", "base", "same", "worse", "--format", "csv").splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("run,name,differs,metric,base,value,change")
    told = t2i(stored, "--equivalent-to", "base", "same", "--format", "markdown")
    assert "| run | differs in | alignment |" in told


def test_the_report_has_the_worst_prompts_side_by_side(stored: Workspace, tmp_path: Path) -> None:
    t2i(stored, "--equivalent-to", "base", "worse", "--report", str(tmp_path / "r.html"))
    text = (tmp_path / "r.html").read_text("utf-8")
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert match is not None
    held = json.loads(match[1])["equivalence"]
    assert [item["index"] for item in held["runs"][0]["worst"]] == list(range(10))
    assert held["cells"][0][4].startswith("worse by ")


def test_the_picture_shows_the_worst_prompts(stored: Workspace, tmp_path: Path) -> None:
    with stored.begin() as session:  # only three pictures of each run are there
        run = lineage.find_run(session, "worse")
        for image in session.scalars(select(Image).where(Image.run_id == run.id, Image.prompt_index > 2)):
            image.path = "worse/0.png" + f"?{image.id}"
    with pytest.raises(CompareError, match="cannot write the picture"):
        t2i(stored, "--equivalent-to", "base", "worse", "--picture", str(tmp_path / "p.png"))


def test_in_python(stored: Workspace) -> None:
    found = api.compare("same", equivalent_to="base", home=stored.home)
    assert isinstance(found, Equivalence)
    assert found.to_frame().verdict.tolist() == ["equivalent"]
    assert "as good as the base" in found._repr_html_()
