"""A comparison in words: its ranking as titles and cells, its findings as sentences, its note in Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from t2i_track.jsontext import json_text
from t2i_track.ranking.comparison import Comparison
from t2i_track.ranking.failures import FailureRate
from t2i_track.ranking.frontier import alignment_metric
from t2i_track.ranking.margin import POWER, VERDICTS, about
from t2i_track.ranking.pair import PairComparison
from t2i_track.ranking.protocols import MARK, otherwise
from t2i_track.ranking.ranking import Excluded, Ranked
from t2i_track.ranking.rows import RunRow, varied
from t2i_track.ranking.words import bounds, change, number, with_interval
from t2i_track.settings import UNKNOWABLE, UNKNOWN

Cells = list[list[str]]
SHOWN_AXES = ("guidance", "steps")
"""Always shown, whether they vary or not."""
MOST_POINTS = 16
"""Settings of the frontier that a sentence names; JSON has all."""


def ranked(comparison: Comparison) -> tuple[list[str], Cells]:
    """Guidance and steps always; of the other settings those that vary; the alignment where there is one.

    An alignment that was measured under another protocol than most is marked; one of the notes says how it differs.
    """
    rows = [entry.row for entry in comparison.ranking]
    others = other_axes(rows)
    second = alignment_metric(rows, but=comparison.by)
    arrow = "↓" if comparison.direction == "lower" else "↑"
    titles = ["tier", *SHOWN_AXES, *others, f"{comparison.by} {arrow}", f"{comparison.level:.0%} interval"]
    titles += ["from the best", *_within(comparison), *([second] if second else []), "images", "s/image", "run", "name"]
    marked = otherwise(rows, second) if second else {}
    return titles, [
        _cells(entry, others, second, comparison, MARK if entry.row.run in marked else "")
        for entry in comparison.ranking
    ]


def failed(comparison: Comparison) -> tuple[list[str], Cells]:
    """How often each labelled run fails in which way: a line a run, the share of its labelled images with its interval.

    "labelled" counts the images, "by people" those of them that a person looked at.
    """
    entries: tuple[Ranked | Excluded, ...] = (*comparison.ranking, *comparison.excluded)
    rows = {entry.row.run: entry.row for entry in entries}
    rates = {(rate.run, rate.failure): rate for rate in comparison.failures}
    names = list(dict.fromkeys(rate.failure for rate in comparison.failures))
    labelled = {rate.run: rate for rate in comparison.failures}
    shown = [run for run in rows if run in labelled]
    others = other_axes([rows[run] for run in shown])
    return [*SHOWN_AXES, *others, *names, "labelled", "by people", "run", "name"], [
        [
            *(rows[run].short(axis) for axis in SHOWN_AXES),
            *(str(rows[run].told(axis)) for axis in others),
            *(_rate(rates[run, name]) for name in names),
            *(str(labelled[run].n), str(labelled[run].people), run[:8], rows[run].name),
        ]
        for run in shown
    ]


def _rate(rate: FailureRate) -> str:
    return with_interval(rate.share, rate.ci_low, rate.ci_high)


def other_axes(rows: Sequence[RunRow]) -> list[str]:
    """The settings in which the rows differ, other than guidance and steps."""
    return [axis for axis in varied(rows) if axis not in SHOWN_AXES]


def findings(comparison: Comparison) -> list[str]:
    """What follows from the ranking, a sentence each; the recommendation is the last."""
    lines = [f"Note: {note}" for note in comparison.notes]
    if comparison.best:
        low, high = comparison.best.low, comparison.best.high
        lines.append(
            f"The best of {len(comparison.ranking)}: {comparison.by} {number(comparison.best.estimate)}"
            f" {bounds(low, high)}, allowing for its having been chosen as the best."
        )
    lines += found_within(comparison)
    if comparison.frontier:
        lines.append(_frontier(comparison, comparison.frontier.runs))
    lines += [effect.sentence for effect in comparison.effects]
    if comparison.tradeoff:
        lines.append(comparison.tradeoff.sentence)
    if comparison.knee:
        lines.append(comparison.knee.sentence)
    if comparison.recommendation and len(comparison.ranking) > 1:
        lines.append(f"Recommended: {comparison.recommendation.sentence}")
    return lines


def found_within(comparison: Comparison) -> list[str]:
    """How many runs are as good as the best, and what a comparison of so many images can find."""
    lines = []
    margin, found = comparison.margin, comparison.detectable
    verdicts = Counter(entry.standing.verdict for entry in comparison.ranking if entry.standing)
    if margin is not None and verdicts:
        counts = ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in VERDICTS if verdicts[verdict])
        default = ", the default margin" if margin.default else ""
        more = "; so many 'more' images a run may decide" if verdicts["undecided"] else ""
        lines.append(f"Within {margin.words} of the best {comparison.by}{default}: {counts}{more}.")
    if found is not None:
        text = f"With {found.images} images a run a difference of {found.difference:.2g} in {comparison.by} is found"
        text += f" with a chance of {POWER:.0%}"
        if found.wanted is not None and found.wanted < found.difference:
            text += f"; {found.wanted:.2g} takes {about(found.images_for_wanted)}"
        lines.append(text + ".")
    return lines


def note(comparison: Comparison, most: int = 24) -> str:
    """Markdown for the description of a sweep: what was found, then the best ``most`` runs."""
    titles, cells = ranked(comparison)
    parts = ["\n".join(f"- {escaped(line)}" for line in reversed(findings(comparison))), pipes(titles, cells[:most])]
    if len(cells) > most:
        parts.append(f"The best {most} of {len(cells)} runs.")
    return "\n\n".join(parts) + "\n"


def as_json(comparison: Comparison) -> str:
    """The documented JSON; ``null`` for what is not known, never NaN."""
    return json_text(comparison.to_dict()) + "\n"


def pipes(titles: Sequence[str], cells: Cells) -> str:
    """A table of Markdown."""
    lines = [list(titles), ["---"] * len(titles), *cells]
    return "\n".join("| " + " | ".join(escaped(cell) for cell in line) + " |" for line in lines)


def escaped(text: str) -> str:
    """One line of text that Markdown takes for nothing else."""
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _within(comparison: Comparison) -> list[str]:
    """The title over what each run is within the margin, where that is known of any."""
    known = comparison.margin is not None and any(entry.standing for entry in comparison.ranking)
    return [f"within {comparison.margin.text}"] if known and comparison.margin else []


def _standing(entry: Ranked) -> str:
    if entry.standing is None:
        return "?"
    if entry.standing.verdict != "undecided" or entry.standing.images is None:
        return entry.standing.verdict
    return f"undecided: {entry.standing.images - entry.score.n:,} more"


def _cells(entry: Ranked, others: Sequence[str], second: str | None, comparison: Comparison, mark: str) -> list[str]:
    row, score = entry.row, entry.score
    cells = ["?" if entry.tier is None else str(entry.tier), row.short("guidance"), row.short("steps")]
    cells += [str(row.told(axis)) for axis in others]
    cells += [number(score.value), bounds(score.ci_low, score.ci_high) or "none"]
    cells.append(change(entry.difference, entry.p_adjusted, comparison.level))
    cells += [_standing(entry) for _ in _within(comparison)]
    if second:
        cells.append(number(row.scores[second].value) + mark if second in row.scores else "")
    seconds = "" if row.seconds_per_image is None else f"{row.seconds_per_image:.3g}"
    return [*cells, str(row.images), seconds, row.run[:8], row.name]


def _frontier(comparison: Comparison, runs: Sequence[str]) -> str:
    """Its settings as ``3/8``, or as ``3/8 ddim`` where more than guidance and steps varies between the runs."""
    rows = {entry.row.run: entry.row for entry in comparison.ranking}
    others = other_axes(list(rows.values()))
    points = list(dict.fromkeys(_point(rows[run], others) for run in runs))
    more = f" and {len(points) - MOST_POINTS} more" if len(points) > MOST_POINTS else ""
    axes = " ".join(["/".join(SHOWN_AXES), *others])
    objectives = ", ".join(comparison.frontier.objectives) if comparison.frontier else ""
    return f"Frontier of {objectives} ({axes}): {', '.join(points[:MOST_POINTS])}{more}."


def _point(row: RunRow, others: Sequence[str]) -> str:
    return " ".join(["/".join(map(row.short, SHOWN_AXES)), *(_word(row.told(axis)) for axis in others)])


def _word(value: object) -> str:
    """A value as one word: quoted where it has none or several."""
    text = "none" if value is None else str(value)
    return text if text and not any(char in text for char in " ,") else repr(text)


def heads(pair: PairComparison) -> list[str]:
    """Which two runs, and what they differ in."""
    lines = [_head("A", pair.a), _head("B", pair.b)]
    changed = [f"{name} {shown_value(name, a)} -> {shown_value(name, b)}" for name, (a, b) in pair.differing.items()]
    return [*lines, f"differ in: {', '.join(changed) or 'nothing that decides the images'}"]


def _head(letter: str, row: RunRow) -> str:
    return f"{letter}: {row.name} ({row.run[:8]}), {row.setting}, {row.images} images"


def shown_value(name: str, value: object) -> str:
    """A setting's value as a word of a sentence; a hash is cut."""
    if value is None and name in UNKNOWABLE:
        return UNKNOWN
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value) or "''"
    return text[:8] if len(text) == 64 else text


def pair_failed(pair: PairComparison) -> Cells:
    """A line for each failure: the shares of A's and B's labelled images that have it; then how many those are."""
    rates = {(rate.run, rate.failure): rate for rate in pair.failures}
    labelled = {rate.run: f"{rate.n} ({rate.people} by people)" for rate in pair.failures}
    runs = (pair.a.run, pair.b.run)
    names = dict.fromkeys(rate.failure for rate in pair.failures)
    lines = [[name, *(_rate(rates[run, name]) if run in labelled else "" for run in runs)] for name in names]
    return [*lines, ["labelled", *(labelled.get(run, "0") for run in runs)]]


def pair_findings(pair: PairComparison) -> list[str]:
    """What a reader of the two must know, a sentence each."""
    lines = [f"Note: {note}" for note in pair.notes]
    for counts in pair.prompts:
        lines.append(
            f"{counts.metric}, prompt by prompt: A better on {counts.a_wins}, B better on {counts.b_wins}, "
            f"equal on {counts.ties}."
        )
    return lines
