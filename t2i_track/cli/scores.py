"""Scores as people read them: a table with intervals and footnotes, and one line of the most telling ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from t2i_track.cli.output import Section, footnotes
from t2i_track.cli.tables import Column
from t2i_track.metrics.registry import of_role, rankable
from t2i_track.ranking.rows import Score
from t2i_track.ranking.words import bounds, number, value

HEADLINE = (*of_role("alignment"), *rankable())
"""The scores that one line names, the most telling first."""
MOST = 3


def headline(scores: Sequence[Mapping[str, Any]]) -> str:
    """``alignment 0.987 [0.970, 1.000], clip_score 93.3, fid 1534 (64 images)``."""
    found = {score["name"]: _score(score) for score in scores}
    first = [name for name in dict.fromkeys(HEADLINE) if name in found]
    names = [*first, *(name for name in found if name not in HEADLINE)][:MOST]
    sizes = {found[name].n for name in names}
    texts = [_beside(found[name]) + ("" if len(sizes) == 1 else f" ({found[name].n} images)") for name in names]
    return ", ".join(texts) + (f" ({sizes.pop()} images)" if len(sizes) == 1 else "")


def score_section(title: str, scores: Sequence[Mapping[str, Any]], *, lead: Sequence[Column] = ()) -> Section:
    """A line for each score; what was noted of it stands below.

    ``lead`` are columns to put before: the run, where there are several.
    """
    marks, notes = footnotes([score["note"] for score in scores])
    columns = [
        *lead,
        Column("score", [score["name"] for score in scores]),
        Column("value", [number(score["value"]) for score in scores]),
        Column("95% interval", [bounds(score["ci_low"], score["ci_high"]) for score in scores]),
        Column("images", [str(score["n"]) for score in scores], drop=1),
        Column("note", marks),
    ]
    return Section(title, columns=[one for one in columns if any(one.cells)], lines=notes) if scores else Section(title)


def _beside(score: Score) -> str:
    """The name and the value, with the interval where it is one of the value itself."""
    shown = score if score.holds_value else replace(score, ci_low=None, ci_high=None)
    return f"{score.name} {value(shown)}"


def _score(score: Mapping[str, Any]) -> Score:
    return Score(**{name: score[name] for name in ("name", "value", "ci_low", "ci_high", "n", "note")})
