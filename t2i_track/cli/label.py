"""`t2i label`: failure cases of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from t2i_track.cli.options import PATH, blank, format_option, workspace_options
from t2i_track.cli.output import print_lines, print_record
from t2i_track.workspace import Workspace

if TYPE_CHECKING:
    from t2i_track.runs.labels import Labelled

FAILURES = ("count", "limbs", "spatial", "background", "text", "other", "ok")


@click.command()
@click.argument("images", nargs=-1, metavar="[IMAGE...]")
@click.option("--failure", "failures", multiple=True, type=click.Choice(FAILURES), help="What failed; may be repeated.")
@click.option("--note", help="Words about it.")
@click.option("--author", callback=blank, show_default="the login name", help="Who says so.")
@click.option("--remove", is_flag=True, help="Take the author's labels back: these --failure, or all.")
@click.option("--csv", "file", type=PATH, help="A table of labels: image,failure and, if wanted, note,author.")
@click.option("--auto", "runs", multiple=True, metavar="RUN", help="Propose labels for a run by its alignment scores.")
@format_option("table", "json")
@workspace_options
def label(
    workspace: Workspace,
    images: tuple[str, ...],
    failures: tuple[str, ...],
    note: str | None,
    author: str | None,
    remove: bool,
    file: Path | None,
    runs: tuple[str, ...],
    fmt: str,
) -> None:
    """Say what is wrong in pictures: count, limbs, spatial, background, text, other, or ok.

    An image is an id, a path or a prefix of a hash. It may have several failures; 'ok' takes the author's others away,
    and a failure their 'ok'. The same label again changes its note. 't2i compare' and 't2i show' have the rates; there
    a person's label of an image replaces its proposals.

    \b
      t2i label 17 --failure count --note "three, not two"
      t2i label --csv labels.csv
      t2i label --auto latest
    """
    from t2i_track.runs import labels
    from t2i_track.runs.label_files import label_file

    ways = [name for name, given in (("IMAGE", images), ("--csv", file), ("--auto", runs)) if given]
    if len(ways) != 1:
        told = f"not {' and '.join(ways)} at once" if ways else "nothing was named"
        raise click.UsageError(f"give images, --csv FILE or --auto RUN: {told}")
    if images and not (failures or remove):
        raise click.UsageError(f"say what failed with --failure: {', '.join(FAILURES)}")
    if (file or runs) and (failures or note or (remove and file) or (author and runs)):
        raise click.UsageError(f"{ways[0]} does not go with --failure, --note{', --remove' if file else ', --author'}")
    if file is not None:
        done = label_file(workspace, file, author=author)
    elif runs:
        done = (labels.unpropose if remove else labels.propose)(workspace, runs)
    elif remove:
        done = labels.unlabel(workspace, images, failures, author=author)
    else:
        done = labels.label(workspace, images, failures, note=note, author=author)
    print_labelled(done, fmt)


def print_labelled(done: Labelled, fmt: str) -> None:
    if fmt == "json":
        print_record(done.record(), fmt)
        return
    print_lines(done.lines())
    given = ", ".join(f"{failure} {count}" for failure, count in done.failures.items())
    print_lines([f"of them: {given}"] if given else [])
