"""Which settings to add between those of a grid, so that "the best guidance, to 0.5" is a question.

Where all settings that are there are decided, the best one's neighbours on each searched axis are looked at: half way
to each, to a multiple of the resolution, a setting is added, until there is none between. What can be added at all is
known before the first image, by generations: the middles of the grid's neighbours are the first, the middles between
these and their neighbours the second. So each setting's share of the chance of an error is fixed beforehand, however it
comes to be chosen: half goes to the grid, and of the rest generation k has 6 / (π² k²), in equal parts (the sum of all
is 1). A share by the order in which settings are added would not hold: which are added is read off the same scores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product

Point = tuple[float, ...]
"""The values of a setting on the searched axes."""
Key = tuple[Point, int]
"""A setting: where it is on the searched axes, and which combination of the others it has."""

MOST = 5000
"""Settings that a search may choose from: more are a resolution that was not meant."""


def middle(low: float, high: float, resolution: float) -> float | None:
    """The multiple of the resolution nearest to half way, None where there is none between."""
    found = round(round((low + high) / 2 / resolution) * resolution, 10)
    return found if low < found < high else None


def generations(values: Sequence[float], resolution: float) -> dict[float, int]:
    """All values that bisection can come to -> after how many halvings, 0 for the grid's own."""
    found = dict.fromkeys(sorted(values), 0)
    generation = 0
    while True:
        generation += 1
        ordered = sorted(found)
        new = [middle(low, high, resolution) for low, high in pairwise(ordered)]
        if not any(value is not None for value in new):
            return found
        found |= {value: generation for value in new if value is not None}
        if len(found) > MOST:
            return found


@dataclass(frozen=True)
class Search:
    """Axes that are refined, from a grid.

    Args:
        resolutions: of each searched axis, the step beyond which nothing is refined.
        grid: the settings to begin with.
    """

    resolutions: tuple[float, ...]
    grid: tuple[Key, ...]

    @cached_property
    def _trees(self) -> list[dict[float, int]]:
        return [
            generations(sorted({point[axis] for point, _ in self.grid}), resolution)
            for axis, resolution in enumerate(self.resolutions)
        ]

    @property
    def size(self) -> int:
        """Settings that there could be."""
        return len({other for _, other in self.grid}) * math.prod(len(tree) for tree in self._trees)

    @cached_property
    def _sizes(self) -> dict[int, int]:
        """Settings that each generation could have."""
        others = len({other for _, other in self.grid})
        found: dict[int, int] = {}
        for depths in product(*(tree.values() for tree in self._trees)):
            found[sum(depths)] = found.get(sum(depths), 0) + others
        return found

    def generation(self, key: Key) -> int:
        return 0 if key in self.grid else sum(tree[at] for tree, at in zip(self._trees, key[0], strict=True))

    def weight(self, key: Key) -> float:
        """Its share of the chance of an error."""
        if key in self.grid:
            return 0.5 / len(self.grid)
        generation = max(self.generation(key), 1)  # combinations of the grid's own values that the grid left out
        size = self._sizes[generation] + (self._sizes[0] - len(self.grid) if generation == 1 else 0)
        return 0.5 * 6 / (math.pi**2 * generation**2) / size

    def beside(self, best: Key, there: Mapping[Key, object]) -> list[Key]:
        """Settings half way between the best and its neighbours of those that are there."""
        point, other = best
        found: list[Key] = []
        for axis, resolution in enumerate(self.resolutions):
            values = {at[axis] for at, _ in there}
            below = max((value for value in values if value < point[axis]), default=None)
            above = min((value for value in values if value > point[axis]), default=None)
            for neighbour in (below, above):
                if neighbour is None:
                    continue
                value = middle(min(neighbour, point[axis]), max(neighbour, point[axis]), resolution)
                if value is not None:
                    found.append(((*point[:axis], value, *point[axis + 1 :]), other))
        return [key for key in found if key not in there]
