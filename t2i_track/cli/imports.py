"""`t2i import`: pictures that other programs made become runs."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from t2i_track.cli.options import PATH, blank, format_option, tracking_option, workspace_options
from t2i_track.cli.output import print_lines, print_record, print_rows
from t2i_track.errors import TransferError
from t2i_track.importing import FORMATS
from t2i_track.workspace import Workspace

if TYPE_CHECKING:
    from t2i_track.runs.imports import Import

COLUMNS = ("run", "name", "origin", "guidance", "steps", "scheduler", "model", "images", "added")
DROPPED = ("added", "model", "origin", "scheduler")
MOST_NAMED = 4
"""Runs that the command to go on with names."""


@click.command("import")
@click.argument("folder", type=PATH)
@click.option(
    "--experiment", callback=blank, show_default="MLFLOW_EXPERIMENT_NAME or _ID, else t2i", help="Of the runs."
)
@click.option("--run-name", callback=blank, show_default="the settings", help="Name of the run, or how names begin.")
@click.option("--from", "made_by", type=click.Choice(FORMATS), show_default="all", help="Only what this program made.")
@click.option("--table", type=PATH, help="CSV or JSON lines that speak of the pictures, where not in the folder.")
@click.option("--copy", is_flag=True, help="Copy the files into --home; else they are used where they lie.")
@click.option(
    "--evaluate/--no-evaluate", default=None, show_default="on for embedded captions or --reference", help="Score them."
)
@click.option(
    "--reference", callback=blank, help="What to score against: 'shapes', a folder, a manifest, an .npz, or run:RUN."
)
@format_option("table", "json")
@tracking_option
@workspace_options
def import_(workspace: Workspace, folder: Path, fmt: str, **options: Any) -> None:
    """Make runs of pictures that other programs made, one run for each setting.

    Reads what A1111, ComfyUI, Fooocus, InvokeAI, NovelAI and SwarmUI write into their pictures, JSON and CSV beside
    them, and tables of scripts. What they do not tell is unknown. The same folder again adds what is new.

    \b
      t2i import outputs/
      t2i import outputs/ --experiment webui --reference photographs/ && t2i compare --experiment webui
    """
    from t2i_track import api

    found = api.import_pictures(folder, **options, home=workspace.home, db_url=workspace.db_url)
    if fmt == "json":
        print_record(record(found), fmt)
    else:
        print_table(found, workspace)
    if found.unscored is not None:
        raise TransferError(f"imported, but not scored: {found.unscored}")


def record(found: Import) -> dict[str, Any]:
    """As JSON has it."""
    names = ("folder", "imported", "known", "left_out", "notes", "unscored")
    scores = {one.run: one.values() for one in found.scored}
    runs = [{**row, "scores": scores.get(row["run"])} for row in found.rows()]
    return {**{name: getattr(found, name) for name in names}, "runs": runs}


def print_table(found: Import, workspace: Workspace) -> None:
    from t2i_track.cli.ended import following
    from t2i_track.cli.scores import headline

    print_lines([found.said])
    if found.runs:
        rows = [{**row, "run": row["run"][:12]} for row in found.rows()]
        print_rows(
            [{n: "unknown" if v is None else v for n, v in row.items()} for row in rows],
            "table",
            columns=COLUMNS,
            drop=DROPPED,
        )
    print_lines([f"{one.name}: {headline(one.scores)}" for one in found.scored])
    print_lines(
        [f"note: {note}" for note in (*found.notes, *dict.fromkeys(n for one in found.scored for n in one.notes()))]
    )
    if found.runs:
        addresses = " ".join(run.run[:12] for run in found.runs[:MOST_NAMED])
        score = [] if found.scored else [f"t2i evaluate {addresses} --reference FOLDER"]
        compare = f"t2i compare --experiment {shlex.quote(found.runs[0].experiment)}"
        print_lines([following([*score, compare], workspace)])
