"""The embedded extractor under torch-fidelity's own roof, so that its functions can be called with it.

>>> from t2i_track.shapes.fidelity import register
>>> register()
>>> torch_fidelity.calculate_metrics(input1=…, input2=…, feature_extractor="t2i-shapes", fid=True)

Importing this module imports torch-fidelity.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY, register_feature_extractor

from t2i_track.shapes.classifier import load_classifier

NAME = "t2i-shapes"


class ShapesFeatureExtractor(FeatureExtractorBase):  # type: ignore[misc]  # torch-fidelity has no types
    """``features`` (128) and ``classes`` (the joint log-probabilities of shape and colour) of 64x64 pictures."""

    def __init__(
        self, name: str, features_list: list[str], feature_extractor_weights_path: str | None = None, **_: object
    ) -> None:
        super().__init__(name, features_list)
        self.classifier = load_classifier(feature_extractor_weights_path and Path(feature_extractor_weights_path))

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, ...]:
        features, logits = self.classifier(pictures)
        layers = {"features": features, "classes": self.classifier.class_logits(logits)}
        return tuple(layers[name] for name in self.features_list)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return ("features", "classes")

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return "classes" if metric == "isc" else "features"

    @staticmethod
    def can_be_compiled() -> bool:
        return False

    @staticmethod
    def get_dummy_input_for_compile() -> torch.Tensor:
        return torch.zeros(1, 3, 64, 64, dtype=torch.uint8)


def register() -> str:
    """Make the extractor known to torch-fidelity, once; returns its name there."""
    if NAME not in FEATURE_EXTRACTORS_REGISTRY:
        register_feature_extractor(NAME, ShapesFeatureExtractor)
    return NAME
