"""Jackknife, bootstrap and differences: exact values, and what happens where nothing sound can be said."""

from __future__ import annotations

import math

import numpy as np
import pytest

from t2i_track.metrics import uncertainty
from t2i_track.metrics.uncertainty import (
    GROUPS,
    Interval,
    bootstrap_mean,
    distance_interval,
    jackknife,
    leave_out_means,
    paired_difference,
    share_interval,
    unpaired_difference,
)

T_31 = 2.0395134463964077
"""Student's 97.5 % quantile on 31 degrees of freedom."""


def leave_one_out(x: np.ndarray) -> list[float | None]:
    return leave_out_means(x, np.arange(len(x)) % GROUPS)


def test_jackknife_of_a_mean_is_its_standard_error() -> None:
    x = np.random.default_rng(0).normal(size=GROUPS)
    found = jackknife(x.mean(), leave_one_out(x))
    error = x.std(ddof=1) / math.sqrt(GROUPS)
    assert found.standard_error == pytest.approx(error, rel=1e-12)
    assert found.low == pytest.approx(x.mean() - T_31 * error, rel=1e-9)
    assert found.high == pytest.approx(x.mean() + T_31 * error, rel=1e-9)


def test_jackknife_removes_the_bias_of_the_plug_in_variance() -> None:
    x = np.random.default_rng(0).normal(size=GROUPS)
    replicates = [float(np.delete(x, g).var()) for g in range(GROUPS)]
    assert jackknife(x.var(), replicates, correct_bias=True).estimate == pytest.approx(x.var(ddof=1), rel=1e-12)


@pytest.mark.parametrize("groups", [0, 1, uncertainty.MIN_GROUPS - 1])
def test_too_few_groups_have_no_interval(groups: int) -> None:
    replicates = [1.0] * groups + [None] * (GROUPS - groups)
    assert jackknife(1.0, replicates) == Interval(1.0, None, None, None, None)


def test_equal_runs_differ_by_exactly_0() -> None:
    replicates = leave_one_out(np.random.default_rng(0).normal(size=64))
    assert paired_difference(3.0, replicates, 3.0, replicates) == Interval(0.0, 0.0, 0.0, 0.0, 1.0)


def test_a_constant_difference_is_certain() -> None:
    replicates = [1.0, 2.0, 4.0, 8.0] * 8
    lower = [r - 0.5 for r in replicates]
    assert paired_difference(3.0, replicates, 2.5, lower) == Interval(0.5, 0.5, 0.5, 0.0, 0.0)


def test_pairing_cancels_what_runs_share() -> None:
    rng = np.random.default_rng(0)
    shared, own = rng.normal(size=256), rng.normal(size=256) * 0.1
    a, b = shared + own + 0.05, shared
    pair = (a.mean(), leave_one_out(a), b.mean(), leave_one_out(b))
    paired, unpaired = paired_difference(*pair), unpaired_difference(*pair)
    assert paired.estimate == unpaired.estimate == a.mean() - b.mean()
    assert paired.p_value is not None
    assert paired.p_value < 0.001
    assert unpaired.p_value is not None
    assert unpaired.p_value > 0.3


def test_differences_are_antisymmetric() -> None:
    rng = np.random.default_rng(0)
    a, b = (leave_one_out(rng.normal(size=100)) for _ in range(2))
    there, back = paired_difference(1.0, a, 2.0, b), paired_difference(2.0, b, 1.0, a)
    assert there.low is not None
    assert there.low == pytest.approx(-(back.high or 0.0))
    assert there.p_value == back.p_value


def test_groups_that_are_empty_in_either_run_are_left_out() -> None:
    a: list[float | None] = [1.0 + g / 100 for g in range(GROUPS)]
    b: list[float | None] = [g / 50 for g in range(GROUPS)]
    a[3] = b[7] = None
    kept = [g for g in range(GROUPS) if g not in (3, 7)]
    expected = jackknife(1.0, [a[g] - b[g] for g in kept])  # type: ignore[operator]
    assert paired_difference(1.2, a, 0.2, b) == expected


def test_other_numbers_of_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        paired_difference(1.0, [1.0] * 32, 1.0, [1.0] * 31)


def test_welch() -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=GROUPS), rng.normal(size=GROUPS) * 3
    found = unpaired_difference(a.mean(), leave_one_out(a), b.mean(), leave_one_out(b))
    assert found.p_value == pytest.approx(scipy_stats.ttest_ind(a, b, equal_var=False).pvalue, rel=1e-9)


def test_bootstrap_is_the_same_every_time_and_near_the_standard_error() -> None:
    x = np.random.default_rng(0).exponential(size=400)
    one, two = bootstrap_mean(x, range(400)), bootstrap_mean(x, range(400))
    assert one == two
    assert one.estimate == pytest.approx(x.mean(), rel=1e-12)
    assert one.standard_error == pytest.approx(x.std(ddof=1) / 20, rel=0.05)


def test_images_of_one_prompt_count_as_one() -> None:
    x = np.repeat(np.random.default_rng(0).normal(size=50), 8)
    alone = bootstrap_mean(x[::8], range(50))
    together = bootstrap_mean(x, np.repeat(np.arange(50), 8).tolist())
    assert together.standard_error == pytest.approx(alone.standard_error, rel=1e-9)


def test_few_images_to_a_dimension_have_no_interval_and_say_so() -> None:
    replicates = leave_one_out(np.random.default_rng(0).normal(size=GROUPS))
    interval, note = distance_interval(20.0, replicates, 255, 64)
    assert interval == Interval(20.0, None, None, None, None)
    assert note is not None
    assert note.startswith("no interval: the bias of 255 images cannot be removed, 256 are needed")
    assert distance_interval(20.0, replicates, 256, 64)[0].low is not None


def test_a_distance_is_not_below_0() -> None:
    interval, _ = distance_interval(0.1, [0.0, 0.2] * 16, 999, 64)
    assert interval.low == 0.0
    assert interval.high == pytest.approx(0.1 + T_31 * 0.1 * 31**0.5)


def test_leave_out_means() -> None:
    found = leave_out_means(np.array([1.0, 2.0, 6.0]), np.array([0, 0, 4]))
    assert found[0] == 6.0
    assert found[4] == 1.5
    assert [g for g, r in enumerate(found) if r is not None] == [0, 4]


@pytest.mark.parametrize(("value", "n", "low", "high"), [(1.0, 128, 0.97159, 1.0), (0.0, 128, 0.0, 0.02841)])
def test_a_share_of_all_or_none_is_not_certain(value: float, n: int, low: float, high: float) -> None:
    found = share_interval(np.full(n, value), range(n))
    assert found.estimate == value
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-5), pytest.approx(high, abs=1e-5))
    alike = share_interval(np.full(2 * n, value), [i // 2 for i in range(2 * n)])
    assert (alike.low, alike.high) == (found.low, found.high)


def test_a_share_stays_a_share() -> None:
    rare = np.zeros(100)
    rare[0] = 1.0
    found = share_interval(rare, range(100))
    assert found.low == 0.0
    assert found.high is not None
    assert 0.02 < found.high < 0.05
    assert share_interval(np.ones(4), range(4)).low is None
