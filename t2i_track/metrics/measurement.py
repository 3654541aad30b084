"""What the formulas read: the pictures of a run and of its reference, as features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from t2i_track.errors import MetricError
from t2i_track.metrics.cache import Features, FeatureStore, kept
from t2i_track.metrics.extractors import Extractor
from t2i_track.metrics.features import Each, Progress, text_features
from t2i_track.metrics.inputs import ImageItem, Size
from t2i_track.metrics.metric import Kind
from t2i_track.metrics.prompts import Prompts
from t2i_track.metrics.reference import Reference
from t2i_track.metrics.rows import Groups, Rows


@dataclass
class Measurement:
    """The readable pictures of a run and of its reference, with the features that were made of them."""

    images: Sequence[ImageItem]
    reference: Reference | None
    size: Size
    cache_dir: Path
    device: str
    progress: Progress | None
    each: Each | None
    """Makes features in other processes."""
    extractors: Mapping[Kind, Extractor]
    """By what is read of them."""
    stores: Mapping[Kind, FeatureStore]
    """Of pictures."""
    warnings: list[str] = field(default_factory=list)
    note: str | None = None
    """What every score of these pictures must say."""

    @cached_property
    def prompts(self) -> Prompts:
        return Prompts.of([image.prompt for image in self.images])

    @cached_property
    def groups(self) -> Groups:
        """The leave-one-out group of each image."""
        return self.prompts.groups

    def rows(self, kind: Kind) -> Rows:
        return self._rows(kind, self.images)

    def reference_rows(self, kind: Kind) -> Rows:
        """Raises MetricError where there are no pictures to take features from."""
        if self.reference is None or not self.reference.items:
            raise MetricError("needs the reference's pictures, not only their statistics; name a folder of pictures")
        return self._rows(kind, self.reference.items)

    def _rows(self, kind: Kind, items: Sequence[ImageItem]) -> Rows:
        return self.stores[kind].rows([item.sha256 for item in items]).layer(self.extractors[kind].layers[kind])

    def kept(self, kind: Kind, name: str, compute: Callable[[], Mapping[str, Any]], **key: Any) -> dict[str, Any]:
        """Arrays that depend on the reference and the extractor only, computed once for all runs."""
        assert self.reference is not None
        extractor = self.extractors[kind]
        features = extractor.folder(self.cache_dir, self.size, self.device).name
        identity = [self.reference.sha256, features, extractor.layers[kind]]
        return kept(self.cache_dir, [name, *identity, key], compute)

    @cached_property
    def _captions(self) -> Features:
        texts = [image.prompt for image in self.images]
        return text_features(self.extractors["texts"], texts, self.cache_dir, self.device, self.progress, self.each)

    def caption_rows(self) -> Rows:
        """Embeddings of the images' captions, in the images' order."""
        return self._captions.layer(self.extractors["texts"].layers["texts"])

    def truncated_captions(self) -> int:
        """Captions longer than the encoder's window."""
        return int(self._captions.info()[:, 1].sum())
