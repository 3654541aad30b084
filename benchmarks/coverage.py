"""How often do the intervals hold the truth? The table in docs/metrics.md.

A population of 8192 pairs of feature vectors stands for all that two settings could ever make of the same prompts and
seeds; a run is a sample of N pairs. The population's own moments are the truth, so it is exact: its FID is 3 by
construction. Intervals come from the same functions that the product calls. ``coverage_means.py`` has the worlds in
which intervals of means and shares may fail.

    python benchmarks/coverage.py --trials 400 --num 64,128,256,512,1024,2048

Any other score is measured as its registered metric does it, with its own interval (or, where it gives none, the
jackknife's), against the mean over all trials:

    python benchmarks/coverage.py --metrics prompt_spread --images-per-prompt 4 --num 256
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from t2i_track.metrics import mmd, uncertainty
from t2i_track.metrics.inputs import ImageItem
from t2i_track.metrics.measurement import Measurement
from t2i_track.metrics.metric import Kind
from t2i_track.metrics.neighbours import radii
from t2i_track.metrics.prompts import GROUPS
from t2i_track.metrics.registry import METRICS, word_of
from t2i_track.metrics.rows import Matrix
from t2i_track.metrics.scores import cmmd, fid, fid_infinity, inception_score, kid, precision_recall
from t2i_track.metrics.uncertainty import Interval, jackknife, within

POPULATION = 8192
SUBSETS = 20


@dataclass(frozen=True, eq=False)
class World:
    """Two settings' populations, paired, and the reference that both are measured against."""

    a: Matrix
    b: Matrix
    reference: Matrix
    gaussian: fid.Gaussian


def world(spectrum: str, dimension: int, distances: tuple[float, float], seed: int = 0) -> World:
    """Gaussian features with the FIDs given (times the mean variance), correlated 0.7 between the settings."""
    rng = np.random.default_rng(seed)
    variances = np.ones(dimension) if spectrum == "flat" else 1.0 / np.arange(1, dimension + 1)
    turn, _ = np.linalg.qr(rng.normal(size=(dimension, dimension)))
    frame = turn * np.sqrt(variances)
    reference = _white(rng.normal(size=(2048, dimension))) @ frame.T
    statistics = fid.statistics(reference)
    shared = rng.normal(size=(POPULATION, dimension))
    settings = []
    for distance in distances:
        own = rng.normal(size=(POPULATION, dimension))
        z = _white(np.sqrt(0.7) * shared + np.sqrt(0.3) * own)
        root = frame * np.sqrt(rng.uniform(0.75, 1.3, dimension))
        spread = fid.frechet_distance(statistics[0], root @ root.T, *statistics)
        target = distance * float(variances.mean())
        shift = frame @ rng.normal(size=dimension)
        shift *= np.sqrt(target - spread) / np.linalg.norm(shift)
        settings.append(statistics[0] + shift + z @ root.T)
    return World(settings[0], settings[1], reference, fid.gaussian(*statistics))


def _white(z: Matrix) -> Matrix:
    """Exactly mean 0 and covariance 1 (divided by the number of rows)."""
    z = z - z.mean(axis=0)
    return np.asarray(np.linalg.solve(np.linalg.cholesky(z.T @ z / len(z)), z.T).T)


@dataclass(frozen=True)
class Measured:
    value: float
    replicates: list[float | None]
    single: Interval
    truth: float | None
    """None: the mean over all trials, where what the score tends to depends on N."""


Measure = Callable[[World, Matrix, Matrix, np.ndarray], Measured]
"""World, a setting's population, its sample, the sample's groups."""


def measure_fid(w: World, population: Matrix, sample: Matrix, groups: np.ndarray) -> Measured:
    value, replicates = fid.fid(sample, groups, w.gaussian)
    centred = population - population.mean(axis=0)
    sigma = centred.T @ centred / len(centred)
    projected = w.gaussian.root.T @ sigma @ w.gaussian.root
    truth = fid.distance(population.mean(axis=0), float(np.trace(sigma)), projected, w.gaussian, len(projected))
    return Measured(value, replicates, jackknife(value, replicates, correct_bias=True), truth)


def measure_fid_infinity(w: World, population: Matrix, sample: Matrix, groups: np.ndarray) -> Measured:
    plain = measure_fid(w, population, sample, groups)
    value, _ = fid_infinity.fid_infinity(sample, w.gaussian)
    shifted = [None if r is None else value + r - plain.value for r in plain.replicates]
    return Measured(value, shifted, jackknife(value, shifted), plain.truth)


def measure_kid(w: World, population: Matrix, sample: Matrix, groups: np.ndarray) -> Measured:
    subsets, theirs = _reference_subsets(w, len(sample))
    value, std, replicates, ours = kid.kid(sample, w.reference, groups, subsets, theirs)
    single = kid.interval_of(value, std, replicates, SUBSETS, ours + _reference_pairs(w))
    return Measured(value, replicates, single, _truth(w, population, kid.polynomial, True))


def measure_cmmd(w: World, population: Matrix, sample: Matrix, groups: np.ndarray) -> Measured:
    value, replicates = cmmd.cmmd(sample, w.reference, groups, _reference_mean(w))
    truth = cmmd.SCALE * _truth(w, population, cmmd.gaussian_kernel, False)
    single = within(jackknife(value, replicates, correct_bias=True), 0.0, math.inf)
    return Measured(value, replicates, single, truth)


@cache
def _reference_subsets(w: World, n: int) -> tuple[kid.Subsets, Matrix]:
    subsets = kid.draw_subsets(n, len(w.reference), SUBSETS, min(1000, n))
    return subsets, kid.within_subsets(w.reference, subsets.theirs)


@cache
def _reference_pairs(w: World) -> float:
    return kid.reference_pairs(w.reference)


@cache
def _reference_mean(w: World) -> float:
    return cmmd.reference_mean(w.reference)


def _truth(w: World, population: Matrix, kernel: mmd.Kernel, unbiased: bool) -> float:
    return _population_mmd(w, population is w.a, kernel, unbiased)


@cache
def _population_mmd(w: World, first: bool, kernel: mmd.Kernel, unbiased: bool) -> float:
    """MMD² of a population: pairs are drawn with replacement, so a picture may meet itself."""
    population = w.a if first else w.b
    n, m = len(population), len(w.reference)
    theirs, diagonal = mmd.total(w.reference, kernel)
    yy = (theirs - diagonal) / (m * (m - 1)) if unbiased else theirs / m**2
    xy = sum(float(kernel(population[i : i + 1024], w.reference).sum()) for i in range(0, n, 1024)) / (n * m)
    return mmd.total(population, kernel)[0] / n**2 + yy - 2 * xy


def measure_mean(w: World, population: Matrix, sample: Matrix, groups: np.ndarray) -> Measured:
    """A mean of skewed per-image scores, as clip_score and alignment are."""
    scores, everything = np.exp(sample[:, 0] / 2), np.exp(population[:, 0] / 2)
    interval = uncertainty.mean_interval(scores, np.arange(len(scores)))
    return Measured(interval.estimate, uncertainty.leave_out_means(scores, groups), interval, float(everything.mean()))


def measure_inception_score(w: World, population: Matrix, sample: Matrix, groups: np.ndarray) -> Measured:
    value, _, replicates, _ = inception_score.inception_score(2 * sample[:, :20], groups)
    single = within(jackknife(value, replicates), 1.0, inception_score.ceiling(len(sample), 20, inception_score.SPLITS))
    return Measured(value, replicates, single, None)


def measure_recall(w: World, population: Matrix, sample: Matrix, groups: np.ndarray) -> Measured:
    few = w.reference[:512, :16]
    _, value, replicates = precision_recall.precision_recall(sample[:, :16], few, groups, radii(few, 3))
    return Measured(value, replicates, jackknife(value, replicates), None)


class Drawn(Measurement):
    """Features that were drawn, as a metric reads those of pictures; all kinds are the same."""

    def __init__(self, ours: Matrix, theirs: Matrix, per_prompt: int) -> None:
        images = [
            ImageItem(Path(), "", f"prompt {i // per_prompt}", i // per_prompt, i % per_prompt)
            for i in range(len(ours))
        ]
        super().__init__(images, None, (0, 0), Path(), "cpu", None, {}, {})
        self.ours, self.theirs = ours, theirs

    def rows(self, kind: Kind) -> Matrix:
        return self.ours

    def reference_rows(self, kind: Kind) -> Matrix:
        return self.theirs

    def kept(self, kind: Kind, name: str, compute: Callable[[], Mapping[str, Any]], **key: Any) -> dict[str, Any]:
        where = (id(self.theirs), kind, name, *sorted(key.items()))
        if where not in _KEPT:
            _KEPT[where] = dict(compute())
        return _KEPT[where]


_KEPT: dict[tuple[Any, ...], dict[str, Any]] = {}


def registered(name: str, per_prompt: int) -> Measure:
    """A score as its metric computes it."""
    metric = METRICS[word_of(name)]

    def measure(w: World, population: Matrix, sample: Matrix, groups: np.ndarray) -> Measured:
        m = Drawn(sample, w.reference, per_prompt)
        score = metric.compute(m, metric.settled({}, m.images, len(w.reference)))[name]
        replicates = list(score.replicates or ())
        single = Interval(score.value, score.ci_low, score.ci_high, None, None)
        if score.ci_low is None:
            single = jackknife(score.value, replicates)
        return Measured(score.value, replicates, single, None)

    return measure


MEASURES: dict[str, Measure] = {
    "fid": measure_fid,
    "fid_infinity": measure_fid_infinity,
    "kid": measure_kid,
    "cmmd": measure_cmmd,
    "mean": measure_mean,
    "is": measure_inception_score,
    "recall": measure_recall,
}


@dataclass(frozen=True)
class Row:
    world: str
    metric: str
    n: int
    trials: int
    single: float
    """Share of intervals that hold the truth."""
    paired: float
    paired_corrected: float
    """The same with the jackknife's correction of the bias of the difference."""
    bias: float
    """Of the plain value, in its standard deviations."""
    width: float
    """Mean standard error of the difference over its standard deviation: 1 is exact."""


def trial(w: World, measure: Measure, n: int, rng: np.random.Generator) -> tuple[Measured, Measured]:
    drawn = rng.integers(POPULATION, size=n)
    groups = np.arange(n) % GROUPS
    return measure(w, w.a, w.a[drawn], groups), measure(w, w.b, w.b[drawn], groups)


def simulate(name: str, w: World, metric: str, n: int, trials: int, per_prompt: int) -> Row:
    rng = np.random.default_rng([n, trials])
    measure = MEASURES.get(metric) or registered(metric, per_prompt)
    pairs = [trial(w, measure, n, rng) for _ in range(trials)]
    truths = [
        float(np.mean([p[i].value for p in pairs])) if pairs[0][i].truth is None else pairs[0][i].truth for i in (0, 1)
    ]
    singles, plain, corrected = [], [], []
    for a, b in pairs:
        singles += [a.single, b.single]
        plain.append(uncertainty.paired_difference(a.value, a.replicates, b.value, b.replicates))
        gaps = [None if x is None or y is None else x - y for x, y in zip(a.replicates, b.replicates, strict=True)]
        corrected.append(jackknife(a.value - b.value, gaps, correct_bias=True))
    values = np.array([[a.value, b.value] for a, b in pairs])
    difference = truths[0] - truths[1]
    errors = [interval.standard_error or 0.0 for interval in plain]
    return Row(
        name,
        metric,
        n,
        trials,
        float(np.mean([_holds(s, truths[i % 2]) for i, s in enumerate(singles)])),
        float(np.mean([_holds(s, difference) for s in plain])),
        float(np.mean([_holds(s, difference) for s in corrected])),
        float((values.mean(axis=0) - truths)[0] / values.std(axis=0)[0]),
        float(np.mean(errors) / (values[:, 0] - values[:, 1]).std()),
    )


def _holds(interval: Interval, truth: float | None) -> bool:
    assert interval.low is not None
    assert interval.high is not None
    assert truth is not None
    return interval.low <= truth <= interval.high


def shapes_world() -> World:
    """Features of drawn pictures by the embedded classifier, of the same pictures dimmed, and of other pictures."""
    from t2i_track import assets, shapes
    from t2i_track.metrics.features import PASS
    from t2i_track.metrics.networks import ShapesNetwork

    network = ShapesNetwork(assets.shapes_classifier(), "cpu")

    def features(pixels: np.ndarray) -> Matrix:
        passes = [network(pixels[start : start + PASS])["features"] for start in range(0, len(pixels), PASS)]
        return np.concatenate(passes).astype(np.float64)

    def drawn(split: str, number: int) -> np.ndarray:
        pictures = [shapes.draw(row.scene, row.seed).transpose(2, 0, 1) for row in shapes.rows(split, number)]
        return np.array(pictures, dtype=np.uint8)

    import torch

    with torch.inference_mode():
        ours, reference = drawn("train", POPULATION), features(drawn("reference", 2048))
        return World(features(ours), features(ours // 2 + 40), reference, fid.gaussian(*fid.statistics(reference)))


def worlds(dimension: int) -> Iterator[tuple[str, Callable[[], World]]]:
    yield "flat, 3 and 4", lambda: world("flat", dimension, (3.0, 4.0))
    yield "flat, 3 and 3", lambda: world("flat", dimension, (3.0, 3.0))
    yield "1/i, 3 and 4", lambda: world("1/i", dimension, (3.0, 4.0))
    yield "shapes", shapes_world


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--num", default="64,128,256,512,1024,2048")
    parser.add_argument("--dimension", type=int, default=64)
    parser.add_argument("--metrics", default=",".join(MEASURES))
    parser.add_argument("--images-per-prompt", type=int, default=1, help="of a registered score")
    parser.add_argument("--worlds", default="", help="only those whose name begins so")
    parser.add_argument("--json", help="write the rows here too")
    options = parser.parse_args()
    rows = []
    print("| features | metric | N | single | paired | paired, bias corrected | bias / sd | error / sd |")
    print("|---|---|---|---|---|---|---|---|")
    for name, make in worlds(options.dimension):
        if not name.startswith(options.worlds):
            continue
        w = make()
        for metric in options.metrics.split(","):
            for n in map(int, options.num.split(",")):
                started = time.perf_counter()
                row = simulate(name, w, metric, n, options.trials, options.images_per_prompt)
                rows.append(row)
                print(
                    f"| {row.world} | {row.metric} | {row.n} | {row.single:.3f} | {row.paired:.3f} | "
                    f"{row.paired_corrected:.3f} | {row.bias:+.2f} | {row.width:.2f} |",
                    flush=True,
                )
                print(f"{time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps([vars(row) for row in rows], indent=1))


if __name__ == "__main__":
    main()
