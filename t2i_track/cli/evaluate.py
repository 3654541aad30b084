"""`t2i evaluate` and `t2i gate`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from t2i_track.cli.metric_help import MetricsCommand, MetricsOption
from t2i_track.cli.options import (
    PATH,
    Whole,
    blank,
    format_option,
    tracking_option,
    workers_options,
    workspace_options,
)
from t2i_track.cli.output import print_lines, print_rows, print_sections
from t2i_track.cli.tables import Column, terminal
from t2i_track.errors import MetricError
from t2i_track.texts import clean
from t2i_track.workspace import Workspace

if TYPE_CHECKING:
    from t2i_track.runs.evaluate import Scored

MOST_NAMED = 4
"""Runs that the command to go on with names."""
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
@click.option("--resize", type=Whole(8), help="Bring all pictures to a square of this side first.")
@click.option("--protocol", help="A named protocol: refuse runs that do not follow it, and measure as it says.")
@click.option("--device", show_default="cuda, else mps, else cpu", help="Where features are made.")
@click.option(
    "--skip-bad", is_flag=True, help="Score the rest where pictures are unreadable, changed or of another size."
)
@click.option(
    "--shared-prompts", is_flag=True, help="Score only the prompts that all of the runs have, to compare their scores."
)
@workers_options
@format_option("table", "json", "csv", "markdown")
@tracking_option
@workspace_options
def evaluate(workspace: Workspace, runs: tuple[str, ...], fmt: str, **options: Any) -> None:
    """Score runs: their quality against a reference, how well they follow their prompts, how diverse they are.

    Features are made once for each picture and kept; what was measured before under the same protocol is not
    measured again. A folder of pictures that is no run is measured alike, and nothing of it is stored.

    \b
      t2i evaluate latest
      t2i evaluate generated/ --reference photographs/
      t2i evaluate RUN1 RUN2 --reference coco.csv --metrics fid,clip --clip openai/clip-vit-base-patch16
    """
    from t2i_track import api

    weights = options.pop("weights")
    found = api.evaluate(*runs, **options, extractor_weights=weights, home=workspace.home, db_url=workspace.db_url)
    if fmt == "table":
        print_scored(found.runs, workspace)
    else:
        stored = all(one.run for one in found.runs)
        columns = COLUMNS if stored else (*COLUMNS, "protocol")  # a run's stands in the database
        print_rows([row | {"score": row["name"]} for row in found.rows()], fmt, columns=columns)
    for line in found.lines():
        click.echo(clean(line), err=True)


def print_scored(scored: Sequence[Scored], workspace: Workspace) -> None:
    """One run's scores as a table; of several, on a terminal, the most telling ones of each."""
    from t2i_track.cli.ended import following
    from t2i_track.cli.scores import headline, score_section

    addresses = [found.run[:12] for found in scored]
    if len(scored) > 1 and terminal() is not None:
        print_lines([f"{found.name}{_id(found)}: {headline(found.scores)}" for found in scored])
    else:
        names = [found.name for found in scored for _ in found.scores]
        lead = [Column("run", names)] if len(scored) > 1 else []
        title = scored[0].name if len(scored) == 1 else f"{len(scored)} runs"
        print_sections([score_section(title, [score for found in scored for score in found.scores], lead=lead)])
    if not all(addresses):
        print_lines([following([f"t2i import {shlex.quote(scored[0].name)}"], workspace)])
        return
    compared = f" {' '.join(addresses)}" if 1 < len(addresses) <= MOST_NAMED else ""
    print_lines([following([f"t2i compare{compared}", f"t2i show {addresses[0]}"], workspace)])


def _id(found: Scored) -> str:
    return f" ({found.run[:12]})" if found.run else ""


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--protocol", required=True, help="Whose windows the values must lie in.")
@format_option("table", "json", "csv", "markdown")
@workspace_options
def gate(workspace: Workspace, runs: tuple[str, ...], protocol: str, fmt: str) -> None:
    """Exit 1 when a stored score leaves its protocol's window; for CI."""
    from t2i_track.runs.gate import gate as check

    rows, failures = check(workspace, runs, protocol)
    print_rows(rows, fmt, columns=("run", "score", "value", "low", "high", "inside", "measured"), drop=("measured",))
    if failures:
        raise MetricError("; ".join(failures))
