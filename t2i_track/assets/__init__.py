"""The embedded model, scorer and extractor: trained weights that travel inside the package."""

from pathlib import Path

_HERE = Path(__file__).parent


def shapes_sd() -> Path:
    """A Stable Diffusion 1.x pipeline in diffusers' format."""
    return _HERE / "shapes-sd"


def shapes_clip() -> Path:
    """A CLIPModel with its CLIPProcessor, in transformers' format."""
    return _HERE / "shapes-clip"


def shapes_classifier() -> Path:
    """The attribute classifier: `config.json` and `model.safetensors`, read by `assets.classifier`."""
    return _HERE / "shapes-classifier"
