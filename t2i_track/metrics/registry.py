"""All metrics, found in ``t2i_track/metrics/scores/``, and what others ask of them.

Nothing heavier than numpy is imported: `t2i compare` and the help texts read this.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

from t2i_track.metrics import scores
from t2i_track.metrics.metric import Metric, ScoreInfo

SECONDS = "seconds_per_image"
_COSTS = (
    ScoreInfo(SECONDS, "lower", "cost", "seconds that making one image took", "none: a timing, measured once a run"),
)
"""Scores of runs, not of pictures: no metric measures them."""


def _found() -> Mapping[str, Metric]:
    names = sorted(module.name for module in pkgutil.iter_modules(scores.__path__))
    metrics: list[Metric] = [import_module(f"{scores.__name__}.{name}").METRIC for name in names]
    metrics.sort(key=lambda metric: (metric.order, metric.word))
    return MappingProxyType({metric.word: metric for metric in metrics})


METRICS = _found()
"""By the word that a user gives, the preferred ones first."""

SETTABLE = tuple(name for metric in METRICS.values() for name in metric.settable)

_INFOS = {info.name: info for info in (*(score for m in METRICS.values() for score in m.scores), *_COSTS)}
_WORDS = {score.name: metric.word for metric in METRICS.values() for score in metric.scores}


def score_info(name: str) -> ScoreInfo | None:
    """None of a name that no metric has, as a database of another version may hold."""
    return _INFOS.get(name)


def word_of(score: str) -> str:
    """The word of ``t2i evaluate --metrics`` that computes a score."""
    return _WORDS.get(score, score)


def rankable(*, parts: bool = False) -> tuple[str, ...]:
    """Scores that have a better end, the preferred ones first; with their parts last, where asked for."""
    whole = [info.name for info in _INFOS.values() if info.direction and not info.part]
    rest = [info.name for info in _INFOS.values() if info.direction and info.part]
    return (*whole, *(rest if parts else ()))


def deciding() -> tuple[str, ...]:
    """Scores by which runs can be ranked, the first of which that tells runs apart at few images is to be preferred.

    Means over images first, since they need the fewest; then quality without a bias to remove; then quality with one.
    """
    any_n = [name for name in of_role("quality") if _INFOS[name].any_n]
    gated = [name for name in of_role("quality") if _INFOS[name].corrected and name not in any_n]
    return (*of_role("alignment"), *any_n, *gated)


def diverse() -> tuple[str, ...]:
    """Scores of diversity in the order in which one is taken to stand beside an alignment.

    Within prompts first: in all others is also how unlike the prompts are, which shows more the better they are
    followed. Then those of the images alone: how much of a reference is met falls with the quality too.
    """
    names = of_role("diversity")
    return tuple(sorted(names, key=lambda name: (not _INFOS[name].mean, METRICS[word_of(name)].reference is not None)))


def of_role(role: str) -> tuple[str, ...]:
    """Scores of a role that rank, the preferred one first."""
    return tuple(name for name in rankable() if _INFOS[name].role == role)
