"""Whether a cheaper setting does as well as a base: equivalence within a margin, as something that is shown.

A run is *equivalent* where it is shown to be neither worse nor better than the base by more than the margin, *worse* or
*better* where it is shown to be so by more than it, else *undecided*. Of several runs p-values are adjusted by Holm's
method: who takes the fastest of those that are called equivalent is misled by any of them that is not. So the chance of
any false "equivalent" is at most ``1 - level`` over all runs, and likewise of any false "worse" or "better".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from t2i_track.errors import CompareError
from t2i_track.metrics.registry import deciding, diverse, of_role
from t2i_track.notebook import Shown
from t2i_track.ranking.margin import margin_of, rounded_up
from t2i_track.ranking.pair import PromptChange, matched, prompt_changes, protocols_of
from t2i_track.ranking.protocols import settled
from t2i_track.ranking.rows import ImageRow, RunRow, differ_in_pictures, direction
from t2i_track.ranking.speed import SpeedUp, Spent, speed_up
from t2i_track.ranking.tolerance import Tolerance, tolerance
from t2i_track.ranking.tost import Decision, Paired, Pictures, Verdict, decide, paired, require_testable, testable
from t2i_track.settings import DECLARED, Decides

SCHEMA = "t2i-track/equivalence/1"
WORST = 10
COLUMNS = (
    *("run", "name", "differs", "metric", "base", "value", "change", "change_low", "change_high", "margin"),
    *("p_equivalent", "p_worse", "p_better", "verdict", "at_most", "images_to_decide", "note", "speed_up"),
    *("speed_up_low", "speed_up_high", "peak_memory_mb", "joules_per_image"),
)


@dataclass(frozen=True)
class Candidate:
    """A run against the base.

    ``images`` is the number a run that would probably decide what is undecided, None where it is decided or none would.
    """

    row: RunRow
    paired: Paired
    decision: Decision
    images: int | None
    differing: Mapping[str, tuple[Any, Any]]
    """Setting -> its values in the base and here, of what decides pictures or what they cost."""
    spent: Spent
    speed: SpeedUp | None
    worst: tuple[PromptChange, ...]
    """The prompts on which it is worse than the base, the worst first."""
    worse_by: tuple[str, ...]
    """Other scores by which it is shown, each by itself, to be worse by more than their own margin."""

    @property
    def verdict(self) -> Verdict:
        return self.decision.verdict


@dataclass(frozen=True)
class Equivalence(Shown):
    """What `t2i compare --equivalent-to` finds: each run against the base, in the order in which they were named."""

    base: RunRow
    by: str
    level: float
    margin: Tolerance
    candidates: tuple[Candidate, ...]
    spent: Spent
    """Of the base."""
    worst_by: str | None
    """The score by which the worst prompts are chosen: ``by``, where pictures have one of their own."""
    notes: tuple[str, ...]

    def rows(self) -> list[dict[str, Any]]:
        """A row for each run."""
        return [self._row(one) for one in self.candidates]

    def lines(self) -> list[str]:
        from t2i_track.ranking.describe_equivalence import findings, heads

        return [*heads(self), *findings(self)]

    def _row(self, one: Candidate) -> dict[str, Any]:
        paired, decision, gap, speed = one.paired, one.decision, one.paired.change, one.speed
        differs = ", ".join(f"{name} {theirs}" for name, (_, theirs) in one.differing.items())
        values = (
            *(one.row.run, one.row.name, differs, self.by, paired.base, paired.value),
            *((gap.estimate, gap.low, gap.high) if gap else (None, None, None)),
            *(self.margin.amount, decision.p_equivalent, decision.p_worse, decision.p_better, one.verdict),
            *(paired.at_most, one.images, paired.note),
            *((speed.times, speed.low, speed.high) if speed else (None, None, None)),
            *(one.spent.peak_memory_mb, one.spent.joules),
        )
        return dict(zip(COLUMNS, values, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """The documented JSON (docs/equivalence.md)."""
        return {
            "schema": SCHEMA,
            "base": {**_identity(self.base), **_cost(self.spent)},
            "by": self.by,
            "direction": direction(self.by),
            "level": self.level,
            "correction": "holm",
            "margin": asdict(self.margin),
            "candidates": [_candidate(one) for one in self.candidates],
            "worst_by": self.worst_by,
            "notes": list(self.notes),
        }


def _candidate(one: Candidate) -> dict[str, Any]:
    paired, decision = one.paired, one.decision
    return {
        **_identity(one.row),
        "differing": {name: list(values) for name, values in one.differing.items()},
        "base_value": paired.base,
        "value": paired.value,
        "change": None if paired.change is None else asdict(paired.change),
        "prompts": paired.numbers,
        **{name: getattr(decision, name) for name in ("verdict", "p_equivalent", "p_worse", "p_better")},
        "at_most": paired.at_most,
        "images_to_decide": one.images,
        "note": paired.note,
        "worse_by": list(one.worse_by),
        "speed_up": None if one.speed is None else asdict(one.speed),
        **_cost(one.spent),
        "worst": [
            asdict(change) | {"change": change.change, "a_path": str(change.a_path), "b_path": str(change.b_path)}
            for change in one.worst
        ],
    }


def _identity(row: RunRow) -> dict[str, Any]:
    return {"run": row.run, "name": row.name, "images": row.images}


def _cost(spent: Spent) -> dict[str, Any]:
    return {
        "seconds_per_image": spent.seconds_per_image,
        "batches": len(spent.warm),
        "peak_memory_mb": spent.peak_memory_mb,
        "joules_per_image": spent.joules,
    }


def equivalence(
    base: RunRow,
    runs: Sequence[RunRow],
    images: Sequence[ImageRow] = (),
    *,
    others: Sequence[RunRow] = (),
    spent: Mapping[str, Spent] | None = None,
    by: str | None = None,
    within: str | float | None = None,
    level: float = 0.95,
) -> Equivalence:
    """Hold runs against a base.

    Args:
        images: of the base and the runs, with their own scores.
        others: runs of the base's settings and another seed, which tell the spread between seeds.
        spent: what the pictures of a run took, by its uuid.
        by: the score; by default the first that can decide and that most have.
        within: the margin, in units of the score, or ``"2%"`` of the base's value; None: ``tolerance`` finds one.
        level: one less the chance that any run is falsely called equivalent; limits are one-sided at this level.

    Raises:
        CompareError: no run, the base among them, a score that cannot show equivalence, or one that the base lacks.
    """
    runs = list({row.run: row for row in runs}.values())
    if any(row.run == base.run for row in runs):
        raise CompareError(f"run {base.name!r} ({base.run[:8]}) is the base: name other runs to hold against it")
    if not runs:
        raise CompareError("no run to hold against the base: t2i compare --equivalent-to BASE RUN")
    base, *rest = settled([base, *runs, *others])
    runs, others = rest[: len(runs)], rest[len(runs) :]
    by = by or _chosen(base, runs)
    require_testable(by)
    pictures = {row.run: [image for image in images if image.run == row.run] for row in (base, *runs)}
    margin = tolerance(base, by, within, others, pictures[base.run])
    held = [paired(base, row, by, level, pictures) for row in runs]
    decisions = decide([one.known for one in held], margin.amount, 1 - level)
    taken = {row.run: (spent or {}).get(row.run, Spent()) for row in (base, *runs)}
    worst_by = _worst_by(by, pictures)
    candidates = tuple(
        Candidate(
            row=row,
            paired=one,
            decision=decision,
            images=None if decision.times is None else rounded_up(max(decision.times * row.images, row.images + 1)),
            differing=_differing(base, row),
            spent=taken[row.run],
            speed=speed_up(taken[base.run], taken[row.run], level),
            worst=_worst(base, row, worst_by, pictures) if worst_by else (),
            worse_by=tuple(name for name in _others(by) if _is_worse(base, row, name, level, pictures)),
        )
        for row, one, decision in zip(runs, held, decisions, strict=True)
    )
    notes = tuple(_notes(candidates, list(taken.values())))
    return Equivalence(base, by, level, margin, candidates, taken[base.run], worst_by, notes)


def _chosen(base: RunRow, runs: Sequence[RunRow]) -> str:
    """The first score that can decide, by preference one that most have under the base's protocol."""

    def kept(name: str) -> int:
        ours, theirs = base.score(name), [score for row in runs if (score := row.score(name)) and score.comparable]
        if ours is None or not ours.comparable:
            return 0
        return sum(score.protocol == ours.protocol or differ_in_pictures(ours, score) for score in theirs)

    counts = {name: kept(name) for name in deciding()}
    best = max(counts, key=lambda name: counts[name])  # of equal ones the first
    if counts[best]:
        return best
    words = " ".join(row.run[:12] for row in (base, *runs[:3]))
    raise CompareError(f"the runs have no score in common with {base.name!r}: `t2i evaluate {words}` measures them")


def _differing(base: RunRow, row: RunRow) -> dict[str, tuple[Any, Any]]:
    names = (name for name, one in DECLARED.items() if one.decides is not Decides.NOTHING or one.cost)
    pairs = {name: (getattr(base, name), getattr(row, name)) for name in (*names, "manifest")}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _worst_by(by: str, pictures: Pictures) -> str | None:
    """The score of single pictures by which prompts are chosen: the one of the verdict, else one of alignment."""
    for name in (by, *of_role("alignment")):
        scored = [image for images in pictures.values() for image in images if name in image.scores]
        if len({image.run for image in scored}) == len(pictures) and len(protocols_of(scored, name)) == 1:
            return name
    return None


def _worst(base: RunRow, row: RunRow, by: str, pictures: Pictures) -> tuple[PromptChange, ...]:
    sign = -1 if direction(by) == "lower" else 1
    pairs = matched(pictures[base.run], pictures[row.run], by_place=base.manifest == row.manifest)
    worse = [change for change in prompt_changes(pairs, by) if sign * change.change < 0]
    return tuple(sorted(worse, key=lambda change: (sign * change.change, change.prompt_index))[:WORST])


def _others(by: str) -> tuple[str, ...]:
    return tuple(name for name in (*deciding(), *diverse()) if name != by and testable(name))


def _is_worse(base: RunRow, row: RunRow, name: str, level: float, pictures: Pictures) -> bool:
    ours = base.scores.get(name)
    margin = None if ours is None else margin_of(name, ours)
    if margin is None or margin.amount <= 0:
        return False
    found = paired(base, row, name, level, pictures).known
    return found is not None and found.below(-margin.amount) <= 1 - level


def _notes(candidates: Sequence[Candidate], taken: Sequence[Spent]) -> list[str]:
    notes = []
    if len(candidates) > 1:
        notes.append("Verdicts are corrected for several runs (Holm), intervals are not.")
    for one in candidates:
        if "seed" in one.differing:
            only = ", and in nothing else: it shows what chance does" if len(one.differing) == 1 else ""
            notes.append(f"{one.row.name} ({one.row.run[:8]}) differs in the seed{only}.")
    if any(one.speed for one in candidates):
        notes.append(
            "Each run was timed once: the interval of the speed-up is over its batches, and knows nothing of what else"
            " the machine did in one run and not in the other."
        )
    if any(one.peak_memory_mb is not None and not one.alone for one in taken):
        notes.append(
            "The peak memory of a run that was not the first of its process may be an earlier one's: make each run by"
            " a command of its own to compare it."
        )
    if len({one.meters for one in taken if one.joules is not None}) > 1:
        notes.append("The energy of some runs is by other meters than that of others: do not compare it.")
    return notes
