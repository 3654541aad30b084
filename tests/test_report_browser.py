"""The report as a reader meets it, in headless Chromium, opened from disk."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from ranking_rows import run, sweep, with_diversity
from report_images import HOSTILE, images

from t2i_track.ranking import compare
from t2i_track.ranking.decided import Decided, Verdict
from t2i_track.ranking.equivalence import equivalence
from t2i_track.ranking.failures import FailureRate
from t2i_track.report import write_report

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")

Page = playwright.Page


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.Browser]:
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same comparison as one file, and as a folder with pictures of 300 px."""
    folder = tmp_path_factory.mktemp("reports")
    rows = [*with_diversity(sweep()), run("broken", status="failed")]
    comparison = replace(compare(rows), failures=labelled(rows[0].run))
    small, large = (images(folder / f"images{side}", rows[:9], 40, side) for side in (32, 300))
    return {
        "file": write_report(folder / "one.html", comparison, rows, small, title=HOSTILE),
        "folder": write_report(folder / "many", comparison, rows, large, title="A folder"),
    }


def labelled(run: str) -> tuple[FailureRate, ...]:
    return (
        FailureRate(run, "count", 64, 16, 0.25, 0.153, 0.371, 3),
        FailureRate(run, "ok", 64, 48, 0.75, None, None, 3),
    )


@pytest.fixture(params=["file", "folder"])
def page(browser: playwright.Browser, reports: dict[str, Path], request: pytest.FixtureRequest) -> Iterator[Page]:
    """The open report; afterwards nothing may have gone wrong in its console, nor left the disk."""
    complaints: list[str] = []
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda asked: asked.url[:5] in ("data:", "file:", "blob:") or complaints.append(asked.url))
    opened.set_default_timeout(30_000)  # a machine whose cores are busy
    opened.goto(reports[request.param].as_uri())
    yield opened
    hostile = opened.evaluate("window.hostile === undefined")
    opened.close()
    assert complaints == []
    assert hostile


def until(page: Page, expression: str) -> None:
    """Wait for something to become true; the page's own policy forbids Playwright's ``wait_for_function``."""
    for _ in range(100):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never became true: {expression}")


def shown_prompts(page: Page) -> list[str]:
    return [text.split("\n")[0] for text in page.locator("#grid tbody th").all_inner_texts()]


def test_it_opens_with_the_recommendation_and_charts(page: Page) -> None:
    assert page.locator("#recommendation").inner_text().startswith("Recommended setting\nUse guidance 3 with 20 steps")
    assert page.locator(".js-plotly-plot").count() == 5
    assert page.locator("#ranking-table tbody tr").count() == 9
    assert (
        page.locator("#excluded").inner_text().split()[-5:]
        == ["failed;", "`t2i", "show", "broken00`", "tells", "why"][1:]
    )


def test_how_often_labelled_pictures_fail(page: Page) -> None:
    table = page.get_by_role("region", name="Failures table").get_by_role("table")
    assert table.locator("th").all_inner_texts() == ["run", "count", "ok", "labelled", "by people"]
    assert table.locator("td").all_inner_texts() == ["g1-s10-42", "0.25 [0.15, 0.37]", "0.75", "64", "3"]


def test_a_hostile_prompt_is_shown_and_not_run(page: Page) -> None:
    page.get_by_label("Filter prompts").fill("window.hostile")
    assert shown_prompts(page) == [HOSTILE]
    page.locator("#grid button").first.click()
    assert page.locator("#viewer-title").inner_text() == HOSTILE


def test_charts_stay_in_their_places(page: Page) -> None:
    page.get_by_label("Score").select_option(label="alignment")
    widths = page.locator(".js-plotly-plot").evaluate_all(
        "all => all.map(plot => [plot.clientWidth, plot.querySelector('svg').getBoundingClientRect().width])"
    )
    assert len(widths) == 5
    assert all(drawn <= place + 1 for place, drawn in widths), widths


def test_the_three_sides_of_the_tradeoff_stand_side_by_side(page: Page) -> None:
    page.set_viewport_size({"width": 1200, "height": 900})
    assert page.locator("#tradeoff-charts h3").all_inner_texts() == [
        "Quality against alignment",
        "Diversity against alignment",
    ]
    boxes = (
        "[...document.querySelectorAll('#tradeoff-charts .js-plotly-plot')].map(plot => plot.getBoundingClientRect())"
    )
    until(page, f"new Set({boxes}.map(box => `${{box.top}} ${{box.height}}`)).size === 1")
    assert page.evaluate(f"Math.max(...{boxes}.map(box => box.right))") < 1200
    told = page.locator("#findings li").all_inner_texts()
    assert [text for text in told if text.startswith("From guidance 1 to 7.5") and "costs diversity" in text]


def test_the_filter_narrows_the_prompts(page: Page) -> None:
    page.get_by_label("Filter prompts").fill("LARGE black")
    assert page.locator("#grid-count").inner_text() == "6 of 40 prompts"
    assert all(text.startswith("a large black circle") for text in shown_prompts(page))
    page.get_by_label("Filter prompts").fill("no such prompt")
    assert page.locator("#grid-count").inner_text() == "0 of 40 prompts"


def test_the_axis_of_the_columns_can_be_switched(page: Page) -> None:
    titles = page.locator("#grid thead th")
    assert [text.split("\n")[0] for text in titles.all_inner_texts()] == [
        "prompt",
        "guidance 1",
        "guidance 3",
        "guidance 7.5",
    ]
    page.get_by_label("Columns").select_option(label="steps")
    assert [text.split("\n")[0] for text in titles.all_inner_texts()] == ["prompt", "steps 10", "steps 20", "steps 40"]
    alt = page.locator("#grid tbody tr").first.locator("img").nth(2).get_attribute("alt")
    assert alt == "a small red circle, picture 0 (guidance 3, steps 40, seed 1000)"
    page.locator("#grid-controls").get_by_label("guidance", exact=True).select_option(label="7.5")
    alt = page.locator("#grid tbody tr").first.locator("img").nth(2).get_attribute("alt")
    assert alt == "a small red circle, picture 0 (guidance 7.5, steps 40, seed 1000)"
    page.get_by_label("Columns").select_option(label="all runs")
    assert titles.count() == 10


def test_rows_pair_one_seed(page: Page) -> None:
    assert "seed 1000" in page.locator("#grid tbody th").first.inner_text()


def test_the_order_can_follow_the_scores(page: Page) -> None:
    page.get_by_label("Columns").select_option(label="steps")
    page.get_by_label("Order").select_option(label="largest spread of alignment")
    assert shown_prompts(page)[0] == "a small blue circle, picture 2"


def test_a_click_enlarges_two_pictures_with_one_zoom(page: Page) -> None:
    page.locator("#grid tbody tr").nth(1).locator("button").nth(0).click()
    viewer = page.locator("#viewer")
    assert viewer.is_visible()
    sides = viewer.locator(".stage img")
    assert [alt.split("(")[1] for alt in (sides.nth(0).get_attribute("alt"), sides.nth(1).get_attribute("alt"))] == [
        "guidance 1, steps 20, seed 1001)",
        "guidance 3, steps 20, seed 1001)",
    ]
    assert all(sides.nth(n).evaluate("image => image.complete && image.naturalWidth > 0") for n in (0, 1))
    viewer.get_by_label("Zoom in").click()
    page.keyboard.press("+")
    transforms = {sides.nth(n).evaluate("image => image.style.transform") for n in (0, 1)}
    assert len(transforms) == 1
    assert transforms.pop().endswith("scale(1.5625)")
    page.keyboard.press("0")
    assert sides.nth(0).evaluate("image => image.style.transform") == "translate(0px, 0px) scale(1)"
    stage = viewer.locator(".stage").nth(1)
    stage.hover()
    page.mouse.wheel(0, -100)
    until(page, "document.querySelector('.stage img').style.transform.endsWith('scale(1.25)')")


def test_the_record_and_the_command_are_shown(page: Page) -> None:
    page.locator("#grid tbody tr").nth(1).locator("button").nth(0).click()
    viewer = page.locator("#viewer")
    assert viewer.locator("code").all_inner_texts() == ["t2i reproduce g1-s20-42-1", "t2i reproduce g3-s20-42-1"]
    rows = [row.split("\t") for row in viewer.locator("#viewer-record tr").all_inner_texts()]
    record = {" ".join(name.split()): values for name, *values in rows}
    assert record["guidance (differs)"] == ["1", "3"]
    assert record["sha256"] == [f"{1:064x}"] * 2
    assert record["seed"] == ["1001", "1001"]
    viewer.get_by_label("only fields that differ").check()
    assert "guidance" in viewer.locator("#viewer-record").inner_text()
    assert "sha256" not in viewer.locator("#viewer-record").inner_text()


def test_the_viewer_walks_through_prompts_and_runs(page: Page) -> None:
    page.locator("#grid button").first.click()
    viewer = page.locator("#viewer")
    page.keyboard.press("ArrowRight")
    assert page.locator("#viewer-title").inner_text() == "a large green circle, picture 1"
    viewer.get_by_label("Right", exact=True).select_option(label="guidance 7.5, steps 40")
    assert viewer.locator("code").nth(1).inner_text() == "t2i reproduce g7.5-s40-42-1"
    page.keyboard.press("Escape")
    assert not viewer.is_visible()


def test_the_keyboard_alone_reaches_pictures(page: Page) -> None:
    page.locator("#grid button").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    alt = page.evaluate("document.activeElement.querySelector('img').alt")
    assert alt == "a large green circle, picture 1 (guidance 3, steps 20, seed 1001)"
    page.keyboard.press("Enter")
    assert page.locator("#viewer").is_visible()
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.querySelector('img').alt") == alt


def test_the_prompts_that_change_most(page: Page) -> None:
    changes = page.locator("#change-controls")
    changes.get_by_label("A", exact=True).select_option(label="guidance 3, steps 10")
    changes.get_by_label("B", exact=True).select_option(label="guidance 3, steps 20")
    assert page.locator("#change-count").inner_text() == (
        "alignment is higher in B for 26, lower for 0 and equal for 14 of 40 pictures."
    )
    first = page.locator("#change-list li").first
    assert "a small blue circle, picture 2" in first.inner_text()
    assert "+0.2" in first.inner_text()
    changes.get_by_label("Measured by").select_option(label="look (colours and layout)")
    assert page.locator("#change-count").inner_text() == "40 of 40 pictures differ in look."
    first.locator("button").first.click()
    assert page.locator("#viewer").is_visible()


def test_a_printed_report_has_all_its_pictures(page: Page) -> None:
    """40 prompts in three columns, of which the screen had asked for the first few rows only. Its button waits for all
    of them, then prints; a browser's own command may not wait for files."""
    assert page.locator("#grid img[src]").count() < 120
    page.evaluate("() => { window.print = () => { window.ready = true; }; }")  # a bare function would be called
    page.get_by_role("button", name="Print with all pictures").click()
    until(page, "window.ready === true")
    page.evaluate(
        "addEventListener('beforeprint', () => { window.heard = document.querySelectorAll('#grid tr').length; })"
    )
    printed = page.pdf()
    loaded = (
        "[...document.querySelectorAll('#grid img')].filter(image => image.complete && image.naturalWidth > 0).length"
    )
    assert page.evaluate("window.heard") == 41
    assert page.evaluate(loaded) == 120
    assert len(re.findall(rb"/Subtype\s*/Image", printed)) >= 120


def test_every_picture_and_control_has_a_name(page: Page) -> None:
    named = "n.alt || n.ariaLabel || n.textContent.trim() || n.labels?.length || n.querySelector('img[alt]')"
    unnamed = f"nodes => nodes.filter(n => !({named})).length"
    for kind in ("img", "button", "select", "input"):
        assert page.locator(kind).evaluate_all(unnamed) == 0
    assert page.locator("figure [role=img][aria-label]").count() == 5
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.locator("h1").count() == 1


def test_the_scheme_can_change_while_open(page: Page) -> None:
    def background() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    light = background()
    page.emulate_media(color_scheme="dark")
    assert background() != light
    title = page.locator("#ranking-chart .ytick text").first
    until(page, "getComputedStyle(document.querySelector('#ranking-chart .ytick text')).fill == 'rgb(232, 235, 239)'")
    assert title.is_visible()


def test_only_pictures_near_the_screen_are_loaded(browser: playwright.Browser, tmp_path: Path) -> None:
    """9 cells of 256 pictures: the page is ready soon and has read few of them."""
    rows = sweep()
    written = write_report(tmp_path / "r.html", compare(rows), rows, images(tmp_path / "images", rows, 256))
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(written.as_uri())
    assert page.evaluate("performance.now()") < 10_000
    page.get_by_label("Columns").select_option(label="all runs")
    page.locator("#grid").scroll_into_view_if_needed()
    until(page, "document.querySelector('#grid img').naturalWidth > 0")
    assert 0 < page.locator("#grid img[src]").count() < 500
    for _ in range(60):
        page.locator("#grid").evaluate("grid => { grid.scrollTop = grid.scrollHeight; }")
        if page.locator("#grid tbody tr").count() == 256:
            break
        page.wait_for_timeout(50)
    assert page.locator("#grid tbody tr").count() == 256
    last = page.locator("#grid tbody tr").last.locator("img").last
    last.scroll_into_view_if_needed()
    until(page, "[...document.querySelectorAll('#grid tbody tr:last-child img')].at(-1).naturalWidth > 0")
    page.close()


def test_runs_against_a_base_are_shown_with_the_pictures_of_their_worst_prompts(
    browser: playwright.Browser, tmp_path: Path
) -> None:
    of = {row.steps: row for row in sweep() if row.guidance == 7.5}
    fast, base = of[10], of[40]
    shown = images(tmp_path / "images", [base, fast], 40)
    found = equivalence(base, [fast], shown, within=0.02)
    assert len(found.candidates[0].worst) == 10
    written = write_report(tmp_path / "r.html", compare([base, fast]), [base, fast], shown, equivalence=found)
    complaints: list[str] = []
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto(written.as_uri())
    section = opened.locator("#equivalence")
    assert section.is_visible()
    assert "worse by" in section.inner_text() or "equivalent" in section.inner_text()
    pairs = section.locator("li .pair")
    assert pairs.count() == 10
    pairs.first.scroll_into_view_if_needed()
    until(opened, "document.querySelectorAll('#equivalence .pair img')[1].naturalWidth > 0")
    pairs.first.locator("button").nth(1).click()
    assert opened.locator("#viewer").is_visible()
    opened.close()
    assert complaints == []


def test_an_adaptive_sweep_shows_what_it_decided_in_the_place_of_a_ranking(
    browser: playwright.Browser, tmp_path: Path
) -> None:
    rows = [row for row in sweep() if row.steps == 40][:2]
    numbers = {"passes": 80, "value": 0.9, "images": 40, "estimate": 0.1, "low": 0.05, "high": 0.2}
    best, out = (
        Verdict(run=row.run, name=row.name, axes={"guidance": row.guidance}, state=state, **numbers)
        for row, state in zip(rows, ("as good", "out"), strict=True)
    )
    found = Decided("rounds", "alignment", "f" * 64, "higher", 0.02, "0.02", 0.95, "decided", "", (best, out), 64)
    shown = images(tmp_path / "images", rows, 4)
    written = write_report(tmp_path / "r.html", compare(rows), rows, shown, decided=found)
    complaints: list[str] = []
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto(written.as_uri())
    assert found.conclusion()[0] in opened.locator("#recommendation").inner_text()
    assert found.left()[0] in opened.locator("#findings").inner_text()
    assert opened.locator("#findings tbody tr").count() == 2
    for hidden in ("#ranking", "#tradeoff", "#curves", 'nav a[href="#ranking"]'):
        assert not opened.locator(hidden).is_visible()
    assert opened.locator("#grid").is_visible()
    opened.close()
    assert complaints == []


def test_without_a_base_there_is_no_such_section(page: Page) -> None:
    assert not page.locator("#equivalence").is_visible()
