"""`t2i export`: runs as data sets that other programs open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from t2i_track.cli.options import PATH, workspace_options
from t2i_track.cli.output import print_lines
from t2i_track.workspace import Workspace


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--out", type=PATH, required=True, help="A new folder.")
@click.option(
    "--format",
    type=click.Choice(("parquet", "imagefolder")),
    default="parquet",
    help="Parquet files with the pictures in them, or pictures beside a metadata.jsonl.",
)
@click.option("--private", is_flag=True, help="Without prompts (hashes stay) and what files say of themselves.")
@click.option("--skip-bad", is_flag=True, help="Export the rest where pictures are missing or changed.")
@workspace_options
def export(workspace: Workspace, runs: tuple[str, ...], out: Path, **options: Any) -> None:
    """Write runs as a data set: pictures with prompts, seeds, settings, scores and hashes.

    Hugging Face's `datasets.load_dataset(FOLDER)` opens it. The folder is whole or not there.

    \b
      t2i export latest --out data/
      t2i export RUN1 RUN2 --format imagefolder --private --out data/
    """
    from t2i_track import api

    print_lines(api.export(*runs, out=out, **options, home=workspace.home, db_url=workspace.db_url).lines())
