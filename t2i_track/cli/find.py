"""`t2i find`: pictures by words and settings."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from t2i_track.cli.options import Whole, blank, format_option, workspace_options
from t2i_track.cli.output import print_rows
from t2i_track.texts import clean
from t2i_track.workspace import Workspace

COLUMNS = ("id", "run", "guidance", "steps", "seed", "prompt", "path")
DROPPED = ("seed", "run", "steps", "guidance")
"""What a narrow terminal goes without, the first of them first."""


@click.command()
@click.argument("words", nargs=-1, metavar="[WORDS...]")
@click.option("--guidance", metavar="COMPARISON", callback=blank, help="7, '>7', '<=7' or 3..5.")
@click.option("--steps", metavar="COMPARISON", callback=blank, help="As --guidance.")
@click.option("--experiment", callback=blank, help="Of this experiment only.")
@click.option("--where", callback=blank, help="A condition on the run, as of compare: \"scheduler = 'pndm'\".")
@click.option("--limit", type=Whole(1), default=20, help="At most so many, the newest.")
@click.option("-0", "--null", is_flag=True, help="End each path with a NUL, for xargs -0; means --format paths.")
@format_option("table", "json", "csv", "paths")
@workspace_options
def find(
    workspace: Workspace,
    words: tuple[str, ...],
    guidance: str | None,
    steps: str | None,
    experiment: str | None,
    where: str | None,
    limit: int,
    null: bool,
    fmt: str,
) -> None:
    """Find pictures whose prompts hold all WORDS, the newest first; one in quotes is a phrase. Case does not matter.

    \b
      t2i find red circle --guidance ">7"
      t2i find "red circle" --steps 10..30 --format paths -0 | xargs -0 cp -t chosen/
    """
    from t2i_track.runs import find as finding

    chosen = {"guidance": guidance, "steps": steps, "experiment": experiment, "where": where}
    with workspace.reading() as session:
        found = finding.find(session, workspace, [word for word in words if word], **chosen, limit=limit)
    if null or fmt == "paths":
        print_paths([row["path"] for row in found.rows], "\0" if null else "\n")
    else:
        print_rows(found.rows, fmt, columns=COLUMNS, drop=DROPPED)
    if not found.rows:
        asked = [*words, *(f"--{name} {value}" for name, value in chosen.items() if value)]
        click.echo(clean(f"no picture found for {' '.join(asked) or 'anything'}"), err=True)
    elif found.more:
        click.echo(f"the {limit} newest; --limit shows more", err=True)


def print_paths(paths: Sequence[str], end: str) -> None:
    """For programs, so byte for byte; on a terminal nothing that it would obey."""
    if end == "\n" and sys.stdout.isatty():
        click.echo("".join(f"{clean(path)}\n" for path in paths), nl=False)
    else:
        # What begins with a dash would be an option of the program that gets it.
        whole = (f"./{path}" if path.startswith("-") else path for path in paths)
        click.echo(b"".join(os.fsencode(path + end) for path in whole), nl=False)
