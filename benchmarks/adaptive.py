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
from t2i_track.metrics.scores import fid, kid
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


def kid_of(rows: Columns, reference: Columns) -> Score:
    sums = mmd.kernel_sums(rows, reference, kid.polynomial, np.arange(len(rows)) % GROUPS)
    values = sums.within(unbiased=True) - 2 * sums.across() + kid.reference_pairs(reference)
    return Score("kid_mean", float(values[0]), n=len(rows), replicates=tuple(values[1:].tolist()))


def true_kid(distance: float, reference: Columns) -> float:
    """KID of N(a, I) with |a|² = ``distance``, along the first axis, against these pictures (n, d): in closed form.

    Given the other row, the product of two rows is a normal number z, and E (1 + z / d)³ has its first three moments.
    """
    size, a = reference.shape[1], np.sqrt(distance)

    def cubed(m: Columns | float, m2: Columns | float, m3: Columns | float) -> Columns | float:
        return 1 + 3 * m / size + 3 * m2 / size**2 + m3 / size**3

    mean, square = a * reference[:, 0], (reference**2).sum(axis=1)
    across = np.mean(cubed(mean, mean**2 + square, mean**3 + 3 * mean * square))
    second, third = a**2 * (a**2 + 1) + size + a**2, a**3 * (a**3 + 3 * a) + 3 * a * (a**3 + 3 * a + (size - 1) * a)
    return float(cubed(a**2, second, third) - 2 * across + kid.reference_pairs(reference))


SIZE, DISTANCE, FID_SPREADS = 16, 8.0, (1.0, 0.9, 0.8)
DISTANCE_LOOKS = planned(4 * SIZE, 512, 5)


def distance_columns(metric: str, rng: np.random.Generator, shift: float) -> tuple[Columns, float]:
    """Pseudo-values at each look of three settings, the others worse by ``shift`` in FID; and by how much they are."""
    prompts, theirs = rng.normal(size=(DISTANCE_LOOKS[-1], SIZE)), rng.normal(size=(512, SIZE))
    spreads = FID_SPREADS if metric == "fid" else (1.0,) * len(FID_SPREADS)
    true = [DISTANCE, *[DISTANCE + shift] * (len(spreads) - 1)]
    rows = [pictures(rng, prompts, *of) for of in zip(spreads, true, strict=True)]
    exact = fid.gaussian(np.zeros(SIZE), np.eye(SIZE))
    scores = [
        [fid_of(own[:number], exact) if metric == "fid" else kid_of(own[:number], theirs) for own in rows]
        for number in DISTANCE_LOOKS
    ]
    worse = shift if metric == "fid" else true_kid(true[1], theirs) - true_kid(true[0], theirs)
    return -np.array([[score.columns for score in some] for some in scores]), worse


def distance_errors(metric: str, shift: float, trials: int) -> str:
    """Exact Gaussians of 16 dimensions (FID: of unequal spread); the others are on the margin, or equal."""
    edge, equal = Counts(), Counts()
    settings = len(FID_SPREADS)
    for trial in range(trials):
        held, margin = distance_columns(metric, np.random.default_rng([trial, 1]), shift)
        same, _ = distance_columns(metric, np.random.default_rng([trial, 0]), 0.0)
        rule = Rule(margin, DISTANCE_LOOKS, (1 / settings,) * settings)
        for counts, columns, wrong in ((edge, held, range(1, settings)), (equal, same, ())):
            evidence = Distances(columns, margin, DISTANCE_LOOKS)
            course = replay(evidence, rule, [len(DISTANCE_LOOKS)] * settings, range(settings))
            counts.add(course, range(settings), list(wrong), DISTANCE_LOOKS)
    whole = trials * settings * DISTANCE_LOOKS[-1]
    cells = [edge.out / trials, edge.good / trials, equal.out / trials, equal.winner / trials]
    cells += [equal.decided / trials, equal.images / whole]
    return f"| {metric}, 16 dimensions | {settings} | {' | '.join(f'{cell:.1%}' for cell in cells)} |"


GRID = (1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 12.0, 20.0)
PEAK = 4.0
"""The guidance that is best in the world of the search."""


def searches(trials: int, margin: float = 0.1, resolution: float = 0.5) -> str:
    """A curve over guidance with its top at 4, which the grid has not; right or wrong by a prompt's difficulty."""
    values = list(generations(GRID, resolution))
    worse = [min(0.5 * abs(np.log(value / PEAK)) ** 1.5, 0.6) for value in values]
    grid = tuple(((value,), 0) for value in GRID)
    search, found, near, added = Search((resolution,), grid), Counts(), 0, 0
    for trial in range(trials):
        drawn = two_sided(np.random.default_rng([trial, 3]), worse, MOST)
        course, there = searched(search, grid, {value: drawn[k] for k, value in enumerate(values)}, margin)
        gaps = [worse[values.index(value)] - min(worse[values.index(other)] for other in there) for value in there]
        wrong = [[k for k, gap in enumerate(gaps) if gap <= margin], [k for k, gap in enumerate(gaps) if gap >= margin]]
        found.add(course, *wrong, doubling(FIRST, MOST, STEP))
        near += worse[values.index(there[course.looks[-1].best])] <= margin
        added += len(there) - len(grid)
    shares = [found.out / trials, found.good / trials, near / trials, found.decided / trials]
    cells = " | ".join(f"{share:.1%}" for share in shares)
    return f"| search, top at {PEAK:g} | {cells} | {added / trials:.1f} | {found.images / trials:,.0f} |"


def searched(
    search: Search, grid: Sequence[Key], columns: dict[float, Columns], margin: float
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
        evidence = Means(held, margin, looks, 1.0)
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


def replays(names: Sequence[str], columns: Columns, margin: float, trials: int, most: int) -> str:
    """Sweeps of real pictures: prompts drawn again with replacement from those that there are."""
    true = columns.mean(axis=1)
    gaps = true.max() - true
    within, beyond = np.flatnonzero(gaps <= margin), np.flatnonzero(gaps > margin)
    found, near = Counts(), 0
    for trial in range(trials):
        drawn = columns[:, np.random.default_rng([trial, 4]).integers(columns.shape[1], size=most)]
        course = swept(drawn, margin, 1.0, most)
        found.add(course, within.tolist(), beyond.tolist(), doubling(FIRST, most, STEP))
        near += gaps[course.looks[-1].best] <= margin
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
    parser.add_argument("--margins", type=float, nargs="*", default=[0.02, 0.05])
    args = parser.parse_args()
    if args.only in (None, "errors"):
        for name in args.worlds:
            for settings in args.settings:
                print(errors(name, settings, args.trials), flush=True)
    if args.only in (None, "distances"):
        print(distance_errors("fid", 0.8, args.trials), flush=True)
        print(distance_errors("kid", 0.8, args.trials), flush=True)
    if args.only in (None, "search"):
        print(searches(args.trials), flush=True)
    if args.only in (None, "replays") and args.home is not None:
        names, columns = stored(args.home, args.sweep)
        for margin in args.margins:
            print(replays(names, columns, margin, args.trials, MOST), flush=True)
    if args.only in (None, "images"):
        for name in args.worlds:
            for curve in (FAR, CLOSE):
                print(saved(name, curve, args.trials), flush=True)


if __name__ == "__main__":
    main()
