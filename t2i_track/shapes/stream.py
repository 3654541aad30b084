"""Random choices that are the same on every machine and with every numpy."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


class Stream:
    """Choices from PCG64's raw words: numpy keeps those stable, unlike `Generator`'s methods (NEP 19)."""

    def __init__(self, *key: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(key))

    def below(self, n: int) -> int:
        """An integer in [0, n); the bias of the remainder is n / 2**64."""
        return int(self._bits.random_raw()) % n

    def between(self, low: int, high: int) -> int:
        """An integer in [low, high], both included."""
        return low + self.below(high - low + 1)

    def pick(self, items: Sequence[T]) -> T:
        return items[self.below(len(items))]

    def octets(self, n: int) -> NDArray[np.uint8]:
        """`n` uniform bytes, in the same order on a big-endian machine."""
        words = self._bits.random_raw((n + 7) // 8).astype("<u8")
        return words.view(np.uint8)[:n]
