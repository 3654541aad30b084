"""`t2i plan`: how many images a difference takes, before a sweep is begun."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from t2i_track.cli.metric_help import DECIDES, ScoreOption
from t2i_track.cli.options import Whole, blank, format_option, workspace_options
from t2i_track.cli.output import print_rows
from t2i_track.workspace import Workspace

if TYPE_CHECKING:
    from t2i_track.runs.sample_size import SweepPlan


@click.command()
@click.option("--detect", type=float, metavar="DIFFERENCE", help="The difference to find, in units of the score.")
@click.option("--num", type=Whole(), help="Instead of --detect: so many images a run, to see what they can find.")
@click.option("--by", cls=ScoreOption, callback=blank, show_default=DECIDES, help="Score to plan by:")
@click.option("--run", "runs", multiple=True, metavar="RUN", help="A pilot run; may be repeated.")
@click.option("--experiment", callback=blank, help="All runs of this experiment are pilots.")
@click.option("--settings", type=Whole(), show_default="as many as there are pilots", help="How many will be compared.")
@click.option("--price", type=float, help="Money that an hour of the machine costs.")
@click.option("--watts", type=float, help="Power that the machine draws.")
@format_option("table", "json", "csv", "markdown")
@workspace_options
def plan(workspace: Workspace, runs: tuple[str, ...], fmt: str, **options: Any) -> None:
    """How many images a sweep should have to find a difference, and what they would take. Changes nothing.

    How much scores vary is read off pilot runs: stored runs over the same prompts, two settings of 64 images or more.

    \b
      t2i plan --detect 0.02 --by alignment
      t2i plan --detect 0.5 --by clip_score --run PILOT --settings 9 --price 2.50
      t2i plan --num 256
    """
    from t2i_track import api

    found = api.plan(*runs, **options, home=workspace.home, db_url=workspace.db_url)
    if fmt == "table":
        print_plan(found)
    else:
        print_rows(found.rows(), fmt)


def print_plan(found: SweepPlan) -> None:
    from t2i_track.cli.ended import expected
    from t2i_track.texts import clean

    for line in found.lines():
        click.echo(clean(line))
    click.echo(f"Time, at the settings of {clean(found.pilot)}: {expected(found.time)}.")
    if found.money is not None:
        low, high = found.money
        click.echo(f"Price: {low:.2f} to {high:.2f}.")
    if found.energy is not None:
        low, high = found.energy
        click.echo(f"Energy: {low:.3g} to {high:.3g} kWh.")
