"""`t2i verify`: whether what is stored is true."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from t2i_track.cli.options import format_option, places_options, workspace_options
from t2i_track.cli.output import print_lines, print_record, print_rows
from t2i_track.errors import T2IError
from t2i_track.workspace import Workspace

if TYPE_CHECKING:
    from t2i_track.runs.repair import Mended
    from t2i_track.runs.verify import Verification


@click.command()
@click.argument("runs", nargs=-1, metavar="[RUN...]")
@click.option("--repair", is_flag=True, help="Make again what can be made, and move what is not ours into the trash.")
@click.option("--mlflow/--no-mlflow", default=True, help="Ask MLflow too.")
@places_options
@format_option("table", "json")
@workspace_options
def verify(
    workspace: Workspace, runs: tuple[str, ...], repair: bool, mlflow: bool, places: dict[str, Any], fmt: str
) -> None:
    """Whether what is stored is true: files, rows, seeds, scores and MLflow against each other. Exit 1 where it is not.

    Without RUN: all runs of the home that are not deleted. --model and the options after it are for --repair, which
    puts a picture back only if its pixels, made again, are the recorded ones.

    \b
      t2i verify
      t2i verify latest --repair
    """
    from t2i_track.runs.verify import verify as look

    found, mended = look(workspace, runs, mlflow=mlflow), []
    if repair and found.faults:
        from t2i_track.runs.repair import repair as mend
        from t2i_track.runs.reproduce import Places

        mended = mend(workspace, found, Places(**places))
        found = look(workspace, runs, mlflow=mlflow)
    print_verification(found, mended, fmt)
    if found.faults:
        way_on = "" if repair else ": `t2i verify --repair` makes again what can be made"
        raise T2IError(f"{len(found.faults)} of what is stored is not as it was recorded{way_on}")


def print_verification(found: Verification, mended: list[Mended], fmt: str) -> None:
    if fmt == "json":
        told = {"runs": found.runs, "images": found.images, "faults": found.rows(), "notes": found.notes}
        print_record({**told, "repaired": [dataclasses.asdict(one) for one in mended]}, fmt)
        return
    done = [{"kind": "repaired" if one.done else "left", "path": one.fault.path, "what": one.how} for one in mended]
    rows = done + found.rows()
    if rows:
        print_rows(rows, fmt, columns=("kind", "path", "what"))
    print_lines(found.lines())
