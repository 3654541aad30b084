"""Values of different protocols are kept apart wherever runs are ranked, listed, recommended, filtered and drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ranking_rows import mean_score, noise, run, sweep

from t2i_track.cli.ranking_formats import FORMATS
from t2i_track.errors import CompareError
from t2i_track.ranking import ImageRow, RunRow, Score, compare, compare_two, where
from t2i_track.ranking.describe import findings, pair_findings, ranked
from t2i_track.ranking.protocols import alike, otherwise, settled, usual
from t2i_track.report.charts import charts


def score(name: str, value: float, protocol: str = "p", seed: int = 1) -> Score:
    label = f"metric={name} · reference_sha256={protocol}"
    return mean_score(name, value + 0.01 * noise(seed), protocol=protocol, protocol_label=label)


def stored(name: str, *values: Score, **fields: Any) -> RunRow:
    """A run with several values of one score, the newest last."""
    return run(name, {values[-1].name: values[-1]}, all_scores={values[-1].name: values}, **fields)


def test_a_newer_value_of_another_reference_hides_no_older_one() -> None:
    rows = [
        stored("both", score("fid", 1.0, "old"), score("fid", 9.0, "new")),
        run("old", {"fid": score("fid", 2.0, "old")}),
        run("older", {"fid": score("fid", 3.0, "old")}),
    ]
    found = compare(rows)
    assert [entry.row.name for entry in found.ranking] == ["both", "old", "older"]
    assert [round(entry.score.value) for entry in found.ranking] == [1, 2, 3]
    assert found.excluded == ()
    assert round(found.ranking[0].row.scores["fid"].value) == 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((("p",), ("p",), ("q",)), "p"),
        ((("p", "q"), ("p", "q")), "q"),  # as common: the newer value of the later run
        ((("q",), ("p",)), "p"),
        ((("p", "q"), ("p", "q"), ("p",)), "p"),
        ((), None),
    ],
)
def test_the_usual_protocol(values: tuple[tuple[str, ...], ...], expected: str | None) -> None:
    rows = [stored(f"r{n}", *(score("fid", 1.0, p) for p in some)) for n, some in enumerate(values)]
    assert usual(rows, "fid") == expected


def test_what_is_no_number_or_not_finished_does_not_count() -> None:
    rows = [
        stored("a", score("fid", 1.0, "p"), score("fid", float("nan"), "q")),
        run("b", {"fid": score("fid", 1.0, "q")}, status="failed"),
    ]
    assert usual(rows, "fid") == "p"
    assert [row.scores["fid"].protocol for row in settled(rows)] == ["p", "q"]


def test_a_condition_is_on_the_value_of_the_usual_protocol() -> None:
    rows = [
        stored("low", score("fid", 1.0, "old"), score("fid", 9.0, "new")),
        run("high", {"fid": score("fid", 8.0, "old")}),
    ]
    assert [row.name for row in where([*rows, run("x", {"fid": score("fid", 7.0, "old")})], "fid < 5")] == ["low"]


def equals(*alignments: Score | None) -> list[RunRow]:
    """Runs of one fid, each dearer than the one before, with these alignments."""
    fid = score("fid", 20.0)
    return [
        run(f"r{n}", {"fid": fid, **({"alignment": one} if one else {})}, guidance=1.5 + n, seconds_per_image=1.0 + n)
        for n, one in enumerate(alignments)
    ]


def test_a_candidate_with_a_minority_protocol_is_not_dropped() -> None:
    rows = equals(score("alignment", 0.9, "q"), score("alignment", 0.5), score("alignment", 0.5, seed=2))
    found = compare(rows).recommendation
    assert found is not None
    assert found.run == rows[0].run
    assert (
        "; alignment does not decide, since it is not comparable: guidance 1.5 with 30 steps (run r0) has another "
        "protocol: reference_sha256 is q, not p; none of these 3 is known"
    ) in found.sentence


def test_a_candidate_without_the_second_score_is_not_dropped() -> None:
    rows = equals(None, score("alignment", 0.5), score("alignment", 0.9), None)
    found = compare(rows).recommendation
    assert found is not None
    assert found.run == rows[0].run
    assert "guidance 1.5 with 30 steps (run r0) has no alignment, and 1 more; none of these 4" in found.sentence


def test_the_second_score_decides_under_a_protocol_that_all_have() -> None:
    rows = equals(score("alignment", 0.5), score("alignment", 0.9))
    newer = score("alignment", 0.1, "q")
    both = replace(
        rows[1],
        scores={**rows[1].scores, "alignment": newer},
        all_scores={"alignment": (rows[1].scores["alignment"], newer)},
    )
    found = compare([rows[0], both]).recommendation
    assert found is not None
    assert found.run == both.run
    assert "of these 2, 1 is as good in alignment" in found.sentence


@pytest.fixture
def mixed() -> list[RunRow]:
    rows = sweep()
    other = mean_score("alignment", 0.3 + 0 * noise(1), protocol="o", protocol_label="metric=alignment · n=99")
    return [replace(rows[0], scores={**rows[0].scores, "alignment": other}), *rows[1:]]


def test_a_value_of_another_protocol_is_marked_where_it_is_shown(mixed: list[RunRow]) -> None:
    found = compare(mixed)
    titles, cells = ranked(found)
    column = titles.index("alignment")
    assert [line[column] for line in cells if line[column].endswith("*")] == ["0.3*"]
    line = "Note: alignment of 1 run, marked *, cannot be compared with the others: n is 99, not 128."
    assert line in findings(found)
    for name in ("table", "markdown"):
        text = FORMATS[name](found)
        assert ("0.3*" in text, line in text) == (True, True)
    assert "o" in {record["alignment_protocol"] for record in found.rows()}
    assert not any("*" in cell for row in ranked(compare(sweep()))[1] for cell in row)
    assert otherwise(sweep(), "alignment") == {}


def test_marked_numbers_stay_in_line(mixed: list[RunRow]) -> None:
    lines = FORMATS["table"](compare(mixed)).splitlines()
    place = lines[0].index("alignment") + len("alignment")
    assert {line[place - 1] for line in lines[1:10]} <= set("0123456789*")


def test_charts_say_what_they_leave_out(mixed: list[RunRow]) -> None:
    words = " 1 run whose alignment was measured under another protocol is not drawn."
    found = {chart.id: chart.description for chart in charts(compare(mixed))}
    assert {name for name, text in found.items() if text.endswith(words)} == {
        "tradeoff-quality", "curve-steps-alignment", "curve-guidance-alignment",
    }  # fmt: skip


def images(name: str, protocol: str, values: list[float]) -> list[ImageRow]:
    return [
        ImageRow(name, n, 0, f"prompt {n}", 1, Path(f"{name}/{n}.png"), {}, {"clip_score": x}, {"clip_score": protocol})
        for n, x in enumerate(values)
    ]


def test_single_images_of_two_models_are_not_compared() -> None:
    a, b = (run(name, {"clip_score": score("clip_score", 30.0, name)}) for name in "ab")
    ours, theirs = images("a", "a", [93.0, 93.0]), images("b", "b", [30.0, 30.0])
    found = compare_two(a, b, ours, theirs)
    assert (found.prompts, found.changes, found.by) == ((), (), None)
    assert pair_findings(found) == [
        "Note: clip_score: not compared prompt by prompt, since the two runs' images were measured under different "
        "protocols (in B reference_sha256 is b, not a)."
    ]
    with pytest.raises(CompareError, match="no score 'clip_score' of one protocol for each image of both runs"):
        compare_two(a, b, ours, theirs, by="clip_score")


def test_two_runs_are_compared_under_the_protocol_that_both_have() -> None:
    a = stored("a", score("fid", 1.0, "p"), score("fid", 50.0, "q"))
    b = run("b", {"fid": score("fid", 2.0, "p", seed=2)})
    found = compare_two(a, b).metrics[0]
    assert (found.verdict, round(found.a or 0), found.note) == ("A better", 1, None)


def test_images_side_by_side_have_scores_of_one_protocol() -> None:
    shown = [*images("a", "p", [1.0]), *images("b", "q", [2.0]), *images("c", "q", [3.0])]
    kept, notes = alike(shown)
    assert [image.scores for image in kept] == [{}, {"clip_score": 2.0}, {"clip_score": 3.0}]
    assert notes == [
        "clip_score of the single images of 1 run is not shown: it was measured under another protocol than most."
    ]
    assert alike(shown[1:]) == (shown[1:], [])


OPTIONS = "--reference 'my photos' --extractor dinov2:base --clip clip-b"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (run("x"), f"no fid; `t2i evaluate x0000000 --metrics fid {OPTIONS}` measures it"),
        (
            run("x", images=8),
            f"no fid; `t2i evaluate x0000000 --metrics fid {OPTIONS}` measures it, but its 8 images are not ranked with"
            " 128 images",
        ),
        (
            run("x", images_per_prompt=2),
            f"no fid; `t2i evaluate x0000000 --metrics fid {OPTIONS}` measures it, but its 128 images (2 a prompt) are"
            " not ranked with 128 images",
        ),
        (
            run("x", {"fid": mean_score("fid", noise(1), protocol="q", protocol_label="reference=shapes")}),
            "another protocol: reference is shapes, not photos;"
            f" `t2i evaluate x0000000 --metrics fid {OPTIONS}` measures it alike",
        ),
    ],
)
def test_a_run_is_to_be_measured_as_its_peers_were(row: RunRow, reason: str) -> None:
    how = {"protocol_label": "reference=photos", "options": OPTIONS}
    peers = [run(name, {"fid": mean_score("fid", noise(place), **how)}) for place, name in enumerate("ab")]
    assert [one.reason for one in compare([row, *peers], "fid").excluded] == [reason]
