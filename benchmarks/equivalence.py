"""How often "equivalent" is false, and how many images it takes: the tables of docs/equivalence.md.

    python -m benchmarks.equivalence [--trials 500] [--only check|means|several|seeds|distances]

Each world draws the scores of a base and of runs over shared prompts, whose true difference is the margin exactly. So
every "equivalent" is false, and every "worse" or "better" too, since these say: by more than the margin. Beside our
limits stands Student's t, which most use, in the same trials.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from benchmarks.margins import fractions, one_sided, two_sided
from benchmarks.separation import FLAT, WORLDS
from t2i_track.metrics.scores import fid
from t2i_track.metrics.uncertainty import GROUPS, distance_interval
from t2i_track.ranking.limits import Bounded, Known, drawn, known
from t2i_track.ranking.rows import Score
from t2i_track.ranking.student import student_quantile
from t2i_track.ranking.tolerance import SHARE
from t2i_track.ranking.tost import bounds, decide

Columns = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, int, float], Columns]
"""Runs, the base first, and prompts; all but the base worse by so much in the mean."""
ALPHA = 0.05
SIZES = (16, 64, 128, 256, 1024)


def of_world(name: str) -> Draw:
    def draw(rng: np.random.Generator, runs: int, prompts: int, worse: float) -> Columns:
        columns = WORLDS[name](rng, runs, prompts)
        columns[1:] -= worse
        return columns

    return draw


def skewed(side: int) -> Draw:
    """Differences are exponential, of a tail to the worse (-1) or the better side."""

    def draw(rng: np.random.Generator, runs: int, prompts: int, worse: float) -> Columns:
        base = rng.normal(size=prompts)
        tail = side * 0.8 * (rng.exponential(size=(runs - 1, prompts)) - 1)
        return np.vstack([base, base + tail - worse])

    return draw


def lognormal(rng: np.random.Generator, runs: int, prompts: int, worse: float) -> Columns:
    """Differences are lognormal with sigma 1.5, the tail to the worse side, cut where nobody scores any more."""
    base = rng.normal(size=prompts)
    tail = 0.1 * (np.exp(1.5 * rng.normal(size=(runs - 1, prompts))) - np.exp(1.5**2 / 2))
    return np.vstack([base, base - tail - worse])


def broken(rng: np.random.Generator, runs: int, prompts: int, worse: float) -> Columns:
    """Pictures that hardly change, but one in twenty scores 4 standard deviations between prompts less."""
    base = rng.normal(size=prompts)
    rare = rng.random((runs - 1, prompts)) < 0.05
    small = 0.05 * rng.normal(size=(runs - 1, prompts))
    return np.vstack([base, base + small - (worse / 0.05) * rare])


def rarely_wrong(rng: np.random.Generator, runs: int, prompts: int, worse: float) -> Columns:
    """Shares of four objects, 0.97 in the mean; a cheaper run moves one in ten pictures by an object, either way as
    often, and gets a few all wrong."""
    base = rng.binomial(4, rng.beta(20, 0.4, prompts)) / 4
    found = [base]
    for _ in range(runs - 1):
        moved = np.clip(base + rng.choice([-0.25, 0.0, 0.25], prompts, p=(0.05, 0.9, 0.05)), 0, 1)
        found.append(moved)
    columns = np.vstack(found)
    lost = rng.random((runs - 1, prompts)) < (worse - RISE) / 0.975
    columns[1:][lost] = 0.0
    return columns


RISE = 0.0117
"""By how much the cut at 1 lowers ``rarely_wrong`` without any that is all wrong: ``--only check`` measures it."""


def near_zero(rng: np.random.Generator, runs: int, prompts: int, worse: float) -> Columns:
    """Right or wrong, 0.05 in the mean of the base."""
    base = rng.random(prompts) < 0.05
    return np.vstack([base, *(base & ~(rng.random(prompts) < worse / 0.05) for _ in range(runs - 1))]).astype(float)


MEANS: dict[str, tuple[Draw, str, float]] = {
    "equal spreads": (of_world("equal spreads"), "clip_score", 0.2),
    "heavy tails": (of_world("heavy tails"), "clip_score", 0.2),
    "skewed, unequal spreads": (of_world("skewed, unequal spreads"), "clip_score", 0.2),
    "differences skewed to the worse": (skewed(-1), "clip_score", 0.2),
    "differences skewed to the better": (skewed(1), "clip_score", 0.2),
    "differences lognormal to the worse": (lognormal, "clip_score", 0.2),
    "one in twenty broken, the rest the same": (broken, "clip_score", 0.2),
    "right or wrong, 0.97, one way": (one_sided, "alignment", 0.02),
    "right or wrong, 0.9": (two_sided, "alignment", 0.05),
    "right or wrong, 0.05": (near_zero, "alignment", 0.02),
    "fractions of four objects, 0.95": (fractions, "alignment", 0.02),
    "fractions, 0.97, rarely all wrong": (rarely_wrong, "alignment", 0.02),
}
"""How it is drawn, the score that is taken for, the margin."""


def held(metric: str, columns: list[Columns], beyond: float = 0.0) -> list[list[Known]]:
    """Of each trial, each run against the first; drawn for all trials at once, since that is much faster.

    ``beyond``: by how much runs were moved out of the range of their score.
    """
    gaps, ends = [], []
    for trial in columns:
        score = Score(metric, float(trial[0].mean()), n=trial.shape[1], parts=trial[0])
        for own in trial[1:]:
            gaps.append(own - trial[0])
            least, most = bounds(score, trial[0], own) or (0.0, 0.0)
            ends.append((least - beyond, most + beyond))
    found: list[Known] = []
    for start in range(0, len(gaps), AT_ONCE):
        some = slice(start, start + AT_ONCE)
        draws = drawn(np.stack(gaps[some]), np.array(ends[some]))
        for gap, end, of_it in zip(gaps[some], ends[some], draws, strict=True):
            one = Bounded(gap, *end)
            one.__dict__["drawn"] = of_it
            found.append(one)
    runs = len(columns[0]) - 1
    return [found[start : start + runs] for start in range(0, len(found), runs)]


AT_ONCE = 250


def by_student(gaps: Columns, margin: float) -> bool:
    """Any "equivalent" by TOST as it is usually done, with Bonferroni's correction."""
    errors = gaps.std(axis=1, ddof=1) / np.sqrt(gaps.shape[1])
    reach = student_quantile(1 - 2 * ALPHA / len(gaps), gaps.shape[1] - 1) * errors
    return bool((np.abs(gaps.mean(axis=1)) + reach < margin).any())


def false_claims(name: str, prompts: int, runs: int, trials: int) -> str:
    draw, metric, margin = MEANS[name]
    worlds = [draw(np.random.default_rng(trial), runs + 1, prompts, margin) for trial in range(trials)]
    verdicts = [[one.verdict for one in decide(found, margin, ALPHA)] for found in held(metric, worlds)]
    shares = [sum(claim in some for some in verdicts) for claim in ("equivalent", "worse", "better")]
    shares.insert(1, sum(by_student(columns[1:] - columns[0], margin) for columns in worlds))
    power = "-"
    if name not in NEVER_EQUAL:
        worlds = [draw(np.random.default_rng([trial, 1]), runs + 1, prompts, 0.0) for trial in range(trials)]
        equal = [[one.verdict for one in decide(found, margin, ALPHA)] for found in held(metric, worlds)]
        power = f"{sum(some.count('equivalent') for some in equal) / trials / runs:.1%}"
    return f"| {name} | {runs} | {prompts} | {' | '.join(f'{count / trials:.1%}' for count in shares)} | {power} |"


NEVER_EQUAL = ("fractions, 0.97, rarely all wrong",)


def true_differences(trials: int = 400) -> None:
    """What the worlds' means differ by, against the margins that they are drawn for."""
    for name, (draw, _, margin) in MEANS.items():
        gaps = [
            float((columns[1] - columns[0]).mean())
            for trial in range(trials)
            for columns in [draw(np.random.default_rng([trial, 9]), 2, 4096, margin)]
        ]
        print(f"{name}: {np.mean(gaps):.4f} +- {np.std(gaps) / len(gaps) ** 0.5:.4f} at a margin of {margin}")


def by_seeds(name: str, prompts: int, trials: int) -> str:
    """With the margin that a run of another seed gives; the true difference is what that margin is in the mean.

    A claim is false where the true difference exceeds the margin that was claimed.
    """
    draw, metric, _ = MEANS[name]
    false = called = 0
    usual = np.mean([margin_by_seeds(draw(np.random.default_rng([trial, 2]), 2, 4096, 0.0)) for trial in range(20)])
    worlds = [draw(np.random.default_rng(trial), 3, prompts, 0.0) for trial in range(trials)]
    for columns in worlds:
        columns[2] -= usual
    margins = [margin_by_seeds(columns[:2]) for columns in worlds]
    known_of = held(metric, [columns[[0, 2]] for columns in worlds], beyond=usual)
    for (found,), margin in zip(known_of, margins, strict=True):
        equivalent = decide([found], margin, ALPHA)[0].verdict == "equivalent"
        called += equivalent
        false += equivalent and usual > margin
    return f"| {name} | {prompts} | {usual:.3g} | {called / trials:.1%} | {false / trials:.1%} |"


def margin_by_seeds(columns: Columns) -> float:
    return SHARE * float(np.sqrt(columns.var(axis=0, ddof=1).mean()))


def distances(spread: float, prompts: int, trials: int) -> str:
    """FID of the base is 8, that of the run 9, and the margin 1; both are of exact Gaussian populations."""
    size, reference = len(FLAT), fid.gaussian(np.zeros(len(FLAT)), np.diag(FLAT))
    false = worse = equal = 0
    for trial in range(trials):
        shared = np.random.default_rng(trial).normal(size=(prompts, size))
        of = {}
        for true, own in ((8.0, 0), (9.0, 1), (8.0, 1)):
            rng = np.random.default_rng([trial, own, int(true)])
            of[true, own] = _fid(shared, spread if own else 1.0, true, rng, reference)
        base = of[8.0, 0]
        if base.columns is None:
            return f"| {spread:g} | {prompts} | no verdict | - | - |"
        at_margin, same = (
            known(np.asarray(base.columns) - np.asarray(of[key].columns), None) for key in ((9.0, 1), (8.0, 1))
        )
        verdict = decide([at_margin], 1.0, ALPHA)[0].verdict
        false += verdict == "equivalent"
        worse += verdict == "worse"
        equal += decide([same], 1.0, ALPHA)[0].verdict == "equivalent"
    return f"| {spread:g} | {prompts} | {false / trials:.1%} | {worse / trials:.1%} | {equal / trials:.1%} |"


def _fid(shared: Columns, spread: float, true: float, rng: np.random.Generator, reference: fid.Gaussian) -> Score:
    prompts, size = shared.shape
    pictures = spread * (0.7**0.5 * shared + 0.3**0.5 * rng.normal(size=shared.shape)) * np.sqrt(FLAT)
    pictures[:, 0] += np.sqrt(true - size * (1 - spread) ** 2)
    value, replicates = fid.fid(pictures, np.arange(prompts) % GROUPS, reference)
    interval, _ = distance_interval(value, replicates, prompts, fid.effective_dimension(reference))
    return Score("fid", value, interval.low, interval.high, prompts, replicates=tuple(replicates))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--only", choices=("check", "means", "several", "seeds", "distances"))
    args = parser.parse_args()
    title = "| world | runs | prompts | false 'equivalent' | by Student's t | false 'worse' | false 'better' | equal |"
    if args.only in (None, "check"):
        true_differences()
    if args.only in (None, "means", "several"):
        print(title + "\n" + "|---" * 8 + "|")
    for runs, sizes, only in ((1, SIZES, "means"), (4, (64, 256), "several")):
        for name in MEANS if args.only in (None, only) else ():
            for prompts in sizes:
                print(false_claims(name, prompts, runs, args.trials), flush=True)
    if args.only in (None, "seeds"):
        print("| world | prompts | true difference | called equivalent | falsely |\n" + "|---" * 5 + "|")
        for name in MEANS:
            for prompts in (64, 256, 1024):
                print(by_seeds(name, prompts, args.trials), flush=True)
    if args.only in (None, "distances"):
        print("| spread | images | false 'equivalent' | false 'worse' | equal |\n" + "|---" * 5 + "|")
        for spread in (1.0, 0.85):
            for prompts in (256, 512):
                print(distances(spread, prompts, args.trials), flush=True)


if __name__ == "__main__":
    main()
