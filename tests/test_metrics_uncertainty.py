"""Jackknife, means, shares and differences: exact values, and what happens where nothing sound can be said."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest

from t2i_track.metrics import uncertainty
from t2i_track.metrics.prompts import GROUPS, Prompts
from t2i_track.metrics.uncertainty import (
    Interval,
    distance_interval,
    jackknife,
    leave_out_means,
    mean_interval,
    paired_difference,
    share_interval,
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
    found = paired_difference(a.mean(), leave_one_out(a), b.mean(), leave_one_out(b))
    alone = [jackknife(x.mean(), leave_one_out(x)).standard_error or 0.0 for x in (a, b)]
    assert found.estimate == a.mean() - b.mean()
    assert found.standard_error is not None
    assert found.standard_error < 0.2 * math.hypot(*alone)
    assert found.p_value is not None
    assert found.p_value < 0.001


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


@pytest.mark.parametrize("n", [8, 400])
def test_a_mean_has_student_s_interval(n: int) -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    x = np.random.default_rng(0).exponential(size=n)
    found = mean_interval(x, np.arange(n))
    error = x.std(ddof=1) / math.sqrt(n)
    assert found.standard_error == pytest.approx(error, rel=1e-9)
    assert (found.low, found.high) == pytest.approx(scipy_stats.t.interval(0.95, n - 1, x.mean(), error), rel=1e-9)


def test_a_mean_of_equal_scores_is_certain() -> None:
    assert mean_interval(np.full(30, 0.1), np.arange(30) // 2).standard_error == 0.0


def test_images_of_one_prompt_count_as_one() -> None:
    x = np.random.default_rng(0).normal(size=50)
    alone, together = mean_interval(x, np.arange(50)), mean_interval(np.repeat(x, 8), np.repeat(np.arange(50), 8))
    assert (together.low, together.high) == pytest.approx((alone.low, alone.high), rel=1e-9)


def test_prompts_with_unequal_numbers_of_images() -> None:
    # The variance of a ratio of means: prompts of 1 and 3 images, each image weighing the same.
    counts = np.tile([1, 3], 8)
    means = np.random.default_rng(0).normal(size=16)
    found = mean_interval(np.repeat(means, counts), np.repeat(np.arange(16), counts))
    rest = counts * (means - found.estimate)
    assert found.estimate == pytest.approx((counts * means).sum() / 32)
    assert found.standard_error == pytest.approx(math.sqrt(16 / 15 * (rest**2).sum()) / 32)


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
    found = share_interval(np.full(n, value), np.arange(n))
    assert found.estimate == value
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-5), pytest.approx(high, abs=1e-5))
    alike = share_interval(np.full(2 * n, value), np.arange(2 * n) // 2)
    assert (alike.low, alike.high) == (found.low, found.high)


@pytest.mark.parametrize(
    ("right", "low", "high"),
    [(64, 0.9440, 1.0), (63, 0.9151, 0.9996), (60, 0.8467, 0.9829), (32, 0.3713, 0.6287), (1, 0.0004, 0.0849)],
)
def test_a_share_of_so_many_of_64(right: int, low: float, high: float) -> None:
    found = share_interval(np.repeat([1.0, 0.0], [right, 64 - right]), np.arange(64))
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize("each", [1, 4])
def test_fewer_that_are_right_never_look_better(each: int) -> None:
    bounds = []
    for right in range(64 // each + 1):
        scores = np.repeat([1.0, 0.0], [right * each, 64 - right * each])
        found = share_interval(scores, np.arange(64) // each)
        bounds.append((found.low, found.high))
    lows, highs = np.array(bounds, dtype=float).T
    assert (np.diff(lows) >= 0).all()
    assert (np.diff(highs) >= 0).all()


def test_a_share_of_four_images_a_prompt_counts_prompts() -> None:
    right = np.random.default_rng(0).random(64) < 0.8
    alone = share_interval(right.astype(float), np.arange(64))
    together = share_interval(np.repeat(right, 4).astype(float), np.repeat(np.arange(64), 4))
    assert (together.low, together.high) == pytest.approx((alone.low, alone.high), rel=1e-9)


def test_parts_of_a_share_that_are_almost_all_right_say_no_more_than_all() -> None:
    scores = np.ones(64)
    scores[0] = 0.99
    found = share_interval(scores, np.arange(64))
    assert found.low == pytest.approx(0.9440, abs=1e-4)
    assert share_interval(np.ones(4), np.arange(4)).low is None


@pytest.mark.parametrize("prompts", [8, 12, 16])
def test_means_of_few_prompts_hold_the_truth(prompts: int) -> None:
    rng, clusters = np.random.default_rng(0), np.repeat(np.arange(prompts), 4)
    held = 0
    for _ in range(2000):
        scores = np.repeat(rng.normal(size=prompts), 4) + rng.normal(size=4 * prompts)
        found = mean_interval(scores, clusters)
        held += (found.low or 0) <= 0.0 <= (found.high or 0)
    assert 0.93 < held / 2000 < 0.97


@pytest.mark.parametrize(
    ("p", "n", "least", "most"), [(0.5, 64, 0.94, 0.98), (0.95, 64, 0.95, 1.0), (0.99, 64, 0.95, 1)]
)
def test_shares_hold_the_truth(p: float, n: int, least: float, most: float) -> None:
    rng = np.random.default_rng(0)
    found = [share_interval((rng.random(n) < p).astype(float), np.arange(n)) for _ in range(2000)]
    assert least < np.mean([(f.low or 0) <= p <= (f.high or 0) for f in found]) <= most


def test_prompts_are_dealt_by_their_hashes() -> None:
    texts = [f"prompt {i % 100}" for i in range(300)]
    prompts = Prompts.of(texts)
    sizes = np.bincount(prompts.dealt(np.arange(100)), minlength=GROUPS)
    assert (len(prompts), sizes.min(), sizes.max()) == (100, 3, 4)
    assert list(prompts.digests) == sorted(hashlib.sha256(text.encode()).hexdigest() for text in set(texts))
    assert [prompts.digests[i] for i in prompts.of_image[:2]] == [
        hashlib.sha256(text.encode()).hexdigest() for text in texts[:2]
    ]
    # A prompt's images are in one group wherever the manifest has it; order and repetition are of no account.
    assert prompts.groups[:100].tolist() == prompts.groups[200:].tolist()
    assert Prompts.of(texts[99::-1]).sha256 == prompts.sha256
    assert Prompts.of(texts[:99]).sha256 != prompts.sha256


def test_fewer_prompts_than_groups() -> None:
    assert sorted(Prompts.of([f"{i}" for i in range(10)]).groups) == list(range(10))
    assert Prompts.of(["one"] * 3).groups.tolist() == [0, 0, 0]


@pytest.mark.parametrize("period", [8, 16, 32])
def test_a_manifest_that_repeats_does_not_move_its_error(period: int) -> None:
    # A kind of prompt at every 8th place: groups by place hold one kind each, and their spread is that of kinds.
    rng = np.random.default_rng(0)
    x = np.tile(rng.normal(size=period), 256 // period) + 0.3 * rng.normal(size=256)
    groups = Prompts.of([f"prompt {i}" for i in range(256)]).groups
    found, exact = jackknife(x.mean(), leave_out_means(x, groups)), mean_interval(x, np.arange(256))
    assert found.standard_error == pytest.approx(exact.standard_error, rel=0.25)
    by_place = jackknife(x.mean(), leave_out_means(x, np.arange(256) % GROUPS))
    assert (by_place.standard_error or 0) > 1.5 * (exact.standard_error or 0)


def test_means_of_prompts() -> None:
    prompts = Prompts.of(["a", "b", "b", "c"])
    found = prompts.means(np.array([1.0, 2.0, 4.0, np.nan]))
    by_text = {text: found[number] for text, number in zip("abbc", prompts.of_image, strict=True)}
    assert (by_text["a"], by_text["b"]) == (1.0, 3.0)
    assert math.isnan(by_text["c"])
