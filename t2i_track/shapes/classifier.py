"""The attribute classifier: judge of alignment, and extractor of features for FID, KID and Inception Score."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from t2i_track.assets import shapes_classifier
from t2i_track.shapes.scene import HEADS

FEATURES = 128


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    kernel = 4 if stride == 2 else 3
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class ShapesClassifier(nn.Module):
    """Seven convolutions, one 128-d layer and a linear head for each attribute of `HEADS`."""

    def __init__(
        self, heads: dict[str, int] | None = None, channels: tuple[int, int, int, int] = (32, 64, 96, 128)
    ) -> None:
        super().__init__()
        classes = heads or {head: len(names) for head, names in HEADS.items()}
        self.config = {"heads": classes, "channels": list(channels)}
        a, b, c, d = channels
        self.trunk = nn.Sequential(
            _conv(3, a, 2), _conv(a, a), _conv(a, b, 2), _conv(b, b), _conv(b, c, 2), _conv(c, c), _conv(c, d, 2)
        )
        # Flattened, not pooled: which object is on which side must survive.
        self.squeeze = nn.Sequential(nn.Conv2d(d, 48, 1), nn.Flatten(), nn.Linear(48 * 16, FEATURES), nn.ReLU())
        self.heads = nn.ModuleDict({head: nn.Linear(FEATURES, n) for head, n in classes.items()})

    def forward(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Pictures [n, 3, 64, 64], uint8 or float in [0, 1], to features [n, 128] and the heads' logits."""
        if images.shape[1:] != (3, 64, 64):
            raise ValueError(f"images must be [n, 3, 64, 64], not {list(images.shape)}")
        pixels = images.float() / 255 if images.dtype == torch.uint8 else images.float()
        features = self.squeeze(self.trunk(pixels * 2 - 1))
        return features, {head: layer(features) for head, layer in self.heads.items()}

    def class_logits(self, logits: dict[str, Tensor]) -> Tensor:
        """Log-probabilities [n, 35] of the first object's shape and colour together: Inception Score's classes."""
        shape, colour = logits["shape1"].log_softmax(-1), logits["colour1"].log_softmax(-1)
        return (shape[:, :, None] + colour[:, None, :]).flatten(1)


def load_classifier(path: Path | str | None = None) -> ShapesClassifier:
    """The trained classifier, in float32 on the CPU, in eval mode; `path` is a folder like the embedded one."""
    from safetensors.torch import load_file

    folder = Path(path) if path else shapes_classifier()
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    model = ShapesClassifier(config["heads"], tuple(config["channels"]))
    tensors = load_file(folder / "model.safetensors")
    model.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in tensors.items()})
    return model.eval()
