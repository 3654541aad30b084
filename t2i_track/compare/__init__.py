"""Which settings are better, and how sure: pure functions from rows to rankings."""

from t2i_track.compare.comparison import Comparison, compare
from t2i_track.compare.formats import FORMATS, as_csv, as_json, markdown, table
from t2i_track.compare.pair import PairComparison, compare_two
from t2i_track.compare.pair_formats import PAIR_FORMATS
from t2i_track.compare.rows import ImageRow, RunRow, Score, direction, protocol_label
from t2i_track.compare.where import where

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
