"""How much of a whole can be false, after so many of it were looked at: exact one-sided bounds, and which to draw."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

LEVEL = 0.95
CONSIDERABLE = 0.05
"""Share of the whole from which on drawing without replacement counts (Cochran 1977, section 2.6)."""


@dataclass(frozen=True)
class Bound:
    """The most of a whole that can be false, in [0, 1], at a level of confidence."""

    share: float
    method: str
    """``Clopper-Pearson``, or ``hypergeometric`` where the sample is a considerable part of the whole."""
    level: float = LEVEL


def bound(false: int, looked: int, whole: int, level: float = LEVEL) -> Bound:
    """The upper bound where ``false`` of the ``looked`` at were false, of a ``whole`` that they were drawn from.

    Raises:
        ValueError: not 0 <= false <= looked <= whole, or nothing was looked at.
    """
    if not (0 <= false <= looked <= whole and looked > 0):
        raise ValueError(f"{false} of {looked} of {whole}")
    if looked > CONSIDERABLE * whole:
        return Bound(most_false(false, looked, whole, level) / whole, "hypergeometric", level)
    return Bound(clopper_pearson(false, looked, level), "Clopper-Pearson", level)


def clopper_pearson(false: int, looked: int, level: float = LEVEL) -> float:
    """The share p at which so few false ones would be found with probability ``1 - level`` (Clopper & Pearson 1934).

    It is the ``level`` quantile of Beta(false + 1, looked - false); without false ones ``1 - (1 - level)^(1/looked)``.
    """
    if false == looked:
        return 1.0
    from scipy.special import betaincinv

    return float(betaincinv(false + 1, looked - false, level))


def most_false(false: int, looked: int, whole: int, level: float = LEVEL) -> int:
    """The largest number of false ones among the whole of which a sample without replacement would show so few with a
    probability above ``1 - level``: the same bound for the hypergeometric distribution (Buonaccorsi 1987)."""
    from scipy.stats import hypergeom

    low, high = false, whole - (looked - false)  # so many can be, as far as is known
    while low < high:
        middle = (low + high + 1) // 2
        if hypergeom.cdf(false, whole, middle, looked) > 1 - level:
            low = middle
        else:
            high = middle - 1
    return low


def drawn(nonce: str, run: str, whole: int, number: int) -> list[int]:
    """``number`` of the places ``0`` to ``whole - 1``, in order: those with the smallest sha256 of
    ``NONCE:RUN:PLACE``. Who has made a run cannot know them before the nonce is named, and anybody can draw them again.
    """
    keys = ((hashlib.sha256(f"{nonce}:{run}:{place}".encode()).digest(), place) for place in range(whole))
    return sorted(place for _, place in sorted(keys)[:number])
