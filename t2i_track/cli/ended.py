"""What a command says when it has ended: what was made, where, what it scored, and what to do next."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from t2i_track.cli.scores import headline
from t2i_track.workspace import DEFAULT_HOME, Workspace

if TYPE_CHECKING:
    from t2i_track.runs.launch import Outcome
    from t2i_track.runs.plan import Summary
    from t2i_track.runs.rates import Total
    from t2i_track.runs.sweep import SweepOutcome


def run_lines(outcome: Outcome, workspace: Workspace) -> list[str]:
    """About five lines on a run that was just made."""
    summary, scored = outcome.summary, outcome.scored
    run = summary.run[:12]
    lines = [
        f"{made(summary)} -> {summary.folder}",
        f"run {summary.name} ({run}) of experiment {summary.experiment}: guidance {summary.guidance:g},"
        f" steps {summary.steps}, scheduler {summary.scheduler}",
    ]
    if scored is not None:
        lines.append(headline(scored.scores))
    lines += [f"note: {note}" for note in (*outcome.notes, *(scored.notes() if scored else ()))]
    score = [] if scored else [f"t2i evaluate {run} --reference FOLDER"]
    show = f"t2i show {run}"
    return [*lines, following([*score, f"t2i compare --experiment {shlex.quote(summary.experiment)}", show], workspace)]


def made(summary: Summary) -> str:
    """``64 images in 13.2 s (4.8/s)``."""
    images = f"{summary.images} image{'s' * (summary.images != 1)}"
    if not summary.made:
        return f"nothing was missing: {images}"
    rate = "" if summary.images_per_second is None else f" ({summary.images_per_second:.1f}/s)"
    time = f" in {duration(summary.seconds)}{rate}"
    return images + time if summary.made == summary.images else f"{summary.made} of {images} made{time}"


def sweep_lines(outcome: SweepOutcome) -> list[str]:
    """How many cells were made, and why others were not."""
    states = [cell.state for cell in outcome.cells]
    counted = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    lines = [f"sweep {outcome.name}: {len(states)} cell{'s' * (len(states) != 1)}, {counted}"]
    return [*lines, *outcome.notes(), *(f"cell {cell.cell} failed: {cell.error}" for cell in outcome.failed)]


def following(commands: Sequence[str], workspace: Workspace) -> str:
    """What to do next, as it would be typed here."""
    home = str(workspace.home)
    known = home in (str(DEFAULT_HOME), os.environ.get("T2I_HOME"))
    return "next: " + " | ".join(command if known else f"{command} --home {shlex.quote(home)}" for command in commands)


def expected(total: Total) -> str:
    """``12.0 s to 1 min 4 s with the start, as 9 runs were timed (the start: 2)``."""
    unknown = "no run of this model, size and batch size has been timed here yet"
    if total.pictures is None or total.seconds is None:
        return f"no time estimate: {unknown}"
    low, high = duration(total.seconds.low), duration(total.seconds.high)
    told = f"about {low}" if low == high else f"{low} to {high}"
    start = "without the start, which has not been timed yet" if total.start is None else "with the start"
    runs = total.pictures.runs
    told += f" {start}, as {runs} run{'s were' if runs != 1 else ' was'} timed"
    told += f" (the start: {total.start.runs})" if total.start is not None else ""
    return told + (f"; not counting {total.unknown} of the cells: {unknown}" if total.unknown else "")


def duration(seconds: float) -> str:
    """``13.2 s``, ``4 min 10 s`` or ``2 h 5 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
