"""From the pictures of a run to scores: each metric's inputs, formula and interval, bound together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from t2i_track.errors import MetricError
from t2i_track.metrics import uncertainty
from t2i_track.metrics.cache import Features, FeatureStore, Layer, kept
from t2i_track.metrics.extractors import Extractor
from t2i_track.metrics.features import Progress, text_features
from t2i_track.metrics.inputs import ImageItem, Size
from t2i_track.metrics.reference import Reference
from t2i_track.metrics.rows import Groups, Score, Vector
from t2i_track.metrics.scores import clip_score, cmmd, fid, fid_infinity, inception_score, kid, precision_recall
from t2i_track.metrics.uncertainty import Interval

Parameters = Mapping[str, Any]


@dataclass
class Measurement:
    """The readable pictures of a run and of its reference, with the features that were made of them."""

    images: Sequence[ImageItem]
    reference: Reference | None
    size: Size
    cache_dir: Path
    device: str
    progress: Progress | None
    extractors: Mapping[str, Extractor]
    """By the layer that they give; ``clip-text`` for the captions."""
    stores: Mapping[str, FeatureStore]
    """By the layer."""
    warnings: list[str] = field(default_factory=list)
    note: str | None = None
    """What every score of these pictures must say."""

    @cached_property
    def groups(self) -> Groups:
        return np.array([uncertainty.group_of(image.prompt_index) for image in self.images], dtype=np.intp)

    @cached_property
    def prompt_indices(self) -> list[int]:
        return [image.prompt_index for image in self.images]

    def rows(self, metric: str) -> Layer:
        features = self.stores[metric].rows([image.sha256 for image in self.images])
        return features.layer(self.extractors[metric].layers[metric])

    def reference_rows(self, metric: str) -> Layer:
        """Raises MetricError where there are no pictures to take features from."""
        if self.reference is None or not self.reference.items:
            raise MetricError("needs the reference's pictures, not only their statistics; name a folder of pictures")
        features = self.stores[metric].rows([item.sha256 for item in self.reference.items])
        return features.layer(self.extractors[metric].layers[metric])

    def kept(self, metric: str, name: str, compute: Callable[[], Mapping[str, Any]], **key: Any) -> dict[str, Any]:
        """Arrays that depend on the reference and the extractor only, computed once for all runs."""
        assert self.reference is not None
        extractor = self.extractors[metric]
        identity = [self.reference.sha256, extractor.folder(self.cache_dir, self.size).name, extractor.layers[metric]]
        return kept(self.cache_dir, [name, *identity, key], compute)

    @cached_property
    def gaussian(self) -> fid.Gaussian:
        """The reference's mean and root of covariance, from its pictures or its file of statistics."""

        def compute() -> dict[str, Any]:
            assert self.reference is not None
            given = self.reference.statistics
            found = fid.gaussian(*given) if given else fid.gaussian_of(self.reference_rows("fid"))
            return {"mu": found.mu, "root": found.root, "trace": np.array(found.trace)}

        arrays = self.kept("fid", "gaussian", compute)
        return fid.Gaussian(arrays["mu"], arrays["root"], float(arrays["trace"]))

    @cached_property
    def distances(self) -> tuple[float, list[float | None]]:
        return fid.fid(self.rows("fid"), self.groups, self.gaussian)

    @cached_property
    def captions(self) -> Features:
        texts = [image.prompt for image in self.images]
        return text_features(self.extractors["clip-text"], texts, self.cache_dir, self.device, self.progress)


def _score(value: float, interval: Interval, replicates: Sequence[float | None] | None, note: str | None) -> Score:
    return Score(value, replicates, interval.low, interval.high, note)


def _mean(
    per_image: Vector, m: Measurement, note: str | None = None, *, keep: bool = True, share: bool = True
) -> Score:
    """The mean over the images that the score applies to; ``share`` where it lies in [0, 1]."""
    applies = np.flatnonzero(~np.isnan(per_image))
    some = per_image[applies]
    interval_of = uncertainty.share_interval if share else uncertainty.bootstrap_mean
    interval = interval_of(some, [m.prompt_indices[i] for i in applies])
    replicates = uncertainty.leave_out_means(some, m.groups[applies])
    if len(some) < len(per_image):
        note = f"over the {len(some)} images that it applies to"
    kept = per_image if keep else None
    return Score(interval.estimate, replicates, interval.low, interval.high, note, kept, len(some))


def _fid(m: Measurement, _: Parameters) -> dict[str, Score]:
    value, replicates = m.distances
    dimension = fid.effective_dimension(m.gaussian)
    interval, note = uncertainty.distance_interval(value, replicates, len(m.images), dimension)
    return {"fid": _score(value, interval, replicates, note)}


def _fid_infinity(m: Measurement, _: Parameters) -> dict[str, Score]:
    value, fit_error = fid_infinity.fid_infinity(m.rows("fid"), m.gaussian)
    # The random parts add noise that the jackknife of FID does not see: its intervals held the truth in 83 %.
    return {
        "fid_infinity": _score(
            value, uncertainty.without_interval(value), None, f"no interval; fit error {fit_error:.3g}"
        )
    }


def _inception_score(m: Measurement, parameters: Parameters) -> dict[str, Score]:
    mean, std, means, stds = inception_score.inception_score(m.rows("is"), m.groups, parameters["isc_splits"])
    note = f"{parameters['isc_splits']} splits"
    return {
        "inception_score_mean": _score(mean, uncertainty.jackknife(mean, means), means, note),
        "inception_score_std": _score(std, uncertainty.without_interval(std), stds, f"over {note}"),
    }


def _kid(m: Measurement, parameters: Parameters) -> dict[str, Score]:
    rows, reference = m.rows("kid"), m.reference_rows("kid")
    number, size = parameters["kid_subsets"], parameters["kid_subset_size"]
    subsets = kid.draw_subsets(len(rows), len(reference), number, size)
    within = m.kept(
        "kid",
        "kid subsets",
        lambda: {"within": kid.within_subsets(reference, subsets.theirs)},
        n=len(rows),
        subsets=number,
        size=size,
    )["within"]
    mean, std, means = kid.kid(rows, reference, m.groups, subsets, within)
    interval = uncertainty.jackknife(mean, means)
    note = f"{number} subsets of {size}"
    return {
        "kid_mean": _score(mean, interval, means, note),
        "kid_std": _score(std, uncertainty.without_interval(std), None, f"over {note}"),
    }


def _precision_recall(m: Measurement, parameters: Parameters) -> dict[str, Score]:
    rows, reference = m.rows("prc"), m.reference_rows("prc")
    neighbours = parameters["prc_neighborhood"]
    radii = m.kept(
        "prc", "radii", lambda: {"radii": precision_recall.radii(reference, neighbours)}, neighbours=neighbours
    )["radii"]
    inside, recall, recalls = precision_recall.precision_recall(rows, reference, m.groups, radii, neighbours)
    return {
        "precision": _mean(inside.astype(np.float64), m, keep=False),
        "recall": _score(recall, uncertainty.within(uncertainty.jackknife(recall, recalls)), recalls, None),
    }


def _clip(m: Measurement, _: Parameters) -> dict[str, Score]:
    scores = clip_score.clip_scores(m.rows("clip"), m.captions.layer("embedding"))
    truncated = int(m.captions.info()[:, 1].sum())
    note = f"{truncated} captions cut at the encoder's window" if truncated else None
    if note:
        m.warnings.append(f"clip_score: {note}")
    return {"clip_score": _mean(scores, m, note, share=False)}


def _cmmd(m: Measurement, _: Parameters) -> dict[str, Score]:
    reference = m.reference_rows("cmmd")
    within = m.kept("cmmd", "cmmd", lambda: {"within": np.array(cmmd.reference_mean(reference))})["within"]
    rows = m.rows("cmmd")
    value, replicates = cmmd.cmmd(rows, reference, m.groups, float(within))
    return {"cmmd": _score(value, uncertainty.jackknife(value, replicates, correct_bias=True), replicates, None)}


def _alignment(m: Measurement, _: Parameters) -> dict[str, Score]:
    from t2i_track import shapes
    from t2i_track.shapes.alignment import alignment

    scenes = [scene for scene in (shapes.parse(image.prompt) for image in m.images) if scene]
    if len(scenes) < len(m.images):
        raise MetricError(
            f"{len(m.images) - len(scenes)} of {len(m.images)} prompts are not captions of the embedded data; "
            "alignment is for runs over 'shapes' prompts"
        )
    rows = m.rows("alignment")[:]
    ends = np.cumsum([len(names) for names in shapes.HEADS.values()])
    logits = dict(zip(shapes.HEADS, np.split(rows, ends[:-1], axis=1), strict=True))
    parts = alignment(logits, scenes)
    named = {name if name == "alignment" else f"alignment_{name}": values for name, values in parts.items()}
    return {name: _mean(values, m) for name, values in named.items() if not np.isnan(values).all()}


@dataclass(frozen=True)
class Metric:
    """What a metric gives and needs."""

    compute: Callable[[Measurement, Parameters], dict[str, Score]]
    layer: str
    """What extractors call the features it reads."""
    scores: tuple[str, ...]
    parameters: Parameters = field(default_factory=dict)
    """Of the formula, by torch-fidelity's names; part of the protocol."""
    reference: bool = False
    clip: bool = False


METRICS: Mapping[str, Metric] = {
    "fid": Metric(_fid, "fid", ("fid",), reference=True),
    "is": Metric(
        _inception_score, "is", ("inception_score_mean", "inception_score_std"), {"isc_splits": inception_score.SPLITS}
    ),
    "kid": Metric(
        _kid,
        "kid",
        ("kid_mean", "kid_std"),
        {"kid_subsets": kid.SUBSETS, "kid_subset_size": kid.SUBSET_SIZE},
        reference=True,
    ),
    "prc": Metric(
        _precision_recall,
        "prc",
        ("precision", "recall"),
        {"prc_neighborhood": precision_recall.NEIGHBOURS},
        reference=True,
    ),
    "clip": Metric(_clip, "clip", ("clip_score",), clip=True),
    "cmmd": Metric(_cmmd, "cmmd", ("cmmd",), {"sigma": cmmd.SIGMA, "scale": cmmd.SCALE}, reference=True, clip=True),
    "fid_infinity": Metric(_fid_infinity, "fid", ("fid_infinity",), {"sizes": fid_infinity.SIZES}, reference=True),
    "alignment": Metric(_alignment, "alignment", ("alignment",)),
}
"""By the name that a user gives; ``alignment`` gives its parts too."""

SETTABLE = ("isc_splits", "kid_subsets", "kid_subset_size", "prc_neighborhood")
"""Parameters that a user may change; the others say which formula it is."""
