"""Which settings are better, and how sure: pure functions from rows to rankings."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from t2i_track.ranking.comparison import Comparison, compare
from t2i_track.ranking.describe import as_json
from t2i_track.ranking.rows import ImageRow, RunRow, Score, direction, protocol_label
from t2i_track.ranking.where import where

if TYPE_CHECKING:
    from t2i_track.ranking.decided import Decided
    from t2i_track.ranking.equivalence import Equivalence
    from t2i_track.ranking.pair import PairComparison, compare_two

__all__ = [
    "Comparison",
    "Decided",
    "Equivalence",
    "ImageRow",
    "PairComparison",
    "RunRow",
    "Score",
    "as_json",
    "compare",
    "compare_two",
    "direction",
    "protocol_label",
    "where",
]
_WHEN_ASKED_FOR = {
    "Decided": "decided",
    "Equivalence": "equivalence",
    "PairComparison": "pair",
    "compare_two": "pair",
}
"""Questions of their own, and the module of each: to load them takes longer than to rank a hundred runs."""


def __getattr__(name: str) -> Any:
    if name not in _WHEN_ASKED_FOR:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHEN_ASKED_FOR[name]}"), name)
