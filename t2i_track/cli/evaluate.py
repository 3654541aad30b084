"""`t2i evaluate` and `t2i gate`."""

from __future__ import annotations

from typing import Any

import click

from t2i_track.cli.metric_help import MetricsCommand, MetricsOption
from t2i_track.cli.options import PATH, blank, format_option, tracking_option, workspace_options
from t2i_track.cli.output import print_rows
from t2i_track.errors import MetricError
from t2i_track.workspace import Workspace

COLUMNS = ("run", "score", "value", "ci_low", "ci_high", "n", "note")


def _names(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    names = tuple(name.strip().replace("-", "_") for name in value.split(",") if name.strip())
    if not names:
        from t2i_track.metrics.registry import METRICS

        raise click.BadParameter(f"names no metric: write --metrics {','.join(METRICS)}")
    return names


@click.command(cls=MetricsCommand)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--reference",
    callback=blank,
    help="'shapes', a folder, a manifest with image paths, an .npz (mu, sigma), or run:RUN.",
)
@click.option(
    "--metrics", cls=MetricsOption, callback=_names, show_default="all that apply", help="Some of these, with commas:"
)
@click.option(
    "--extractor",
    show_default="shapes for embedded captions, else inception-v3-compat",
    help="shapes, inception-v3-compat, dinov2:FOLDER, clip:FOLDER, or any that torch-fidelity knows.",
)
@click.option(
    "--extractor-weights",
    "weights",
    type=PATH,
    envvar="T2I_EXTRACTOR_WEIGHTS",
    show_envvar=True,
    help="The extractor's weights, if not in their usual place.",
)
@click.option("--clip", show_default="shapes for embedded captions", help="CLIP model, for metrics that read one.")
@click.option("--resize", type=click.IntRange(8), help="Bring all pictures to a square of this side first.")
@click.option("--protocol", help="A named protocol: refuse runs that do not follow it, and measure as it says.")
@click.option("--device", show_default="cuda, else mps, else cpu", help="Where features are made.")
@click.option("--skip-bad", is_flag=True, help="Score the rest where pictures are unreadable or of another size.")
@format_option("table", "json", "csv", "markdown")
@tracking_option
@workspace_options
def evaluate(workspace: Workspace, runs: tuple[str, ...], tracking_uri: str | None, fmt: str, **options: Any) -> None:
    """Score runs: their quality against a reference, how well they follow their prompts, how diverse they are.

    Features are made once for each picture and kept; what was measured before under the same protocol is not
    measured again.

    \b
      t2i evaluate latest
      t2i evaluate RUN1 RUN2 --reference coco.csv --metrics fid,clip --clip openai/clip-vit-base-patch16
    """
    from t2i_track.runs.evaluate import Request, score
    from t2i_track.tracking import Tracker

    with Tracker(tracking_uri, workspace.outbox) as tracker:
        scored = score(workspace, tracker, runs, Request(**options))
    rows = [{**values, "run": found.name, "score": values["name"]} for found in scored for values in found.scores]
    print_rows(rows, fmt, columns=COLUMNS)
    for found in scored:
        for warning in found.warnings:
            click.echo(f"{found.name}: {warning}", err=True)


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--protocol", required=True, help="Whose windows the values must lie in.")
@format_option("table", "json", "csv", "markdown")
@workspace_options
def gate(workspace: Workspace, runs: tuple[str, ...], protocol: str, fmt: str) -> None:
    """Exit 1 when a stored score leaves its protocol's window; for CI."""
    from t2i_track.runs.gate import gate as check

    rows, failures = check(workspace, runs, protocol)
    print_rows(rows, fmt, columns=("run", "score", "value", "low", "high", "inside"))
    if failures:
        raise MetricError("; ".join(failures))
