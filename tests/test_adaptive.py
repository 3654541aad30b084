"""Sweeps in rounds over the embedded model, with scores that are made up so that it is known what is to be decided."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient
from sqlalchemy import select

from t2i_track import api
from t2i_track.cli.record import run_sections
from t2i_track.db.models import Decision, Image, ImageScore, Run, RunStatus, Sweep
from t2i_track.errors import CompareError, Interrupted, MetricError, SettingsError
from t2i_track.metrics.evaluate import EvaluationResult, MetricResult
from t2i_track.metrics.protocol import ProtocolRecord
from t2i_track.ranking import Decided
from t2i_track.runs import evaluate as evaluating
from t2i_track.runs import round_plan, rounds
from t2i_track.runs import sweep as sweeping
from t2i_track.runs.decided import decided
from t2i_track.runs.generate import Generator
from t2i_track.runs.grid import Experiment, build
from t2i_track.runs.order import drawn, period
from t2i_track.runs.show import run_record
from t2i_track.runs.until_decided import budget_of, search_of
from t2i_track.runs.verify import verify
from t2i_track.tracking import Tracker
from t2i_track.workspace import Workspace

SETTINGS = {"steps": 2, "batch_size": 8, "device": "cpu", "scheduler": "ddim"}
PLAIN = {"name": "plain", "experiment": "tests", "evaluate": False}
Scores = Callable[[float, int], float]
"""A picture's score, of a guidance and the index of its prompt."""


def grid(**changes: Any) -> Experiment:
    values = {
        "name": "rounds",
        "experiment": "tests",
        "settings": SETTINGS,
        "axes": {"guidance": [1, 3, 20]},
        "until_decided": True,
        "within": 0.4,
        "max_num": 32,
        "evaluate": False,
    }
    return build({**values, **changes}, "test")


def best_at_most_3(guidance: float, index: int) -> float:
    return 1.0 if guidance <= 3 else 0.0


@pytest.fixture
def scored(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Callable[[Scores], None]:
    """Have all pictures scored by a function of their guidance and prompt."""
    return lambda score: scored_by(score, workspace, monkeypatch)


def scored_by(score: Scores, workspace: Workspace, patched: pytest.MonkeyPatch) -> None:
    protocol = ProtocolRecord("alignment", "made up", None, None, None, 1, None, None, None)

    def evaluate(items: Sequence[Any], **_: Any) -> EvaluationResult:
        with workspace.reading() as session:
            of = {image.id: image.run.guidance for image in session.scalars(select(Image).join(Run))}
        values = {item.key: score(float(of[item.key]), item.prompt_index) for item in items}
        mean = sum(values.values()) / len(values)
        found = MetricResult("alignment", mean, None, None, len(values), None, protocol, None, values)
        return EvaluationResult([found], [])

    for module in (rounds, evaluating):
        patched.setattr(module, "evaluate", evaluate)
        patched.setattr(module, "plan", lambda items, **_: {"alignment": protocol})


def sweep(workspace: Workspace, tracker: Tracker, experiment: Experiment, **more: Any) -> Any:
    return sweeping.run_sweep(workspace, tracker, experiment, fresh=False, allow_pickle=False, **more)


def found(workspace: Workspace, name: str = "rounds") -> Decided:
    with workspace.reading() as session:
        result = decided(session, session.scalars(select(Sweep).where(Sweep.name == name)).one().uuid)
    assert result is not None
    return result


def kept(workspace: Workspace) -> tuple[Any, Any]:
    """The decisions and the pictures, but for when and under which numbers they were stored."""
    with workspace.reading() as session:
        rows = session.scalars(select(Decision).order_by(Decision.look, Decision.id))
        told = [(row.run.guidance, row.look, row.images, row.state, row.estimate, row.low, row.high) for row in rows]
        images = session.scalars(select(Image).join(Run))
        made = sorted((image.run.guidance, image.prompt_index, image.pixels_sha256) for image in images)
    return told, made


@pytest.fixture(autouse=True)
def short_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(round_plan, "ROUND", 8)


@pytest.mark.slow
def test_the_worse_leave_and_what_is_left_is_as_good(
    workspace: Workspace, tracker: Tracker, tracking_uri: str, scored: Callable[[Scores], None], tmp_path: Path
) -> None:
    scored(best_at_most_3)
    outcome = sweep(workspace, tracker, grid())
    assert [cell.state for cell in outcome.cells] == ["made"] * 3
    result = found(workspace)
    assert [(one.axes["guidance"], one.state, one.images) for one in result.settings] == [
        (1.0, "as good", 24),
        (3.0, "as good", 24),
        (20.0, "out", 24),
    ]
    low = result.settings[2].low
    assert result.left() == ["Guidance 20 left after 24 images."]
    assert result.conclusion() == [
        "Guidance 1: as good as the best within 0.4 (97.5 % sure); decided with 72 of 96 images; as good too:"
        f" guidance 3; guidance 20 is worse by {low:.2f} to 1.00."
    ]
    with workspace.reading() as session:
        runs = list(session.scalars(select(Run).order_by(Run.id)))
        assert [(run.status, run.num, len(run.images)) for run in runs] == [
            (RunStatus.ENOUGH, 32, 24),
            (RunStatus.ENOUGH, 32, 24),
            (RunStatus.ENOUGH, 32, 24),
        ]
        some = {image.prompt_index: image.pixels_sha256 for image in runs[2].images}
        assert sorted(some) != list(range(24))  # drawn from all over the manifest
        protocols = select(ImageScore.protocol_id).where(ImageScore.name == "alignment").distinct()
        assert len(list(session.scalars(protocols))) == 1  # that of one picture, however many there are
    client = MlflowClient(tracking_uri)
    told = client.get_run(runs[0].mlflow_run_id)
    assert (told.info.status, told.data.params["num"]) == ("FINISHED", "32")
    assert told.data.tags["t2i.decision"] == "as good with 24 images"
    steps = [metric.step for metric in client.get_metric_history(runs[0].mlflow_run_id, "decision/worse_by")]
    assert steps == [8, 16, 24]
    assert "Guidance 20 left after 24 images" in client.get_run(outcome.mlflow_run_id).data.tags["mlflow.note.content"]

    with workspace.reading() as session:
        (shown,) = (
            part for part in run_sections(run_record(session, workspace, runs[2]), []) if part.title == "Decisions"
        )
    worse = f"worse than the best by [{low:.2f}, 1.00] in alignment, margin 0.4"
    assert shown.lines == [f"out with 24 images, in sweep rounds: {worse}"]

    again = sweep(workspace, tracker, grid())
    assert [cell.state for cell in again.cells] == ["taken over"] * 3
    assert found(workspace).history == result.history
    page = tmp_path / "report.html"
    compared = api.compare(sweep=outcome.sweep, report=page, home=workspace.home)
    assert isinstance(compared, Decided)
    assert compared.rows()[2]["state"] == "out"
    assert "Guidance 20 left after 24 images." in page.read_text(encoding="utf-8")
    with pytest.raises(CompareError, match=r"was decided within 0\.4"):
        api.compare(sweep=outcome.sweep, within=0.1, home=workspace.home)
    assert not verify(workspace, []).faults

    whole = Generator(workspace, tracker).resume(runs[2].uuid)
    assert (whole.status, whole.images, whole.made) == ("finished", 32, 8)
    plain = Workspace(home=tmp_path / "plain")
    sweep(plain, tracker, build({**PLAIN, "settings": {**SETTINGS, "guidance": 20, "num": 32}}, "test"))
    assert pictures(plain) == pictures(workspace, runs[2].uuid)
    assert some.items() <= pictures(plain).items()


def pictures(workspace: Workspace, uuid: str | None = None) -> dict[int, str]:
    with workspace.reading() as session:
        query = select(Image).join(Run) if uuid is None else select(Image).join(Run).where(Run.uuid == uuid)
        return {image.prompt_index: image.pixels_sha256 for image in session.scalars(query)}


@pytest.mark.slow
def test_stopped_five_times_it_decides_the_same(
    workspace: Workspace,
    tracker: Tracker,
    scored: Callable[[Scores], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scored(best_at_most_3)
    sweep(workspace, tracker, grid())
    undisturbed = kept(workspace)
    other = Workspace(home=tmp_path / "other")
    scored_by(best_at_most_3, other, monkeypatch)

    def stopped(original: Callable[..., Any]) -> Callable[..., Any]:
        def stop(*arguments: Any, **more: Any) -> Any:
            original(*arguments, **more)
            raise KeyboardInterrupt

        return stop

    round_of = [(Generator, "make_some"), (rounds.MeanScores, "measure")]
    for owner, name in [(Generator, "begin"), *round_of, *round_of]:
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, stopped(getattr(owner, name)))
            with pytest.raises(Interrupted, match="the same command goes on"):
                sweep(other, tracker, grid())
    assert not sweep(other, tracker, grid()).failed
    assert kept(other) == undisturbed


@pytest.mark.slow
def test_a_budget_ends_it_and_a_search_adds_settings_beside_the_best(
    workspace: Workspace, tracker: Tracker, scored: Callable[[Scores], None]
) -> None:
    scored(best_at_most_3)
    sweep(workspace, tracker, grid(name="budget", budget="50images"))
    result = found(workspace, "budget")
    assert (result.ended, result.images) == ("budget", 48)
    assert [one.state for one in result.settings] == ["as good", "as good", "undecided"]
    more = result.settings[2].more
    assert more is not None
    assert 16 < more < 100
    assert result.conclusion() == [
        "Guidance 1: as good as the best within 0.4 (97.5 % sure); found with 48 of 96 images; as good too:"
        " guidance 3.",
        f"Undecided, and the budget (50images) is spent: guidance 20 (about {more} images would probably decide).",
    ]

    scored(lambda guidance, index: 1.0 if guidance == 2 else 0.0)
    asked = {"name": "search", "search": {"guidance": 1}, "axes": {"guidance": [1, 3]}}
    outcome = sweep(workspace, tracker, grid(**asked))
    result = found(workspace, "search")
    assert [(one.axes["guidance"], one.state) for one in result.settings] == [
        (1.0, "out"),
        (3.0, "out"),
        (2.0, "as good"),
    ]
    assert [cell.cell for cell in outcome.cells] == [0, 1, 2]
    assert result.recommended is not None
    assert result.recommended.axes == {"guidance": 2.0}
    sweep(workspace, tracker, grid(**asked))
    assert found(workspace, "search").history == result.history


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"until_decided": False}, "'within' is of sweeps that go on until they are decided"),
        ({"budget": "many"}, "budget 'many' is none: give images or time, as 2000images, 90min or 1h"),
        ({"search": {"steps": 5}}, "search names 'steps', which is not an axis"),
        ({"search": {"guidance": 0}}, "search wants a number above 0 for guidance"),
        ({"axes": {"scheduler": ["ddim", "pndm"]}, "settings": {}, "search": {"scheduler": 1}}, "cannot be searched"),
        ({"zip": True, "search": {"guidance": 1}}, "'search' refines a grid, and 'zip' makes none"),
        ({"max_num": 0}, "max_num must be at least 1"),
        ({"by": "precision"}, "a sweep cannot be decided by 'precision': choose one of alignment, clip_score"),
        ({"settings": {"num": 8}}, "'num' and 'max_num' exclude each other"),
        ({"axes": {}}, "give an axis of two values or more"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message.replace("(", r"\(").replace("?", r"\?")):
        grid(**changes)


def test_sweeps_of_earlier_versions_are_found_again_by_their_spec() -> None:
    plain = build({"axes": {"guidance": [1, 3]}}, "test").spec()
    assert not {"until_decided", "within", "budget", "max_num", "search", "by"} & plain.keys()
    assert grid().spec()["within"] == "0.4"


def test_budgets_and_searches_are_read() -> None:
    assert budget_of("2000images").images == 2000
    assert budget_of("1.5 h").seconds == 5400
    assert search_of(["guidance:0.5", "steps=2"]) == {"guidance": 0.5, "steps": 2.0}
    with pytest.raises(SettingsError, match="is no axis with the step"):
        search_of(["guidance"])


def test_the_order_fills_batches_and_keeps_equal_prompts_together() -> None:
    prompts = [f"prompt {index % 60}" for index in range(64)]
    order = drawn(prompts, 42, 8)
    assert sorted(position for unit in order for position in unit) == list(range(64))
    assert (0, 60) in order
    for start in range(0, 56, 8):
        assert len({unit[0] % 8 for unit in order[start : start + 8]}) == 8
    assert order == drawn(prompts, 42, 8)
    assert order != drawn(prompts, 43, 8)
    assert [period(8, 1), period(8, 2), period(8, 3), period(4, 8)] == [8, 4, 8, 1]


def test_the_first_of_the_order_are_from_all_over_the_manifest() -> None:
    """Each prompt comes early as often as any other."""
    first = [unit[0] for seed in range(400) for unit in drawn([str(index) for index in range(64)], seed, 8)[:8]]
    assert min(first.count(position) for position in range(64)) >= 30
    assert max(first.count(position) for position in range(64)) <= 75


@pytest.mark.slow
def test_a_distance_of_too_few_images_is_refused_before_the_first(workspace: Workspace, tracker: Tracker) -> None:
    with pytest.raises(MetricError, match=r"fid tells nothing of fewer than 195 images .* --max-num 195 or more"):
        sweep(workspace, tracker, grid(by="fid"))
    with workspace.reading() as session:
        found = [(run.status, run.error, len(run.images)) for run in session.scalars(select(Run))]
    assert [(status, images) for status, _, images in found] == [(RunStatus.FAILED, 0)] * 3
    assert all((reason or "").startswith("fid tells nothing") for _, reason, _ in found)


@pytest.mark.parametrize("within", ["-0.1", "0", "nan", "200%", "x"])
def test_a_margin_that_is_none_is_refused_before_anything_is_made(within: str) -> None:
    with pytest.raises(SettingsError, match=f"within '{within}' is no margin"):
        grid(within=within)
