"""`t2i compare`: which settings are better, and how sure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from t2i_track.cli.metric_help import DECIDES, ScoreOption
from t2i_track.cli.options import PATH, blank, format_option, tracking_option, workspace_options
from t2i_track.texts import clean
from t2i_track.workspace import Workspace

if TYPE_CHECKING:
    from t2i_track.ranking import Comparison, Decided, Equivalence, PairComparison


@click.command()
@click.argument("runs", nargs=-1, metavar="[RUN...]")
@click.option("--experiment", callback=blank, help="All runs of this experiment.")
@click.option("--sweep", help="All cells of this sweep.")
@click.option("--where", help="A condition: \"guidance > 7 and scheduler = 'pndm'\".")
@click.option(
    "--by",
    cls=ScoreOption,
    callback=blank,
    show_default=DECIDES,
    help="Score to rank by:",
)
@click.option(
    "--within",
    callback=blank,
    metavar="MARGIN",
    show_default="the score's own, docs/compare.md",
    help="How much worse than the best still counts as good: 0.01 in units of the score, or 2% of the best value.",
)
@click.option(
    "--equivalent-to",
    callback=blank,
    metavar="BASE",
    help="Hold the runs against this one: is each as good within a margin, worse, or undecided?",
)
@click.option("--report", type=PATH, help="Also write a static HTML report here (an .html file, or a folder).")
@click.option("--picture", type=PATH, help="Of exactly two runs: the prompts that change most, side by side (PNG).")
@format_option("table", "json", "csv", "markdown")
@tracking_option
@workspace_options
def compare(workspace: Workspace, runs: tuple[str, ...], fmt: str, **options: Any) -> None:
    """Rank runs by a score: intervals, tiers of runs that cannot be told apart, and one recommended setting.

    Runs that were measured under another protocol are listed apart with the reason. Exactly two runs are compared
    with each other: paired differences, wins and losses by prompt, and the prompts that change most.

    \b
      t2i compare --experiment guidance
      t2i compare --where "steps = 30" --by alignment --report report.html
      t2i compare RUN1 RUN2
      t2i compare --equivalent-to BASE FAST1 FAST2
    """
    from t2i_track import api

    if (
        options["equivalent_to"] is None
        and options["picture"] is not None
        and (len(runs) != 2 or options["where"] is not None)
    ):
        raise click.UsageError("--picture is of exactly two runs: t2i compare RUN1 RUN2 --picture changes.png")
    found = api.compare(*runs, **options, home=workspace.home, db_url=workspace.db_url)
    _print(found, fmt)
    if options["report"] is not None:
        click.echo(clean(f"report: {options['report']}"), err=True)


def _print(found: Comparison | PairComparison | Equivalence | Decided, fmt: str) -> None:
    """Each by the module that knows it, of which no other is loaded."""
    from t2i_track import ranking

    if isinstance(found, ranking.Comparison):
        from t2i_track.cli.ranking_formats import print_comparison

        print_comparison(found, fmt)
    elif isinstance(found, ranking.PairComparison):
        from t2i_track.cli.pair_formats import print_pair

        print_pair(found, fmt)
    elif isinstance(found, ranking.Equivalence):
        from t2i_track.cli.equivalence_formats import print_equivalence

        print_equivalence(found, fmt)
    else:
        from t2i_track.cli.decided_formats import print_decided

        print_decided(found, fmt)
