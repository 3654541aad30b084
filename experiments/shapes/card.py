"""The model card's tables and contact sheets, from the curve files' runs: `python -m experiments.shapes.card`."""

import sys
from pathlib import Path

import click
from sqlalchemy.orm import Session

from t2i_track import open_database
from t2i_track.db import lineage
from t2i_track.ranking.rows import RunRow
from t2i_track.report.grid import grid
from t2i_track.runs.recorded import run_items
from t2i_track.runs.rows import run_rows
from t2i_track.workspace import Workspace

COLUMNS = (
    "alignment",
    "alignment_shape",
    "alignment_colour",
    "alignment_count",
    "alignment_relation",
    "fid",
    "kid_mean",
    "inception_score_mean",
    "clip_score",
)


def cell(row: RunRow, name: str) -> str:
    """Value and interval, `-` where it was not measured."""
    score = row.scores.get(name)
    if score is None:
        return "-"
    if score.ci_low is None or score.ci_high is None:
        return f"{score.value:.3g} (no interval)"
    return f"{score.value:.3g} [{score.ci_low:.3g}, {score.ci_high:.3g}]"


def table(rows: list[RunRow], axis: str) -> str:
    """A Markdown table with a row for each run, along the axis."""
    lines = [f"| {axis} | n | " + " | ".join(COLUMNS) + " | images/s |", "|---" * (len(COLUMNS) + 3) + "|"]
    for row in sorted(rows, key=lambda found: getattr(found, axis)):
        cells = [cell(row, name) for name in COLUMNS]
        rate = f"{1 / row.seconds_per_image:.2f}" if row.seconds_per_image else "-"
        lines.append(f"| {getattr(row, axis):g} | {row.images} | " + " | ".join(cells) + f" | {rate} |")
    return "\n".join(lines)


def sheet(session: Session, workspace: Workspace, rows: list[RunRow], axis: str, prompts: int, path: Path) -> None:
    """Prompts as rows, the axis as columns, the same seed across."""
    ordered = sorted(rows, key=lambda found: getattr(found, axis))
    items = [run_items(session, workspace, lineage.find_run(session, row.run)) for row in ordered]
    pictures, captions = [], []
    for number in range(prompts):
        for row, images in zip(ordered, items, strict=True):
            pictures.append(images[number].path)
            captions.append(f"{axis} {getattr(row, axis):g}: {images[number].prompt}")
    path.parent.mkdir(parents=True, exist_ok=True)
    grid(pictures, captions, columns=len(ordered)).save(path)


@click.command()
@click.option("--home", type=click.Path(path_type=Path), default=Path("t2i-data"), show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("docs/images"), show_default=True)
@click.option("--prompts", default=10, show_default=True, help="Rows of each contact sheet.")
def main(home: Path, out: Path, prompts: int) -> None:
    """Print the tables, write the contact sheets."""
    workspace = Workspace(home=home)
    with open_database(home) as session:
        for name, axis in (("guidance-curve", "guidance"), ("steps-curve", "steps"), ("steps-best", "steps")):
            rows = run_rows(session, sweep=f"shapes-{name}")
            if not rows:
                sys.exit(f"no runs: t2i sweep experiments/shapes/{name}.yaml")
            print(f"\n{table(rows, axis)}")
            sheet(session, workspace, rows, axis, prompts, out / f"{name}.png")


if __name__ == "__main__":
    main()
