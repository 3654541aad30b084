"""`t2i runs` and `t2i show`."""

from __future__ import annotations

import click

from t2i_track.cli.options import Whole, blank, format_option, workspace_options
from t2i_track.cli.output import print_record, print_rows, print_sections
from t2i_track.settings import UNKNOWABLE, UNKNOWN
from t2i_track.workspace import Workspace

STATUSES = ("running", "finished", "enough", "failed", "interrupted")
DROPPED = ("seconds_per_image", "seed", "scheduler", "created", "experiment")
"""What a narrow terminal goes without, the first of them first; the name often says it too."""
FILES = 3
"""Pictures that `show` names."""


@click.command()
@click.option("--experiment", callback=blank, help="Of this experiment only.")
@click.option("--status", type=click.Choice(STATUSES), help="With this status only.")
@click.option("--where", help="A condition, as of compare: \"guidance > 7 and scheduler = 'pndm'\".")
@click.option("--limit", type=Whole(1), help="At most so many, the newest.")
@format_option("table", "json", "csv", "markdown")
@workspace_options
def runs(
    workspace: Workspace, experiment: str | None, status: str | None, where: str | None, limit: int | None, fmt: str
) -> None:
    """List the runs, the newest first.

    \b
      t2i runs --status failed
      t2i runs --where "guidance > 7 and steps = 30" --limit 10
    """
    from t2i_track.runs.show import RUN_COLUMNS, run_rows

    with workspace.reading() as session:
        rows = run_rows(session, experiment, status, limit, where)
    if fmt in ("table", "markdown"):
        unknown = dict.fromkeys(UNKNOWABLE, UNKNOWN)
        rows = [{name: unknown.get(name) if value is None else value for name, value in row.items()} for row in rows]
    print_rows(rows, fmt, columns=RUN_COLUMNS, drop=DROPPED)


@click.command()
@click.argument("address", metavar="RUN_OR_IMAGE")
@click.option("--script", is_flag=True, help="Print a script of diffusers alone that makes the image again.")
@format_option("table", "json")
@workspace_options
def show(workspace: Workspace, address: str, script: bool, fmt: str) -> None:
    """The whole record of a run or of an image; --format json has every field of it.

    A run is addressed by its id or a prefix of it, its name, its MLflow run id, or 'latest'; an image by its id, its
    path, or a prefix of a hash.

    \b
      t2i show 12 --script > image.py && python image.py image.png
    """
    from t2i_track.cli.record import image_sections, run_sections
    from t2i_track.runs.show import first_files, record_of

    if script:
        _print_script(workspace, address)
        return
    with workspace.reading() as session:
        record = record_of(session, workspace, address)
        if fmt == "json":
            print_record(record, fmt)
        elif "made_with" in record:
            print_sections(image_sections(record))
        else:
            print_sections(run_sections(record, first_files(session, record["uuid"], FILES)))


def _print_script(workspace: Workspace, address: str) -> None:
    from t2i_track.runs.script import script_of

    with workspace.reading() as session:
        click.echo(script_of(session, workspace, address), nl=False)
