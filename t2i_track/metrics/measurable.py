"""Which metrics can be measured of which images with what there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from t2i_track.errors import MetricError
from t2i_track.metrics.extractors import kinds
from t2i_track.metrics.inputs import ImageItem
from t2i_track.metrics.metric import CLIP_KINDS, Metric
from t2i_track.metrics.reference import Reference
from t2i_track.metrics.registry import METRICS, SETTABLE


def checked(
    names: Sequence[str],
    images: Sequence[ImageItem],
    reference: Reference | None,
    clip: str | None,
    parameters: Mapping[str, Any],
) -> tuple[Metric, ...]:
    """The metrics by their names, each with what it needs.

    Raises:
        MetricError: no such metric or parameter, or a metric lacks something, with what to do.
    """
    for name in names:
        if name not in METRICS:
            raise MetricError(f"no metric '{name}'; known are {', '.join(METRICS)}")
        if METRICS[name].reference and reference is None:
            raise MetricError(f"{name} needs a reference set; name one, or leave {name} out")
        if METRICS[name].clip and clip is None:
            raise MetricError(f"{name} needs a CLIP model; name one, or leave {name} out")
        if reason := _refusal(METRICS[name], images):
            raise MetricError(f"{name} {reason}; or leave {name} out")
        if reason := METRICS[name].lacks(reference, parameters):
            raise MetricError(f"{reason}: add pictures, or leave {name} out")
    if unknown := set(parameters) - set(SETTABLE):
        raise MetricError(f"no metric has a parameter '{min(unknown)}'; known are {', '.join(SETTABLE)}")
    return tuple(METRICS[name] for name in dict.fromkeys(names))


def default_metrics(
    extractor: str, reference: Reference | None, clip: str | None, images: Sequence[ImageItem] = ()
) -> list[str]:
    """What can be measured of these images with these, but for what is only measured on demand.

    Raises:
        MetricError: the reference is too small for every metric that would need it.
    """
    able = _able(extractor, reference, clip, images)
    small = {metric.word: reason for metric in able if (reason := metric.lacks(reference, {}))}
    if small and all(metric.word in small for metric in able if metric.reference):
        raise MetricError(f"{next(iter(small.values()))}: add pictures, or name another reference")
    return [metric.word for metric in able if metric.word not in small]


def too_small_for(
    extractor: str, reference: Reference | None, clip: str | None, images: Sequence[ImageItem] = ()
) -> list[str]:
    """Why ``default_metrics`` leaves out some of the metrics that need a reference."""
    reasons = (metric.lacks(reference, {}) for metric in _able(extractor, reference, clip, images))
    return [f"not measured: {reason}" for reason in reasons if reason]


def _able(extractor: str, reference: Reference | None, clip: str | None, images: Sequence[ImageItem]) -> list[Metric]:
    given = {*kinds(extractor), *(CLIP_KINDS if clip else ())}
    return [
        metric
        for metric in METRICS.values()
        if metric.default
        and given.issuperset(metric.layers)
        and (not metric.reference or (reference and (reference.items or metric.reference == "statistics")))
        and _refusal(metric, images) is None
    ]


def _refusal(metric: Metric, images: Sequence[ImageItem]) -> str | None:
    return metric.refuses(images) if metric.refuses else None
