"""Failure cases: who may say what of which picture, proposals by scores, and how often runs fail."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import stored_scores
from cli_console import drawn
from click.testing import CliRunner
from conftest import ROOT
from ranking_rows import constant, run
from sqlalchemy import event, select
from stored_scores import store_run, store_score

from t2i_track.cli import cli as commands
from t2i_track.cli.label import FAILURES
from t2i_track.cli.pair_formats import PAIR_FORMATS
from t2i_track.cli.ranking_formats import draw_comparison, markdown, table
from t2i_track.db import lineage
from t2i_track.db.models import Failure, Label, Run
from t2i_track.errors import LabelError, NoDatabase, NotFound
from t2i_track.metrics.uncertainty import share_interval
from t2i_track.ranking import compare
from t2i_track.ranking.failures import AUTO, FailureRate, Said, failure_rates
from t2i_track.report.explorer import write_report
from t2i_track.runs import labels
from t2i_track.runs.compare import pair, ranking
from t2i_track.runs.label_files import label_file
from t2i_track.workspace import Workspace

ORDER = [failure.value for failure in Failure]


@pytest.fixture
def home(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Runs "a" and "b" of twelve images, 1 to 12 and 13 to 24, that are scored; only "a" by its alignment."""
    monkeypatch.setattr(stored_scores, "PROMPTS", tuple(f"prompt {number}" for number in range(12)))
    monkeypatch.setenv("LOGNAME", "anna")
    with workspace.begin() as session:
        for name in "ab":
            store_score(session, store_run(session, name), "fid", 1.0)
        first = lineage.find_run(session, "a")
        protocol = lineage.store_protocol(session, "f" * 64, {
            "metric": "alignment", "n": 12, "parameters": {}, "versions": {},
        })  # fmt: skip
        for part, wrong in {"count": {1}, "relation": {1, 2}, "background": {3}, "shape": {4}, "colour": {4}}.items():
            scores = {number: 0.5 if number in wrong else 1.0 for number in range(1, 12)}
            lineage.store_image_scores(session, f"alignment_{part}", protocol, scores)
        assert [image.id for image in first.images] == list(range(1, 13))
    return workspace


def stored(workspace: Workspace) -> list[tuple[int, str, str, str]]:
    with workspace.reading() as session:
        columns = (Label.image_id, Label.failure, Label.author, Label.note)
        return [(image, str(failure), *rest) for image, failure, *rest in session.execute(select(*columns))]


def test_the_options_words_are_the_databases() -> None:
    assert list(FAILURES) == ORDER


def test_several_failures_and_one_note_each(home: Workspace) -> None:
    assert labels.label(home, ["1", "a/1.png"], ["count", "limbs"]).lines() == ["2 images, labels: 4 added"]
    assert labels.label(home, ["1"], ["count"], note="three").lines() == ["1 image, labels: 1 changed"]
    assert labels.label(home, ["1"], ["count"]).lines() == ["1 image, labels: nothing to change"]
    assert sorted(stored(home)) == [
        (1, "count", "anna", "three"), (1, "limbs", "anna", ""), (2, "count", "anna", ""), (2, "limbs", "anna", ""),
    ]  # fmt: skip


def test_ok_and_failures_exclude_each_other_for_one_author(home: Workspace) -> None:
    labels.label(home, ["1"], ["count", "text"])
    labels.label(home, ["1"], ["text"], author="ben")
    assert labels.label(home, ["1"], ["ok"]).lines() == ["1 image, labels: 1 added, 2 removed"]
    assert sorted(stored(home)) == [(1, "ok", "anna", ""), (1, "text", "ben", "")]
    assert labels.label(home, ["1"], ["spatial"]).lines() == ["1 image, labels: 1 added, 1 removed"]
    with pytest.raises(LabelError, match="'ok' says that nothing failed"):
        labels.label(home, ["1"], ["ok", "count"])


def test_labels_are_taken_back_by_who_gave_them(home: Workspace) -> None:
    labels.label(home, ["1"], ["count", "text", "other"])
    labels.label(home, ["1"], ["text"], author="ben")
    assert labels.unlabel(home, ["1"], ["text"]).removed == 1
    assert labels.unlabel(home, ["1"]).removed == 2
    assert stored(home) == [(1, "text", "ben", "")]


def test_what_cannot_be_stored(home: Workspace, tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="'auto' is the author of proposals"):
        labels.label(home, ["1"], ["ok"], author=" auto ")
    with pytest.raises(LabelError, match="the note contains a NUL"):
        labels.label(home, ["1"], ["ok"], note="\0")
    with pytest.raises(NotFound, match="no image '999'"):
        labels.label(home, ["1", "999"], ["ok"])
    assert stored(home) == []
    with pytest.raises(NoDatabase):
        labels.label(Workspace(home=tmp_path / "none"), ["1"], ["ok"])
    assert not (tmp_path / "none").exists()


def test_a_table_of_labels(home: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text('\ufeffImage,failure,author,note\n1,Count,,"two, not three"\na/1.png,ok,ben,\n', encoding="utf-8")
    assert label_file(home, path, author="cleo").failures == {"count": 1, "ok": 1}
    assert stored(home) == [(1, "count", "cleo", "two, not three"), (2, "ok", "ben", "")]


def test_every_bad_line_is_named_and_nothing_is_stored(home: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("image,failure\n1,count\n999,ok\n2,legs\n1,ok\n" + "3,arms\n" * 12)
    with pytest.raises(LabelError) as failed:
        label_file(home, path)
    told = str(failed.value)
    assert "line 3: no image '999'" in told
    assert "line 4: 'legs' is no failure: one of count, limbs," in told
    assert "line 5: anna calls image 1 'ok' here and 'count' on line 2" in told
    assert told.endswith("; and lines 13, 14, 15, 16, 17")
    assert stored(home) == []


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"image,note\n1,x\n", "no column failure"),
        (b"image,failure,colour\n1,ok,red\n", "column 'colour'"),
        (b"", "no column image"),
        (b"image,failure\n1,ok,more\n", "line 2: more fields than columns"),
        (b'image,failure\n1,"ok\n', "not a CSV file"),
        (b"image,failure\n\xff,ok\n", "not UTF-8"),
    ],
)
def test_a_broken_table(home: Workspace, tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(content)
    with pytest.raises(LabelError, match=told):
        label_file(home, path)


def test_proposals_follow_the_scores(home: Workspace) -> None:
    done = labels.propose(home, ["a"])
    assert done.failures == {"count": 1, "spatial": 2, "background": 1, "other": 1, "ok": 7}
    assert done.notes == ("1 images of a have no alignment score, so no proposal",)
    assert (4, "other", AUTO, "alignment_colour 0.5, alignment_shape 0.5") in [
        (image, failure, author, ", ".join(sorted(note.split(", ")))) for image, failure, author, note in stored(home)
    ]
    again = labels.propose(home, ["a"])
    assert (again.added, again.changed, again.removed) == (0, 0, 0)
    with home.begin() as session:
        protocol = lineage.store_protocol(session, "f" * 64, {})
        lineage.store_image_scores(session, "alignment_count", protocol, {1: 1.0})
    again = labels.propose(home, ["a"])
    assert (again.added, again.removed) == (0, 1)
    assert labels.unpropose(home, ["a"]).removed == 11
    assert stored(home) == []


def test_without_scores_the_command_that_makes_them_is_named(home: Workspace) -> None:
    with pytest.raises(LabelError, match=r"`t2i evaluate [0-9a-f]{12} --metrics alignment` measures them"):
        labels.propose(home, ["b"])


def test_a_persons_label_replaces_the_proposals_in_rates() -> None:
    auto = [Said(image, image, "count", AUTO) for image in range(10)]
    people = [Said(0, 0, "ok", "anna"), Said(1, 1, "text", "anna"), Said(1, 1, "ok", "ben")]
    found = {rate.failure: rate for rate in failure_rates({"a": [*auto, *people], "b": []}, ORDER)}
    assert {name: (rate.k, rate.n, rate.people) for name, rate in found.items()} == {
        "count": (8, 10, 2), "text": (1, 10, 2), "ok": (1, 10, 2),
    }  # fmt: skip
    assert list(found) == ["count", "text", "ok"]


def test_images_of_one_prompt_are_one_cluster() -> None:
    def bounds(prompts: list[int]) -> tuple[float | None, float | None]:
        said = [Said(place, prompt, "ok" if prompt % 2 else "count", "x") for place, prompt in enumerate(prompts)]
        (rate,) = (one for one in failure_rates({"a": said}, ORDER) if one.failure == "count")
        expected = share_interval(np.array([float(prompt % 2 == 0) for prompt in prompts]), np.array(prompts))
        assert (rate.share, rate.ci_low, rate.ci_high) == (expected.estimate, expected.low, expected.high)
        return rate.ci_low, rate.ci_high

    single, doubled = bounds(list(range(20))), bounds([*range(20), *range(20)])
    assert single == pytest.approx(doubled), "the same pictures twice say no more"
    assert bounds(list(range(4))) == (None, None), "too few prompts"
    none = next(one for one in failure_rates({"a": [Said(i, i, "ok", "x") for i in range(64)]}, ORDER))
    assert (none.share, round(none.ci_low or 0, 3), none.ci_high) == (1.0, 0.944, 1.0), "Clopper and Pearson"


def test_compare_and_show_have_the_rates(home: Workspace) -> None:
    assert ranking(home, by="fid").comparison.failures == ()
    labels.propose(home, ["a"])
    labels.label(home, ["13"], ["limbs"])
    found = ranking(home, by="fid").comparison
    runs = {entry.row.run: entry.row.name for entry in found.ranking}
    assert [(runs[one.run], one.failure, one.k, one.n) for one in found.failures if one.failure in ("limbs", "ok")] == [
        ("a", "limbs", 0, 11), ("a", "ok", 7, 11), ("b", "limbs", 1, 1), ("b", "ok", 0, 1),
    ]  # fmt: skip
    shown = found.to_dict()["failures"][0]
    assert set(shown) == {"run", "failure", "n", "k", "share", "ci_low", "ci_high", "people"}
    result = CliRunner().invoke(commands, ["show", "a", "--home", str(home.home)])
    assert "7        11" in next(line for line in result.output.splitlines() if line.startswith("  ok  "))
    assert "  0 of the 11 labelled images by people, the others by their scores (auto)" in result.output.splitlines()


def test_two_runs_side_by_side(home: Workspace) -> None:
    assert "Failures" not in PAIR_FORMATS["table"](pair(home, "a", "b"))
    labels.propose(home, ["a"])
    found = pair(home, "a", "b")
    lines = [line.split() for line in PAIR_FORMATS["table"](found).splitlines()]
    assert ["labelled", "11", "(0", "by", "people)", "0"] in lines
    assert next(line for line in lines if line[:1] == ["count"])[1:2] == ["0.09"]
    assert "| labelled | 11 (0 by people) | 0 |" in PAIR_FORMATS["markdown"](found)
    assert [one["failure"] for one in found.to_dict()["failures"]] == ["count", "spatial", "background", "other", "ok"]


def test_a_thousand_runs_are_a_few_queries(home: Workspace) -> None:
    labels.propose(home, ["a"])
    with home.reading() as session:
        uuids = list(session.scalars(select(Run.uuid)))
        asked: list[str] = []
        event.listen(session.get_bind(), "before_cursor_execute", lambda *given: asked.append(given[2]))
        labels.rates(session, [*uuids, *(f"{number:032x}" for number in range(998))])
    assert len(asked) == 1 + 1000 // lineage.CHUNK


def rated() -> tuple[FailureRate, ...]:
    return (
        FailureRate("a" + "0" * 31, "count", 64, 16, 0.25, 0.15, 0.37, 3),
        FailureRate("a" + "0" * 31, "ok", 64, 48, 0.75, 0.63, 0.85, 3),
    )


def test_the_table_below_the_ranking(tmp_path: Path) -> None:
    rows = [run("a", {"fid": constant("fid", 1.0)}), run("b", {"fid": constant("fid", 2.0)})]
    plain = compare(rows)
    assert "Failures" not in table(plain) + markdown(plain)
    found = replace(plain, failures=rated())
    lines = [line.split() for line in table(found).splitlines()]
    at = lines.index(["Failures,", "as", "shares", "of", "the", "labelled", "images:"])
    assert lines[at + 1] == ["guidance", "steps", "count", "ok", "labelled", "by", "people", "run", "name"]
    assert lines[at + 2] == [
        "7.5",
        "30",
        "0.25",
        "[0.15,",
        "0.37]",
        "0.75",
        "[0.63,",
        "0.85]",
        "64",
        "3",
        "a0000000",
        "a",
    ]
    assert "| 7.5 | 30 | 0.25 [0.15, 0.37] | 0.75 [0.63, 0.85] | 64 | 3 | a0000000 | a |" in markdown(found)
    narrow = drawn(60, draw_comparison, found)
    at = narrow.index("Failures, as shares of the labelled images")
    assert narrow[at + 1].split() == ["guidance", "steps", "count", "ok", "labelled"]
    assert [narrow[at + line].split() for line in (2, 3)] == [
        ["7.5", "30", "0.25", "0.75", "64"], ["[0.15,", "0.37]", "[0.63,", "0.85]"],
    ]  # fmt: skip
    page = write_report(tmp_path / "r.html", found, rows, []).read_text(encoding="utf-8")
    assert '"failures":[{"run":"a' in page
    assert '<div id="failures"></div>' in page
    assert 'role: "region", "aria-label": "Failures table"' in page


def test_the_command(home: Workspace) -> None:
    def t2i(*words: str) -> tuple[int, str]:
        result = CliRunner().invoke(commands, ["label", *words, "--home", str(home.home)])
        return result.exit_code, result.output

    assert t2i("1", "2", "--failure", "count") == (0, "2 images, labels: 2 added\nof them: count 2\n")
    assert json.loads(t2i("1", "--failure", "ok", "--format", "json")[1])["removed"] == 1
    assert t2i("--auto", "a")[1].splitlines()[0] == "11 images, labels: 12 added"
    assert t2i("--auto", "a", "--remove") == (0, "11 images, labels: 12 removed\n")
    for wrong in (["1"], [], ["1", "--auto", "a"], ["--auto", "a", "--failure", "ok"], ["--csv", "f", "--remove"]):
        assert t2i(*wrong)[0] == 2, wrong


def test_the_page_says_what_counts_as_what() -> None:
    text = (ROOT / "docs" / "labels.md").read_text(encoding="utf-8")
    assert all(f"| `{failure}` |" in text for failure in Failure)
    assert all(f"`alignment_{part}`" in text for part in labels.PROPOSED)
