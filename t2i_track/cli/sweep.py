"""`t2i sweep`: a grid of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from t2i_track.cli.metric_help import ScoreOption
from t2i_track.cli.options import PATH, format_option, memory_format_option, tracking_option, workspace_options
from t2i_track.cli.output import print_rows
from t2i_track.errors import T2IError
from t2i_track.settings import DTYPES, Settings
from t2i_track.workspace import Workspace

LISTS = ("guidance", "steps", "scheduler", "seed", "model", "lora", "height", "width")
HELD = ("num", "images_per_prompt", "batch_size", "dtype", "memory_format", "device", "revision")


def _list(_ctx: click.Context, param: click.Parameter, value: str | None) -> list[str]:
    """The values of an axis; a comma separates them."""
    if value is None:
        return []
    values = [part.strip() for part in value.split(",")]
    if not all(values):
        raise click.BadParameter(f"'{value}' has an empty value: write --{param.name} 1,2,3")
    return values


def axis_options(command: Any) -> Any:
    for name in reversed(LISTS):
        command = click.option(f"--{name}", callback=_list, metavar="LIST", help=f"{name}: one value, or several.")(
            command
        )
    return command


@click.command()
@click.argument("file", type=PATH, required=False, metavar="[FILE.yaml]")
@axis_options
@click.option("--negative-prompt", multiple=True, help="A negative prompt; repeat it to vary it.")
@click.option("--zip", "zipped", is_flag=True, help="Run the axes side by side instead of every combination.")
@click.option("--manifest", "--val-csv", help="CSV, TSV, JSONL or TXT.  [default: the embedded captions]")
@click.option("--prompt", "prompts", multiple=True, help="A prompt; may be repeated. Instead of --manifest.")
@click.option("--num", type=int, show_default="all; 64 of the embedded ones", help="Prompts to take.")
@click.option("--images-per-prompt", type=int, show_default=str(Settings().images_per_prompt), help="Images of each.")
@click.option("--batch-size", type=int, show_default=str(Settings().batch_size), help="Images made at once.")
@click.option("--dtype", type=click.Choice(DTYPES), show_default="fp16 on CUDA, else fp32", help="Precision.")
@memory_format_option
@click.option("--device", show_default="cuda, else mps, else cpu", help="cpu, cuda, cuda:1, mps.")
@click.option("--revision", help="Branch, tag or commit of a Hugging Face id.")
@click.option("--name", help="Name of the sweep.  [default: sweep]")
@click.option("--experiment", help="MLflow experiment.  [default: t2i]")
@click.option("--evaluate/--no-evaluate", default=None, show_default="on for embedded captions or --reference")
@click.option("--reference", help="What to score against: 'shapes', a folder, a manifest, an .npz, or run:RUN.")
@click.option("--report", type=PATH, help="Also write a static HTML report here.")
@click.option("--by", cls=ScoreOption, default="fid", help="Score that the comparison at the end ranks by:")
@click.option("--dry-run", is_flag=True, help="Print the cells, the images to make and the time they would take.")
@click.option("--fresh", is_flag=True, help="Make every cell anew, also those that earlier runs have made.")
@click.option("--yes", is_flag=True, help="Run a grid of more than 100 cells.")
@click.option("--allow-pickle", is_flag=True, help="Load pickled weights, which can run code.")
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
    from t2i_track.runs import sweep as sweeping

    axes = {name: options[name] for name in LISTS if options[name]}
    if options["negative_prompt"]:
        axes["negative_prompt"] = list(options["negative_prompt"])
    given = {name: options[name] for name in ("name", "experiment", "manifest", "evaluate", "reference")}
    given["prompts"] = list(options["prompts"]) or None
    given["settings"] = {name: options[name] for name in HELD if options[name] is not None}
    experiment = sweeping.experiment_from(file, given, axes, options["zipped"])
    if options["dry_run"]:
        print_forecast(sweeping.forecast(workspace, experiment), list(experiment.axes), fmt)
        return
    sweeping.require_yes(experiment, options["yes"])
    run_and_compare(workspace, experiment, options, fmt)


def print_forecast(cells: Any, axes: list[str], fmt: str) -> None:
    from t2i_track.runs.sweep import listed

    print_rows(list(listed(cells, axes)), fmt, columns=["cell", *axes, "images", "made", "seconds"])
    left = sum(cell.images - cell.made for cell in cells)
    known = [cell.seconds for cell in cells]
    if any(seconds is None for seconds in known):
        time = "no time estimate: no run of this model, size and batch size has been timed here yet"
    else:
        time = f"about {sum(known) / 60:.1f} minutes at the rate of the newest run"
    click.echo(f"{len(cells)} cells, {left} images to make; {time}", err=True)


def run_and_compare(workspace: Workspace, experiment: Any, options: dict[str, Any], fmt: str) -> None:
    from t2i_track.runs import compare as comparing
    from t2i_track.runs import sweep as sweeping
    from t2i_track.tracking import Tracker

    with Tracker(options["tracking_uri"], workspace.outbox) as tracker:
        outcome = sweeping.run_sweep(
            workspace, tracker, experiment, fresh=options["fresh"], allow_pickle=options["allow_pickle"]
        )
    for cell in outcome.cells:
        click.echo(f"cell {cell.cell}: {cell.state} {cell.error or cell.run}", err=True)
    done = [cell.run for cell in outcome.cells if cell.run is not None and cell.state != "failed"]
    try:
        by = options["by"].replace("-", "_")
        ranked = comparing.ranking(workspace, done, by=by, fmt=fmt, report=options["report"])
        click.echo(ranked.text, nl=False)
        parent, report = outcome.mlflow_run_id, options["report"]
        comparing.log_comparison(workspace, options["tracking_uri"], parent, ranked.comparison, report)
    except T2IError as error:
        # The runs are made whether or not they can be ranked (--no-evaluate, or no cell was made).
        click.echo(f"not compared: {error}", err=True)
    if outcome.failed:
        first = outcome.failed[0].error
        raise T2IError(
            f"{len(outcome.failed)} of {len(outcome.cells)} cells failed ({first}); put that right and run the same"
            " command again"
        )
