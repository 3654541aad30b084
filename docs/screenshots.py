"""Pictures of MLflow's UI on t2i-track's runs, for the documentation, made in headless Chromium.

    python docs/screenshots.py --tracking-uri sqlite:////path/mlflow.db --experiment guidance --out docs/images

The store needs an experiment with finished runs; it is served by a real ``mlflow server`` and only read.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from t2i_track.tracking import server_command

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
COLUMNS = ("fid", "guidance", "steps")
WORKFLOW = "workflowType=machine_learning"
"""As the switch *Model training* at the top left; MLflow 3.17 starts with *GenAI*, whatever an experiment's kind."""
PATIENCE = 180
"""Seconds for the server to start, or the UI to show something; both are slow on a busy machine."""


@contextmanager
def served(tracking_uri: str) -> Iterator[str]:
    """The address of a server on the store, for as long as the block lasts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command, environment = server_command(tracking_uri, "127.0.0.1", port)
    # The server starts workers of its own, which end with its process group.
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(command, start_new_session=True, env=environment, **quiet)  # type: ignore[call-overload]
    try:
        _await_health(f"http://127.0.0.1:{port}", server)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def _await_health(address: str, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):
                return
        except OSError:
            if server.poll() is not None:
                raise RuntimeError(f"mlflow server ended with {server.returncode}") from None
            time.sleep(0.5)
    raise RuntimeError(f"mlflow server did not answer within {PATIENCE} s")


def open_runs(page: Page, address: str, experiment_id: str, mode: str, search: str = "") -> None:
    """Show an experiment's runs; ``mode`` is TABLE, CHART or ARTIFACT."""
    # A new document for each view: going from one view to another keeps some state of the first.
    page.goto("about:blank")
    view = f"{WORKFLOW}&compareRunsMode={mode}&searchFilter={quote(search)}"
    page.goto(f"{address}/#/experiments/{experiment_id}/runs?{view}")
    page.get_by_text("matching run").wait_for()
    # The assistant's panel, which hides a third of the page, may come later than the runs, or not at all.
    page.wait_for_timeout(1500)
    for button in page.locator("[data-component-id='mlflow.assistant.chat_panel.close']").all():
        button.click()
    _unfold(page)


def _unfold(page: Page) -> None:
    """Show the cells of each sweep under their parent, which the UI folds away."""
    folded = page.locator("[data-component-id*='runnamecellrenderer']")
    for button in folded.all():
        button.click()
    page.wait_for_timeout(500)


def runs_table(page: Page, address: str, experiment_id: str) -> None:
    """The table of runs with columns for ``COLUMNS``."""
    open_runs(page, address, experiment_id, "TABLE")
    # The list closes again where the page is still arranging itself.
    choices = page.get_by_text("Reset to defaults")
    for _ in range(10):
        if not choices.is_visible():
            page.get_by_role("button", name="Columns", exact=True).click()
        page.wait_for_timeout(1500)
        if choices.is_visible():
            break
    for name in COLUMNS:
        # Metrics come before the parameters of the same name.
        page.get_by_title(name, exact=True).first.click()
    page.keyboard.press("Escape")
    page.locator("[role=columnheader]", has_text="fid").first.wait_for()


def filtered(page: Page, address: str, experiment_id: str) -> None:
    """Only the runs with much guidance, as the search box finds them."""
    open_runs(page, address, experiment_id, "TABLE")
    box = page.get_by_placeholder("metrics.rmse < 1")
    box.fill("metrics.guidance > 7")
    box.press("Enter")


def sample_grids(page: Page, address: str, experiment_id: str) -> None:
    """The chart view, narrowed to the runs' sample grids: there is a chart for every score and its interval too."""
    open_runs(page, address, experiment_id, "CHART")
    page.get_by_placeholder("Search metric charts").fill("sample")
    page.locator("img[src*='images%2F']").first.wait_for()


def enlarged_grids(page: Page, address: str, experiment_id: str) -> None:
    """The sample grids side by side over the whole window, without the line of parameters above each."""
    sample_grids(page, address, experiment_id)
    page.locator("[data-testid='experiment-view-compare-runs-card-menu']").first.click()
    page.get_by_text("Configure").first.click()
    page.get_by_text("Show run parameters").click()
    page.get_by_role("button", name="Save changes").click()
    page.wait_for_timeout(1000)
    page.locator("[data-component-id='fullscreen_button_chartcard']").first.click()
    page.wait_for_timeout(4000)


def prompt_table(page: Page, address: str, experiment_id: str) -> None:
    """The table view with the pictures of all runs, prompt by prompt."""
    open_runs(page, address, experiment_id, "ARTIFACT")
    page.locator(":is(button, [role=combobox]):has-text('Compare:')").last.click()
    option = page.get_by_role("option", name="image")
    for role in ("menuitemcheckbox", "menuitemradio"):
        option = option.or_(page.get_by_role(role, name="image"))
    option.first.click()
    page.keyboard.press("Escape")
    page.locator("img[src*='table_images']").first.wait_for()


VIEWS: dict[str, Callable[[Page, str, str], None]] = {
    "mlflow-runs": runs_table,
    "mlflow-search": filtered,
    "mlflow-charts": enlarged_grids,
    "mlflow-prompts": prompt_table,
}


@contextmanager
def window(width: int = 2000, height: int = 1100) -> Iterator[Page]:
    """A page of headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(PATIENCE * 1000)
        # Each view as someone sees it who opens it for the first time: the UI remembers what was unfolded.
        page.add_init_script("if (location.protocol === 'http:') localStorage.clear()")
        yield page
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tracking-uri", required=True)
    parser.add_argument("--experiment", required=True)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    options = parser.parse_args()
    from mlflow.tracking import MlflowClient

    experiment = MlflowClient(options.tracking_uri).get_experiment_by_name(options.experiment)
    if experiment is None:
        parser.error(f"no experiment {options.experiment!r} at {options.tracking_uri}")
    options.out.mkdir(parents=True, exist_ok=True)
    with served(options.tracking_uri) as address, window() as page:
        for name, view in VIEWS.items():
            view(page, address, experiment.experiment_id)
            page.wait_for_timeout(2000)
            page.screenshot(path=options.out / f"{name}.png")


if __name__ == "__main__":
    main()
