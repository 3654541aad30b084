"""Inception Score, KID, precision and recall, CMMD and CLIP score on plain arrays."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from t2i_track.errors import MetricError
from t2i_track.metrics import mmd
from t2i_track.metrics.neighbours import radii
from t2i_track.metrics.prompts import GROUPS, Prompts
from t2i_track.metrics.scores import clip_score, cmmd, fid, kid, precision_recall
from t2i_track.metrics.scores import inception_score as inception
from t2i_track.metrics.scores.clip_score import clip_scores
from t2i_track.metrics.scores.inception_score import ceiling, inception_score


def features(n: int, d: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(n, d)) * scale).astype(np.float32)


def groups(n: int) -> np.ndarray:
    return np.arange(n) % GROUPS


def kid_of(a: np.ndarray, b: np.ndarray, size: int) -> tuple[float, float, list[float | None], float]:
    subsets = kid.draw_subsets(len(a), len(b), 100, size)
    return kid.kid(a, b, groups(len(a)), subsets, kid.within_subsets(b, subsets.theirs))


def test_published_inception_score() -> None:
    logits = np.array([[1, 2, 3], [-1, 5, 3.1]])
    mean, std, *_ = inception_score(logits, groups(2), splits=1)
    assert mean == pytest.approx(1.24357, abs=1e-5)
    assert std == 0.0


@pytest.mark.parametrize("classes", [2, 7, 35])
def test_inception_score_lies_between_1_and_the_classes(classes: int) -> None:
    certain = 1000.0 * np.eye(classes)[np.arange(classes * 10) % classes]
    assert inception_score(certain, groups(len(certain)), 1)[0] == pytest.approx(classes, rel=1e-12)
    assert inception_score(np.zeros((40, classes)), groups(40))[0] == pytest.approx(1.0, rel=1e-12)


def test_inception_score_agrees_with_torch_fidelity() -> None:
    import torch
    from torch_fidelity.metric_isc import isc_features_to_metric

    logits = features(103, 12, scale=3.0)
    theirs = isc_features_to_metric(torch.from_numpy(logits), splits=10)
    mean, std, *_ = inception_score(logits, groups(103))
    assert mean == pytest.approx(theirs["inception_score_mean"], rel=1e-12)
    assert std == pytest.approx(theirs["inception_score_std"], rel=1e-10)


def test_inception_score_needs_an_image_a_split() -> None:
    with pytest.raises(MetricError, match="at least 10 pictures, not 9"):
        inception_score(features(9, 3), groups(9))


@pytest.mark.parametrize(("n", "m", "size"), [(60, 60, 60), (60, 90, 60), (80, 70, 33)])
def test_kid_is_torch_fidelity_s(n: int, m: int, size: int) -> None:
    import torch
    from torch_fidelity.metric_kid import kid_features_to_metric

    a, b = features(n, 20, 1), features(m, 20, 2, 1.3)
    theirs = kid_features_to_metric(torch.from_numpy(a), torch.from_numpy(b), kid_subset_size=size, verbose=False)
    mean, std, *_ = kid_of(a, b, size)
    assert mean == theirs["kernel_inception_distance_mean"]
    assert std == theirs["kernel_inception_distance_std"]


def test_kid_s_replicates_without_subsets() -> None:
    # With one subset that is everything, leaving a group out is the unbiased MMD² of the rest.
    a, b = features(64, 6, 1).astype(np.float64), features(64, 6, 2, 1.2).astype(np.float64)
    _, _, replicates, _ = kid_of(a, b, 64)
    rest = a[groups(64) != 5]
    k_xx, k_yy = kid.polynomial(rest, rest), kid.polynomial(b, b)
    within = (k_xx.sum() - np.trace(k_xx)) / (62 * 61) + (k_yy.sum() - np.trace(k_yy)) / (64 * 63)
    assert replicates[5] == pytest.approx(within - 2 * kid.polynomial(rest, b).mean(), rel=1e-9)


def test_kid_needs_whole_subsets() -> None:
    with pytest.raises(MetricError, match="subsets of 50 needs as many pictures"):
        kid.draw_subsets(49, 100, 10, 50)


@pytest.mark.parametrize(("n", "m"), [(60, 60), (300, 280)], ids=["one block", "several blocks"])
def test_precision_and_recall_are_torch_fidelity_s(n: int, m: int) -> None:
    import torch
    from torch_fidelity.metric_prc import prc_features_to_metric

    a, b = features(n, 5, 1), features(m, 5, 2, 1.3)
    theirs = prc_features_to_metric(torch.from_numpy(a), torch.from_numpy(b), verbose=False)
    inside, recall, _ = precision_recall.precision_recall(a, b, groups(n), radii(b, 3))
    assert inside.mean() == pytest.approx(theirs["precision"], rel=1e-7)
    assert recall == pytest.approx(theirs["recall"], rel=1e-7)


def test_recall_s_replicates_are_those_of_the_rest() -> None:
    a, b = features(70, 5, 1), features(50, 5, 2, 1.3)
    theirs = radii(b, 3)
    _, _, replicates = precision_recall.precision_recall(a, b, groups(70), theirs)
    for g in (0, 13, 31):
        rest = a[groups(70) != g]
        assert replicates[g] == precision_recall.precision_recall(rest, b, groups(len(rest)), theirs)[1]


def test_too_few_pictures_for_neighbours() -> None:
    with pytest.raises(MetricError, match="more than 3 pictures, not 3"):
        radii(features(3, 4), 3)


def test_cmmd_is_the_formula_over_all_pairs() -> None:
    a, b = features(70, 6, 1).astype(np.float64), features(50, 6, 2).astype(np.float64) + 0.5
    x, y = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (a, b))

    def k(p: np.ndarray, q: np.ndarray) -> np.ndarray:
        return np.exp(-((p[:, None] - q[None]) ** 2).sum(-1) / 200)

    value, replicates = cmmd.cmmd(a, b, groups(70), cmmd.reference_mean(b))
    assert value == pytest.approx(1000 * (k(x, x).mean() + k(y, y).mean() - 2 * k(x, y).mean()), rel=1e-9)
    rest = x[groups(70) != 3]
    without = 1000 * (k(rest, rest).mean() + k(y, y).mean() - 2 * k(rest, y).mean())
    assert replicates[3] == pytest.approx(without, rel=1e-9)


def test_cmmd_is_ten_times_the_squared_distance_of_means() -> None:
    x, y = features(300, 16, 1) + 0.4, features(200, 16, 2)
    means = [(rows / np.linalg.norm(rows, axis=1, keepdims=True)).mean(axis=0) for rows in (x, y)]
    value = cmmd.cmmd(x, y, groups(300), cmmd.reference_mean(y))[0]
    assert value == pytest.approx(10 * ((means[0] - means[1]) ** 2).sum(), rel=0.01)


def test_cmmd_of_equal_sets_is_0() -> None:
    a = features(40, 6)
    assert cmmd.cmmd(a, a, groups(40), cmmd.reference_mean(a))[0] == pytest.approx(0.0, abs=1e-9)


def test_clip_scores_are_cosines_cut_at_0() -> None:
    images = np.array([[1.0, 0.0], [3.0, 4.0], [1.0, 1.0], [-1.0, 0.0]])
    texts = np.array([[2.0, 0.0], [3.0, 4.0], [1.0, 0.0], [1.0, 0.0]])
    assert clip_scores(images, texts) == pytest.approx([100.0, 100.0, 100 / np.sqrt(2), 0.0])


def drawn(ours: np.ndarray, theirs: np.ndarray, prompts: int | None = None) -> Any:
    """What a metric reads, of features that were drawn."""
    texts = [f"prompt {i % (prompts or len(ours))}" for i in range(len(ours))]
    return SimpleNamespace(
        images=ours,
        prompts=Prompts.of(texts),
        groups=Prompts.of(texts).groups,
        rows=lambda kind: ours,
        reference_rows=lambda kind: theirs,
        kept=lambda kind, name, compute, **key: compute(),
    )


def test_kid_s_interval_is_of_all_pairs_and_not_below_0() -> None:
    a, b = features(64, 8, 1), features(80, 8, 2)
    parameters = {"kid_subsets": 100, "kid_subset_size": 64}
    near, far = (kid.METRIC.compute(drawn(x, b), parameters)["kid_mean"] for x in (a, a + 0.7))
    assert near.ci_low == 0.0
    assert (near.note or "").endswith("; not distinguishable from 0 at this N")
    k_xx, k_yy = kid.polynomial(a, a), kid.polynomial(b, b)
    pairs = (k_xx.sum() - np.trace(k_xx)) / (64 * 63) + (k_yy.sum() - np.trace(k_yy)) / (80 * 79)
    complete = float(pairs - 2 * kid.polynomial(a, b).mean())
    assert f"; {complete:.4g} over all pairs; " in (near.note or "")
    assert far.ci_low is not None
    assert 0.0 < far.ci_low < far.value < (far.ci_high or 0)
    assert "distinguishable" not in (far.note or "")


def test_kid_s_interval_has_the_noise_of_the_subsets() -> None:
    replicates: list[float | None] = [1.0 + (-1) ** g * 0.01 for g in range(GROUPS)]
    quiet, noisy = (kid.interval_of(1.0, std, replicates, 100, 1.2) for std in (0.0, 3.0))
    assert (quiet.estimate, noisy.estimate) == (1.2, 1.2)
    assert noisy.standard_error == pytest.approx(np.hypot(quiet.standard_error or 0, 0.3))


def test_cmmd_s_interval_is_not_below_0() -> None:
    a, b = features(64, 6, 1), features(70, 6, 2)
    found = cmmd.METRIC.compute(drawn(a, b), {})["cmmd"]
    assert found.ci_low == 0.0
    assert (found.ci_high or 0) > 0.0


@pytest.mark.parametrize(("n", "sound"), [(16, False), (32, False), (49, False), (50, True), (64, True)])
def test_an_inception_score_of_small_splits_has_no_interval(n: int, sound: bool) -> None:
    logits = 4.0 * features(n, 1000)
    found = inception.METRIC.compute(drawn(logits, logits), {"isc_splits": 10})["inception_score_mean"]
    assert (found.ci_low is not None, found.replicates is not None) == (sound, sound)
    assert f"at most {n / 10:g}" in (found.note or "")
    if sound:
        assert (found.ci_high or 0) <= n / 10


def test_an_inception_score_cannot_exceed_its_splits() -> None:
    assert ceiling(64, 1000, 10) == pytest.approx(6.4)
    assert ceiling(65, 6, 10) == pytest.approx(6.0)
    logits = 1000.0 * np.eye(64)
    found = inception.METRIC.compute(drawn(logits, logits), {"isc_splits": 10})["inception_score_mean"]
    assert [found.value, found.ci_high] == pytest.approx([6.4, 6.4])
    assert found.note == "10 splits, of at most 6.4"


def test_a_mean_has_a_part_of_every_prompt() -> None:
    images, texts = features(24, 5), features(24, 5, 1)
    m = drawn(images, texts, prompts=12)
    m.caption_rows, m.truncated_captions = lambda: texts, lambda: 0
    found = clip_score.METRIC.compute(m, {})["clip_score"]
    assert found.parts is not None
    assert found.parts == pytest.approx(
        clip_scores(images, texts)[np.argsort(m.prompts.of_image)].reshape(12, 2).mean(1)
    )
    assert found.value == pytest.approx(found.parts.mean())
    assert [r is None for r in found.replicates or ()] == [g >= 12 for g in range(GROUPS)]


class Endless:
    """Rows that exist only while they are looked at."""

    def __init__(self, number: int, dimension: int) -> None:
        self.number, self.dimension = number, dimension

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, rows: Any) -> np.ndarray:
        index = np.arange(self.number)[rows]
        return np.sin(np.outer(index + 1.0, np.arange(self.dimension) + 0.7)).astype(np.float32)


def peak(measure: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        measure()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def measure_fid(rows: Endless) -> object:
    return fid.fid(rows, groups(len(rows)), fid.gaussian(np.zeros(64), np.eye(64)))


def measure_kernels(rows: Endless) -> object:
    return mmd.kernel_sums(rows, rows, kid.polynomial, groups(len(rows)))


@pytest.mark.parametrize(
    ("measure", "few"),
    [
        (measure_fid, 8192),
        (lambda rows: fid.fid_value(rows, np.arange(len(rows)), fid.gaussian(np.zeros(64), np.eye(64))), 8192),
        (lambda rows: inception_score(rows, groups(len(rows))), 8192),
        (measure_kernels, 2048),
    ],
    ids=["fid", "fid_infinity", "inception score", "kernels"],
)
def test_memory_is_flat_in_the_number_of_images(measure: Callable[[Endless], object], few: int) -> None:
    small, large = (peak(lambda n=n: measure(Endless(n, 64))) for n in (few, 2 * few))
    features = few * 64 * 8
    assert large - small < features / 4
