"""What an adaptive sweep decided, from its stored rows: as data, as a table and as sentences for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from t2i_track.metrics.metric import Direction
from t2i_track.notebook import Shown
from t2i_track.ranking.margin import about
from t2i_track.ranking.words import bounds, decimals, number

SCHEMA = "t2i-track/decided/1"
MOST_NAMED = 4
"""Settings of a kind that a sentence names each; more are counted."""


@dataclass(frozen=True)
class Verdict:
    """One setting as it was seen last: ``low`` and ``high`` are how much worse than the best it is."""

    run: str
    name: str
    axes: Mapping[str, Any]
    """What varies in the sweep, as resolved."""
    passes: int | None
    """Of the network, for one picture: what it costs."""
    state: str
    value: float
    images: int
    """That the decision was made with."""
    estimate: float
    low: float | None
    high: float | None
    more: int | None = None
    """Of one that is undecided: images that would probably decide it; None: decided, or more than anybody makes."""

    @property
    def words(self) -> str:
        """``guidance 3, 15 steps``."""
        return ", ".join(
            f"{_plain(value)} steps" if axis == "steps" else f"{axis.replace('_', ' ')} {_plain(value)}"
            for axis, value in self.axes.items()
        )


@dataclass(frozen=True)
class Decided(Shown):
    """The decisions of an adaptive sweep; nothing of them is tested again."""

    sweep: str
    by: str
    protocol: str
    """Its fingerprint, of the score of a single image or of a set."""
    direction: Direction
    margin: float
    margin_text: str
    level: float
    ended: str
    """decided, budget, all images, or open: it was stopped before it came to an end."""
    budget: str
    settings: tuple[Verdict, ...]
    most: int
    """Images a setting at most."""
    history: tuple[Verdict, ...] = ()
    """Every decision, in order; of a setting that was looked at ten times ten."""
    notes: tuple[str, ...] = ()

    @property
    def images(self) -> int:
        return sum(setting.images for setting in self.settings)

    def of(self, state: str) -> list[Verdict]:
        return [setting for setting in self.settings if setting.state == state]

    @property
    def recommended(self) -> Verdict | None:
        """The cheapest of those that are as good as the best; of equal cost the one with the best value."""
        sign = -1.0 if self.direction == "higher" else 1.0
        known = [setting for setting in self.of("as good") if setting.passes is not None] or self.of("as good")
        return min(known, key=lambda one: (one.passes or 0, sign * one.value), default=None)

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                **setting.axes,
                "state": setting.state,
                self.by: setting.value,
                "worse_by": setting.estimate,
                "worse_low": setting.low,
                "worse_high": setting.high,
                "images": setting.images,
                "more": setting.more,
                "run": setting.run,
                "name": setting.name,
            }
            for setting in self.settings
        ]

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Titles and cells for people."""
        axes = list(self.settings[0].axes) if self.settings else []
        arrow = "↓" if self.direction == "lower" else "↑"
        titles = [*axes, "decision", f"{self.by} {arrow}", "worse than the best by", "images", "run"]
        return titles, [
            [
                *(_plain(setting.axes[axis]) for axis in axes),
                setting.state,
                number(setting.value),
                _worse(setting),
                str(setting.images),
                setting.run[:8],
            ]
            for setting in self.settings
        ]

    def lines(self) -> list[str]:
        """The sentence at the end, then what else must be known."""
        return [*self.notes, *self.left(), *self.conclusion()]

    def left(self) -> list[str]:
        """``guidance 12 left after 96 images``, in the order in which they left."""
        out = sorted(self.of("out"), key=lambda setting: setting.images)
        return [f"{_capital(setting.words)} left after {setting.images:,} images." for setting in out]

    def conclusion(self) -> list[str]:
        sure = f"{1 - (1 - self.level) / 2:.1%}".replace(".0%", " %").replace("%", " %").replace("  ", " ")
        whole = f"{self.images:,} of {self.most * len(self.settings):,} images"
        best, told = self.recommended, []
        if best is not None:
            others = [setting for setting in self.of("as good") if setting is not best]
            others_said = f"; as good too: {_listed(others)}" if others else ""
            ended = f"decided with {whole}" if self.ended == "decided" else f"found with {whole}"
            said = f"{_capital(best.words)}: as good as the best within {self._within} ({sure} sure); {ended}"
            told.append(f"{said}{others_said}{self._worse()}.")
        else:
            told.append(f"Not decided with {whole}{self._worse()}.")
        if undecided := self.of("undecided"):
            told.append(self._undecided(undecided))
        return told

    @property
    def _within(self) -> str:
        return f"{self.margin_text} ({self.margin:.3g})" if self.margin_text.endswith("%") else f"{self.margin:g}"

    def _worse(self) -> str:
        out = sorted(self.of("out"), key=lambda setting: setting.estimate)
        if not out:
            return ""
        if len(out) <= MOST_NAMED:
            return "; " + ", ".join(f"{one.words} is worse by {_between(one)}" for one in out)
        least = min(one.low for one in out if one.low is not None)
        return f"; {len(out)} others are worse by {number(least)} or more"

    def _undecided(self, some: Sequence[Verdict]) -> str:
        why = {
            "budget": f"the budget ({self.budget}) is spent",
            "all images": f"all {self.most:,} images a setting are made",
        }
        reason = why.get(self.ended, "the sweep was stopped before it was decided: the same command goes on")
        each = [f"{one.words} ({about(one.more)} would probably decide)" for one in some[:MOST_NAMED]]
        more = f" and {len(some) - MOST_NAMED} more" if len(some) > MOST_NAMED else ""
        return f"Undecided, and {reason}: {', '.join(each)}{more}."

    def to_dict(self) -> dict[str, Any]:
        """The documented JSON (docs/adaptive.md)."""
        best = self.recommended
        return {
            "schema": SCHEMA,
            **{name: getattr(self, name) for name in ("sweep", "by", "direction", "margin", "margin_text", "level")},
            **{name: getattr(self, name) for name in ("ended", "budget", "images", "most")},
            "settings": [_verdict(setting) for setting in self.settings],
            "recommended": None if best is None else best.run,
            "sentences": self.conclusion(),
            "history": [_verdict(one) for one in self.history],
            "notes": list(self.notes),
        }


def _verdict(one: Verdict) -> dict[str, Any]:
    return {**asdict(one), "axes": dict(one.axes)}


def _worse(one: Verdict) -> str:
    if one.estimate < 0:
        return "the best"
    if one.low is None or one.high is None:
        return number(one.estimate)
    return f"{one.estimate:+.{decimals(one.low, one.high)}f} {bounds(one.low, one.high)}"


def _between(one: Verdict) -> str:
    if one.low is None or one.high is None:
        return number(one.estimate)
    places = decimals(one.low, one.high)
    return f"{one.low:.{places}f} to {one.high:.{places}f}"


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _listed(some: Sequence[Verdict]) -> str:
    named = ", ".join(one.words for one in some[:MOST_NAMED])
    return named + (f" and {len(some) - MOST_NAMED} more" if len(some) > MOST_NAMED else "")
