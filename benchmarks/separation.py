"""How often runs of equal settings are told apart, and how many worse ones are found: what docs/compare.md states.

    python -m benchmarks.separation [--trials 2000] [--only means|distances]

Each world draws the scores of a sweep's runs over shared prompts. Of equal settings any separation is false; of one
setting that is better than all others, the settings that are shown to be worse are counted, and signs that are wrong.
The peer is Holm's method over Student's t of 32 groups of prompts, in the same trials.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from t2i_track.metrics.scores import fid
from t2i_track.metrics.uncertainty import GROUPS, distance_interval, paired_difference
from t2i_track.ranking.differences import _paired_p_values, difference, holm_pairs, told_apart
from t2i_track.ranking.rows import Score
from t2i_track.ranking.separation import simultaneous_reach

Columns = NDArray[np.float64]
ALPHA = 0.05


def noise(rng: np.random.Generator, runs: int, prompts: int) -> Columns:
    return np.asarray(rng.normal(size=prompts) + 0.5 * rng.normal(size=(runs, prompts)))


def unequal(rng: np.random.Generator, runs: int, prompts: int) -> Columns:
    """Standard deviations of a run's own part from 0.3 to 1.2."""
    return np.asarray(
        rng.normal(size=prompts) + np.linspace(0.3, 1.2, runs)[:, None] * rng.normal(size=(runs, prompts))
    )


def heavy(rng: np.random.Generator, runs: int, prompts: int) -> Columns:
    """Student's t with 3 degrees of freedom."""
    return np.asarray(rng.normal(size=prompts) + 0.5 * rng.standard_t(3, size=(runs, prompts)))


def shares(rng: np.random.Generator, runs: int, prompts: int) -> Columns:
    """Right or wrong, 0.9 in the mean, prompts of different difficulty."""
    right = 1 / (1 + np.exp(-(2.9 + 1.5 * rng.normal(size=prompts))))
    return np.asarray((rng.random((runs, prompts)) < right).astype(float))


def clusters(rng: np.random.Generator, runs: int, prompts: int) -> Columns:
    """Four images of a prompt, averaged."""
    images = rng.normal(size=(runs, prompts, 4)) + rng.normal(size=(runs, prompts, 1))
    return np.asarray(rng.normal(size=prompts) + 0.5 * images.mean(axis=2))


def skewed(rng: np.random.Generator, runs: int, prompts: int) -> Columns:
    """Exponential, of unequal spreads: differences are skewed too, which sign flips do not allow for."""
    own = rng.exponential(size=(runs, prompts)) - 1
    return np.asarray(rng.normal(size=prompts) + np.linspace(0.3, 1.2, runs)[:, None] * own)


SHARES = "shares near 0.9"
WORLDS: dict[str, Callable[[np.random.Generator, int, int], Columns]] = {
    "equal spreads": noise,
    "unequal spreads": unequal,
    "heavy tails": heavy,
    SHARES: shares,
    "four images a prompt": clusters,
    "skewed, unequal spreads": skewed,
}


def grouped(columns: Columns) -> Columns:
    """Means of 32 groups of prompts."""
    number = columns.shape[1]
    return np.stack([columns[:, np.arange(number) % GROUPS == g].mean(axis=1) for g in range(GROUPS)], axis=1)


def equal_settings(name: str, runs: int, prompts: int, trials: int) -> None:
    false = holm_false = held = naive = 0
    for trial in range(trials):
        columns = WORLDS[name](np.random.default_rng(trial), runs, prompts)
        p = told_apart(columns, share=name == SHARES)
        false += bool(np.nanmin(p) <= ALPHA)
        holm_false += bool(np.nanmin(holm_pairs(_paired_p_values(grouped(columns)))) <= ALPHA)
        if name != SHARES:
            best = int(columns.mean(axis=1).argmax())
            error = columns[best].std(ddof=1) / np.sqrt(prompts)
            held += abs(columns[best].mean()) <= simultaneous_reach(columns, 1 - ALPHA) * error
            naive += abs(columns[best].mean()) <= 1.96 * error
    best_of = f", best run held {held / trials:.3f} (naive {naive / trials:.3f})" if held else ""
    print(
        f"{name}, {runs} equal runs, {prompts} prompts: any false separation {false / trials:.3f}, Holm over groups"
        f" {holm_false / trials:.3f}{best_of}",
        flush=True,
    )


def one_better(name: str, runs: int, prompts: int, trials: int, shift: float) -> None:
    found = holm_found = wrong = 0
    for trial in range(trials):
        columns = WORLDS[name](np.random.default_rng(trial), runs, prompts)
        columns[1:] -= shift
        p = told_apart(columns, share=name == SHARES)
        means = columns.mean(axis=1)
        worse = p[0, 1:] <= ALPHA
        found += int(worse.sum())
        wrong += bool((worse & (means[1:] > means[0])).any())
        holm_found += int((holm_pairs(_paired_p_values(grouped(columns)))[0, 1:] <= ALPHA).sum())
    print(
        f"{name}, one of {runs} better by {shift}, {prompts} prompts: {found / trials:.2f} of {runs - 1} shown to be"
        f" worse, Holm over groups {holm_found / trials:.2f} ({found / max(holm_found, 1):.2f} times), wrong sign"
        f" {wrong / trials:.3f}",
        flush=True,
    )


FLAT = np.ones(64)
"""Variances of a reference, one a dimension."""
FALLING = 1 / np.arange(1, 513)


def distances(scale: float, true_b: float, number: int, trials: int, variances: Columns = FLAT) -> None:
    """FID of A (spread 1, true FID 8) and B (spread ``scale``): exact Gaussian populations, prompts shared.

    ``variances`` are the reference's, one a dimension; A has the same, B those times ``scale``².
    """
    size = len(variances)
    reference = fid.gaussian(np.zeros(size), np.diag(variances))
    held = plain_held = different = plain_different = wrong = plain_wrong = verdicts = 0
    for trial in range(trials):
        rng = np.random.default_rng(trial)
        prompts = rng.normal(size=(number, size))
        pair = []
        for spread, true in ((1.0, 8.0), (scale, true_b)):
            pictures = spread * (0.7**0.5 * prompts + 0.3**0.5 * rng.normal(size=(number, size))) * np.sqrt(variances)
            pictures[:, 0] += np.sqrt(true - variances.sum() * (1 - spread) ** 2)
            value, replicates = fid.fid(pictures, np.arange(number) % GROUPS, reference)
            interval, _ = distance_interval(value, replicates, number, fid.effective_dimension(reference))
            pair.append(Score("fid", value, interval.low, interval.high, number, replicates=tuple(replicates)))
        a, b = pair
        truth = true_b - 8.0
        old = paired_difference(b.value, b.replicates or (), a.value, a.replicates or ())
        new = difference(b, a, 1 - ALPHA)
        assert old.low is not None
        assert old.high is not None
        plain_held += old.low <= truth <= old.high
        plain_different += old.high < 0 or old.low > 0
        plain_wrong += old.high < 0 and truth >= 0
        if new.low is not None and new.high is not None:
            verdicts += 1
            held += new.low <= truth <= new.high
            different += new.high < 0 or new.low > 0
            wrong += new.high < 0 and truth >= 0
    said = (
        "no verdict"
        if not verdicts
        else (
            f"coverage {held / verdicts:.3f}, declared different {different / verdicts:.3f}, B called better"
            f" {wrong / verdicts:.3f}"
        )
    )
    print(
        f"FID, spread 1 and {scale}, true 8 and {true_b}, {number} images, {size} dimensions: {said}; plain: coverage"
        f" {plain_held / trials:.3f}, declared different {plain_different / trials:.3f}, B called better"
        f" {plain_wrong / trials:.3f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--only", choices=("means", "distances"))
    args = parser.parse_args()
    if args.only != "means":
        for scale in (1.0, 0.85, 0.7):
            for true_b in (8.0, 10.0):
                for number in (128, 256, 512):
                    distances(scale, true_b, number, max(args.trials // 10, 50))
        for scale in (1.0, 0.7):
            for number in (1000, 1152, 2048):
                distances(scale, 8.0, number, max(args.trials // 40, 25), FALLING)
    if args.only != "distances":
        means(args.trials)


def means(trials: int) -> None:
    for name in WORLDS:
        for runs in (9, 36):
            for prompts in (32, 128):
                equal_settings(name, runs, prompts, trials)
    for name in ("equal spreads", "unequal spreads", "heavy tails"):
        for runs in (9, 36):
            one_better(name, runs, 128, max(trials // 4, 100), 0.15)


if __name__ == "__main__":
    main()
