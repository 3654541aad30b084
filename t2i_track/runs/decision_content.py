"""What MLflow gets of an adaptive sweep's decisions: a curve of each run, and the sweep's sentences and table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from t2i_track.db.decisions import decisions_of_run
from t2i_track.db.models import Decision, Run, Sweep
from t2i_track.jsontext import json_text
from t2i_track.tracking import Content

DECISION = "decision/"
"""MLflow's UI puts metrics with a prefix into a section of their own."""
TAG = "t2i.decision"


def run_told(session: Session, run: Run) -> list[Decision]:
    """The decisions of a run by its newest sweep in rounds."""
    every = decisions_of_run(session, run.id)
    newest = max((row.sweep_id for row in every), default=None)
    return [row for row in every if row.sweep_id == newest]


def of_run(rows: Sequence[Decision]) -> Content:
    """How much worse than the best it was seen to be, by the number of its images, and what became of it."""
    curves: dict[str, list[tuple[int, float, datetime]]] = {}
    for row in rows:
        named = {"worse_by": row.estimate, "worse_by_low": row.low, "worse_by_high": row.high}
        for name, value in named.items():
            if value is not None:
                curves.setdefault(f"{DECISION}{name}", []).append((row.images, value, row.created_at))
    last = rows[-1]
    return Content(curves=curves, tags={TAG: f"{last.state.value} with {last.images} images"})


def sweep_told(session: Session, sweep: Sweep) -> tuple[int, datetime | None]:
    """How many decisions there are, and since when."""
    number, newest = session.execute(
        select(func.count(), func.max(Decision.created_at)).where(Decision.sweep_id == sweep.id)
    ).one()
    return int(number), newest


def of_sweep(session: Session, sweep: Sweep, report: str | None, links: str | None) -> Content:
    """Its description, `decisions.json`, and the report if there is one."""
    from t2i_track.ranking.describe import escaped, pipes
    from t2i_track.runs.decided import decided

    found = decided(session, sweep.uuid)
    if found is None:  # all its runs are in the trash
        return Content()

    def write(folder: Path) -> None:
        import shutil

        (folder / "decisions.json").write_text(json_text(found.to_dict()), encoding="utf-8")
        if report is not None and Path(report).exists():
            (folder / "report").mkdir()
            (shutil.copytree if Path(report).is_dir() else shutil.copyfile)(
                Path(report), folder / "report" / Path(report).name
            )

    best = found.recommended
    said = "\n".join(f"- {escaped(line)}" for line in found.lines())
    note = "\n\n".join(filter(None, [said, pipes(*found.table()), links]))
    return Content(
        tags={"mlflow.note.content": note, "t2i.recommended": None if best is None else best.run}, files=write
    )
