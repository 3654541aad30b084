"""Measure the images of one run: the one entry to all scores."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from t2i_track.errors import BadImages, MetricError
from t2i_track.metrics.cache import FeatureStore
from t2i_track.metrics.extractors import Extractor, resolve, resolve_clip
from t2i_track.metrics.features import Each, Progress, picture_features
from t2i_track.metrics.inputs import ImageItem, Size, common_size
from t2i_track.metrics.measurable import checked
from t2i_track.metrics.measurement import Measurement
from t2i_track.metrics.metric import Kind, Metric
from t2i_track.metrics.prompts import GROUPING
from t2i_track.metrics.protocol import SCORED, ProtocolRecord, of_device, of_pictures, versions
from t2i_track.metrics.recorded import changed
from t2i_track.metrics.reference import Reference
from t2i_track.metrics.rows import Score

NAMED_BAD = 5
"""Bad pictures named in a message; the rest are counted."""


@dataclass(frozen=True)
class MetricResult:
    name: str
    value: float
    ci_low: float | None
    ci_high: float | None
    """Of the 95 % interval; None where no sound one exists, and then the note says why."""
    n: int
    note: str | None
    protocol: ProtocolRecord
    replicates: list[float | None] | None
    per_image: dict[int | str, float] | None = None
    """By ``ImageItem.key``."""
    grouping: str = GROUPING
    """How the groups of the replicates were made."""
    prompts_sha256: str = ""
    """Of the set of prompts that were scored, see ``Prompts``."""
    parts: bytes | None = None
    """Of a mean: that of each prompt, by the sha256 of their text; little-endian float64, NaN where it does not
    apply."""


@dataclass(frozen=True)
class EvaluationResult:
    results: list[MetricResult]
    warnings: list[str]
    """One line each: bad, black and truncated inputs, and metrics that these images do not allow."""
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    """Of the protocol of each metric that was not known beforehand, with the pictures that could be scored."""


@dataclass(frozen=True)
class _Plan:
    """What is to be measured with what, known before a picture is opened."""

    images: tuple[ImageItem, ...]
    metrics: tuple[Metric, ...]
    extractors: Mapping[Kind, Extractor]
    reference: Reference | None
    size: Size
    native: Size
    parameters: Mapping[str, Any]
    device: str
    only: str | None
    """Of the set of prompts, where not all of the run's are scored."""

    def protocol(self, metric: Metric, images: Sequence[ImageItem], reference: Reference | None) -> ProtocolRecord:
        extractor = self.extractors[metric.layers[0]]
        reference = reference if metric.reference else None
        settled = metric.settled(self.parameters, images, reference.n if reference else None)
        return ProtocolRecord(
            metric=metric.word,
            extractor=extractor.name,
            weights_sha256=extractor.weights_sha256,
            layer=extractor.layers[metric.layers[0]],
            resize=f"{self.size[0]}x{self.size[1]} bilinear, then {extractor.resize}",
            n=len(images),
            reference=reference.label if reference else None,
            reference_sha256=reference.sha256 if reference else None,
            reference_n=reference.n if reference else None,
            parameters={**settled, **self._pictures(images)},
            versions={
                **{key: found for kind in metric.layers for key, found in self.extractors[kind].versions.items()},
                **versions("pillow"),
                **of_device(self.device),
            },
        )

    def _pictures(self, scored: Sequence[ImageItem]) -> dict[str, Any]:
        places = {(image.prompt_index, image.replicate) for image in self.images}
        left_out = places.difference((image.prompt_index, image.replicate) for image in scored)
        only = {} if self.only is None else {SCORED: self.only}
        return {**of_pictures(1 + max(replicate for _, replicate in places), left_out), **only}


def evaluate(
    images: Sequence[ImageItem],
    *,
    metrics: Sequence[str],
    extractor: str = "shapes",
    reference: Reference | None = None,
    clip: str | None = None,
    cache_dir: Path,
    device: str = "cpu",
    weights: Path | None = None,
    size: Size | None = None,
    resize: int | None = None,
    parameters: Mapping[str, Any] | None = None,
    only: str | None = None,
    skip_bad: bool = False,
    known: Container[tuple[str, str]] | None = None,
    progress: Progress | None = None,
    each: Each | None = None,
) -> EvaluationResult:
    """Score the images of one run.

    Features are made once for each picture and extractor and kept under ``cache_dir``; a metric whose value is known
    under the same protocol is left out, before anything heavy is imported.

    Args:
        images: of one run, in any order.
        metrics: names in ``METRICS``.
        extractor: see ``extractors.resolve``.
        reference: what metrics that need one measure against.
        clip: ``shapes``, a folder or a Hugging Face id, for the metrics that read a CLIP model's embeddings.
        cache_dir: where features, statistics and hashes are kept.
        device: a torch device.
        weights: the extractor's weights, if not in their usual place.
        size: width and height that the run's images must have; default: what most of them have.
        resize: side of the square to which all pictures are brought first; default: reference pictures are brought to
            the size of the run's.
        parameters: of metrics, by torch-fidelity's names (``isc_splits``, ``kid_subset_size``, …).
        only: hash of the set of prompts, where the images are those of some of the run's prompts.
        skip_bad: score the rest where some pictures are unreadable, changed or of another size.
        known: pairs of score name and protocol fingerprint (as keys of a mapping, or in a set) to leave out.
        progress: called with inputs done and in all while features are made.
        each: makes features in other processes; default: in this one.

    Returns:
        The scores that were not known, and what a user must be told.

    Raises:
        MetricError: an unknown metric, a metric without what it needs, or nothing could be measured.
        BadImages: some pictures are bad and ``skip_bad`` is false, or all are.
        ExtractorUnavailable: weights that are not here.
    """
    known = known if known is not None else ()
    plan = _plan(
        images, metrics, extractor, reference, clip, cache_dir, weights, size, resize, parameters or {}, device, only
    )
    wanted = [m for m in plan.metrics if not m.is_known(plan.protocol(m, images, reference).fingerprint, known)]
    if not wanted:
        return EvaluationResult([], [])
    measurement = _measure(plan, wanted, images, cache_dir, device, skip_bad, progress, each)
    results: list[MetricResult] = []
    fingerprints: dict[str, str] = {}
    failed: list[str] = []
    for metric in wanted:
        protocol = plan.protocol(metric, measurement.images, measurement.reference)
        fingerprints[metric.word] = protocol.fingerprint
        if metric.is_known(protocol.fingerprint, known):
            continue
        try:
            scores = metric.compute(measurement, protocol.parameters)
        except MetricError as error:
            failed.append(f"{metric.word} was not measured: {error}")
            continue
        results += [_result(name, score, protocol, measurement) for name, score in scores.items()]
    if len(failed) == len(plan.metrics):  # of those that were asked for, whatever of them is known already
        raise MetricError("; ".join(failed))
    measurement.warnings.extend(failed)
    return EvaluationResult(results, measurement.warnings, fingerprints)


def plan(
    images: Sequence[ImageItem],
    *,
    metrics: Sequence[str],
    extractor: str = "shapes",
    reference: Reference | None = None,
    clip: str | None = None,
    cache_dir: Path,
    weights: Path | None = None,
    size: Size | None = None,
    resize: int | None = None,
    parameters: Mapping[str, Any] | None = None,
    device: str = "cpu",
    only: str | None = None,
) -> dict[str, ProtocolRecord]:
    """The protocol of each metric that ``evaluate`` would use if all images can be read; opens at most headers."""
    made = _plan(
        images, metrics, extractor, reference, clip, cache_dir, weights, size, resize, parameters or {}, device, only
    )
    return {metric.word: made.protocol(metric, images, reference) for metric in made.metrics}


def _plan(
    images: Sequence[ImageItem],
    metrics: Sequence[str],
    extractor: str,
    reference: Reference | None,
    clip: str | None,
    cache_dir: Path,
    weights: Path | None,
    size: Size | None,
    resize: int | None,
    parameters: Mapping[str, Any],
    device: str,
    only: str | None,
) -> _Plan:
    wanted = checked(metrics, images, reference, clip, parameters)
    native = size or common_size(images)
    if not images or native is None:
        raise BadImages(f"none of the {len(images)} pictures can be read; check their folder")
    extractors: dict[Kind, Extractor] = {}
    if any(not metric.clip for metric in wanted):
        own = resolve(extractor, cache_dir, weights)
        extractors |= dict.fromkeys(own.layers, own)
    if clip and any(metric.clip for metric in wanted):
        pictures, texts = resolve_clip(clip, cache_dir)
        extractors |= {"embeddings": pictures, "texts": texts}
    for metric in wanted:
        if lacking := [kind for kind in metric.layers if kind not in extractors]:
            raise MetricError(
                f"{metric.word} reads {lacking[0]}, which extractor '{extractor}' does not give; leave it out, or use"
                " 'shapes'"
            )
        if reference is not None and metric.reference == "statistics":
            reference.require_dimension(extractors[metric.layers[0]].dimension())
    side = (resize, resize) if resize else native
    return _Plan(tuple(images), wanted, extractors, reference, side, native, parameters, device, only)


def _measure(
    plan: _Plan,
    wanted: Sequence[Metric],
    images: Sequence[ImageItem],
    cache_dir: Path,
    device: str,
    skip_bad: bool,
    progress: Progress | None,
    each: Each | None,
) -> Measurement:
    """Make the features that are missing, and set aside what cannot be measured."""
    images = sorted(images, key=lambda image: (image.prompt_index, image.replicate, image.sha256))
    stores: dict[Kind, FeatureStore] = {}
    unreadable: dict[str, str] = {}
    compared = plan.reference.items if plan.reference else ()
    others = changed([*images, *compared], cache_dir)
    for read in _by_extractor(plan, wanted):
        needs_reference = any(metric.reference for metric in wanted if set(metric.layers) & set(read))
        items = [item for item in [*images, *(compared if needs_reference else ())] if item.key not in others]
        store, failed = picture_features(plan.extractors[read[0]], items, plan.size, cache_dir, device, progress, each)
        stores |= dict.fromkeys(read, store)
        unreadable |= failed
    warnings: list[str] = []
    reasons = ((item, others.get(item.key) or unreadable.get(item.sha256)) for item in [*images, *compared])
    bad = {item: reason for item, reason in reasons if reason}
    good, note = _good_images(images, plan, next(iter(stores.values())), bad, skip_bad, warnings)
    reference = _good_reference(plan.reference, bad, skip_bad, warnings)
    return Measurement(
        good, reference, plan.size, cache_dir, device, progress, each, plan.extractors, stores, warnings, note
    )


def _by_extractor(plan: _Plan, wanted: Sequence[Metric]) -> list[list[Kind]]:
    """What is read of pictures, in groups of one extractor."""
    groups: dict[int, list[Kind]] = {}
    for kind in dict.fromkeys(kind for metric in wanted for kind in metric.layers if kind != "texts"):
        groups.setdefault(id(plan.extractors[kind]), []).append(kind)
    return list(groups.values())


def _good_images(
    images: Sequence[ImageItem],
    plan: _Plan,
    store: FeatureStore,
    unreadable: Mapping[ImageItem, str],
    skip_bad: bool,
    warnings: list[str],
) -> tuple[list[ImageItem], str | None]:
    """The images to score, and what every score of them must say."""
    readable = [image for image in images if image not in unreadable]
    bad = [f"{image.path.name} ({unreadable[image]})" for image in images if image in unreadable]
    # A store that has no picture at all knows no fields.
    info = store.rows([image.sha256 for image in readable]).info().tolist() if readable else []
    good = []
    for image, (width, height, _) in zip(readable, info, strict=True):
        if (width, height) == plan.native:
            good.append(image)
        else:
            bad.append(f"{image.path.name} ({width}x{height}, not {plan.native[0]}x{plan.native[1]})")
    if bad:
        _complain(f"{len(bad)} of {len(images)} pictures", bad, skip_bad and bool(good), warnings)
    black = int(store.rows([image.sha256 for image in good]).info()[:, 2].sum())
    if black:
        warnings.append(f"{black} of {len(good)} pictures are all black, as a safety checker leaves them; they count")
    return good, f"{black} all black" if black else None


def _good_reference(
    reference: Reference | None, unreadable: Mapping[ImageItem, str], skip_bad: bool, warnings: list[str]
) -> Reference | None:
    if reference is None:
        return None
    bad = [f"{reference.name_of(item)} ({unreadable[item]})" for item in reference.items if item in unreadable]
    if not bad:
        return reference
    _complain(f"{len(bad)} of {reference.n} reference pictures", bad, skip_bad, warnings)
    return reference.without(unreadable)


def _complain(what: str, bad: Sequence[str], skip: bool, warnings: list[str]) -> None:
    named = ", ".join(bad[:NAMED_BAD]) + (f" and {len(bad) - NAMED_BAD} more" if len(bad) > NAMED_BAD else "")
    if not skip:
        raise BadImages(f"{what} cannot be scored: {named}; repair them, or score the rest with --skip-bad")
    warnings.append(f"{what} were left out: {named}")


def _result(name: str, score: Score, protocol: ProtocolRecord, measurement: Measurement) -> MetricResult:
    per_image = None
    if score.per_image is not None:
        pairs = zip(measurement.images, score.per_image.tolist(), strict=True)
        per_image = {image.key: value for image, value in pairs if not math.isnan(value)}
    replicates = None if score.replicates is None else list(score.replicates)
    n = len(measurement.images) if score.n is None else score.n
    note = "; ".join(filter(None, [score.note, measurement.note])) or None
    return MetricResult(
        name=name,
        value=score.value,
        ci_low=score.ci_low,
        ci_high=score.ci_high,
        n=n,
        note=note,
        protocol=protocol,
        replicates=replicates,
        per_image=per_image,
        prompts_sha256=measurement.prompts.sha256,
        parts=None if score.parts is None else score.parts.astype("<f8").tobytes(),
    )
