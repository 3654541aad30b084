"""The extractors' networks. This module imports torch and is itself imported only to extract."""

from __future__ import annotations

import hashlib
import pickle
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from t2i_track.errors import ExtractorUnavailable
from t2i_track.metrics.inputs import Picture
from t2i_track.metrics.metric import Kind
from t2i_track.texts import MOST_COUNTED, beginning

Info = tuple[int, int, int]


def _info(picture: Picture) -> Info:
    return (*picture.native, int(picture.black))


def _rows(**layers: torch.Tensor) -> dict[str, NDArray[np.float32]]:
    return {name: tensor.float().cpu().numpy() for name, tensor in layers.items()}


def state_sha256(module: torch.nn.Module) -> str:
    """Over the names, dtypes, shapes and bytes of all tensors, in order of name."""
    found = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def refuse_pickles(file: Path) -> None:
    """torch-fidelity unpickles whatever it is given, so a file is first read as tensors only.

    Raises:
        ExtractorUnavailable: not a torch file, or one that holds more than tensors.
    """
    try:
        torch.load(file, map_location="meta", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, LookupError, TypeError, pickle.UnpicklingError) as error:
        raise ExtractorUnavailable(
            f"extractor weights {file} are not a file of tensors; give the published file, or save a state_dict"
        ) from error


def registered_layers(name: str) -> dict[Kind, str]:
    """The layers of an extractor that torch-fidelity knows; its own metrics read features where its FID does."""
    from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

    if name not in FEATURE_EXTRACTORS_REGISTRY:
        known = ", ".join(["shapes", *FEATURE_EXTRACTORS_REGISTRY, "clip:FOLDER_OR_ID", "dinov2:FOLDER_OR_ID"])
        raise ExtractorUnavailable(f"no extractor '{name}'; known are {known}")
    of_metric = FEATURE_EXTRACTORS_REGISTRY[name].get_default_feature_layer_for_metric
    return {"features": of_metric("fid"), "logits": of_metric("isc")}


class FidelityNetwork:
    """An extractor of torch-fidelity: uint8 pictures in, its own resize inside."""

    def __init__(self, name: str, layers: list[str], weights: Path | None, device: str) -> None:
        from torch_fidelity.utils import create_feature_extractor

        try:
            self.module = create_feature_extractor(
                name, layers, cuda=False, feature_extractor_weights_path=weights and str(weights), verbose=False
            )
        except (OSError, RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ExtractorUnavailable(
                f"extractor '{name}' cannot be loaded ({reason}); give its weights by --extractor-weights"
            ) from error
        self.layers = layers
        self.to(device)

    def to(self, device: str) -> None:
        self.module.to(device)
        self.device = device

    def prepare(self, value: Picture) -> tuple[NDArray[np.uint8], Info]:
        return np.ascontiguousarray(value.pixels.transpose(2, 0, 1)), _info(value)

    def __call__(self, batch: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        features = self.module(torch.from_numpy(batch).to(self.device))
        return _rows(**dict(zip(self.layers, features, strict=True)))


class ShapesNetwork:
    """The embedded attribute classifier: its 128 features, the joint classes, and the heads' logits side by side."""

    SIDE = 64

    def __init__(self, folder: Path, device: str) -> None:
        from t2i_track.shapes.classifier import load_classifier

        self.module = load_classifier(folder).to(device)
        self.device = device

    def prepare(self, value: Picture) -> tuple[NDArray[np.uint8], Info]:
        pixels = value.pixels
        if pixels.shape[:2] != (self.SIDE, self.SIDE):
            from PIL import Image

            small = Image.fromarray(pixels).resize((self.SIDE, self.SIDE), Image.Resampling.BILINEAR)
            pixels = np.asarray(small)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1)), _info(value)

    def __call__(self, batch: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        features, logits = self.module(torch.from_numpy(batch).to(self.device))
        heads = torch.cat([logits[name] for name in self.module.heads], dim=1)
        return _rows(features=features, classes=self.module.class_logits(logits), heads=heads)


class ClipImages:
    """CLIP's image half, its processor included; embeddings are left unnormalised."""

    def __init__(self, folder: Path, device: str) -> None:
        self.processor = _processor(folder)
        self.module = _clip(folder, device)
        self.device = device

    def prepare(self, value: Picture) -> tuple[NDArray[np.float32], Info]:
        return _processed(self.processor, value), _info(value)

    def __call__(self, batch: NDArray[np.float32]) -> Mapping[str, NDArray[np.float32]]:
        pixels = torch.from_numpy(batch).to(self.device)
        return _rows(embedding=_tensor(self.module.get_image_features(pixel_values=pixels)))


class ClipTexts:
    """CLIP's text half; a text is cut at the window, and its row says how long it was."""

    def __init__(self, folder: Path, device: str) -> None:
        from transformers import AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.module = _clip(folder, device)
        self.window = int(self.module.config.text_config.max_position_embeddings)
        self.device = device
        # Padding and truncation are state of the fast tokenizers, and readers are several threads.
        self.lock = threading.Lock()

    def prepare(self, value: str) -> tuple[NDArray[np.int64], Info]:
        with self.lock:
            tokens = len(self.tokenizer(beginning(value), verbose=False)["input_ids"])
            if tokens > self.window:
                value = beginning(value)
            elif len(value) > MOST_COUNTED:  # white space, say: what follows counts
                tokens = len(self.tokenizer(value, verbose=False)["input_ids"])
            # Always the whole window, so that a text's embedding does not depend on the texts beside it.
            cut = self.tokenizer(value, padding="max_length", truncation=True, max_length=self.window)
        return np.array([cut["input_ids"], cut["attention_mask"]]), (tokens, int(tokens > self.window), 0)

    def __call__(self, batch: NDArray[np.int64]) -> Mapping[str, NDArray[np.float32]]:
        ids, mask = torch.from_numpy(batch).to(self.device).unbind(1)
        return _rows(embedding=_tensor(self.module.get_text_features(input_ids=ids, attention_mask=mask)))


def _clip(folder: Path, device: str) -> Any:
    from transformers import CLIPModel

    return _pretrained(CLIPModel, folder, device)


def _pretrained(kind: Any, folder: Path, device: str) -> Any:
    """A transformers model in float32, from safetensors only, without a progress bar for its weights."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model = kind.from_pretrained(folder, local_files_only=True, use_safetensors=True, dtype=torch.float32)
    finally:
        if shown:
            logging.enable_progress_bar()
    return model.to(device).eval()


def _tensor(features: Any) -> torch.Tensor:
    """transformers 4 gives the projected embedding, transformers 5 an output that holds it."""
    return features if isinstance(features, torch.Tensor) else features.pooler_output


class Dinov2:
    """DINOv2's class token after the last norm."""

    def __init__(self, folder: Path, device: str) -> None:
        from transformers import Dinov2Model

        self.processor = _processor(folder)
        self.module = _pretrained(Dinov2Model, folder, device)
        self.device = device

    def prepare(self, value: Picture) -> tuple[NDArray[np.float32], Info]:
        return _processed(self.processor, value), _info(value)

    def __call__(self, batch: NDArray[np.float32]) -> Mapping[str, NDArray[np.float32]]:
        tokens = self.module(pixel_values=torch.from_numpy(batch).to(self.device)).pooler_output
        return _rows(**{"class token": tokens})


def _processor(folder: Path) -> Any:
    """The image processor that works with Pillow, whose filters do not change with torchvision's version."""
    import transformers

    # transformers 5 renamed the choice and warns of the old name.
    choice: dict[str, Any] = (
        {"backend": "pil"} if int(transformers.__version__.split(".")[0]) >= 5 else {"use_fast": False}
    )
    return transformers.AutoImageProcessor.from_pretrained(folder, local_files_only=True, **choice)


def _processed(processor: Any, picture: Picture) -> NDArray[np.float32]:
    from PIL import Image

    pixels = processor(images=Image.fromarray(picture.pixels), return_tensors="np")["pixel_values"][0]
    return np.asarray(pixels, dtype=np.float32)
