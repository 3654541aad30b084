"""How often an adaptive sweep decides wrongly, and the images that it takes: the tables of docs/adaptive.md.

    python -m benchmarks.adaptive [--trials 500] [--only errors|images|distances|search|replays]
    python -m benchmarks.adaptive --only replays --home HOME --sweep SWEEP

Each world draws a sweep's scores over shared prompts, and the sweep is gone through as `t2i sweep --until-decided`
goes through it, with the same functions. "On the margin": all settings but the first are worse by exactly the margin,
so any of them that is as good is a mistake, and any that is out too. "Equal": any that is out is a mistake. The peer is
a sweep of one number of images for all settings, judged by ``ranking.margin``, with the least number (of a grid of
them) at which it decides all settings in as many trials.

``replays`` go through sweeps of real pictures whose alignment is stored, with the prompts drawn again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.margins import hard_prompts, verdicts
from benchmarks.separation import WORLDS
from t2i_track.metrics import mmd
from t2i_track.metrics.scores import cmmd, fid, kid
from t2i_track.metrics.scores.fid import Gaussian
from t2i_track.metrics.uncertainty import GROUPS
from t2i_track.ranking.adaptive import Course, Rule, replay
from t2i_track.ranking.evidence import Distances, Means, doubling
from t2i_track.ranking.rows import Score
from t2i_track.ranking.search import Key, Search, generations
from t2i_track.ranking.spending import planned

Columns = NDArray[np.float64]
Draw = Callable[[np.random.Generator, Sequence[float], int], Columns]
"""Settings that are worse than the best by so much, and prompts."""

MOST = 2048
FIRST = STEP = 32
FIXED = (64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
FAR = (0.0, 0.25, 0.5, 2.0, 3.0, 4.0, 6.0, 8.0)
"""Margins by which settings are worse where most are plainly worse."""
CLOSE = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 2.0)


def shifted(world: str) -> Draw:
    def draw(rng: np.random.Generator, worse: Sequence[float], prompts: int) -> Columns:
        return np.asarray(WORLDS[world](rng, len(worse), prompts) - np.asarray(worse)[:, None])

    return draw


def one_sided(rng: np.random.Generator, worse: Sequence[float], prompts: int) -> Columns:
    """Right or wrong, 0.97 in the mean; the others never succeed where the first fails."""
    first = rng.random(prompts) < 0.97
    return np.stack([first & ~(rng.random(prompts) < shift / 0.97) for shift in worse]).astype(float)


def two_sided(rng: np.random.Generator, worse: Sequence[float], prompts: int) -> Columns:
    """Right or wrong by a prompt's difficulty and chance, 0.9 in the mean."""
    return hard_prompts(rng, prompts, [0.9 - shift for shift in worse])


def fractions(rng: np.random.Generator, worse: Sequence[float], prompts: int) -> Columns:
    """Shares of what four objects are, 0.95 in the mean, as alignment is."""
    own = rng.beta(8, 0.4, prompts)
    chances = (1 - np.asarray(worse) / 0.952)[:, None] * own
    return np.asarray(rng.binomial(4, chances) / 4)


@dataclass(frozen=True)
class World:
    draw: Draw
    margin: float
    span: float | None
    metric: str


MEANS = {
    **{
        name: World(shifted(name), 0.2, None, "clip_score")
        for name in ("equal spreads", "unequal spreads", "heavy tails", "skewed, unequal spreads")
    },
    "right or wrong, 0.97, one way": World(one_sided, 0.02, 1.0, "alignment"),
    "right or wrong, 0.9": World(two_sided, 0.05, 1.0, "alignment"),
    "fractions, 0.95": World(fractions, 0.02, 1.0, "alignment"),
}


def swept(columns: Columns, margin: float, span: float | None, most: int = MOST) -> Course:
    looks = doubling(FIRST, most, STEP)
    settings = len(columns)
    rule = Rule(margin, looks, (1 / settings,) * settings)
    return replay(Means(columns, margin, looks, span), rule, [len(looks)] * settings, range(settings))


def images(course: Course, looks: Sequence[int]) -> int:
    return sum(looks[done - 1] for done in course.done)


@dataclass
class Counts:
    """Of trials."""

    out: int = 0
    good: int = 0
    winner: int = 0
    decided: int = 0
    images: float = 0.0

    def add(self, course: Course, wrong_out: Sequence[int], wrong_good: Sequence[int], looks: Sequence[int]) -> None:
        states = course.states
        self.out += any(states[k] == "out" for k in wrong_out)
        self.good += any(states[k] == "as good" for k in wrong_good)
        self.winner += sum(state != "out" for state in states) == 1
        self.decided += course.ended == "decided"
        self.images += images(course, looks)


def errors(name: str, settings: int, trials: int) -> str:
    world, looks = MEANS[name], doubling(FIRST, MOST, STEP)
    everyone = list(range(settings))
    edge, equal = Counts(), Counts()
    for trial in range(trials):
        drawn = world.draw(np.random.default_rng(trial), [0.0] + [world.margin] * (settings - 1), MOST)
        edge.add(swept(drawn, world.margin, world.span), everyone, everyone[1:], looks)
        drawn = world.draw(np.random.default_rng([trial, 1]), [0.0] * settings, MOST)
        equal.add(swept(drawn, world.margin, world.span), everyone, [], looks)
    whole = trials * settings * MOST
    cells = [edge.out / trials, edge.good / trials, equal.out / trials, equal.winner / trials]
    cells += [equal.decided / trials, equal.images / whole]
    return f"| {name} | {settings} | {' | '.join(f'{cell:.1%}' for cell in cells)} |"


def saved(name: str, curve: Sequence[float], trials: int) -> str:
    world, looks = MEANS[name], doubling(FIRST, MOST, STEP)
    worse = [shift * world.margin for shift in curve]
    settings, found = len(worse), Counts()
    fixed = np.zeros(len(FIXED))
    within = [k for k, shift in enumerate(curve) if shift <= 1]
    beyond = [k for k, shift in enumerate(curve) if shift >= 1]
    for trial in range(trials):
        drawn = world.draw(np.random.default_rng([trial, 2]), worse, MOST)
        found.add(swept(drawn, world.margin, world.span), within, beyond, looks)
        for place, number in enumerate(FIXED):
            fixed[place] += "undecided" not in verdicts(world.metric, drawn[:, :number], world.margin)
    enough = np.flatnonzero(fixed >= min(found.decided, 0.95 * trials))
    peer = f"{FIXED[enough[0]] * settings:,}" if len(enough) else f"more than {MOST * settings:,}"
    peer = peer if found.decided else "-"
    return (
        f"| {name} | {'far' if curve == FAR else 'close'} | {found.decided / trials:.1%} | {found.images / trials:,.0f}"
        f" | {found.images / trials / settings / MOST:.1%} | {peer} | {found.out / trials:.1%} |"
        f" {found.good / trials:.1%} |"
    )


def pictures(rng: np.random.Generator, prompts: Columns, spread: float, distance: float) -> Columns:
    """Features (n, d) of exact Gaussians at that squared distance from a reference N(0, I); prompts are shared."""
    size = prompts.shape[1]
    found = spread * (0.7**0.5 * prompts + 0.3**0.5 * rng.normal(size=prompts.shape))
    found[:, 0] += np.sqrt(distance - size * (1 - spread) ** 2)
    return np.asarray(found)


def fid_of(rows: Columns, reference: Gaussian) -> Score:
    value, replicates = fid.fid(rows, np.arange(len(rows)) % GROUPS, reference)
    return Score("fid", value, 0.0, None, len(rows), replicates=tuple(replicates))


SIZE, DISTANCE, SPREADS = 16, 8.0, (1.0, 0.9, 0.8)
SHARE = 0.1
"""Of the best value: the margin."""
DISTANCE_LOOKS = planned(4 * SIZE, 512, 5)
Sampled = Callable[[np.random.Generator], Columns]
"""Pseudo-values at each look of three settings (looks, settings, groups), of prompts drawn anew; more is better."""


def exact_gaussians(shift: float) -> Sampled:
    """FID from N(0, I); the others are worse by ``shift``."""
    reference = fid.gaussian(np.zeros(SIZE), np.eye(SIZE))
    true = (DISTANCE, *[DISTANCE + shift] * (len(SPREADS) - 1))

    def sampled(rng: np.random.Generator) -> Columns:
        prompts = rng.normal(size=(DISTANCE_LOOKS[-1], SIZE))
        rows = [pictures(rng, prompts, *of) for of in zip(SPREADS, true, strict=True)]
        return -np.array([[fid_of(own[:number], reference).columns for own in rows] for number in DISTANCE_LOOKS])

    return sampled


@dataclass(frozen=True)
class KernelDistance:
    name: str
    kernel: mmd.Kernel
    unbiased: bool
    scale: float

    def score(self, sums: mmd.KernelSums, theirs: float) -> Score:
        values = self.scale * (sums.within(unbiased=self.unbiased) + theirs - 2 * sums.across())
        number = int(sums.counts.sum())
        return Score(self.name, float(values[0]), 0.0, n=number, replicates=tuple(values[1:].tolist()))


KERNELS = (
    KernelDistance("kid_mean", kid.polynomial, True, 1.0),
    KernelDistance("cmmd", cmmd.gaussian_kernel, False, cmmd.SCALE),
)
POPULATION, THEIRS = 2048, 512
FIRST_MOVED = 3.0
"""From the reference, the mean of the best setting, in standard deviations of one coordinate."""


def populations(of: KernelDistance, shift: float) -> tuple[Sampled, float]:
    """A distance from 512 pictures, of sets that are drawn with replacement from 2,048 pictures of each setting.

    So the true value of a setting is that of all its pictures, by all pairs, and every kernel is computed once. The
    pictures are Gaussians of unequal spread whose mean is moved until the true value is the best one's and ``shift`` of
    it more. Drawn of KID is the estimate over all pairs, not over subsets, whose noise pairs of settings share.

    Returns:
        The draws, and by how much the others are worse.
    """
    rng = np.random.default_rng(7)
    common = np.eye(SIZE)[1] * 4.0  # embeddings have most of their length in common
    theirs, prompts = rng.normal(size=(THEIRS, SIZE)) + common, rng.normal(size=(POPULATION, SIZE))
    noise = rng.normal(size=(len(SPREADS), POPULATION, SIZE))
    own = of.kernel(theirs, theirs)
    within = float(own.sum() - np.trace(own)) / THEIRS / (THEIRS - 1) if of.unbiased else float(own.mean())

    def features(setting: int, moved: float) -> Columns:
        found = SPREADS[setting] * (0.7**0.5 * prompts + 0.3**0.5 * noise[setting]) + common
        found[:, 0] += moved
        return np.asarray(found)

    def true(rows: Columns) -> float:
        return of.scale * float(of.kernel(rows, rows).mean() + within - 2 * of.kernel(rows, theirs).mean())

    best = true(features(0, FIRST_MOVED))
    wanted = [best] + [best * (1 + shift)] * (len(SPREADS) - 1)
    rows = [features(k, moved_to(lambda by, k=k: true(features(k, by)), value)) for k, value in enumerate(wanted)]
    inside, across = [of.kernel(one, one) for one in rows], [of.kernel(one, theirs).sum(axis=1) for one in rows]

    def sampled(rng: np.random.Generator) -> Columns:
        drawn = rng.integers(POPULATION, size=DISTANCE_LOOKS[-1])
        held = [(pairs[np.ix_(drawn, drawn)], far[drawn]) for pairs, far in zip(inside, across, strict=True)]
        scores = [[of.score(sums_of(*one, number), within) for one in held] for number in DISTANCE_LOOKS]
        return -np.array([[score.columns for score in some] for some in scores])

    return sampled, best * shift


def moved_to(value: Callable[[float], float], wanted: float) -> float:
    """How far a setting's mean is moved for that value, by bisection."""
    low, high = 0.0, 4 * FIRST_MOVED
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if value(middle) < wanted else (low, middle)
    return (low + high) / 2


def sums_of(pairs: Columns, across: Columns, number: int) -> mmd.KernelSums:
    """``mmd.kernel_sums`` of the first pictures, whose groups are dealt in turn, of kernels that are known."""
    mine = np.eye(GROUPS)[np.arange(number) % GROUPS]
    xx = mine.T @ pairs[:number, :number] @ mine
    diagonal, xy = (some[:number] @ mine for some in (np.diagonal(pairs), across))
    return mmd.KernelSums(xx, diagonal, xy, mine.sum(axis=0), THEIRS)


def distance_errors(name: str, held: Sampled, same: Sampled, margin: float, trials: int) -> str:
    """The others are on the margin (``held``), or all are equal (``same``)."""
    edge, equal = Counts(), Counts()
    settings = len(SPREADS)
    rule = Rule(margin, DISTANCE_LOOKS, (1 / settings,) * settings)
    for trial in range(trials):
        for number, (counts, sampled, wrong) in enumerate(((equal, same, ()), (edge, held, range(1, settings)))):
            evidence = Distances(sampled(np.random.default_rng([trial, number])), margin, DISTANCE_LOOKS)
            course = replay(evidence, rule, [len(DISTANCE_LOOKS)] * settings, range(settings))
            counts.add(course, range(settings), list(wrong), DISTANCE_LOOKS)
    whole = trials * settings * DISTANCE_LOOKS[-1]
    cells = [edge.out / trials, edge.good / trials, equal.out / trials, equal.winner / trials]
    cells += [equal.decided / trials, equal.images / whole]
    return f"| {name}, {SIZE} dimensions | {settings} | {' | '.join(f'{cell:.1%}' for cell in cells)} |"


GRID = (1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 12.0, 20.0)
PEAK = 4.0
"""The guidance that is best in the worlds of the search, which the grid has not."""


@dataclass(frozen=True)
class Hill:
    """A curve over guidance with one top."""

    world: str
    steepness: float
    """How much worse at one unit of the guidance's logarithm."""
    most: float
    """Worse than that is nothing."""
    margin: float

    def worse(self, value: float) -> float:
        return float(min(self.steepness * abs(np.log(value / PEAK)) ** 1.5, self.most))


HILLS = {
    "flat, right or wrong, 0.9": Hill("right or wrong, 0.9", 0.5, 0.6, 0.1),
    "steep, equal spreads": Hill("equal spreads", 3.0, 2.0, 0.2),
}


def searches(name: str, trials: int, resolution: float = 0.5) -> str:
    """Sweeps over guidance whose grid is refined to half a unit."""
    hill = HILLS[name]
    world, margin = MEANS[hill.world], hill.margin
    values = list(generations(GRID, resolution))
    worse = [hill.worse(value) for value in values]
    grid = tuple(((value,), 0) for value in GRID)
    search, found, near, beside, added = Search((resolution,), grid), Counts(), 0, 0, 0
    for trial in range(trials):
        drawn = world.draw(np.random.default_rng([trial, 3]), worse, MOST)
        course, there = searched(search, grid, dict(zip(values, drawn, strict=True)), margin, world.span)
        gaps = [worse[values.index(value)] - min(worse[values.index(other)] for other in there) for value in there]
        wrong = [[k for k, gap in enumerate(gaps) if gap <= margin], [k for k, gap in enumerate(gaps) if gap >= margin]]
        found.add(course, *wrong, doubling(FIRST, MOST, STEP))
        best = there[course.looks[-1].best]
        near += worse[values.index(best)] <= margin
        beside += abs(best - PEAK) <= resolution
        added += len(there) - len(grid)
    shares = [near / trials, beside / trials, found.out / trials, found.good / trials, found.decided / trials]
    cells = " | ".join(f"{share:.1%}" for share in shares)
    return f"| {name} | {cells} | {added / trials:.1f} | {found.images / trials:,.0f} |"


def searched(
    search: Search, grid: Sequence[Key], columns: dict[float, Columns], margin: float, span: float | None
) -> tuple[Course, list[float]]:
    """The last course, and the values of its settings."""
    looks, keys = doubling(FIRST, MOST, STEP), list(grid)
    while True:
        asked: list[Key] = []

        def refine(
            states: Sequence[object], best: int, keys: list[Key] = keys, asked: list[Key] = asked
        ) -> list[int | None]:
            there = {keys[k]: None for k, state in enumerate(states) if state is not None}
            wanted = search.beside(keys[best], there)
            asked[:] = [key for key in wanted if key not in keys]
            return [keys.index(key) if key in keys else None for key in wanted]

        held = np.stack([columns[point[0]] for point, _ in keys])
        rule = Rule(margin, looks, tuple(search.weight(key) for key in keys), growing=True)
        evidence = Means(held, margin, looks, span)
        course = replay(evidence, rule, [len(looks)] * len(keys), range(len(grid)), refine=refine)
        if course.ended != "refined":
            return course, [point[0] for point, _ in keys]
        keys = [*keys, *asked]


def stored(home: Path, sweep: str) -> tuple[list[str], Columns]:
    """The alignment of each picture of a sweep: what its settings are called, and a setting a row."""
    from sqlalchemy import select

    from t2i_track.db import lineage
    from t2i_track.db.models import Image, ImageScore
    from t2i_track.workspace import Workspace

    names, rows = [], []
    with Workspace(home=home).reading() as session:
        for member in lineage.find_sweep(session, sweep).members:
            query = select(Image.prompt_index, ImageScore.value).join(ImageScore, ImageScore.image_id == Image.id)
            query = query.where(Image.run_id == member.run_id, ImageScore.name == "alignment")
            values = dict(tuple(row) for row in session.execute(query))
            names.append(f"{member.run.guidance:g}/{member.run.steps}")
            rows.append(values)
    shared = sorted(set.intersection(*(set(row) for row in rows)))
    return names, np.array([[row[index] for index in shared] for row in rows])


def passes(name: str) -> float:
    """Of the network for one picture, of a setting ``guidance/steps``."""
    guidance, steps = map(float, name.split("/"))
    return steps * (2 if guidance > 1 else 1)


def replays(names: Sequence[str], columns: Columns, margin: float, trials: int, most: int) -> str:
    """Sweeps of real pictures: prompts drawn again with replacement from those that there are.

    Recommended is the cheapest of those that are as good; where none is, that counts as one beyond the margin.
    """
    true = columns.mean(axis=1)
    gaps = true.max() - true
    within, beyond = np.flatnonzero(gaps <= margin), np.flatnonzero(gaps > margin)
    found, near = Counts(), 0
    for trial in range(trials):
        drawn = columns[:, np.random.default_rng([trial, 4]).integers(columns.shape[1], size=most)]
        course = swept(drawn, margin, 1.0, most)
        found.add(course, within.tolist(), beyond.tolist(), doubling(FIRST, most, STEP))
        good = [k for k, state in enumerate(course.states) if state == "as good"]
        near += bool(good) and gaps[min(good, key=lambda k: (passes(names[k]), gaps[k]))] <= margin
    told = ", ".join(f"{name}: {mean:.3f}" for name, mean in zip(names, true, strict=True))
    shares = [near, found.out, found.good, found.decided]
    cells = " | ".join(f"{share / trials:.1%}" for share in shares)
    whole = found.images / trials / len(names) / most
    return f"| {told} | {margin:g} | {most:,} | {cells} | {found.images / trials:,.0f} | {whole:.1%} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--only", choices=("errors", "images", "distances", "search", "replays"))
    parser.add_argument("--worlds", nargs="*", default=list(MEANS), choices=list(MEANS))
    parser.add_argument("--settings", type=int, nargs="*", default=[8, 24])
    parser.add_argument("--home", type=Path, help="of a sweep whose pictures have an alignment, to replay it")
    parser.add_argument("--sweep", default="curve")
    parser.add_argument("--of", nargs="*", help="of the replayed sweep only these settings: guidance/steps, as 3/20")
    parser.add_argument("--margins", type=float, nargs="*", default=[0.02, 0.05])
    args = parser.parse_args()
    if args.only in (None, "errors"):
        for name in args.worlds:
            for settings in args.settings:
                print(errors(name, settings, args.trials), flush=True)
    if args.only in (None, "distances"):
        margin = SHARE * DISTANCE
        print(distance_errors("fid", exact_gaussians(margin), exact_gaussians(0.0), margin, args.trials), flush=True)
        for of in KERNELS:
            held, by = populations(of, SHARE)
            print(distance_errors(of.name, held, populations(of, 0.0)[0], by, args.trials), flush=True)
    if args.only in (None, "search"):
        for name in HILLS:
            print(searches(name, args.trials), flush=True)
    if args.only in (None, "replays") and args.home is not None:
        names, columns = stored(args.home, args.sweep)
        if args.of:
            columns, names = columns[[names.index(name) for name in args.of]], args.of
        for margin in args.margins:
            print(replays(names, columns, margin, args.trials, MOST), flush=True)
    if args.only in (None, "images"):
        for name in args.worlds:
            for curve in (FAR, CLOSE):
                print(saved(name, curve, args.trials), flush=True)


if __name__ == "__main__":
    main()
