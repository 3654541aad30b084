"""`t2i resync` and `t2i ui`."""

from __future__ import annotations

import dataclasses
import os

import click

from t2i_track.cli.options import Whole, format_option, tracking_option, workspace_options
from t2i_track.cli.output import print_rows
from t2i_track.errors import TrackingError
from t2i_track.workspace import Workspace

COLUMNS = ("run", "name", "state", "mlflow_run_id", "reason")


@click.command()
@click.argument("runs", nargs=-1, metavar="[RUN...]")
@click.option("--to", metavar="URI", help="Send to this tracking URI, where the runs are from now on.")
@format_option("table", "json", "csv", "markdown")
@workspace_options
def resync(workspace: Workspace, runs: tuple[str, ...], to: str | None, fmt: str) -> None:
    """Send MLflow what it lacks.

    Without RUN: what could not be sent while its server was away, or when a command was killed. A RUN (or a sweep, with
    its cells) is written whole, and made anew where MLflow has lost or deleted it; nothing that is there is doubled.

    \b
      t2i resync
      t2i resync latest
      t2i resync RUN1 RUN2 --to http://mlflow.example:5000
    """
    from t2i_track.runs.resync import resync as send

    sent = send(workspace, runs, to)
    print_rows([dataclasses.asdict(run) for run in sent], fmt, columns=COLUMNS)
    left = [run for run in sent if not run.complete]
    if left:
        raise TrackingError(f"{len(left)} of {len(sent)} are not all in MLflow; the first: {left[0].reason}")


@click.command()
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option("--port", type=Whole(1, 65535), default=5000, help="Port to listen on.")
@tracking_option
def ui(host: str, port: int, tracking_uri: str | None) -> None:
    """MLflow's UI on the store that the runs are in; Ctrl-C ends it."""
    from t2i_track.tracking import server_command

    command, environment = server_command(tracking_uri, host, port)
    click.echo(f"http://{host}:{port}", err=True)
    os.execvpe(command[0], command, environment)
