"""Rows in; ranking, tiers, frontier, effects, knee and one recommended setting out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from t2i_track.errors import CompareError
from t2i_track.metrics.metric import Direction
from t2i_track.metrics.registry import METRICS, SECONDS, deciding, of_role, score_info, word_of
from t2i_track.metrics.uncertainty import Interval
from t2i_track.notebook import Shown
from t2i_track.ranking.effects import Effect, effect
from t2i_track.ranking.failures import FailureRate
from t2i_track.ranking.frontier import Frontier, alignment_metric, frontier
from t2i_track.ranking.knee import Knee, knee
from t2i_track.ranking.margin import Detectable, Margin, Standing
from t2i_track.ranking.protocols import MARK, otherwise, settled
from t2i_track.ranking.ranking import Excluded, Ranked, any_apart, best_interval, eligible, rank
from t2i_track.ranking.recommend import Recommendation, recommend
from t2i_track.ranking.rows import ENDED, RunRow, Score, direction
from t2i_track.ranking.tradeoff import Tradeoff, diversity_metric, tradeoff
from t2i_track.ranking.where import where as matching
from t2i_track.settings import AXES

SCHEMA = "t2i-track/compare/3"
CORRECTION = "sign flips"
"""How many comparisons are allowed for: all pairs together, step-down (``separation``)."""
MOST_NAMED = 4
"""Runs that the command to measure them names."""
PREFERRED = of_role("quality")[0]


@dataclass(frozen=True)
class Comparison(Shown):
    """Everything that ``t2i compare`` says; ``notes`` are what a reader must know before believing it."""

    by: str
    direction: Direction
    level: float
    ranking: tuple[Ranked, ...]
    excluded: tuple[Excluded, ...]
    best: Interval | None
    """Of the best run's score, allowing for its having been chosen as the best."""
    margin: Margin | None
    """How much worse than the best still counts as good."""
    detectable: Detectable | None
    frontier: Frontier | None
    effects: tuple[Effect, ...]
    tradeoff: Tradeoff | None
    knee: Knee | None
    recommendation: Recommendation | None
    notes: tuple[str, ...]
    failures: tuple[FailureRate, ...] = ()
    """Of the runs whose pictures people labelled, ranked or not."""

    def rows(self) -> list[dict[str, Any]]:
        """All ranked runs with all settings and all scores, then the runs left out with the reason."""
        gap = dict.fromkeys(("to_best", "to_best_low", "to_best_high", "p_adjusted", "standing"))
        metrics = sorted({name for entry in self.ranking for name in entry.row.scores})
        scores = {f"{name}{end}": None for name in metrics for end in ("", "_ci_low", "_ci_high", "_protocol")}
        found: list[dict[str, Any]] = []
        for entry in self.ranking:
            record = {"rank": entry.rank, "tier": entry.tier, **_identity(entry.row), **scores, **gap, "reason": None}
            for name, score in entry.row.scores.items():
                record |= {name: score.value, f"{name}_ci_low": score.ci_low, f"{name}_ci_high": score.ci_high}
                record[f"{name}_protocol"] = score.protocol
            if (gap_to_best := entry.difference) is not None:
                low, high = gap_to_best.low, gap_to_best.high
                record |= {"to_best": gap_to_best.estimate, "to_best_low": low, "to_best_high": high}
            standing = entry.standing.verdict if entry.standing else None
            found.append(record | {"p_adjusted": entry.p_adjusted, "standing": standing})
        left_out = {"rank": None, "tier": None}
        found += [{**left_out, **_identity(left.row), **scores, **gap, "reason": left.reason} for left in self.excluded]
        return found

    def lines(self) -> list[str]:
        from t2i_track.ranking.describe import findings

        return findings(self)

    def _repr_html_(self) -> str:
        from t2i_track.notebook import html
        from t2i_track.ranking.describe import ranked

        titles, cells = ranked(self)
        return html(self.lines(), titles, cells)

    def to_dict(self) -> dict[str, Any]:
        """The documented JSON (docs/compare.md)."""
        return {
            "schema": SCHEMA,
            "by": self.by,
            "direction": self.direction,
            "level": self.level,
            "correction": CORRECTION,
            "ranking": [_ranked(entry) for entry in self.ranking],
            "excluded": [
                {"run": entry.row.run, "name": entry.row.name, "reason": entry.reason} for entry in self.excluded
            ],
            "best": asdict(self.best) if self.best else None,
            "margin": asdict(self.margin) if self.margin else None,
            "detectable": asdict(self.detectable) if self.detectable else None,
            "frontier": asdict(self.frontier) if self.frontier else None,
            "effects": [asdict(effect) | {"sentence": effect.sentence} for effect in self.effects],
            "tradeoff": asdict(self.tradeoff) if self.tradeoff else None,
            "knee": asdict(self.knee) if self.knee else None,
            "recommendation": asdict(self.recommendation) if self.recommendation else None,
            "failures": [_flat(rate) for rate in self.failures],
            "notes": list(self.notes),
        }


def compare(
    rows: Sequence[RunRow],
    by: str | None = PREFERRED,
    *,
    where: str | None = None,
    level: float = 0.95,
    within: str | float | None = None,
) -> Comparison:
    """Compare runs, given oldest first.

    Args:
        rows: the runs with their scores.
        by: the metric to rank by, or ``seconds_per_image``; None: the first that can tell the runs apart at this many
            images, of ``deciding()``.
        where: keep only the runs for which this condition holds (see ``t2i_track.ranking.where``).
        level: of the intervals; ``1 - level`` is the chance, over the whole ranking, of a false difference.
        within: how much worse than the best still counts as good, in units of ``by`` or as a share of the best value
            (``"2%"``); None: the score's own margin.

    Raises:
        CompareError: no runs, an unreadable condition or margin, or none that can be ranked by ``by``.
    """
    if by is not None:
        direction(by)  # a name that cannot rank is refused first
    if not rows:
        raise CompareError("no runs to compare; make some with `t2i generate` or `t2i sweep`")
    kept = list(rows) if where is None else matching(rows, where)
    if not kept:
        raise CompareError(f"none of {len(rows)} runs matches --where {where!r}; loosen the condition")
    by = by or able_to_decide(kept)
    better = direction(by)
    ranked, excluded = eligible(kept, by)
    if not ranked:
        raise CompareError(_nothing(by, excluded))
    ranked = settled(ranked)
    found = rank(ranked, by, level, within)
    ranking = found.entries
    metrics = [name for name in (by, alignment_metric(ranked, but=by), diversity_metric(ranked, by)) if name]
    axes: tuple[Any, ...] = ("guidance", "steps")
    fit = {name: eligible(ranked, name)[0] for name in metrics}
    effects = [one for name in metrics for axis in axes if (one := effect(fit[name], axis, name, level))]
    return Comparison(
        by,
        better,
        level,
        ranking,
        tuple(excluded),
        best_interval(ranking, level),
        found.margin,
        found.detectable,
        frontier(ranked, by),
        tuple(effects),
        tradeoff(effects),
        knee(ranked, by, level, within),
        recommend(ranking, by, found.margin, level),
        tuple(_notes(ranking, by, level)),
    )


def able_to_decide(rows: Sequence[RunRow], but: str = "") -> str:
    """The score to rank by where none is named: the first of ``deciding()`` by which most of the runs can be compared.

    Where none can be compared, the first that any of them has, and else the preferred one.
    """
    finished = [row for row in rows if row.status in ENDED]
    names = [name for name in deciding() if name != but]
    able = {name: sum(score.comparable for row in finished if (score := row.score(name)) is not None) for name in names}
    most = max(able.values(), default=0)
    if most:
        return next(name for name in names if able[name] == most)
    return next((name for name in names if any(row.score(name) for row in finished)), PREFERRED)


def _nothing(by: str, excluded: Sequence[Excluded]) -> str:
    """One line: how many runs for which reason, and what to do about the most common one."""
    if len(excluded) == 1:
        return f"cannot rank {excluded[0].row.name!r} by {by}: {excluded[0].reason}"
    reasons = Counter(entry.reason.split(";")[0] for entry in excluded)
    counted = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    imported = [entry.row.run[:12] for entry in excluded if entry.row.origin is not None]
    words = [word_of(by), *(["--reference", "FOLDER"] if imported and METRICS[word_of(by)].reference else [])]
    measured = "these" if imported else "a finished run"
    step = f"`t2i evaluate {' '.join(imported[:MOST_NAMED]) or 'RUN'} --metrics {' '.join(words)}` measures {measured}"
    return f"none of {len(excluded)} runs can be ranked by {by} ({counted}); {step}"


def _notes(ranking: Sequence[Ranked], by: str, level: float) -> list[str]:
    notes = []
    if len(ranking) == 1:
        notes.append("One run can be ranked: there is nothing to compare it with.")
    manifests = {entry.row.manifest for entry in ranking}
    if len(manifests) > 1:
        notes.append(
            f"The runs are over {len(manifests)} different manifests: between those, differences are unpaired "
            "(wider), and a score that depends on the prompts differs for that reason too."
        )
    if by == SECONDS:
        notes.append("Timings are measured once a run, so they have no interval and no tier.")
    elif len(ranking) > 1 and (unsure := sum(entry.tier is None for entry in ranking)):
        notes.append(_undecided([entry for entry in ranking if entry.tier is None], ranking, by, unsure))
    first = [entry for entry in ranking if entry.tier == 1]
    rows = [entry.row for entry in ranking]
    if len(ranking) > 1 and len(first) == len(ranking) and not any_apart(rows, by, level):
        notes.append(
            f"No two of these runs can be told apart in {by} with {ranking[0].score.n} images a run"
            f"{_more_telling(rows, by, level)}."
        )
    if any(not entry.score.holds_value for entry in ranking):
        notes.append(
            f"The {by} of {ranking[0].score.n} images is biased; the interval is of the value without that bias, so it"
            " does not hold the value. Differences between runs have no such gap."
        )
    return [*notes, *_measured_otherwise(rows, by)]


def _undecided(entries: Sequence[Ranked], ranking: Sequence[Ranked], by: str, unsure: int) -> str:
    """Why runs have no tier, and what does tell at this number of images."""
    score, info = entries[0].score, score_info(by)
    if info is None or not info.corrected or score.replicates is None:
        return f"{unsure} of {len(ranking)} runs have no replicates for {by}, so no tier; evaluate them again."
    why = (score.note or "").split(";")[0].removeprefix("no interval: ")
    rows = [entry.row for entry in ranking]
    telling = able_to_decide(rows, but=by)
    can = sum(found.comparable for row in rows if (found := row.score(telling)) is not None) > 1
    hint = f": `--by {telling}` can decide at this many" if can else ""
    return (
        f"No verdict by {by}: its bias depends on how diverse the pictures are, so its order may be wrong"
        f"{f' ({why})' if why else ''}{hint}."
    )


def _measured_otherwise(rows: Sequence[RunRow], by: str) -> list[str]:
    """What the marked values of the second score were measured with."""
    metric = alignment_metric(rows, but=by)
    found = Counter(otherwise(rows, metric).values()) if metric else Counter()
    return [
        f"{metric} of {count} run{'s' * (count > 1)}, marked {MARK}, cannot be compared with the others: {difference}."
        for difference, count in found.most_common()
    ]


def _more_telling(rows: Sequence[RunRow], by: str, level: float) -> str:
    """The alignment, where it does tell some of the runs apart: a mean over images needs fewer of them."""
    metric = alignment_metric(rows, but=by)
    if metric is None or not any_apart(eligible(rows, metric)[0], metric, level):
        return ""
    return f", but {metric} tells some apart: `--by {metric}`"


def _ranked(entry: Ranked) -> dict[str, Any]:
    row = entry.row
    return {
        "rank": entry.rank,
        "tier": entry.tier,
        "run": row.run,
        "name": row.name,
        "experiment": row.experiment,
        "sweep": row.sweep,
        "mlflow_run_id": row.mlflow_run_id,
        **{axis: getattr(row, axis) for axis in AXES},
        "manifest": row.manifest,
        "images": row.images,
        "seconds_per_image": row.seconds_per_image,
        "score": _score(entry.score),
        "to_best": _flat(entry.difference),
        "p_adjusted": entry.p_adjusted,
        "standing": _flat(entry.standing),
        "scores": {name: _score(score) for name, score in sorted(row.scores.items())},
    }


def _flat(found: Interval | Standing | FailureRate | None) -> dict[str, Any] | None:
    """``asdict`` would copy each number of each of a thousand runs."""
    return None if found is None else {name: getattr(found, name) for name in found.__dataclass_fields__}


def _identity(row: RunRow) -> dict[str, Any]:
    names = ("run", "name", "experiment", "sweep", "status", *AXES, "manifest", "images", "seconds_per_image")
    return {name: getattr(row, name) for name in names}


def _score(score: Score) -> dict[str, Any]:
    return {
        "name": score.name,
        "value": _finite(score.value),
        "ci_low": _finite(score.ci_low),
        "ci_high": _finite(score.ci_high),
        "n": score.n,
        "protocol": score.protocol,
        "protocol_label": score.protocol_label,
        "note": score.note,
    }


def _finite(value: float | None) -> float | None:
    """JSON has no NaN: a score that is no number is null."""
    return value if value is not None and math.isfinite(value) else None
