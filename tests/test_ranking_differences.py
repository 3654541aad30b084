from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ranking_rows import GROUPS, PROMPTS, constant, mean_score, noise
from scipy.special import stdtr, stdtrit
from scipy.stats import ttest_ind

from t2i_track.metrics.uncertainty import paired_difference
from t2i_track.ranking.differences import (
    adjusted_p_values,
    difference,
    differences,
    holm,
    holm_pairs,
    interval_of,
    mean,
)
from t2i_track.ranking.rows import Score
from t2i_track.ranking.student import student_quantile, student_two_sided


@given(st.floats(0, 60), st.integers(1, 80))
def test_student_tail_is_scipys(t: float, freedom: int) -> None:
    assert float(student_two_sided(t, freedom)) == pytest.approx(2 * stdtr(freedom, -t), rel=1e-6, abs=1e-14)


@pytest.mark.parametrize("freedom", [1, 2, 7, 31, 200])
@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.999])
def test_student_quantile_is_scipys(freedom: int, level: float) -> None:
    assert student_quantile(level, freedom) == pytest.approx(stdtrit(freedom, 0.5 + level / 2), rel=1e-9)


def test_holm_is_the_textbook_step_down() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, None, 0.9]).tolist() == pytest.approx([1.0, np.nan, 1.0], nan_ok=True)
    assert holm([]).tolist() == []


def test_holm_counts_each_pair_once() -> None:
    p = np.array([[np.nan, 0.01, 0.5], [0.01, np.nan, 0.02], [0.5, 0.02, np.nan]])
    expected = [[np.nan, 0.03, 0.5], [0.03, np.nan, 0.04], [0.5, 0.04, np.nan]]
    assert holm_pairs(p).tolist() == [pytest.approx(row, nan_ok=True) for row in expected]


def test_the_interval_of_a_mean_is_students() -> None:
    values = noise(3)
    groups = np.array([values[np.arange(PROMPTS) % GROUPS == g].mean() for g in range(GROUPS)])
    reach = stdtrit(GROUPS - 1, 0.975) * groups.std(ddof=1) / np.sqrt(GROUPS)
    interval = interval_of(mean_score("fid", values), 0.95)
    assert (interval.low, interval.high) == pytest.approx((values.mean() - reach, values.mean() + reach), rel=1e-9)


@pytest.mark.parametrize("empty", [0, 3])
def test_a_difference_of_distances_is_the_jackknifes(empty: int) -> None:
    a, b = mean_score("recall", noise(1)), mean_score("recall", noise(1) + 0.1 * noise(2))
    assert a.replicates is not None
    assert b.replicates is not None
    a = replace(a, replicates=(None,) * empty + a.replicates[empty:])
    b = replace(b, replicates=(None,) * empty + b.replicates[empty:])
    ours = difference(a, b, 0.9)
    theirs = paired_difference(a.value, a.replicates or (), b.value, b.replicates or (), 0.9)
    for name in ("estimate", "low", "high", "standard_error", "p_value"):
        assert getattr(ours, name) == pytest.approx(getattr(theirs, name), rel=1e-9)


def test_a_mean_is_compared_prompt_by_prompt() -> None:
    x, y = noise(1), noise(1) + 0.1 * noise(2)
    a, b = (Score("clip_score", float(v.mean()), parts=v, prompts="p") for v in (x, y))
    found, gaps = difference(a, b, 0.95), x - y
    error = gaps.std(ddof=1) / np.sqrt(PROMPTS)
    assert found.standard_error == pytest.approx(error)
    assert (found.low, found.high) == pytest.approx(
        (gaps.mean() - stdtrit(PROMPTS - 1, 0.975) * error, gaps.mean() + stdtrit(PROMPTS - 1, 0.975) * error)
    )


def test_runs_over_other_prompts_or_groups_are_not_paired() -> None:
    a = Score("clip_score", 1.0, parts=noise(1), prompts="p")
    assert difference(a, replace(a, prompts="q"), 0.95).low is None
    assert difference(a, replace(a, grouping="new"), 0.95).low is None
    assert difference(a, replace(a, parts=noise(1)[:64]), 0.95).low is None


def test_over_different_manifests_variances_add() -> None:
    x, y = noise(1), 3 * noise(2)
    a, b = (Score("clip_score", float(v.mean()), parts=v) for v in (x, y))
    error = np.sqrt(x.var(ddof=1) / PROMPTS + y.var(ddof=1) / PROMPTS)
    assert difference(a, b, 0.95, paired=False).standard_error == pytest.approx(error)


@given(
    sizes=st.tuples(st.integers(8, 90), st.integers(8, 90)),
    spread=st.floats(0.1, 10),
    shift=st.floats(-1, 1),
    seed=st.integers(0, 10**6),
)
def test_over_different_manifests_p_values_are_scipys_by_welch(
    sizes: tuple[int, int], spread: float, shift: float, seed: int
) -> None:
    """But for degrees of freedom that are rounded down, to a whole number: a little more cautious."""
    random = np.random.default_rng(seed)
    x, y = random.normal(size=sizes[0]), shift + spread * random.normal(size=sizes[1])
    a, b = (Score("clip_score", float(v.mean()), parts=v) for v in (x, y))
    found, theirs = difference(a, b, 0.95, paired=False), ttest_ind(x, y, equal_var=False)
    assert found.p_value is not None
    t, whole = abs(float(theirs.statistic)), int(theirs.df)
    assert found.p_value == pytest.approx(2 * stdtr(whole, -t), rel=1e-6, abs=1e-14)
    assert theirs.pvalue - 1e-12 <= found.p_value
    assert found.p_value <= theirs.pvalue + 2 * (stdtr(whole, -t) - stdtr(whole + 1, -t)) + 1e-12
    low, high = theirs.confidence_interval(0.95)
    assert found.low <= low + 1e-9
    assert found.high >= high - 1e-9
    assert (found.high - found.low) / (high - low) == pytest.approx(stdtrit(whole, 0.975) / stdtrit(theirs.df, 0.975))


def test_over_different_manifests_whole_degrees_of_freedom_give_scipys_p_value() -> None:
    x = np.arange(16.0)
    a, b = (Score("clip_score", float(v.mean()), parts=v) for v in (x, x + 3))
    theirs = ttest_ind(x, x + 3, equal_var=False)
    assert theirs.df == pytest.approx(30)
    found = difference(a, b, 0.95, paired=False)
    assert (found.p_value, found.low, found.high) == pytest.approx(
        (theirs.pvalue, *theirs.confidence_interval(0.95)), rel=1e-9
    )


def test_what_rounding_leaves_of_equal_runs_is_no_difference() -> None:
    """One image's features moved by 1e-5 were declared different with p = 0."""
    x = 1000 + noise(1)
    moved = x.copy()
    moved[3] += 1e-5
    a, b = (Score("clip_score", float(v.mean()), parts=v) for v in (x, moved))
    found = difference(a, b, 0.95)
    assert (found.estimate, found.low, found.high, found.p_value) == (0.0, 0.0, 0.0, 1.0)
    assert adjusted_p_values([a, b], ["m", "m"], 0.95)[0, 1] == 1.0


@pytest.mark.parametrize("metric", ["recall", "fid", "alignment"])
def test_many_differences_are_the_single_ones(metric: str) -> None:
    scores = [mean_score(metric, 20 + 0.1 * noise(0) + 0.01 * (seed % 7) * noise(seed)) for seed in range(40)]
    pairs = list(zip(scores, [*scores[1:], scores[0]], strict=True))
    for found, (a, b) in zip(differences(pairs, 0.9), pairs, strict=True):
        single = difference(a, b, 0.9)
        for name in ("estimate", "low", "high", "standard_error", "p_value"):
            assert getattr(found, name) == pytest.approx(getattr(single, name), rel=1e-9, abs=1e-14)
    assert differences([(scores[0], constant(metric, 1.0))] * 20, 0.9)[3].low is None
    assert differences([], 0.9) == []


def test_few_groups_give_no_interval() -> None:
    few = Score("recall", 1.0, replicates=(1.0, 2.0, 3.0) + (None,) * (GROUPS - 3))
    assert difference(few, replace(few, value=2.0), 0.95).low is None
    assert np.isnan(adjusted_p_values([few, few], ["m", "m"], 0.95)).all()


def test_a_distance_whose_bias_cannot_be_removed_decides_nothing() -> None:
    """FID of fewer than four images to a dimension has no interval, and so no verdict."""
    a, b = mean_score("fid", 20 + noise(1)), mean_score("fid", 30 + noise(2))
    few = [replace(score, ci_low=None, ci_high=None) for score in (a, b)]
    assert difference(*few, 0.95).low is None
    assert difference(*few, 0.95).estimate == few[0].value - few[1].value
    assert np.isnan(adjusted_p_values(few, ["m", "m"], 0.95)).all()
    assert adjusted_p_values([a, b], ["m", "m"], 0.95)[0, 1] <= 0.001


def test_runs_over_several_manifests_are_corrected_by_holm() -> None:
    scores = [mean_score("recall", noise(0) + 0.2 * noise(seed)) for seed in range(1, 4)]
    manifests = ["m", "m", "n"]
    single = np.full((3, 3), np.nan)
    for i in range(3):
        for j in range(3):
            if i != j:
                paired = manifests[i] == manifests[j]
                single[i, j] = difference(scores[i], scores[j], 0.95, paired=paired).p_value
    assert adjusted_p_values(scores, manifests, 0.95) == pytest.approx(holm_pairs(single), nan_ok=True)


def test_the_mean_keeps_the_columns_paired() -> None:
    first, second = noise(1), noise(2)
    middle = mean([mean_score("recall", first), mean_score("recall", second)])
    assert middle.columns == pytest.approx(mean_score("recall", (first + second) / 2).columns)
    assert mean([mean_score("recall", first), constant("recall", 1.0)]).columns is None
