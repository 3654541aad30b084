"""Runs that were held against a base, in words."""

from __future__ import annotations

from t2i_track.metrics.registry import score_info
from t2i_track.ranking.describe import Cells, shown_value
from t2i_track.ranking.equivalence import WORST, Candidate, Equivalence
from t2i_track.ranking.margin import about
from t2i_track.ranking.speed import SpeedUp, Spent
from t2i_track.ranking.words import change, number

FEW_WORST = 3
"""The worst prompts of each of several runs; JSON and the report have all."""
WORST_TITLES = ["run", "#", "base", "value", "change", "prompt"]


def heads(found: Equivalence) -> list[str]:
    """The base, and how much a run may differ from it."""
    base = found.base
    return [
        f"base: {base.name} ({base.run[:8]}), {base.setting}, {base.images} images{_took(found.spent)}",
        f"equivalent: {found.by} differs by at most {found.margin.words}{_default(found)}",
    ]


def _took(spent: Spent) -> str:
    """``; 0.15 s an image, 812 MB``; empty where nothing was measured."""
    seconds, joules = spent.seconds_per_image, spent.joules
    parts = [
        *([] if seconds is None else [f"{seconds:.3g} s an image"]),
        *([] if spent.peak_memory_mb is None else [f"{spent.peak_memory_mb:,.0f} MB"]),
        *([] if joules is None else [f"{joules:.3g} J an image"]),
    ]
    return f"; {', '.join(parts)}" if parts else ""


def _default(found: Equivalence) -> str:
    if found.margin.source != "default":
        return ""
    info = score_info(found.by)
    more = ": no run of another seed tells one" if info is not None and info.mean else ""
    return f", the score's own margin{more}"


def compared(found: Equivalence) -> tuple[list[str], Cells]:
    """A line for each run; what was measured of none has no column."""
    sure = 2 * found.level - 1
    titles = ["run", "differs in", found.by, f"from the base ({sure:.0%} interval)", "verdict", *_costs(found)]
    return titles, [
        [
            f"{one.row.name} ({one.row.run[:8]})",
            differing(one) or "nothing",
            "" if one.paired.value is None else number(one.paired.value),
            change(one.paired.change),
            verdict(one),
            *(_cost(title, one.spent, one.speed) for title in _costs(found)),
        ]
        for one in found.candidates
    ]


def _costs(found: Equivalence) -> list[str]:
    spent = [found.spent, *(one.spent for one in found.candidates)]
    named = {
        "speed-up": any(one.speed for one in found.candidates),
        "memory, MB": any(one.peak_memory_mb for one in spent),
        "J/image": any(one.joules for one in spent),
    }
    return [title for title, there in named.items() if there]


def _cost(title: str, spent: Spent, speed: SpeedUp | None) -> str:
    if title == "speed-up":
        return "" if speed is None else times(speed)
    measured = spent.peak_memory_mb if title == "memory, MB" else spent.joules
    return "" if measured is None else f"{measured:,.0f}" if title == "memory, MB" else f"{measured:.3g}"


def times(speed: SpeedUp) -> str:
    """``1.3x [1.2, 1.4]``; without an interval where there were too few batches for one."""
    if speed.low is None or speed.high is None:
        return f"{speed.times:.3g}x, no interval"
    return f"{speed.times:.3g}x [{speed.low:.3g}, {speed.high:.3g}]"


def _as_fast(speed: SpeedUp) -> str:
    """``1.3 times [1.2, 1.4] as fast``, as in a sentence."""
    if speed.low is None or speed.high is None:
        return f"{speed.times:.3g} times as fast, of too few batches for an interval"
    return f"{speed.times:.3g} times [{speed.low:.3g}, {speed.high:.3g}] as fast"


def differing(one: Candidate) -> str:
    return ", ".join(f"{name} {shown_value(name, theirs)}" for name, (_, theirs) in one.differing.items())


def verdict(one: Candidate) -> str:
    """In words, with how much or how many more images."""
    gap = one.paired.change
    if one.verdict in ("worse", "better") and gap and gap.low is not None and gap.high is not None:
        low, high = sorted((abs(gap.low), abs(gap.high)))
        return f"{one.verdict} by {low:.2g} to {high:.2g}"
    if one.verdict == "equivalent":
        return "equivalent within the margin"
    if one.verdict == "unknown":
        return f"unknown: {one.paired.note}"
    if one.images is None:
        return f"undecided: {about(None)}"
    return f"undecided: {one.images - one.row.images:,} more images"


def findings(found: Equivalence) -> list[str]:
    """What a reader must know, then each run in a sentence."""
    lines = [f"Note: {note}" for note in found.notes]
    for one in found.candidates:
        if one.paired.note and one.verdict != "unknown":
            lines.append(f"Note: {one.row.name} is compared {one.paired.note}.")
        if one.worse_by:
            whose = "their" if len(one.worse_by) > 1 else "its"
            lines.append(
                f"Note: {one.row.name} is worse by {', '.join(one.worse_by)}, by more than {whose} own margin:"
                f" `t2i compare {found.base.run[:12]} {one.row.run[:12]}`."
            )
    return [*lines, *(_sentence(found, one) for one in found.candidates)]


def _sentence(found: Equivalence, one: Candidate) -> str:
    """For a person: what was found, how sure, at what saving."""
    name, sure = differing(one) or one.row.name, f"{found.level:.0%} sure"
    text = {
        "equivalent": f"as good as the base in {found.by}, within {found.margin.amount:.3g} ({sure})",
        "worse": f"{verdict(one)} in {found.by} ({sure} that by more than {found.margin.amount:.3g})",
        "better": f"{verdict(one)} in {found.by} ({sure} that by more than {found.margin.amount:.3g})",
        "undecided": f"undecided in {found.by} with {one.row.images:,} images, {about(one.images)} may decide",
        "unknown": verdict(one),
    }[one.verdict]
    if one.verdict == "undecided" and one.paired.at_most is not None:
        text += f"; it is worse by at most {one.paired.at_most:.2g}"
    if one.speed is not None:
        text += f"; {_as_fast(one.speed)}"
    return f"{name}: {text}."


def worst(found: Equivalence) -> Cells:
    """The prompts that each run does worst on."""
    most = WORST if len(found.candidates) == 1 else FEW_WORST
    return [
        [
            *(one.row.run[:8], str(item.prompt_index), number(item.a), number(item.b), f"{item.change:+.4g}"),
            item.prompt,
        ]
        for one in found.candidates
        for item in one.worst[:most]
    ]


def worst_title(found: Equivalence) -> str:
    several = "" if len(found.candidates) == 1 else " of each run"
    return f"Worst prompts{several} by {found.worst_by}"
