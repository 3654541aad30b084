"""`t2i delete` and `t2i gc`."""

from __future__ import annotations

import dataclasses
import sys
from datetime import timedelta

import click

from t2i_track.cli.options import format_option, tracking_option, workspace_options
from t2i_track.cli.output import print_rows
from t2i_track.errors import SettingsError
from t2i_track.texts import clean
from t2i_track.workspace import Workspace

MOVED = ("run", "name", "images", "trash", "note")
EMPTIED = ("run", "name", "images", "bytes", "deleted")


def ask(question: str, yes: bool) -> None:
    """Go on only where a person says so.

    Raises:
        SettingsError: there is nobody to ask. click.Abort: they say no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise SettingsError(f"{question} There is nobody to ask: pass --yes")
    click.confirm(clean(question), abort=True, err=True)


@click.command()
@click.argument("addresses", nargs=-1, required=True, metavar="RUN...")
@click.option("--undo", is_flag=True, help="Bring them back from the trash.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@format_option("table", "json", "csv", "markdown")
@tracking_option
@workspace_options
def delete(
    workspace: Workspace, addresses: tuple[str, ...], undo: bool, yes: bool, tracking_uri: str | None, fmt: str
) -> None:
    """Put runs, or a sweep with its cells, into the home's trash.

    They are hidden everywhere, in MLflow too. A receipt says what they were, --undo brings them back, and 't2i gc'
    frees the disk. What other runs or sweeps have too stays theirs.

    \b
      t2i delete latest
      t2i delete --undo RUN
    """
    from t2i_track.runs import trash

    if undo:
        moved = trash.restore(workspace, tracking_uri, addresses)
    else:
        with workspace.reading() as session:
            sweeps, runs = trash.addressed(session, addresses)
            names = ", ".join([*(sweep.name for sweep in sweeps), *(run.name for run in runs)][:5])
            counted = f"{len(runs)} run{'s' * (len(runs) != 1)}"
        ask(f"Put {counted} into the trash ({names}{', ...' if len(sweeps) + len(runs) > 5 else ''})?", yes)
        moved = trash.delete(workspace, tracking_uri, addresses)
    print_rows([dataclasses.asdict(one) for one in moved], fmt, columns=MOVED)


@click.command()
@click.option(
    "--older-than", "days", type=click.FloatRange(min=0), default=0.0, help="Only what is there for so many days."
)
@click.option("--dry-run", is_flag=True, help="Print what would be removed.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@format_option("table", "json", "csv", "markdown")
@workspace_options
def gc(workspace: Workspace, days: float, dry_run: bool, yes: bool, fmt: str) -> None:
    """Empty the home's trash: deleted runs and their pictures are gone for good.

    A picture that another run has too stays on the disk. MLflow keeps its deleted runs until 'mlflow gc'.
    """
    from t2i_track.runs import trash

    found = trash.trashed(workspace, timedelta(days=days))
    if found and not dry_run:
        ask(f"Remove {len(found)} entries of {workspace.trash} for good?", yes)
        trash.gc(workspace, found)
    print_rows([dataclasses.asdict(one) for one in found], fmt, columns=EMPTIED)
