"""`t2i audit` and `t2i seal`: proofs that a run is what it says."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from t2i_track.cli.options import PATH, Whole, format_option, places_options, workspace_options
from t2i_track.cli.output import print_lines, print_record
from t2i_track.errors import SealError
from t2i_track.workspace import Workspace

if TYPE_CHECKING:
    from t2i_track.runs.audit import Audit


@click.command()
@click.argument("target", metavar="RUN_OR_SEAL")
@click.option(
    "--sample", type=Whole(0), show_default="100; 0 of a seal with its pictures", help="Pictures to make again."
)
@click.option("--seed", "nonce", metavar="NONCE", show_default="random", help="What the sample is drawn by.")
@click.option("--pictures", type=PATH, show_default="those of the run in --home", help="The pictures of a seal.")
@places_options
@format_option("table", "json")
@workspace_options
def audit(
    workspace: Workspace,
    target: str,
    sample: int | None,
    nonce: str | None,
    pictures: Path | None,
    places: dict[str, Any],
    fmt: str,
) -> None:
    """Make pictures again that are drawn at random, and say what that proves of the run. Exit 1 where one disagrees.

    The NONCE is for whoever checks to choose, after the run was made. Of a seal, pictures at hand are held against it
    too. Nothing is loaded because a seal names it: --model says where the weights are, unless a run here has used them.

    \b
      t2i audit latest --sample 100
      t2i audit RUN.seal.json --pictures folder --sample 20
    """
    from t2i_track.runs.audit import audit as check
    from t2i_track.runs.reproduce import Places

    found = check(workspace, target, sample=sample, nonce=nonce, pictures=pictures, places=Places(**places))
    print_audit(found, fmt)
    if not found.sound:
        wrong = len(found.findings.disagreeing)
        told = f"{wrong} of {found.findings.looked} pictures disagree" if wrong else found.lines()[0]
        raise SealError(f"run {found.run[:12]} is not what it says: {told}")


def print_audit(found: Audit, fmt: str) -> None:
    findings = found.findings
    limit = findings.bound
    record = {
        "run": found.run,
        "name": found.name,
        "root": found.root,
        "images": findings.whole,
        "sampled": findings.looked,
        "nonce": findings.nonce,
        "made_again": findings.distribution() if findings.looked else None,
    }
    if fmt == "table":
        print_record({name.replace("_", " "): value for name, value in record.items()}, fmt)
        print_lines(found.lines())
        return
    scores = [{**dataclasses.asdict(one), "agrees": one.agrees} for one in found.scores]
    more = {"sound": found.sound, "held": found.held, "wrong": found.wrong, "scores": scores, "notes": findings.notes}
    bound = None if limit is None else dataclasses.asdict(limit)
    print_record({**record, **more, "bound": bound, "proves": findings.proves(), "pictures": found.rows()}, fmt)


@click.command()
@click.argument("run")
@click.option("--out", type=PATH, show_default="RUN.seal.json", help="Where the seal is written.")
@click.option("--private", is_flag=True, help="Hashes in place of prompts; checking it needs the pictures or the home.")
@format_option("table", "json")
@workspace_options
def seal(workspace: Workspace, run: str, out: Path | None, private: bool, fmt: str) -> None:
    """Write down what a finished run is, in one file by which a later change is found out. It is not signed.

    \b
      t2i seal latest --out run.seal.json
      t2i audit run.seal.json
    """
    from t2i_track.runs.seal import seal as write

    print_record(dataclasses.asdict(write(workspace, run, out=out, private=private)), fmt)
