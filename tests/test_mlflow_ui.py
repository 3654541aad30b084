"""What MLflow's UI shows of tracked runs: a real server, headless Chromium, the views of docs/screenshots.py."""

import importlib.util
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
from ranking_rows import run
from report_images import picture, prompt

from t2i_track.report.grid import grid
from t2i_track.tracking import Content, Grid, Opening, Table, open_run, write

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


def load() -> ModuleType:
    path = Path(__file__).parents[1] / "docs" / "screenshots.py"
    spec = importlib.util.spec_from_file_location("screenshots", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["screenshots"] = module
    spec.loader.exec_module(module)
    return module


screenshots = load()
pytestmark = [
    pytest.mark.skipif(screenshots.CHROMIUM is None, reason="no chromium on this machine"),
    pytest.mark.timeout(900),
]
RUNS = {"guidance-1": (1.0, 38.2), "guidance-7.5": (7.5, 12.5), "guidance-12": (12.0, 15.9)}


def log_runs(uri: str) -> str:
    """Three runs, tracked as `t2i generate` does; returns the experiment's id."""
    from mlflow.tracking import MlflowClient

    now = datetime.now(UTC)
    for name, (guidance, fid) in RUNS.items():
        params = {"guidance": guidance, "steps": 30, "scheduler": "pndm"}
        metrics = {"guidance": guidance, "steps": 30, "fid": fid, "interval/fid_low": fid - 2, "cost/images": 8}
        shown = [picture(run(name, guidance=guidance), index, 64) for index in range(8)]
        rows = [{"prompt": prompt(i), "seed": 1000 + i, "image": image} for i, image in enumerate(shown)]
        content = Content(
            params=params,
            metrics={key: (value, now) for key, value in metrics.items()},
            grid=Grid(partial(grid, shown, [prompt(index) for index in range(8)], columns=4), "samples", now, "0" * 32),
            table=Table(rows),
            status="finished",
            ended=now,
        )
        assert write(uri, open_run(uri, Opening("shapes", name)).run_id, content) == []
    return str(MlflowClient(uri).get_experiment_by_name("shapes").experiment_id)


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[playwright.Page, str, str]]:
    """A page, the server's address and the experiment's id."""
    folder = tmp_path_factory.mktemp("mlflow-ui")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    experiment_id = log_runs(uri)
    with screenshots.served(uri) as address, screenshots.window() as page:
        yield page, address, experiment_id


def loaded(page: playwright.Page, part: str) -> int:
    """Pictures on the page, by a part of their address, that have arrived and can be decoded."""
    page.wait_for_timeout(2000)
    return int(
        page.locator(f"img[src*='{part}']").evaluate_all(
            "all => all.filter(i => i.complete && i.naturalWidth > 1).length"
        )
    )


def test_the_runs_table_shows_guidance_steps_and_fid(ui: tuple[playwright.Page, str, str]) -> None:
    page = ui[0]
    screenshots.runs_table(*ui)
    headers = {text.strip() for text in page.locator("[role=columnheader]").all_inner_texts()}
    assert {"fid", "guidance", "steps"} <= headers
    for name, (_, fid) in RUNS.items():
        assert page.get_by_text(name, exact=True).is_visible()
        assert page.get_by_text(str(fid), exact=True).first.is_visible()


def test_model_training_opens_the_experiment_on_runs(ui: tuple[playwright.Page, str, str]) -> None:
    """What docs/mlflow.md says to click first; GenAI would open it on its empty traces."""
    page, address, experiment_id = ui
    page.goto("about:blank")
    page.goto(f"{address}/#/experiments")
    page.get_by_text("Model training", exact=True).first.click()
    page.get_by_text("shapes", exact=True).first.click()
    page.get_by_text("guidance-7.5", exact=True).first.wait_for()
    assert f"/experiments/{experiment_id}/runs" in page.url


def test_metrics_stand_in_sections(ui: tuple[playwright.Page, str, str]) -> None:
    """Charts of scores, guidance and steps together, each prefix on its own."""
    page, address, experiment_id = ui
    screenshots.open_runs(page, address, experiment_id, "CHART")
    page.get_by_text("Model metrics").first.wait_for()
    sections = dict(re.findall(r"(\w[\w ]*)\s+\((\d+)\)", page.inner_text("body")))
    assert sections.keys() >= {"cost", "interval", "Model metrics"}
    assert (sections["cost"], sections["interval"]) == ("1", "1")


def test_the_search_box_filters_by_guidance(ui: tuple[playwright.Page, str, str]) -> None:
    page = ui[0]
    screenshots.filtered(*ui)
    page.get_by_text("guidance-1", exact=True).wait_for(state="hidden")
    assert page.get_by_text("guidance-7.5", exact=True).is_visible()
    assert page.get_by_text("guidance-12", exact=True).is_visible()


def test_the_chart_view_shows_the_sample_grids(ui: tuple[playwright.Page, str, str]) -> None:
    screenshots.sample_grids(*ui)
    assert loaded(ui[0], "images%2Fsamples") == 3


def test_the_table_view_shows_pictures_by_prompt(ui: tuple[playwright.Page, str, str]) -> None:
    screenshots.prompt_table(*ui)
    assert ui[0].get_by_text(prompt(0)).first.is_visible()
    runs = (
        ui[0]
        .locator("img[src*='table_images']")
        .evaluate_all("all => all.map(i => new URL(i.src, location).searchParams.get('run_uuid'))")
    )
    assert len(set(runs)) == 3
    assert loaded(ui[0], "table_images") >= 6
