"""Which settings are better, and how sure: pure functions from rows to rankings."""

from t2i_track.ranking.comparison import Comparison, compare
from t2i_track.ranking.formats import FORMATS, as_csv, as_json, markdown, table
from t2i_track.ranking.pair import PairComparison, compare_two
from t2i_track.ranking.pair_formats import PAIR_FORMATS
from t2i_track.ranking.rows import ImageRow, RunRow, Score, direction, protocol_label
from t2i_track.ranking.where import where

__all__ = [
    "FORMATS",
    "PAIR_FORMATS",
    "Comparison",
    "ImageRow",
    "PairComparison",
    "RunRow",
    "Score",
    "as_csv",
    "as_json",
    "compare",
    "compare_two",
    "direction",
    "markdown",
    "protocol_label",
    "table",
    "where",
]
