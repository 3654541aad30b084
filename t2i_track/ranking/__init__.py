"""Which settings are better, and how sure: pure functions from rows to rankings."""

from t2i_track.ranking.comparison import Comparison, compare
from t2i_track.ranking.describe import as_json
from t2i_track.ranking.equivalence import Equivalence, equivalence
from t2i_track.ranking.pair import PairComparison, compare_two
from t2i_track.ranking.rows import ImageRow, RunRow, Score, direction, protocol_label
from t2i_track.ranking.where import where

__all__ = [
    "Comparison",
    "Equivalence",
    "ImageRow",
    "PairComparison",
    "RunRow",
    "Score",
    "as_json",
    "compare",
    "compare_two",
    "direction",
    "equivalence",
    "protocol_label",
    "where",
]
