"""Limits that hold at every look: closed forms, published numbers, and how often they miss."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from t2i_track.ranking import sequential, spending
from t2i_track.ranking.student import student_two_sided

RNG = np.random.default_rng


def test_wealth_is_the_mean_of_the_products_of_bets() -> None:
    found = sequential.wealth(np.array([0.5, 0.2]), 0.25, 0.0, 1.0, bets=(0.5, 0.1))
    # A bet of a fraction c of the largest one has the factor 1 - c + c y / m.
    products = [[0.5 + 0.5 * 2, 0.9 + 0.1 * 2], [(0.5 + 0.5 * 2) * (0.5 + 0.5 * 0.8), (0.9 + 0.1 * 2) * (0.9 + 0.08)]]
    assert np.exp(found) == pytest.approx(np.mean(products, axis=1))


def test_what_is_not_there_is_no_bet() -> None:
    whole = sequential.wealth(np.array([0.5, 0.2, 0.9]), 0.25, 0.0, 1.0)
    holes = sequential.wealth(np.array([0.5, np.nan, 0.2, 0.9, np.nan]), 0.25, 0.0, 1.0)
    assert holes[[0, 2, 3, 4]] == pytest.approx(whole[[0, 1, 2, 2]])


def test_numbers_outside_of_their_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"are not within \[-1, 1\]"):
        sequential.wealth(np.array([0.0, 1.5]), 0.0, -1, 1)


def test_a_limit_is_where_the_wealth_is_1_over_alpha() -> None:
    values = RNG(1).choice([-1.0, 0.0, 1.0], 200, p=[0.05, 0.75, 0.2])
    limit = sequential.betting_limit(values, 0.05, -1.0, 1.0)
    assert sequential.wealth(values, limit, -1.0, 1.0)[-1] == pytest.approx(math.log(20), abs=1e-6)
    assert limit < values.mean()


def test_of_nothing_but_equal_pictures_a_limit_is_near_the_exact_one() -> None:
    """200 prompts without a difference leave at most 1 - alpha ** (1 / 200) that could differ (Clopper & Pearson)."""
    exact = 1 - 0.05 ** (1 / 200)
    limit = -sequential.betting_limit(np.zeros(200), 0.05, -1.0, 1.0)
    assert exact < limit < 2 * exact


@pytest.mark.parametrize("p", [0.5, 0.05])
def test_betting_misses_in_at_most_alpha_at_any_time(p: float) -> None:
    values = (RNG(2).random((2000, 500)) < p).astype(float)
    missed = (sequential.wealth(values, p, 0.0, 1.0) >= math.log(1 / 0.05)).any(axis=1)
    assert 0.005 < missed.mean() < 0.05


LOOKS = tuple(range(32, 601, 16))


def asymptotic(look: int) -> float:
    return sequential.asymptotic_reach(LOOKS[look], 0.05, 150)


def spending_by_the_square(look: int) -> float:
    return spending.reach(look, LOOKS, LOOKS[-1], 0.05, LOOKS[look] - 1, spending.squared)


@pytest.mark.parametrize("reach", [asymptotic, spending_by_the_square])
@pytest.mark.parametrize(("draw", "most"), [("normal", 0.05), ("exponential", 0.075)])
def test_limits_of_means_miss_in_about_alpha_at_any_look(draw: str, most: float, reach: Callable[[int], float]) -> None:
    values = RNG(3).normal(size=(2000, 600)) if draw == "normal" else 1 - RNG(3).exponential(size=(2000, 600))
    looks = np.array(LOOKS)
    found = sequential.running(values)
    wide = sequential.skewed_reach(
        np.array([reach(look) for look in range(len(looks))]), found.skewness[:, looks - 1], looks
    )
    missed = (found.mean[:, looks - 1] - wide * found.error[:, looks - 1] > 0).any(axis=1)
    assert 0.005 < missed.mean() < most + 2 * (0.05 * 0.95 / len(values)) ** 0.5


def test_an_asymptotic_limit_is_the_papers_with_students_tail() -> None:
    n, alpha, tuned = 400, 0.025, 200
    wide = -2 * math.log(2 * alpha)
    rho = (wide + math.log(wide + 1)) / tuned  # tightest at `tuned`, one-sided
    z = math.sqrt(2 * (n * rho + 1) / (n * rho) * math.log(1 + math.sqrt(n * rho + 1) / (2 * alpha)))
    t = sequential.asymptotic_reach(n, alpha, tuned)
    assert t > z
    assert float(student_two_sided(t, n - 1)) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=1e-6)
    assert sequential.asymptotic_reach(sequential.LEAST - 1, alpha, tuned) == math.inf


def test_running_means_and_errors_are_those_of_the_first_numbers() -> None:
    values = RNG(4).normal(size=(2, 50)) + 1000
    values[0, 7] = np.nan
    found = sequential.running(values)
    some = values[0, :31][np.isfinite(values[0, :31])]
    assert found.number[0, 30] == 30
    assert found.mean[0, 30] == pytest.approx(some.mean())
    assert found.error[0, 30] == pytest.approx(some.std(ddof=1) / math.sqrt(30))
    assert found.skewness[0, 30] == pytest.approx(((some - some.mean()) ** 3).mean() / some.std() ** 3, rel=1e-6)
    assert found.error[1, 0] == math.inf


def test_boundaries_are_those_of_lan_and_demets() -> None:
    """Five equally spaced looks, one-sided 0.025, spending of O'Brien and Fleming's kind: as every table has them."""
    found = spending.boundaries((0.2, 0.4, 0.6, 0.8, 1.0), 0.025)
    assert found == pytest.approx((4.877, 3.357, 2.680, 2.290, 2.031), abs=2e-3)


def test_one_look_is_a_test_of_fixed_size() -> None:
    assert spending.boundaries((1.0,), 0.05)[0] == pytest.approx(1.6449, abs=1e-3)


def test_a_boundary_is_turned_into_students_t() -> None:
    looks = (64, 128, 256)
    normal = spending.boundaries((0.25, 0.5, 1.0), 0.01)[1]
    t = spending.reach(1, looks, 256, 0.01, 31)
    assert float(student_two_sided(t, 31)) == pytest.approx(math.erfc(normal / math.sqrt(2)), rel=1e-6)


@pytest.mark.parametrize("spend", [spending.spent, spending.squared])
def test_a_brownian_motion_crosses_in_what_may_be_spent_up_to_each_look(spend: spending.Spending) -> None:
    looks = np.array([0.25, 0.5, 0.75, 1.0])
    steps = RNG(5).normal(size=(100_000, 4)) * np.sqrt(np.diff(looks, prepend=0))
    over = steps.cumsum(axis=1) / np.sqrt(looks) > np.array(spending.boundaries(tuple(looks), 0.05, spend))
    crossed = np.maximum.accumulate(over, axis=1).mean(axis=0)
    assert crossed == pytest.approx([spend(float(look), 0.05) for look in looks], abs=0.002)
    assert crossed[-1] == pytest.approx(0.05, abs=0.002)


@pytest.mark.parametrize("spend", [spending.spent, spending.squared])
def test_whoever_may_err_more_often_crosses_no_later(spend: spending.Spending) -> None:
    """Holm's method at any look stands on it: what a smaller chance shows, a larger one has shown by then."""
    found = [spending.boundaries((0.1, 0.2, 0.5, 0.6, 1.0), alpha, spend) for alpha in np.geomspace(1e-7, 0.4, 20)]
    assert (np.diff(found, axis=0) <= 0).all()


def test_looks_are_planned_from_the_first_to_the_last() -> None:
    assert spending.planned(64, 512, 5, 32) == (64, 192, 288, 416, 512)
    assert spending.planned(600, 512, 5) == (512,)
