import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from ranking_rows import constant, mean_score, noise, run, sweep, with_diversity
from report_images import HOSTILE, images

from t2i_track.ranking import ImageRow, compare, compare_two
from t2i_track.report import write_report
from t2i_track.report.charts import charts, labels
from t2i_track.report.embed import EMBEDDED_BYTES, pictures
from t2i_track.report.grid import side_by_side


def data(html: Path) -> dict[str, object]:
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', html.read_text("utf-8"), re.DOTALL)
    assert match is not None
    found: dict[str, object] = json.loads(match[1])
    return found


def test_one_file_holds_everything(tmp_path: Path) -> None:
    rows = sweep()
    written = write_report(tmp_path / "r.html", compare(rows), rows, images(tmp_path / "images", rows, 4))
    assert written == tmp_path / "r.html"
    text = written.read_text("utf-8")
    assert text.startswith("<!doctype html>")
    assert text.split("</style>")[1].split("<script>")[0].count("data:image/png;base64,") == 36
    outside_plotly = text.split("<script>")[0] + text.split("<script>")[-1]
    assert not re.search(r'(src|href)="(https?:)?//', outside_plotly)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["r.html"]


def test_a_folder_holds_the_originals(tmp_path: Path) -> None:
    rows = sweep()
    shown = images(tmp_path / "images", rows, 2, side=300)
    written = write_report(tmp_path / "report", compare(rows), rows, shown)
    assert written == tmp_path / "report" / "index.html"
    copied = sorted(path.name for path in (tmp_path / "report" / "pictures").iterdir())
    assert len(copied) == 36
    assert copied[:2] == ["g1-s10-42000-000000-000.png", "g1-s10-42000-000000-000.small.webp"]
    original = (tmp_path / "images" / "g1-s10-42" / "000000.png").read_bytes()
    assert (tmp_path / "report" / "pictures" / copied[0]).read_bytes() == original
    assert '"data:image' not in written.read_text("utf-8").split("</style>")[1].split("<script>")[0]


def test_no_prompt_can_end_the_data(tmp_path: Path) -> None:
    rows = sweep()
    written = write_report(
        tmp_path / "r.html", compare(rows), rows, images(tmp_path / "images", rows, 4), title=HOSTILE
    )
    text = written.read_text("utf-8")
    assert "<script>window" not in text
    assert "<img src=x" not in text
    found = data(written)
    assert found["prompts"][3]["text"] == HOSTILE  # type: ignore[index]
    assert found["title"] == HOSTILE


def test_records_shared_by_a_run_are_written_once(tmp_path: Path) -> None:
    rows = sweep()
    written = write_report(tmp_path / "r.html", compare(rows), rows, images(tmp_path / "images", rows, 4))
    first = data(written)["runs"][0]  # type: ignore[index]
    assert first["record"] == {
        "guidance": 3.0, "steps": 20, "model": "shapes", "environment": '{"torch": "2.15"}',
    }  # fmt: skip
    assert sorted(first["images"][1]["record"]) == ["id", "prompt", "seed", "sha256"]
    assert first["images"][1]["address"] == "g3-s20-42-1"
    assert first["tier"] == 1


def test_a_missing_file_is_counted_and_the_rest_shown(tmp_path: Path) -> None:
    rows = sweep()
    shown = images(tmp_path / "images", rows, 2)
    shown[0].path.unlink()
    shown[1].path.write_bytes(b"no picture")
    assert data(write_report(tmp_path / "r.html", compare(rows), rows, shown))["missing"] == 2


def test_a_report_without_pictures(tmp_path: Path) -> None:
    rows = [run("a", {"fid": constant("fid", 1.0)})]
    found = data(write_report(tmp_path / "r.html", compare(rows), rows, []))
    assert (found["runs"], found["prompts"]) == ([], [])


def test_many_large_pictures_become_previews(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = images(tmp_path, sweep()[:1], 2, side=300)
    assert EMBEDDED_BYTES == 32 * 2**20
    [first, _] = pictures(shown, None)
    assert first is not None
    assert first.small.startswith("data:image/webp;base64,")
    assert first.full.startswith("data:image/png;base64,")
    monkeypatch.setattr("t2i_track.report.embed.EMBEDDED_BYTES", 1)
    [first, _] = pictures(shown, None)
    assert first is not None
    assert first.full == first.small
    assert (first.width, first.height, len(first.look)) == (300, 300, 256)


def test_labels_are_the_settings_that_vary_and_unique() -> None:
    assert next(iter(labels(sweep()).values())) == "guidance 1, steps 10"
    twins = [run("a"), run("b")]
    assert list(labels(twins).values()) == ["a", "b"]
    assert list(labels([run("a"), replace(run("b"), name="a")]).values()) == ["a · a00000", "a · b00000"]


def test_charts_come_with_words_and_numbers() -> None:
    found = {chart.id: chart for chart in charts(compare(sweep()))}
    assert list(found)[:4] == ["ranking", "tradeoff-quality", "curve-steps-fid", "curve-guidance-fid"]
    assert found["ranking"].layout["yaxis"]["categoryarray"][-1] == "guidance 3, steps 20"
    assert [trace["name"] for trace in found["ranking"].data] == [f"tier {n}" for n in range(1, 7)]
    curve = found["curve-steps-fid"]
    assert [trace["name"] for trace in curve.data] == ["guidance 1", "guidance 3", "guidance 7.5"]
    assert curve.data[0]["x"] == [10, 20, 40]
    assert len(curve.cells) == 9
    assert "fid over steps, from 10 to 40" in curve.description
    assert "fid: distance of the images' features from the reference's" in curve.description
    tradeoff = found["tradeoff-quality"]
    assert [sorted(trace["text"]) for trace in tradeoff.data[1:]] == [["1", "3", "7.5"]] * 3
    assert sum(cells[-1] == "yes" for cells in tradeoff.cells) == len(compare(sweep()).frontier.runs)  # type: ignore[union-attr]


def test_the_tradeoff_has_three_sides() -> None:
    rows = with_diversity(sweep())
    comparison = compare(rows)
    quality, diversity = (chart for chart in charts(comparison) if chart.id.startswith("tradeoff"))
    assert (quality.title, diversity.title) == ("Quality against alignment", "Diversity against alignment")
    titles = [[chart.layout[f"{axis}axis"]["title"]["text"] for axis in "xy"] for chart in (quality, diversity)]
    assert titles == [
        ["alignment (higher is better)", "fid (lower is better)"],
        ["alignment (higher is better)", "vendi (higher is better)"],
    ]
    points = [trace for trace in diversity.data if trace["name"].endswith("steps")]
    assert [(trace["name"], sorted(trace["text"])) for trace in points] == [
        (f"{steps} steps", ["1", "3", "7.5"]) for steps in (10, 20, 40)
    ]
    scores = {(row.guidance, row.steps): row.scores for row in rows}
    for trace, steps in zip(points, (10, 20, 40), strict=True):
        for n, guidance in enumerate(map(float, trace["text"])):
            alignment, vendi = scores[guidance, steps]["alignment"], scores[guidance, steps]["vendi"]
            assert (trace["x"][n], trace["y"][n]) == (alignment.value, vendi.value)
            assert vendi.ci_low is not None
            assert alignment.ci_low is not None
            assert trace["error_y"]["arrayminus"][n] == vendi.value - vendi.ci_low
            assert trace["error_x"]["arrayminus"][n] == alignment.value - alignment.ci_low
    assert all(len(set(trace["textposition"])) == 3 for trace in points)
    assert diversity.columns == ["run", "vendi", "alignment", "s/image", "on the frontier"]
    assert "broken ones also differ" in diversity.description
    assert "broken" not in quality.description
    front = diversity.data[0]
    assert front["x"] == sorted(front["x"])
    assert front["y"] == sorted(front["y"], reverse=True)


@pytest.mark.parametrize(
    ("kept", "by", "drawn"),
    [
        (("fid", "alignment"), "fid", ["Quality against alignment"]),
        (("alignment", "vendi"), "alignment", ["Diversity against alignment"]),
        (("alignment", "vendi"), "vendi", ["Diversity against alignment"]),
        (("fid", "vendi"), "fid", ["Quality against diversity"]),
        (("fid", "vendi"), "vendi", ["Quality against diversity"]),
        (("vendi",), "vendi", []),
        (("alignment",), "alignment", []),
    ],
)
def test_the_tradeoff_is_drawn_of_what_is_measured(kept: tuple[str, ...], by: str, drawn: list[str]) -> None:
    rows = [replace(row, scores={name: row.scores[name] for name in kept}) for row in with_diversity(sweep())]
    assert [chart.title for chart in charts(compare(rows, by)) if chart.id.startswith("tradeoff")] == drawn


def test_quality_is_what_can_be_compared_at_this_number_of_images() -> None:
    """FID without an interval is that of too few images: the less diverse of equal runs looks better."""
    rows = [
        replace(row, scores={**row.scores, "fid": constant("fid", 9.0), "kid_mean": mean_score("kid_mean", noise(n))})
        for n, row in enumerate(sweep())
    ]
    comparison = compare(rows, "alignment")
    assert comparison.frontier is not None
    assert comparison.frontier.objectives == ("kid_mean", "alignment", "cost")
    [chart] = [chart for chart in charts(comparison) if chart.id == "tradeoff-quality"]
    assert chart.layout["yaxis"]["title"]["text"] == "kid_mean (lower is better)"
    few = [replace(row, scores={"fid": constant("fid", 9.0), "alignment": row.scores["alignment"]}) for row in rows]
    found = compare(few, "alignment").frontier
    assert found is not None
    assert found.objectives[0] == "fid"


def test_intervals_beside_their_values_are_drawn_where_they_are() -> None:
    rows = [
        replace(row, scores={**row.scores, "fid": replace(row.scores["fid"], ci_low=5.0, ci_high=9.0)})
        for row in sweep()
    ]
    found = {chart.id: chart for chart in charts(compare(rows))}
    for name, axis in (("ranking", "x"), ("tradeoff-quality", "y"), ("curve-steps-fid", "y")):
        bars = [trace for trace in found[name].data if "interval" in trace.get("name", "")]
        assert bars, name
        assert {value for trace in bars for value in trace[axis]} == {7.0}
        assert {value for trace in bars for value in trace[f"error_{axis}"]["array"]} == {2.0}
        assert all(f"error_{axis}" not in trace for trace in found[name].data if trace not in bars)
        assert "without the bias" in found[name].description
    assert "without the bias" not in found["curve-steps-alignment"].description


def test_charts_never_mix_protocols() -> None:
    rows = sweep()
    other = mean_score("alignment", noise(1), protocol="other")
    rows[0] = replace(rows[0], scores={**rows[0].scores, "alignment": other})
    found = {chart.id: chart for chart in charts(compare(rows))}
    assert sum(len(trace["x"]) for trace in found["curve-steps-alignment"].data) == 8


def test_two_runs_side_by_side(tmp_path: Path) -> None:
    a, b = sweep()[0], sweep()[8]
    ours, theirs = images(tmp_path, [a], 4), images(tmp_path, [b], 4)
    sheet = side_by_side(compare_two(a, b, ours, theirs, top=3))
    assert sheet.width == 8 + 2 * 136
    assert sheet.height > 3 * 128
    assert isinstance(sheet, Image.Image)


def test_images_are_matched_by_prompt_and_replicate(tmp_path: Path) -> None:
    rows = sweep()[:1]
    shown = images(tmp_path, rows, 2)
    twice = [*shown, *(replace(image, replicate=1) for image in shown)]
    found = data(write_report(tmp_path / "r.html", compare(sweep()), rows, twice))
    assert [(p["index"], p["replicate"]) for p in found["prompts"]] == [(0, 0), (0, 1), (1, 0), (1, 1)]  # type: ignore[attr-defined]
    assert isinstance(twice[0], ImageRow)


def test_values_of_another_protocol_are_marked_in_the_page(tmp_path: Path) -> None:
    rows = sweep()
    other = mean_score("alignment", noise(1), protocol="other", protocol_label="metric=alignment · n=99")
    rows[0] = replace(rows[0], scores={**rows[0].scores, "alignment": other})
    rows[1] = replace(rows[1], scores={"fid": replace(rows[1].scores["fid"], protocol="other")})
    shown = [
        replace(image, protocols={"alignment": "q" if image.run == rows[2].run else "p"})
        for image in images(tmp_path, rows, 1)
    ]
    found = data(write_report(tmp_path / "r.html", compare(rows), rows, shown))
    assert (found["second"], found["marked"]) == ("alignment", {rows[0].run: "*"})
    runs = {run["run"]: run for run in found["runs"]}  # type: ignore[attr-defined]
    assert {run: one["mark"] for run, one in runs.items() if one["mark"]} == {rows[1].run: "*"}
    assert [run for run, one in runs.items() if not one["images"][0]["scores"]] == [rows[2].run]
    notes = found["comparison"]["notes"]  # type: ignore[index]
    assert "alignment of 1 run, marked *, cannot be compared with the others: n is 99, not 128." in notes
    assert notes[-1].startswith("alignment of the single images of 1 run is not shown")
