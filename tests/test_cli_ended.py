from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli_console import drawn
from summaries import RUN, summary

from t2i_track.cli.ended import duration, following, made, run_lines, sweep_lines
from t2i_track.cli.output import draw_section
from t2i_track.cli.scores import headline, score_section
from t2i_track.runs.evaluate import Scored
from t2i_track.runs.launch import Outcome
from t2i_track.runs.sweep import CellOutcome, SweepOutcome
from t2i_track.settings import Settings
from t2i_track.workspace import Workspace

HERE = Workspace()


def score(
    name: str, value: float, low: float | None = None, high: float | None = None, **fields: Any
) -> dict[str, Any]:
    return {"name": name, "value": value, "ci_low": low, "ci_high": high, "n": 64, "note": None} | fields


SCORES = (
    score("fid", 1534.2, note="no interval: too few"),
    score("kid_std", 2.0, note="over 100 subsets"),
    score("precision", 0.5, 0.4, 0.6),
    score("clip_score", 93.28),
    score("alignment", 0.98654, 0.9701, 1.0),
)


def test_a_run_ends_in_a_few_lines() -> None:
    scored = Scored(RUN, "a run", SCORES, 5, ("2 pictures are alike",))
    assert run_lines(Outcome(summary(), scored, ["3 of 64 prompts were cut"]), HERE) == [
        "64 images in 13.2 s (4.8/s) -> t2i-data/images/0123456789ab",
        "run a run (0123456789ab) of experiment two words: guidance 12, steps 30, scheduler pndm",
        "alignment 0.987 [0.970, 1.000], clip_score 93.28, fid 1534 (64 images)",
        "note: 3 of 64 prompts were cut",
        "note: 2 pictures are alike",
        "next: t2i compare --experiment 'two words' | t2i show 0123456789ab",
    ]


def test_a_run_without_scores_says_how_to_get_them() -> None:
    lines = run_lines(Outcome(summary(experiment="t2i"), None, []), HERE)
    assert len(lines) == 3
    assert lines[-1] == (
        "next: t2i evaluate 0123456789ab --reference FOLDER | t2i compare --experiment t2i | t2i show 0123456789ab"
    )


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"images": 1, "made": 1}, "1 image in 13.2 s (4.8/s)"),
        ({"made": 4}, "4 of 64 images made in 13.2 s (4.8/s)"),
        ({"made": 0, "images_per_second": None}, "nothing was missing: 64 images"),
        ({"seconds": 250.0}, "64 images in 4 min 10 s (4.8/s)"),
    ],
)
def test_what_was_made(fields: dict[str, Any], text: str) -> None:
    assert made(summary(**fields)) == text


def test_the_size_of_each_sample_is_told_where_they_differ() -> None:
    assert headline([score("alignment", 0.5), score("alignment_relation", 0.25, n=5)]) == (
        "alignment 0.5 (64 images), alignment_relation 0.25 (5 images)"
    )


def test_an_interval_beside_its_value_is_not_in_the_headline() -> None:
    assert headline([score("fid", 500.0, 200.0, 400.0)]) == "fid 500 (64 images)"


def test_scores_stand_in_a_table_and_their_notes_below() -> None:
    assert drawn(60, draw_section, score_section("Scores", SCORES)) == [
        "Scores",
        "  score        value  95% interval    images  note",
        "  fid           1534                      64  [1]",
        "  kid_std          2                      64  [2]",
        "  precision      0.5  [0.40, 0.60]        64",
        "  clip_score   93.28                      64",
        "  alignment   0.9865  [0.970, 1.000]      64",
        "  [1] no interval: too few",
        "  [2] over 100 subsets",
    ]


def test_a_home_elsewhere_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = Workspace(home=Path("a home"))
    assert following(["t2i compare"], elsewhere) == "next: t2i compare --home 'a home'"
    monkeypatch.setenv("T2I_HOME", "a home")
    assert following(["t2i compare"], elsewhere) == "next: t2i compare"


def test_a_sweep_counts_its_cells() -> None:
    states = ["made", "taken over", "made", "failed"]
    cells = [
        CellOutcome(n, Settings(), state, RUN, "no disk" if state == "failed" else None)
        for n, state in enumerate(states)
    ]
    assert sweep_lines(SweepOutcome(RUN, "steps", "m", tuple(cells))) == [
        "sweep steps: 4 cells, 2 made, 1 taken over, 1 failed",
        "cell 3 failed: no disk",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.94, "0.9 s"), (59.0, "59.0 s"), (61, "1 min 1 s"), (7500, "2 h 5 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
