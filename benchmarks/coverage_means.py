"""How often do the intervals of means and shares hold the truth? The second table in docs/metrics.md.

Scores are drawn, not features, so that worlds are cheap in which an interval may fail: shares near 0 and 1, several
images a prompt, long tails, few prompts, and a manifest that repeats a pattern of prompts. Intervals come from the
functions that the product calls; the jackknife over groups is what stands behind differences of runs.

    python benchmarks/coverage_means.py --trials 4000
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from t2i_track.metrics.prompts import GROUPS, Prompts
from t2i_track.metrics.rows import Groups, Vector
from t2i_track.metrics.uncertainty import Interval, jackknife, leave_out_means, mean_interval, share_interval

Draw = Callable[[np.random.Generator, int, int], Vector]
"""Scores of so many prompts with so many images each, prompt by prompt, in the manifest's order."""

ALIKE = 0.5
"""Share of a score's variance that is its prompt's."""


@dataclass(frozen=True)
class World:
    name: str
    draw: Draw
    truth: float
    share: bool = False


def _share(p: float) -> World:
    def draw(rng: np.random.Generator, prompts: int, each: int) -> Vector:
        # A prompt's own share by a beta distribution, whose variance is ALIKE of p (1 - p).
        own = rng.beta(p, 1 - p, prompts) if 0 < p < 1 and each > 1 else np.full(prompts, p)
        return np.asarray(rng.random(prompts * each) < np.repeat(own, each), dtype=np.float64)

    return World(f"share of {p:g}", draw, p, share=True)


def _parts(p: float) -> World:
    """Shares of what four objects are: fractions, as alignment is."""

    def draw(rng: np.random.Generator, prompts: int, each: int) -> Vector:
        own = np.repeat(rng.beta(4 * p, 4 * (1 - p), prompts), each)
        return np.asarray(rng.binomial(4, own) / 4)

    return World(f"fractions, mean {p:g}", draw, p, share=True)


def _sum_of(draw: Callable[[np.random.Generator, int], Vector]) -> Draw:
    def scores(rng: np.random.Generator, prompts: int, each: int) -> Vector:
        own, rest = draw(rng, prompts), draw(rng, prompts * each)
        return np.asarray(np.sqrt(ALIKE) * np.repeat(own, each) + np.sqrt(1 - ALIKE) * rest)

    return scores


def _repeating(period: int) -> World:
    """A kind of prompt at every so many places, half as different as the prompts of a kind are."""
    kinds = np.linspace(-1, 1, period)
    kinds *= 0.5 / kinds.std()

    def draw(rng: np.random.Generator, prompts: int, each: int) -> Vector:
        own = kinds[np.arange(prompts) % period] + rng.normal(size=prompts)
        return np.repeat(own, each) + 0.3 * rng.normal(size=prompts * each)

    return World(f"period of {period}", draw, 0.0)


NORMAL = World("normal", _sum_of(lambda rng, n: rng.normal(size=n)), 0.0)
TAILS = World("t with 3 degrees", _sum_of(lambda rng, n: rng.standard_t(3, n)), 0.0)


def settings() -> Iterator[tuple[World, int, int]]:
    """World, prompts, images a prompt."""
    for p in (0.5, 0.9, 0.95, 0.99, 1.0):
        for prompts, each in ((64, 1), (256, 1), (64, 4)):
            yield _share(p), prompts, each
    for prompts, each in ((8, 1), (16, 1), (64, 1), (16, 4)):
        yield _parts(0.8), prompts, each
    for prompts in (8, 12, 16):
        for each in (1, 4):
            yield NORMAL, prompts, each
    for prompts, each in ((16, 1), (64, 1), (256, 1), (64, 4)):
        yield TAILS, prompts, each
    for prompts in (64, 256):
        yield _repeating(8), prompts, 1


@dataclass
class Count:
    """How many of the intervals hold the truth, and their mean standard error."""

    held: int = 0
    errors: float = 0.0

    def add(self, interval: Interval, truth: float) -> None:
        assert interval.low is not None
        assert interval.high is not None
        self.held += interval.low - 1e-12 <= truth <= interval.high + 1e-12
        self.errors += interval.standard_error or 0.0


def simulate(world: World, prompts: int, each: int, trials: int) -> str:
    """A line of the table."""
    rng = np.random.default_rng([zlib.crc32(world.name.encode()), prompts, each])
    texts = [f"prompt {i}" for i in range(prompts) for _ in range(each)]
    dealt = Prompts.of(texts)
    place: Groups = np.repeat(np.arange(prompts), each) % GROUPS
    product, groups, places, means = Count(), Count(), Count(), np.empty(trials)
    for i in range(trials):
        scores = world.draw(rng, prompts, each)
        means[i] = scores.mean()
        product.add((share_interval if world.share else mean_interval)(scores, dealt.of_image), world.truth)
        for count, by in ((groups, dealt.groups), (places, place)):
            count.add(jackknife(float(means[i]), leave_out_means(scores, by)), world.truth)
    spread = means.std() or np.nan
    cells = [world.name, f"{prompts}", f"{each}", f"{product.held / trials:.3f}"]
    cells += [f"{count.held / trials:.3f}" for count in (groups, places)]
    cells += ["" if np.isnan(spread) else f"{c.errors / trials / spread:.2f}" for c in (product, groups, places)]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=4000)
    options = parser.parse_args()
    print("| scores | prompts | images a prompt | interval | groups | by place | error | groups' error | by place |")
    print("|---|---|---|---|---|---|---|---|---|")
    for world, prompts, each in settings():
        print(simulate(world, prompts, each, options.trials), flush=True)


if __name__ == "__main__":
    main()
