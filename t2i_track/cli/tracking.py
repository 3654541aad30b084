"""`t2i resync` and `t2i ui`."""

from __future__ import annotations

import dataclasses
import os

import click

from t2i_track.cli.options import format_option, tracking_option, workspace_options
from t2i_track.cli.output import print_record
from t2i_track.errors import TrackingError
from t2i_track.workspace import Workspace


@click.command()
@click.option("--to", "uri", help="Send to this tracking URI instead of the one that each run was meant for.")
@format_option("table", "json")
@workspace_options
def resync(workspace: Workspace, uri: str | None, fmt: str) -> None:
    """Send MLflow what it could not take while its server was away."""
    from t2i_track.tracking import resync as send

    result = send(workspace.outbox, uri)
    print_record(dataclasses.asdict(result), fmt)
    if result.pending or result.refused:
        raise TrackingError(
            f"{result.pending + result.refused} records are still not sent ({result.reason or 'the server refused'}):"
            f" they are kept in {workspace.outbox}"
        )


@click.command()
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=5000, help="Port to listen on.")
@tracking_option
def ui(host: str, port: int, tracking_uri: str | None) -> None:
    """MLflow's UI on the store that the runs are in; Ctrl-C ends it."""
    from t2i_track.tracking import server_command

    command = server_command(tracking_uri, host, port)
    click.echo(f"http://{host}:{port}", err=True)
    os.execvp(command[0], command)
