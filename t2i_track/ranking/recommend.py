"""One setting to use, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from t2i_track.ranking.cost import TOLERANCE, costs
from t2i_track.ranking.frontier import alignment_metric
from t2i_track.ranking.ranking import Ranked, eligible, rank
from t2i_track.ranking.rows import varied
from t2i_track.ranking.words import change, value


@dataclass(frozen=True)
class Recommendation:
    run: str
    sentence: str


def recommend(ranking: Sequence[Ranked], by: str, level: float) -> Recommendation | None:
    """The cheapest of the best: lexicographic in quality, alignment and cost.

    Runs that cannot be told from the best in ``by``; of these, those that cannot be told from the best aligned; of
    these, the fewest seconds an image (steps where no timings are stored), and among equal costs the best value. A
    best run without replicates is recommended for its value alone. The alignment decides nothing unless all of the
    first have it under one protocol.
    """
    if not ranking:
        return None
    best = ranking[0]
    if best.tier is None:
        undecided = best.score.replicates is not None and best.score.columns is None
        why = "this many images allow no verdict by it" if undecided else "no replicates are stored for it"
        text = f"{_named(best, ranking)} has the best {by}, {value(best.score)}; {why}, so "
        return Recommendation(best.row.run, text + "whether the others differ is unknown.")
    candidates = [entry for entry in ranking if entry.tier == best.tier]
    second = alignment_metric([entry.row for entry in candidates], but=by)
    aligned, lacking = _aligned(candidates, second, level) if second else (candidates, "")
    seconds = costs([entry.row for entry in ranking])
    chosen = _cheapest(aligned, seconds)
    text = _sentence(chosen, candidates, aligned, ranking, by, second, level)
    return Recommendation(chosen.row.run, text + lacking + _saving(chosen, best, len(aligned), seconds) + ".")


def _aligned(candidates: Sequence[Ranked], metric: str, level: float) -> tuple[Sequence[Ranked], str]:
    """The candidates in the first tier of ``metric``; all, and why, where it cannot be compared between them."""
    rows, others = eligible([entry.row for entry in candidates], metric)
    if others:
        named = _named(next(entry for entry in candidates if entry.row.run == others[0].row.run), candidates)
        more = f", and {len(others) - 1} more" if len(others) > 1 else ""
        reason = others[0].reason.split(";")[0]
        return candidates, f"; {metric} does not decide, since it is not comparable: {named} has {reason}{more}"
    first = {entry.row.run for entry in rank(rows, metric, level) if entry.tier in (1, None)}
    return [entry for entry in candidates if entry.row.run in first], ""


def _cheapest(entries: Sequence[Ranked], seconds: Mapping[str, float]) -> Ranked:
    timed = all(entry.row.run in seconds for entry in entries)
    found = [seconds[entry.row.run] if timed else float(entry.row.steps) for entry in entries]
    limit = min(found) * TOLERANCE
    return next(entry for entry, cost in zip(entries, found, strict=True) if cost <= limit)


def _sentence(
    chosen: Ranked,
    candidates: Sequence[Ranked],
    aligned: Sequence[Ranked],
    ranking: Sequence[Ranked],
    by: str,
    second: str | None,
    level: float,
) -> str:
    best, named = ranking[0], _named(chosen, ranking)
    if len(ranking) == 1:
        return f"{named} is the only run that can be ranked by {by}: there is nothing to weigh it against"
    text = f"Use {named}: its {by}, {value(chosen.score)}, "
    if chosen is best:
        rivals = len(candidates) - 1
        text += (
            f"is the best, though {rivals} other{'s' * (rivals > 1)} cannot be told from it"
            if rivals
            else "is measurably the best"
        )
    else:
        gap = change(chosen.difference, chosen.p_adjusted, level)
        text += f"cannot be told from the best, {value(best.score)} at {_named(best, ranking)} (difference {gap})"
    if second and len(aligned) < len(candidates):
        text += f"; of these {len(candidates)} "
        text += (
            f"it is one of {len(aligned)} with the best {second}" if len(aligned) > 1 else f"its {second} is the best"
        )
    return text


def _saving(chosen: Ranked, best: Ranked, rivals: int, seconds: Mapping[str, float]) -> str:
    if rivals < 2:
        return ""
    cost, other = seconds.get(chosen.row.run), seconds.get(best.row.run)
    told = f"{cost:.3g} s an image" if cost is not None else f"{chosen.row.steps} steps"
    if cost is not None and other is not None and cost * TOLERANCE < other:
        return f"; of these {rivals} it is the cheapest, {told}, {1 - cost / other:.0%} less than the best"
    less = f"more than {TOLERANCE - 1:.0%} cheaper" if cost is not None else "cheaper"
    return f"; none of these {rivals} is {less} ({told})"


def _named(entry: Ranked, ranking: Sequence[Ranked]) -> str:
    """Guidance and steps, and whatever else varies between the ranked runs."""
    others = [axis for axis in varied(item.row for item in ranking) if axis not in ("guidance", "steps")]
    words = "".join(f", {axis.replace('_', ' ')} {getattr(entry.row, axis)}" for axis in others)
    return f"{entry.row.setting}{words} (run {entry.row.name})"
