"""`t2i sweep`: a grid of runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from t2i_track.cli.metric_help import DECIDES, ScoreOption
from t2i_track.cli.options import (
    PATH,
    axes_options,
    blank,
    format_option,
    given_settings,
    mark_ai_option,
    tracking_option,
    workers_options,
    workspace_options,
)
from t2i_track.cli.output import print_lines, print_rows
from t2i_track.errors import T2IError
from t2i_track.texts import clean
from t2i_track.workspace import Workspace

if TYPE_CHECKING:
    from t2i_track.results import Forecast, SweepResult


@click.command()
@click.argument("file", type=PATH, required=False, metavar="[FILE.yaml]")
@axes_options
@click.option("--zip", "zipped", is_flag=True, help="Run the axes side by side instead of every combination.")
@click.option(
    "--manifest", "--val-csv", show_default="the embedded captions", help="CSV, TSV, JSON(L), Parquet or TXT."
)
@click.option("--prompt", "prompts", multiple=True, help="A prompt; may be repeated. Instead of --manifest.")
@click.option("--name", show_default="the names of its axes", help="Name of the sweep.")
@mark_ai_option
@click.option("--experiment", show_default="MLFLOW_EXPERIMENT_NAME or _ID, else t2i", help="MLflow experiment.")
@click.option("--evaluate/--no-evaluate", default=None, show_default="on for embedded captions or --reference")
@click.option("--reference", help="What to score against: 'shapes', a folder, a manifest, an .npz, or run:RUN.")
@click.option("--report", type=PATH, help="Also write a static HTML report here.")
@click.option(
    "--by",
    cls=ScoreOption,
    callback=blank,
    show_default=DECIDES,
    help="Score that the comparison at the end ranks by:",
)
@click.option("--dry-run", is_flag=True, help="Print the cells, the images to make and the time they would take.")
@click.option("--fresh", is_flag=True, help="Make every image anew, also those that earlier runs have made.")
@click.option("--yes", is_flag=True, help="Run a grid of more than 100 cells.")
@click.option("--allow-pickle", is_flag=True, help="Load pickled weights, which can run code.")
@workers_options
@format_option("table", "json", "csv", "markdown")
@tracking_option
@workspace_options
def sweep(workspace: Workspace, file: Path | None, fmt: str, **options: Any) -> None:
    """Run a grid of settings over the same prompts and seeds, under one MLflow parent run, and compare them.

    The same command again goes on where it was stopped. Cells that earlier runs have made with the same settings are
    taken over.

    \b
      t2i sweep experiments/guidance.yaml
      t2i sweep --guidance 1,3,7.5,12 --steps 15,30,60 --num 128 --dry-run
    """
    from t2i_track import api
    from t2i_track.results import Forecast

    settings = given_settings(options)
    zipped, prompt = options.pop("zipped"), options.pop("prompts")
    found = api.sweep(
        file, **options, **settings, zip=zipped, prompt=prompt, home=workspace.home, db_url=workspace.db_url
    )
    if isinstance(found, Forecast):
        print_forecast(found, fmt)
    else:
        print_swept(found, workspace, fmt)


def print_forecast(forecast: Forecast, fmt: str) -> None:
    from t2i_track.cli.ended import expected

    cells = forecast.cells
    print_rows(forecast.rows(), fmt, columns=["cell", *forecast.axes, "images", "made", "seconds", "low", "high"])
    left = sum(cell.images - cell.made for cell in cells)
    time = f"; {expected(forecast.total)}" if left else ""
    click.echo(f"{len(cells)} cell{'s' * (len(cells) != 1)}, {left} images to make{time}", err=True)


def print_swept(found: SweepResult, workspace: Workspace, fmt: str) -> None:
    from t2i_track.cli.ended import following, sweep_lines
    from t2i_track.cli.ranking_formats import print_comparison

    outcome = found.outcome
    for line in sweep_lines(outcome):
        click.echo(clean(line), err=True)
    if found.comparison is not None:
        print_comparison(found.comparison, fmt)
    else:
        click.echo(clean(f"not compared: {found.reason}"), err=True)
        if fmt != "table":  # people have read it above
            print_rows(found.rows(), fmt, columns=["cell", "state", "run", "error"])
    if len(outcome.failed) < len(outcome.cells) and fmt == "table":
        print_lines([following([f"t2i compare --sweep {outcome.sweep[:12]} --report report.html"], workspace)])
    if outcome.failed:
        first = outcome.failed[0].error
        raise T2IError(
            f"{len(outcome.failed)} of {len(outcome.cells)} cells failed ({first}); put that right and run the same"
            " command again"
        )
