"""What guidance gives in alignment and takes in diversity, where both are certain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from t2i_track.metrics.registry import diverse, of_role
from t2i_track.metrics.uncertainty import Interval
from t2i_track.ranking.differences import holm
from t2i_track.ranking.effects import Contrast, Effect
from t2i_track.ranking.frontier import measured
from t2i_track.ranking.rows import RunRow
from t2i_track.ranking.words import change, moves

Verdict = Literal["costs diversity", "costs alignment", "gains both", "costs both"]
Pair = tuple[float, float]

VERDICTS: dict[tuple[str, str], Verdict] = {
    ("better", "worse"): "costs diversity",
    ("worse", "better"): "costs alignment",
    ("better", "better"): "gains both",
    ("worse", "worse"): "costs both",
}
"""By what alignment and diversity become."""
WORDS: dict[Verdict, str] = {
    "costs diversity": "following the prompt better costs diversity",
    # Measured on the embedded model (docs/metrics.md): pictures that break lie far apart.
    "costs alignment": "the prompt is followed less and the pictures differ more, as broken ones do",
    "gains both": "both gain",
    "costs both": "both lose",
}


@dataclass(frozen=True)
class Exchange:
    """From one guidance to another: the changes of both scores, each of them certain."""

    low: float
    high: float
    alignment: Interval
    diversity: Interval
    settings: int
    verdict: Verdict


@dataclass(frozen=True)
class Tradeoff:
    """What guidance does to an alignment and to a diversity score at once; ``exchanges`` is never empty."""

    alignment: str
    diversity: str
    exchanges: tuple[Exchange, ...]
    sentence: str


def diversity_metric(rows: Sequence[RunRow], by: str) -> str | None:
    """The score of diversity to stand beside ``by``: the first of ``diverse()`` that two rows or more have.

    None where ``by`` is one itself.
    """
    return None if by in of_role("diversity") else measured(rows, diverse())


def tradeoff(effects: Sequence[Effect]) -> Tradeoff | None:
    """What the first effects of guidance on an alignment and on a diversity say together.

    From the first guidance to the last where no two neighbours say otherwise, else between these. All pairs of levels
    of a score are Holm-adjusted together, since any of them may be chosen; a pair counts where both scores change.
    Steps are no such choice: few leave pictures unfinished, and those differ for that reason.
    """
    alignment, diversity = (_first(effects, role) for role in ("alignment", "diversity"))
    if alignment is None or diversity is None:
        return None
    exchanges = _exchanges(alignment, diversity)
    if not exchanges:
        return None
    said = "; from ".join(_said(one, alignment.metric, diversity.metric) for one in exchanges)
    return Tradeoff(alignment.metric, diversity.metric, exchanges, f"From guidance {said}.")


def _first(effects: Sequence[Effect], role: str) -> Effect | None:
    names = of_role(role)
    return next((effect for effect in effects if effect.axis == "guidance" and effect.metric in names), None)


def _exchanges(alignment: Effect, diversity: Effect) -> tuple[Exchange, ...]:
    ours, theirs = _certain(alignment), _certain(diversity)
    both = {pair: _exchange(ours[pair], theirs[pair]) for pair in ours if pair in theirs}
    last = alignment.overall or diversity.overall
    whole = both.get((last.low, last.high)) if last else None
    if whole and all(one.verdict == whole.verdict for one in both.values()):
        return (whole,)
    neighbours = [(one.low, one.high) for one in alignment.contrasts]
    return tuple(both[pair] for pair in neighbours if pair in both)


def _certain(effect: Effect) -> dict[Pair, Contrast]:
    """The pairs of levels between which the score surely changes."""
    pairs = {(one.low, one.high): one for one in (*effect.contrasts, *filter(None, [effect.overall]))}
    adjusted = holm([one.change.p_value for one in pairs.values()])
    return {pair: one for (pair, one), p in zip(pairs.items(), adjusted, strict=True) if p <= 1 - effect.confidence}


def _exchange(alignment: Contrast, diversity: Contrast) -> Exchange:
    verdict = VERDICTS[alignment.verdict, diversity.verdict]
    settings = min(alignment.settings, diversity.settings)
    return Exchange(alignment.low, alignment.high, alignment.change, diversity.change, settings, verdict)


def _said(one: Exchange, alignment: str, diversity: str) -> str:
    over = f", averaged over {one.settings} matched settings," if one.settings > 1 else ""
    return (
        f"{one.low:g} to {one.high:g}{over} {alignment} {moves(one.alignment)} ({change(one.alignment)})"
        f" and {diversity} {moves(one.diversity)} ({change(one.diversity)}): {WORDS[one.verdict]}"
    )
