"""Scoring stored runs: kept values, named protocols and gates, from the database to MLflow."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import PIL.Image
import pytest
from mlflow.tracking import MlflowClient
from sqlalchemy import select

import t2i_track
from t2i_track.db.models import MetricValue, Run, RunStatus
from t2i_track.errors import MetricError, ProtocolMismatch
from t2i_track.results import Evaluation
from t2i_track.runs.content import metric_name
from t2i_track.runs.evaluate import Request, score
from t2i_track.runs.gate import gate
from t2i_track.tracking import Tracker
from t2i_track.workspace import Workspace

pytestmark = pytest.mark.slow

NUM = 24


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, fresh_mlflow_store: Path) -> str:
    folder = tmp_path_factory.mktemp("evaluation")
    shutil.copyfile(fresh_mlflow_store, folder / "mlflow.db")
    return f"sqlite:///{folder / 'mlflow.db'}"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, store: str) -> Workspace:
    """One run of the embedded model, scored as `t2i generate` scores it."""
    workspace = Workspace(home=tmp_path_factory.mktemp("evaluation-home"))
    t2i_track.generate(
        steps=4, guidance=2, batch_size=8, device="cpu", num=NUM, experiment="tests", run_name="scored",
        tracking_uri=store, home=workspace.home,
    )  # fmt: skip
    return workspace


@pytest.fixture
def tracker(workspace: Workspace, store: str) -> Iterator[Tracker]:
    with Tracker(store, workspace.outbox) as opened:
        yield opened


def protocol(folder: Path, text: str) -> str:
    (folder / "own.yaml").write_text(text)
    return str(folder / "own.yaml")


def test_every_score_has_its_protocol_and_is_in_both_stores(workspace: Workspace, store: str) -> None:
    with workspace.reading() as session:
        run = session.scalars(select(Run)).one()
        rows = {row.name: row for row in session.scalars(select(MetricValue))}
        assert {"fid", "kid_mean", "precision", "clip_score", "cmmd", "alignment"} <= set(rows)
        assert {row.protocol.n for row in rows.values()} == {NUM}
        assert {row.n for name, row in rows.items() if name != "alignment_relation"} == {NUM}
        assert all(row.replicates is None or len(row.replicates) == 32 for row in rows.values())
        assert run.mlflow_run_id is not None
        sent = MlflowClient(store).get_run(run.mlflow_run_id).data
        for name, row in rows.items():
            assert sent.metrics[metric_name(name)] == pytest.approx(row.value)
            assert (f"interval/{name}_low" in sent.metrics) == (row.ci_low is not None)
            assert sent.tags[f"t2i.protocol.{name}"] == row.protocol.fingerprint


def test_a_second_evaluation_only_reads(
    workspace: Workspace, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_args: object, **_options: object) -> None:
        raise AssertionError("features were made again")

    monkeypatch.setattr("t2i_track.runs.evaluate.evaluate", never)
    found = score(workspace, tracker, ["scored"], Request())[0]
    assert found.measured == 0
    assert found.values()["fid"]["n"] == NUM


def test_only_what_was_asked_for_is_shown(workspace: Workspace, tracker: Tracker) -> None:
    assert set(score(workspace, tracker, ["scored"], Request(metrics=("fid",)))[0].values()) == {"fid"}
    shown = score(workspace, tracker, ["scored"], Request(metrics=("alignment",)))[0].values()
    assert {"alignment", "alignment_shape"} <= set(shown)
    assert all(name.startswith("alignment") for name in shown)


def test_a_score_that_the_images_cannot_have(workspace: Workspace, tracker: Tracker) -> None:
    assert "prompt_spread" not in score(workspace, tracker, ["scored"], Request())[0].values()
    with pytest.raises(MetricError, match=r"spread needs two images of a prompt.*; or leave spread out"):
        score(workspace, tracker, ["scored"], Request(metrics=("spread", "fid")))


def test_a_run_that_follows_the_named_protocol(workspace: Workspace, tracker: Tracker) -> None:
    found = score(workspace, tracker, ["scored"], Request(protocol="shapes"))[0]
    assert found.measured == 0  # the protocol is what `generate` measures by
    assert "alignment" in found.values()


def test_what_differs_from_a_protocol_is_named(workspace: Workspace, tracker: Tracker, tmp_path: Path) -> None:
    own = protocol(tmp_path, "run: {steps: 50, guidance: [3, 7.5], num: 24}\n")
    with pytest.raises(ProtocolMismatch, match=r"run scored .*guidance is 2.0, not 'one of 3, 7.5'; steps is 4, not 50|"
                       r"run scored .*steps is 4, not 50; guidance is 2.0, not 'one of 3, 7.5'"):  # fmt: skip
        score(workspace, tracker, ["scored"], Request(protocol=own))
    with pytest.raises(ProtocolMismatch, match="num is 24, not 30000"):
        score(workspace, tracker, ["scored"], Request(protocol="bk-sdm-30k"))
    with pytest.raises(ProtocolMismatch, match="steps is 4, not 50"):
        gate(workspace, ["scored"], own)


def test_a_gate_passes_and_fails_by_its_window(workspace: Workspace, tmp_path: Path) -> None:
    with workspace.reading() as session:
        value = session.scalars(select(MetricValue.value).where(MetricValue.name == "clip_score")).one()
    text = (
        "run: {{steps: 4}}\nevaluation: {{extractor: shapes}}\nwindows: {{clip_score: [{}, {}], fid: [0, 1000000]}}\n"
    )
    rows, failures = gate(workspace, ["scored"], protocol(tmp_path, text.format(value - 1, value + 1)))
    assert failures == []
    assert [row["inside"] for row in rows] == [True, True]
    rows, failures = gate(workspace, ["scored"], protocol(tmp_path, text.format(value + 1, value + 2)))
    assert [row["inside"] for row in rows] == [False, True]
    assert failures[0].startswith("scored: clip_score is ")


def test_a_gate_takes_no_value_of_another_extractor(workspace: Workspace, tmp_path: Path) -> None:
    own = protocol(
        tmp_path, "run: {steps: 4}\nevaluation: {extractor: inception-v3-compat}\nwindows: {fid: [0, 1000000]}\n"
    )
    rows, failures = gate(workspace, ["scored"], own)
    assert rows[0]["value"] is None
    assert len(failures) == 1
    assert failures[0].startswith("scored: fid has no value measured as the protocol says, window 0 to 1000000 (")
    assert failures[0].endswith(" does not count, its extractor is shapes, not inception-v3-compat)")


def test_a_run_is_not_its_own_reference(workspace: Workspace, tracker: Tracker, tmp_path: Path) -> None:
    with workspace.reading() as session:
        folder = workspace.run_folder(session.scalars(select(Run)).one())
    copies = shutil.copytree(folder, tmp_path / "copies")
    for reference in ("run:latest", str(folder), str(copies)):
        with pytest.raises(MetricError) as caught:
            score(workspace, tracker, ["scored"], Request(metrics=("fid",), reference=reference))
        assert str(caught.value) == (
            "run scored cannot be its own reference, for its distance from itself says nothing: name another than"
            f" {reference}, or leave the run out"
        )


def test_a_protocol_s_reference_is_asked_for_by_its_hash(
    workspace: Workspace, tracker: Tracker, tmp_path: Path
) -> None:
    own = protocol(tmp_path, "evaluation: {metrics: [fid], reference: shapes, reference_sha256: '00000000'}\n")
    with pytest.raises(MetricError, match=r"measures against pictures of sha256 00000000, and shapes has [0-9a-f]{8}:"):
        score(workspace, tracker, ["scored"], Request(protocol=own))


def test_values_are_those_of_the_reference_that_was_asked_for(
    workspace: Workspace, tracker: Tracker, tmp_path: Path
) -> None:
    for name, grey in (("a", 40), ("b", 200)):
        (tmp_path / name).mkdir()
        for place in range(4):
            PIL.Image.new("RGB", (64, 64), (grey + place, grey, grey)).save(tmp_path / name / f"{place}.png")
    found = [
        score(workspace, tracker, ["scored"], Request(metrics=("fid",), reference=str(tmp_path / name)))[0]
        for name in "aba"
    ]
    values = [one.values()["fid"]["value"] for one in found]
    assert values[0] == values[2] != values[1]
    assert [one.measured for one in found] == [1, 1, 0]
    said = f"reference {tmp_path / 'a'}: 4 pictures used, 0 files left out"
    assert [one.notes()[:1] for one in (found[0], found[2])] == [[said], [said]]
    assert Evaluation(tuple(found[:1] * 2)).lines()[:2].count(said) == 1


def test_what_a_small_reference_does_not_allow_is_said(workspace: Workspace, tracker: Tracker, tmp_path: Path) -> None:
    for place in range(4):
        PIL.Image.new("RGB", (64, 64), (40 * place, 9, 9)).save(tmp_path / f"{place}.png")
    found = score(workspace, tracker, ["scored"], Request(reference=str(tmp_path)))[0]
    left_out = f"not measured: dc needs a reference of 6 pictures, and '{tmp_path}' has 4 pictures"
    assert found.notes()[:2] == [f"reference {tmp_path}: 4 pictures used, 0 files left out", left_out]
    assert {"fid", "recall"} <= found.values().keys()
    assert "coverage" not in found.values()


def test_the_gate_s_exit_status(workspace: Workspace, tmp_path: Path, cli) -> None:
    own = protocol(tmp_path, "run: {steps: 4}\nwindows: {alignment: [0.99, 1]}\n")
    done = cli("gate", "scored", "--protocol", own, "--home", workspace.home)
    assert done.code == 1
    assert "alignment" in done.out
    assert "scored: alignment is 0." in done.err
    own = protocol(tmp_path, "run: {steps: 4}\nwindows: {alignment: [0, 1]}\n")
    assert cli("gate", "scored", "--protocol", own, "--home", workspace.home).code == 0


def test_an_unfinished_run_is_not_scored(workspace: Workspace, tracker: Tracker) -> None:
    with workspace.begin() as session:
        session.scalars(select(Run)).one().status = RunStatus.INTERRUPTED
    try:
        with pytest.raises(
            MetricError, match=r"interrupted with 24 of 24 images: finish it with 't2i generate --resume"
        ):
            score(workspace, tracker, ["scored"], Request())
    finally:
        with workspace.begin() as session:
            session.scalars(select(Run)).one().status = RunStatus.FINISHED
