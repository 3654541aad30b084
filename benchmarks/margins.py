"""How often "as good" and "worse" are false, and what is recommended: the tables of docs/compare.md on margins.

    python -m benchmarks.margins [--trials 2000] [--only margins|steps]

Each world draws a sweep's scores over shared prompts. All runs but the first are worse by exactly the margin, so any
of them that is called as good is a mistake, and any that is called worse (by more than it) too. In the same worlds with
all runs equal the share that is shown to be as good says what that caution costs.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from benchmarks.separation import WORLDS
from t2i_track.ranking.margin import Margin, judge
from t2i_track.ranking.rows import Score

Columns = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, int, float], Columns]
"""Runs and prompts; all runs but the first are worse by so much."""

STEPS, TRUE = (5, 10, 20, 30, 50), (0.80, 0.86, 0.90, 0.91, 0.915)


def shifted(world: str) -> Draw:
    def draw(rng: np.random.Generator, runs: int, prompts: int, worse: float) -> Columns:
        columns = WORLDS[world](rng, runs, prompts)
        columns[1:] -= worse
        return columns

    return draw


def one_sided(rng: np.random.Generator, runs: int, prompts: int, worse: float) -> Columns:
    """Right or wrong, 0.97 in the mean; the others never succeed where the first fails."""
    first = rng.random(prompts) < 0.97
    others = [first & ~(rng.random(prompts) < worse / 0.97) for _ in range(runs - 1)]
    return np.stack([first, *others]).astype(float)


def two_sided(rng: np.random.Generator, runs: int, prompts: int, worse: float) -> Columns:
    """Right or wrong by a prompt's difficulty and chance, 0.9 in the mean."""
    return hard_prompts(rng, prompts, [0.9] + [0.9 - worse] * (runs - 1))


def fractions(rng: np.random.Generator, runs: int, prompts: int, worse: float) -> Columns:
    """Shares of what four objects are, 0.95 in the mean, as alignment is."""
    own = rng.beta(8, 0.4, prompts)
    chances = np.array([1.0] + [1 - worse / 0.952] * (runs - 1))[:, None] * own
    return np.asarray(rng.binomial(4, chances) / 4)


def hard_prompts(rng: np.random.Generator, prompts: int, true: list[float] | tuple[float, ...]) -> Columns:
    hard = rng.normal(size=prompts)
    levels = np.quantile(np.random.default_rng(0).normal(size=200_000), true)
    return np.stack([(0.8 * hard + 0.6 * rng.normal(size=prompts) < level).astype(float) for level in levels])


WITH_MARGIN: dict[str, tuple[Draw, str, float]] = {
    "equal spreads": (shifted("equal spreads"), "clip_score", 0.2),
    "unequal spreads": (shifted("unequal spreads"), "clip_score", 0.2),
    "heavy tails": (shifted("heavy tails"), "clip_score", 0.2),
    "skewed, unequal spreads": (shifted("skewed, unequal spreads"), "clip_score", 0.2),
    "right or wrong, 0.97, one way": (one_sided, "alignment", 0.02),
    "right or wrong, 0.9": (two_sided, "alignment", 0.05),
    "fractions, 0.95": (fractions, "alignment", 0.02),
}
"""How it is drawn, the score that is taken for, the margin."""


def verdicts(metric: str, columns: Columns, margin: float) -> list[str]:
    size = columns.shape[1]
    scores = [Score(metric, float(own.mean()), n=size, grouping="g", prompts="p", parts=own) for own in columns]
    found = judge(scores, [""] * len(scores), Margin(margin, str(margin), False), 0.95).standings
    return [standing.verdict for standing in found if standing is not None]


def on_the_margin(name: str, runs: int, prompts: int, trials: int) -> str:
    draw, metric, margin = WITH_MARGIN[name]
    good = worse = equal = 0
    for trial in range(trials):
        found = verdicts(metric, draw(np.random.default_rng(trial), runs, prompts, margin), margin)
        good += "as good" in found[1:]
        worse += "worse" in found
        same = verdicts(metric, draw(np.random.default_rng([trial, 1]), runs, prompts, 0.0), margin)
        equal += same.count("as good")
    shares = [good / trials, worse / trials, equal / trials / runs]
    return f"| {name} | {runs} | {prompts} | {' | '.join(f'{share:.1%}' for share in shares)} |"


def recommended(prompts: int, trials: int, margin: float = 0.02) -> str:
    """The fewest steps that are shown to be as good, of true means ``TRUE``."""
    chosen: Counter[int | None] = Counter()
    for trial in range(trials):
        found = verdicts("alignment", hard_prompts(np.random.default_rng(trial), prompts, TRUE), margin)
        chosen[next((steps for steps, verdict in zip(STEPS, found, strict=True) if verdict == "as good"), None)] += 1
    regret = sum((TRUE[-1] - TRUE[STEPS.index(steps)]) * count for steps, count in chosen.items() if steps is not None)
    cells = [f"{chosen[steps] / trials:.1%}" for steps in (None, *STEPS)]
    named = trials - chosen[None]
    return f"| {prompts} | {' | '.join(cells)} | {regret / named if named else 0:.4f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--only", choices=("margins", "steps"))
    args = parser.parse_args()
    if args.only != "margins":
        print(f"| images | undecided | {' | '.join(f'{steps} steps' for steps in STEPS)} | regret |")
        print("|---" * (len(STEPS) + 3) + "|")
        for prompts in (32, 64, 128, 256, 512, 1024, 2048):
            print(recommended(prompts, args.trials), flush=True)
    if args.only != "steps":
        print("| world | runs | prompts | any false 'as good' | any false 'worse' | equal runs shown as good |")
        print("|---" * 6 + "|")
        for name in WITH_MARGIN:
            for runs in (9, 36):
                for prompts in (64, 128, 512):
                    print(on_the_margin(name, runs, prompts, args.trials), flush=True)


if __name__ == "__main__":
    main()
