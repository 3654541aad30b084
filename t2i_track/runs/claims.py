"""What is said of single pictures, and whether a picture made again agrees with it. Knows no database and no model."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from t2i_track.errors import T2IError
from t2i_track.images import png
from t2i_track.runs.bounds import Bound, bound

TOLERANCE = 2
"""Of 255: what another batch size, or another number of threads, was seen to move (docs/reproducibility.md)."""
SIDE = 4
"""Blocks of a picture along each side, whose mean colours are in a seal."""
BLOCK_TOLERANCE = TOLERANCE + 1
"""Of a block's mean: that of pixels, and the rounding of two means."""


def blocks(pixels: png.Pixels) -> str:
    """The mean colours of 4 x 4 blocks of a picture, in base64: what tells a picture with other rounding from another
    picture, where only its hash is at hand."""
    rows = np.array_split(pixels.astype(np.float64), SIDE, axis=0)
    means = [part.mean(axis=(0, 1)) for row in rows for part in np.array_split(row, SIDE, axis=1)]
    return base64.b64encode(np.rint(means).astype(np.uint8).tobytes()).decode()


def block_difference(one: str, other: str) -> int:
    """The largest difference of two ``blocks``, in 1/255."""
    sides = [np.frombuffer(base64.b64decode(side), np.uint8).astype(int) for side in (one, other)]
    return int(np.abs(sides[0] - sides[1]).max())


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A picture as it is said to be."""

    name: str
    """What it is told by: its path, or its place in a seal."""
    record: Mapping[str, Any]
    """The whole of it, from which the picture can be made."""
    pixels_sha256: str
    pixels: Callable[[], png.Pixels | None] = lambda: None
    """What is at hand of the picture: the pixels of its file."""
    blocks: str | None = None
    faults: tuple[str, ...] = ()
    """What is wrong with it before it is made again."""


@dataclass(frozen=True)
class Verdict:
    """How a picture came out that was made again."""

    name: str
    difference: int | None
    """The largest of any channel, in 1/255; None where nothing but a hash is known of the picture, or sizes differ."""
    by: str
    """What it was compared by: ``pixels``, ``hash`` where it is equal, ``blocks``, or ``nothing``."""
    faults: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool:
        most = BLOCK_TOLERANCE if self.by == "blocks" else TOLERANCE
        return not self.faults and self.difference is not None and self.difference <= most


def judged(claim: Claim, remake: Callable[[Claim], png.Pixels]) -> Verdict:
    """Make the picture again and compare; one that cannot be made does not agree."""
    try:
        made = remake(claim)
    except T2IError as error:
        return Verdict(claim.name, None, "nothing", (*claim.faults, str(error)))
    if png.pixels_sha256(made) == claim.pixels_sha256:
        return Verdict(claim.name, 0, "hash", claim.faults)
    held = claim.pixels()
    if held is not None and held.shape == made.shape:
        return _told(claim, int(np.abs(made.astype(int) - held.astype(int)).max()), "pixels")
    if held is None and claim.blocks is not None:
        return _told(claim, block_difference(blocks(made), claim.blocks), "blocks")
    return _told(claim, None, "nothing")


def _told(claim: Claim, difference: int | None, by: str) -> Verdict:
    found = Verdict(claim.name, difference, by, claim.faults)
    if found.agrees or claim.faults:
        return found
    how = "other pixels" if difference is None else f"it differs by up to {difference} of 255"
    return Verdict(claim.name, difference, by, (f"made again, {how}",))


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a sample of a run came to."""

    whole: int
    nonce: str
    verdicts: Sequence[Verdict]
    notes: Sequence[str] = field(default=())
    """What is not as it was when the pictures were made, and may explain differences."""

    @property
    def looked(self) -> int:
        return len(self.verdicts)

    @property
    def disagreeing(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if not verdict.agrees]

    @property
    def bound(self) -> Bound | None:
        """None where nothing was looked at."""
        return bound(len(self.disagreeing), self.looked, self.whole) if self.looked else None

    def distribution(self) -> dict[str, int]:
        """How many came out how; each picture is counted once."""
        found = dict.fromkeys(("bit-equal", "within 1", "within 2", "alike by blocks", "more or unknown"), 0)
        for verdict in self.verdicts:
            found[_class(verdict)] += 1
        return found

    def proves(self) -> str:
        """What the sample says of the whole, in a sentence."""
        found = self.bound
        if found is None:
            return "no picture was made again"
        wrong, most = len(self.disagreeing), f"at most {100 * found.share:.3g} % of the run can be false"
        of = f"all {self.looked}" if not wrong else f"{self.looked - wrong} of {self.looked}"
        agree = f"{of} agree within {TOLERANCE} of 255"
        if weaker := sum(verdict.agrees and verdict.by == "blocks" for verdict in self.verdicts):
            agree += f", {weaker} of them only by the mean colours of blocks, within {BLOCK_TOLERANCE}"
        if self.looked == self.whole:
            return f"{agree}, which are all that there are"
        return f"{agree}: {most} at {100 * found.level:g} % ({found.method}, {self.looked} of {self.whole})"


def _class(verdict: Verdict) -> str:
    if verdict.by == "blocks" and verdict.difference is not None and verdict.difference <= BLOCK_TOLERANCE:
        return "alike by blocks"
    if verdict.difference is None or verdict.difference > TOLERANCE:
        return "more or unknown"
    return f"within {verdict.difference}" if verdict.difference else "bit-equal"


def judge(claims: Sequence[Claim], remake: Callable[[Claim], png.Pixels]) -> Iterator[Verdict]:
    """In their order, each as soon as it is made."""
    for claim in claims:
        yield judged(claim, remake)
