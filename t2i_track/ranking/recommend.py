"""One setting to use, and why; or why none can be named yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from t2i_track.ranking.cost import Cost, cheapest, cost_of_each, saving
from t2i_track.ranking.frontier import alignment_metric
from t2i_track.ranking.margin import Margin, Standing, would
from t2i_track.ranking.ranking import Ranked, eligible, rank
from t2i_track.ranking.rows import varied
from t2i_track.ranking.words import value


@dataclass(frozen=True)
class Recommendation:
    run: str | None
    """None where no setting is shown to be as good as the best."""
    sentence: str


def recommend(ranking: Sequence[Ranked], by: str, margin: Margin | None, level: float) -> Recommendation | None:
    """The cheapest of the settings that are shown to be as good as the best within the margin.

    In ``by`` first; of these, those that are as good in the second score (alignment) within its own margin, or that
    are at least not shown to be worse where none is shown to be as good; of these, the best value of those not known to
    cost more than another (``cost``). The second score decides nothing unless all of the first have it under one
    protocol.
    """
    if not ranking:
        return None
    best = ranking[0]
    named, score = _named(best, ranking), value(best.score)
    if len(ranking) == 1:
        only = f"{named} is the only run that can be ranked by {by}: there is nothing to weigh it against."
        return Recommendation(best.row.run, only)
    if margin is None or best.standing is None:
        few = best.score.replicates is not None and best.score.columns is None
        why = "this many images allow no verdict by it" if few else f"{by} has no replicates by which runs are compared"
        return Recommendation(None, f"none yet. {named} has the best {by}, {score}, but {why}.")
    good = [entry for entry in ranking if entry.standing is not None and entry.standing.verdict == "as good"]
    if not good:
        return Recommendation(
            None,
            f"none yet. No setting is shown to be within {margin.words} of the best {by} with {best.score.n} images a"
            f" run ({named} has the best value, {score}); {would(best.standing.images, 'may show one')}.",
        )
    aligned, about = _aligned(good, by, level)
    costs = cost_of_each([entry.row for entry in ranking])
    chosen = _cheapest(aligned, costs)
    text = _sentence(chosen, good, ranking, by, margin) + about
    text += _saving(chosen, best, len(aligned), costs) + _open(chosen, ranking, costs)
    return Recommendation(chosen.row.run, text + ".")


def _aligned(good: Sequence[Ranked], by: str, level: float) -> tuple[Sequence[Ranked], str]:
    """Those that are as good in the second score too, and what it decided; all where it cannot be compared."""
    metric = alignment_metric([entry.row for entry in good], but=by)
    if metric is None or len(good) < 2:
        return good, ""
    rows, others = eligible([entry.row for entry in good], metric)
    if others:
        named = _named(next(entry for entry in good if entry.row.run == others[0].row.run), good)
        more = f", and {len(others) - 1} more" if len(others) > 1 else ""
        reason = others[0].reason.split(";")[0]
        return good, f"; {metric} does not decide, since it is not comparable: {named} has {reason}{more}"
    standing = {entry.row.run: entry.standing for entry in rank(rows, metric, level).entries}
    verdicts = {run: found.verdict if found else "undecided" for run, found in standing.items()}
    shown = [entry for entry in good if verdicts[entry.row.run] == "as good"]
    kept = shown or [entry for entry in good if verdicts[entry.row.run] != "worse"]
    if len(kept) == len(good):
        return good, "" if shown else f"; {metric} does not decide between them at this many images"
    are = "are as good" if shown else "are not shown to be worse"
    is_ = "is as good" if shown else "is not shown to be worse"
    return kept, f"; of these {len(good)}, {len(kept)} {are if len(kept) > 1 else is_} in {metric}"


def _cheapest(entries: Sequence[Ranked], costs: Mapping[str, Cost]) -> Ranked:
    """Of those that are not known to cost more than another, the best."""
    return entries[cheapest([costs[entry.row.run] for entry in entries])[0]]


def _sentence(chosen: Ranked, good: Sequence[Ranked], ranking: Sequence[Ranked], by: str, margin: Margin) -> str:
    best, others = ranking[0], len(good) - 1
    text = f"Use {_named(chosen, ranking)}: its {by}, {value(chosen.score)}, is "
    assert chosen.standing is not None
    if chosen is best:
        text += f"the best, {_worse(chosen.standing)} than any other"
        return text + (
            f"; {others} other{'s are' if others > 1 else ' is'} within {margin.words} too" if others else ""
        )
    return (
        f"{text}shown to be within {margin.words} of the best, {value(best.score)} at {_named(best, ranking)}"
        f" ({_worse(chosen.standing)})"
    )


def _worse(standing: Standing) -> str:
    return f"at most {standing.at_most:.2g} worse" if standing.at_most > 0 else "no worse"


def _saving(chosen: Ranked, best: Ranked, rivals: int, costs: Mapping[str, Cost]) -> str:
    if rivals < 2:
        return ""
    cost = costs[chosen.row.run]
    if less := saving(cost, costs[best.row.run]):
        return f"; of these {rivals} it is the cheapest, {cost}: {less} than the best"
    return f"; none of these {rivals} is known to cost less: {cost}"


def _open(chosen: Ranked, ranking: Sequence[Ranked], costs: Mapping[str, Cost]) -> str:
    """Cheaper settings of which it is not known whether they are as good."""
    cheaper = [
        entry.standing
        for entry in ranking
        if entry.standing is not None
        and entry.standing.verdict == "undecided"
        and costs[entry.row.run].cheaper(costs[chosen.row.run])
    ]
    if not cheaper:
        return ""
    images = [standing.images for standing in cheaper]
    most = None if None in images else max(number for number in images if number is not None)
    one = len(cheaper) == 1
    return f"; of {'a cheaper one' if one else f'{len(cheaper)} cheaper ones'} it is undecided, {would(most)}"


def _named(entry: Ranked, ranking: Sequence[Ranked]) -> str:
    """Guidance and steps, and whatever else varies between the ranked runs."""
    others = [axis for axis in varied(item.row for item in ranking) if axis not in ("guidance", "steps")]
    words = "".join(f", {axis.replace('_', ' ')} {entry.row.told(axis)}" for axis in others)
    return f"{entry.row.setting}{words} (run {entry.row.name})"
