from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ranking_rows import GROUPS, PROMPTS, constant, leave_out, mean_score, noise
from scipy.special import stdtr, stdtrit

from t2i_track.metrics.uncertainty import paired_difference, unpaired_difference
from t2i_track.ranking.differences import (
    difference,
    differences,
    holm,
    holm_pairs,
    interval_of,
    mean,
    p_values,
    student_quantile,
    student_two_sided,
)
from t2i_track.ranking.rows import Score


@given(st.floats(0, 60), st.integers(1, 80))
def test_student_tail_is_scipys(t: float, freedom: int) -> None:
    assert float(student_two_sided(t, freedom)) == pytest.approx(2 * stdtr(freedom, -t), rel=1e-6, abs=1e-14)


@pytest.mark.parametrize("freedom", [1, 2, 7, 31, 200])
@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.999])
def test_student_quantile_is_scipys(freedom: int, level: float) -> None:
    assert student_quantile(level, freedom) == pytest.approx(stdtrit(freedom, 0.5 + level / 2), rel=1e-9)


@pytest.mark.parametrize("empty", [0, 3])
def test_a_difference_is_that_of_the_metrics(empty: int) -> None:
    a, b = mean_score("fid", noise(1)), mean_score("fid", noise(1) + 0.1 * noise(2))
    assert a.replicates is not None
    a = Score("fid", a.value, replicates=(None,) * empty + a.replicates[empty:])
    ours, theirs = difference(a, b, 0.9), paired_difference(a.value, a.replicates, b.value, b.replicates, 0.9)  # type: ignore[arg-type]
    for name in ("estimate", "low", "high", "standard_error", "p_value"):
        assert getattr(ours, name) == pytest.approx(getattr(theirs, name), rel=1e-9)


def test_an_unpaired_difference_is_that_of_the_metrics() -> None:
    a, b = mean_score("fid", noise(1)), mean_score("fid", noise(2))
    assert a.replicates is not None
    assert b.replicates is not None
    assert difference(a, b, 0.95, paired=False) == unpaired_difference(a.value, a.replicates, b.value, b.replicates)


def test_all_pairs_at_once_are_the_single_differences() -> None:
    scores = [mean_score("fid", noise(0) + 0.2 * noise(seed)) for seed in range(1, 5)] + [constant("fid", 0.0)]
    manifests = ["m", "m", "n", "m", "m"]
    p = p_values(scores, manifests)
    for i in range(5):
        for j in range(5):
            if 4 in (i, j) or i == j:
                assert np.isnan(p[i, j])
            else:
                single = difference(scores[i], scores[j], 0.95, paired=manifests[i] == manifests[j]).p_value
                assert p[i, j] == pytest.approx(single, rel=1e-9)


def test_equal_runs_have_no_difference() -> None:
    score = mean_score("fid", noise(1))
    gap = difference(score, score, 0.95)
    assert (gap.estimate, gap.low, gap.high, gap.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_few_groups_give_no_interval() -> None:
    few = Score("fid", 1.0, replicates=(1.0, 2.0, 3.0) + (None,) * (GROUPS - 3))
    assert difference(few, mean_score("fid", noise(1)), 0.95).low is None


def test_holm_is_the_textbook_step_down() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, None, 0.9]).tolist() == pytest.approx([1.0, np.nan, 1.0], nan_ok=True)
    assert holm([]).tolist() == []


def test_holm_counts_each_pair_once() -> None:
    p = np.array([[np.nan, 0.01, 0.5], [0.01, np.nan, 0.02], [0.5, 0.02, np.nan]])
    expected = [[np.nan, 0.03, 0.5], [0.03, np.nan, 0.04], [0.5, 0.04, np.nan]]
    assert holm_pairs(p).tolist() == [pytest.approx(row, nan_ok=True) for row in expected]


def test_the_mean_keeps_the_replicates_paired() -> None:
    first, second = noise(1), noise(2)
    middle = mean([mean_score("fid", first), mean_score("fid", second)])
    assert middle.replicates == pytest.approx(leave_out((first + second) / 2))
    assert mean([mean_score("fid", first), constant("fid", 1.0)]).replicates is None


def test_the_interval_of_a_mean_is_students() -> None:
    values = noise(3)
    groups = np.array([values[np.arange(PROMPTS) % GROUPS == g].mean() for g in range(GROUPS)])
    reach = stdtrit(GROUPS - 1, 0.975) * groups.std(ddof=1) / np.sqrt(GROUPS)
    interval = interval_of(mean_score("fid", values), 0.95)
    assert (interval.low, interval.high) == pytest.approx((values.mean() - reach, values.mean() + reach), rel=1e-9)


def test_many_differences_to_one_are_the_single_ones() -> None:
    scores = [mean_score("fid", 20 + shift + noise(seed)) for seed, shift in enumerate((0.0, 0.5, 3.0))]
    scores.append(constant("fid", 21.0))
    scores.append(replace(scores[0], replicates=(None,) * 20 + (scores[0].replicates or ())[20:]))
    for other in scores:
        assert differences(scores, other, 0.9) == [difference(score, other, 0.9) for score in scores]
