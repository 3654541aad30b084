import pytest
from ranking_rows import constant

from t2i_track.metrics.uncertainty import Interval
from t2i_track.ranking.words import bounds, change, number, value


@pytest.mark.parametrize(("given", "text"), [(12.3456, "12.35"), (0.000123456, "0.0001235"), (1234567.0, "1.235e+06")])
def test_numbers_have_four_digits(given: float, text: str) -> None:
    assert number(given) == text


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (19.4, 21.0912, "[19.40, 21.09]"),
        (-0.04364, 0.06132, "[-0.044, 0.061]"),
        (100.0, 220.0, "[100, 220]"),
        (1.0, 1.0, "[1.0000, 1.0000]"),
        (None, 1.0, ""),
    ],
)
def test_intervals_show_two_digits_of_their_width(low: float | None, high: float, text: str) -> None:
    assert bounds(low, high) == text


@pytest.mark.parametrize(
    ("interval", "p", "text"),
    [
        (None, None, ""),
        (Interval(0.008837, -0.04364, 0.06132, 0.03, 0.7), 1.0, "+0.009 [-0.044, +0.061]"),
        (Interval(0.5, 0.1, 0.9, 0.2, 0.01), 0.12, "+0.50 [+0.10, +0.90], corrected p = 0.12"),
        (Interval(-0.5, -0.9, -0.1, 0.2, 0.01), 0.03, "-0.50 [-0.90, -0.10]"),
        (Interval(-0.5, None, None, None, None), None, "-0.5, no interval"),
    ],
)
def test_changes_carry_their_evidence(interval: Interval | None, p: float | None, text: str) -> None:
    assert change(interval, p) == text


def test_values_are_as_exact_as_their_interval() -> None:
    assert value(constant("fid", 20.2487, ci_low=19.4, ci_high=21.09)) == "20.25 [19.40, 21.09]"
    assert value(constant("fid", 20.2487)) == "20.25"
