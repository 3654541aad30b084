"""`t2i tag`, `t2i note` and `t2i rename`: what people say about runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from t2i_track.cli.options import format_option, tracking_option, workspace_options
from t2i_track.cli.output import print_rows
from t2i_track.workspace import Workspace

if TYPE_CHECKING:
    from t2i_track.runs.words import Said

COLUMNS = ("run", "name", "tags", "note")


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN... KEY=VALUE...")
@click.option("--remove", multiple=True, metavar="KEY", help="Take this tag away; may be repeated.")
@format_option("table", "json", "csv", "markdown")
@tracking_option
@workspace_options
def tag(
    workspace: Workspace, runs: tuple[str, ...], remove: tuple[str, ...], tracking_uri: str | None, fmt: str
) -> None:
    """Give runs tags, to filter by: --where "tag.quality = 'good'". MLflow has them as t2i.tag.KEY.

    \b
      t2i tag latest quality=good paper=figure-3
      t2i tag RUN1 RUN2 --remove paper
    """
    from t2i_track.runs import words

    pairs = [word.partition("=") for word in runs if "=" in word]
    addresses = [word for word in runs if "=" not in word]
    if not addresses:
        raise click.UsageError("no run was named: t2i tag RUN KEY=VALUE")
    print_said(words.tag(workspace, tracking_uri, addresses, {key: value for key, _, value in pairs}, remove), fmt)


@click.command()
@click.argument("run")
@click.argument("text")
@format_option("table", "json", "csv", "markdown")
@tracking_option
@workspace_options
def note(workspace: Workspace, run: str, text: str, tracking_uri: str | None, fmt: str) -> None:
    """Say something about a run, in place of what was said; '' takes it away. It is MLflow's description.

    \b
      t2i note latest "hands are wrong in half of them"
    """
    from t2i_track.runs import words

    print_said([words.note(workspace, tracking_uri, run, text)], fmt)


@click.command()
@click.argument("run")
@click.argument("name")
@format_option("table", "json", "csv", "markdown")
@tracking_option
@workspace_options
def rename(workspace: Workspace, run: str, name: str, tracking_uri: str | None, fmt: str) -> None:
    """Call a run otherwise, here and in MLflow; its id, folder and pictures stay."""
    from t2i_track.runs import words

    print_said([words.rename(workspace, tracking_uri, run, name)], fmt)


def print_said(said: Sequence[Said], fmt: str) -> None:
    rows = [dataclasses.asdict(one) for one in said]
    if fmt == "table":
        rows = [{**row, "tags": " ".join(f"{key}={value}" for key, value in row["tags"].items())} for row in rows]
    print_rows(rows, fmt, columns=COLUMNS)
    if any(one.unsent for one in said):
        click.echo("not all of it could be sent to MLflow: send the rest with 't2i resync'", err=True)
