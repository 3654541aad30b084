"""`t2i runs` and `t2i show`."""

from __future__ import annotations

import click

from t2i_track.cli.options import format_option, workspace_options
from t2i_track.cli.output import print_record, print_rows
from t2i_track.workspace import Workspace

STATUSES = ("running", "finished", "failed", "interrupted")


@click.command()
@click.option("--experiment", help="Of this experiment only.")
@click.option("--status", type=click.Choice(STATUSES), help="With this status only.")
@click.option("--limit", type=click.IntRange(1), help="At most so many, the newest.")
@format_option("table", "json", "csv", "markdown")
@workspace_options
def runs(workspace: Workspace, experiment: str | None, status: str | None, limit: int | None, fmt: str) -> None:
    """List the runs, the newest first."""
    from t2i_track.runs.show import RUN_COLUMNS, run_rows

    with workspace.reading() as session:
        print_rows(run_rows(session, experiment, status, limit), fmt, columns=RUN_COLUMNS)


@click.command()
@click.argument("address", metavar="RUN_OR_IMAGE")
@format_option("table", "json")
@workspace_options
def show(workspace: Workspace, address: str, fmt: str) -> None:
    """The whole record of a run or of an image.

    A run is addressed by its id or a prefix of it, its name, its MLflow run id, or 'latest'; an image by its id, its
    path, or a prefix of a hash.
    """
    from t2i_track.runs.show import record_of

    with workspace.reading() as session:
        print_record(record_of(session, workspace, address), fmt)
