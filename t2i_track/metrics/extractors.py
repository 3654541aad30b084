"""The networks behind the scores: named, hashed, and loaded only when there is something to extract.

``resolve`` and ``resolve_clip`` say what an extractor is, from its files, without importing torch; ``load`` makes the
network. Nothing of a user's is unpickled: files must hold tensors only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from t2i_track.errors import ExtractorUnavailable
from t2i_track.files import replacing
from t2i_track.metrics.cache import file_sha256
from t2i_track.metrics.metric import Kind
from t2i_track.metrics.protocol import digest, of_device, versions

WEIGHTS_VARIABLE = "T2I_EXTRACTOR_WEIGHTS"

INCEPTION = "inception-v3-compat"
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{INCEPTION_FILE}"
INCEPTION_SHA256 = "6726825d"
"""The sha256 of Inception's published weights begins so; as in torch.hub, the file's name says it."""
INCEPTION_DIMENSION = 2048
SHAPES_DIMENSION = 128

TOKENIZER = ("*token*.json", "vocab*", "merges.txt", "*.model")
"""The files of a model's folder that say how a text becomes numbers."""

TIMEOUT = 20.0
"""Seconds to wait for a server that does not answer."""

EMBEDDED_CLIP = "clip:shapes"

_COMMON: tuple[Kind, ...] = ("features", "logits")
"""What every extractor gives."""
_SHAPES_LAYERS: Mapping[Kind, str] = {"features": "features", "logits": "classes", "heads": "heads"}

Rows = Mapping[str, NDArray[np.float32]]


class Network(Protocol):
    """``prepare`` one input at a time, then run a batch of prepared inputs of equal shape."""

    def prepare(self, value: Any) -> tuple[NDArray[Any], tuple[int, int, int]]:
        """The network's input, and the row's ``info``."""

    def __call__(self, batch: NDArray[Any]) -> Rows:
        """Features by layer, (batch, dimension) each."""


@dataclass(frozen=True)
class Extractor:
    name: str
    weights_sha256: str
    layers: Mapping[Kind, str]
    """What it gives, and what it calls that."""
    resize: str
    versions: Mapping[str, str]
    """Of libraries, and the hashes of what else decides its numbers: ``config_sha256``, ``tokenizer_sha256``."""
    load: Callable[[str], Network] = field(compare=False)
    """Device to network."""
    dimension: Callable[[], int | None] = field(compare=False, default=lambda: None)
    """Of its features, without loading what is not loaded yet; None where that cannot be told."""

    def folder(self, cache_dir: Path, size: tuple[int, int] | None, device: str = "cpu") -> Path:
        """Where its features of pictures of this size (None: of texts), made on this class of device, are kept."""
        identity = [self.name, self.weights_sha256, sorted(set(self.layers.values())), self.resize, size]
        return cache_dir / "features" / digest([*identity, {**self.versions, **of_device(device)}])[:32]


def kinds(spec: str) -> frozenset[Kind]:
    """What an extractor gives, by its name alone: known before its weights are looked for."""
    return frozenset(_SHAPES_LAYERS if spec == "shapes" else _COMMON)


class Identity(NamedTuple):
    """What a stored value must say of the extractor that it was measured with."""

    name: str
    weights_sha256: str | None = None
    """Or how it begins; None where the name says all."""
    config_sha256: str | None = None
    here: bool = True
    """False where its files are not on this machine, so that nothing but the name is known."""


def identity(spec: str, cache_dir: Path) -> Identity:
    """What ``spec`` would be, of the files that are on this machine; nothing is fetched, and no network is loaded."""
    kind, _, source = spec.partition(":")
    if spec == INCEPTION:
        return Identity(spec, INCEPTION_SHA256)
    if spec != "shapes" and (kind not in ("clip", "dinov2") or not source):
        return Identity(spec)
    try:
        if kind in ("clip", "dinov2") and spec != EMBEDDED_CLIP:
            spec = f"{kind}:{_model_folder(kind, source, fetch=False)}"
        found = resolve(spec, cache_dir, None)
    except ExtractorUnavailable:
        return Identity(kind, here=False)
    return Identity(found.name, found.weights_sha256, found.versions["config_sha256"])


def resolve(spec: str, cache_dir: Path, weights: Path | None = None) -> Extractor:
    """What ``spec`` names.

    Args:
        spec: ``shapes``; ``inception-v3-compat`` or another extractor registered with torch-fidelity;
            ``clip:FOLDER_OR_ID``; ``dinov2:FOLDER_OR_ID``.
        cache_dir: where hashes of files are kept.
        weights: a file to use instead of the extractor's own weights; default: the environment variable
            ``T2I_EXTRACTOR_WEIGHTS``. For ``shapes`` a folder, and no variable.

    Raises:
        ExtractorUnavailable: unknown, or its weights are not here and cannot be had.
    """
    if spec == "shapes":
        return _shapes(weights, cache_dir)
    if weights is None and os.environ.get(WEIGHTS_VARIABLE):
        weights = Path(os.environ[WEIGHTS_VARIABLE])
    kind, _, source = spec.partition(":")
    if spec == INCEPTION:
        return _inception(weights, cache_dir)
    if kind == "clip" and source:
        return resolve_clip(source, cache_dir)[0]
    if kind == "dinov2" and source:
        return _dinov2(source, cache_dir)
    return _registered(spec, weights)


def _shapes(weights: Path | None, cache_dir: Path) -> Extractor:
    from t2i_track import assets

    folder = weights or assets.shapes_classifier()
    file = folder / "model.safetensors"
    if not file.is_file():
        advice = "name its folder" if weights else "reinstall t2i-track, its weights travel with it"
        raise ExtractorUnavailable(f"extractor 'shapes': no {file}; {advice}")

    def load(device: str) -> Network:
        from t2i_track.metrics.networks import ShapesNetwork

        return ShapesNetwork(folder, device)

    sha256 = file_sha256(file, cache_dir)
    found = versions("torch") | _config("shapes", folder, cache_dir)
    return Extractor("shapes", sha256, _SHAPES_LAYERS, "64x64 bilinear", found, load, lambda: SHAPES_DIMENSION)


def _inception(weights: Path | None, cache_dir: Path) -> Extractor:
    file = weights or _hub_file(INCEPTION_FILE)
    if not file.is_file():
        if weights:
            raise ExtractorUnavailable(f"extractor '{INCEPTION}': no file {weights}; give its weights' path")
        _download(INCEPTION_URL, file)

    def load(device: str) -> Network:
        from t2i_track.metrics.networks import FidelityNetwork, refuse_pickles

        refuse_pickles(file)
        return FidelityNetwork(INCEPTION, ["2048", "logits_unbiased"], file, device)

    layers: dict[Kind, str] = {"features": "2048", "logits": "logits_unbiased"}
    resize = "299x299 bilinear (TensorFlow 1)"
    found = versions("torch", "torch-fidelity")
    return Extractor(INCEPTION, file_sha256(file, cache_dir), layers, resize, found, load, lambda: INCEPTION_DIMENSION)


def inception_file() -> Path:
    """Where Inception's weights are looked for."""
    return Path(os.environ.get(WEIGHTS_VARIABLE) or _hub_file(INCEPTION_FILE))


def _hub_file(name: str) -> Path:
    """Where torch.hub keeps a downloaded file."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = Path(os.environ.get("TORCH_HOME", f"{cache}/torch")).expanduser()
    return home / "hub" / "checkpoints" / name


def _download(url: str, file: Path) -> None:
    """Fetch Inception's weights; the file appears only when it is whole and its hash is right."""
    import hashlib
    import urllib.request

    found = hashlib.sha256()
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, replacing(file, parents=True) as out:
            while block := answer.read(1 << 20):
                found.update(block)
                out.write(block)
            if not found.hexdigest().startswith(INCEPTION_SHA256):
                raise OSError(f"the download's sha256 begins {found.hexdigest()[:8]}")
    except OSError as error:
        raise ExtractorUnavailable(
            f"extractor '{INCEPTION}': {file.name} (sha256 {INCEPTION_SHA256}…) is not here and cannot be fetched "
            f"({error}); put it at {file}, or name it by --extractor-weights or {WEIGHTS_VARIABLE}; it is at {url}"
        ) from error


def resolve_clip(source: str, cache_dir: Path) -> tuple[Extractor, Extractor]:
    """The image and the text half of a CLIP model: ``shapes``, a folder or a Hugging Face id."""
    from t2i_track import assets

    folder = assets.shapes_clip() if source == "shapes" else _model_folder("clip", source)
    weights = _weights_sha256("clip", folder, cache_dir)
    found = versions("torch", "transformers") | _config("clip", folder, cache_dir)
    tokenizer = {"tokenizer_sha256": _files_digest(folder, TOKENIZER, cache_dir)}

    def images(device: str) -> Network:
        from t2i_track.metrics.networks import ClipImages

        return ClipImages(folder, device)

    def texts(device: str) -> Network:
        from t2i_track.metrics.networks import ClipTexts

        return ClipTexts(folder, device)

    layers: dict[Kind, str] = {**dict.fromkeys(_COMMON, "embedding"), "embeddings": "embedding"}
    processing = sorted(folder.glob("*processor_config.json"))
    resize = "its processor's " + digest([file_sha256(path, cache_dir) for path in processing])[:8]
    return (
        Extractor("clip", weights, layers, resize, found, images, lambda: _configured(folder, "projection_dim")),
        Extractor("clip-text", weights, {"texts": "embedding"}, "the encoder's window", found | tokenizer, texts),
    )


def _dinov2(source: str, cache_dir: Path) -> Extractor:
    folder = _model_folder("dinov2", source)

    def load(device: str) -> Network:
        from t2i_track.metrics.networks import Dinov2

        return Dinov2(folder, device)

    layers = dict.fromkeys(_COMMON, "class token")
    processing = sorted(folder.glob("preprocessor_config.json"))
    resize = "its processor's " + digest([file_sha256(path, cache_dir) for path in processing])[:8]
    weights = _weights_sha256("dinov2", folder, cache_dir)
    found = versions("torch", "transformers") | _config("dinov2", folder, cache_dir)
    return Extractor("dinov2", weights, layers, resize, found, load, lambda: _configured(folder, "hidden_size"))


def _model_folder(kind: str, source: str, *, fetch: bool = True) -> Path:
    """A folder as it is; a Hugging Face id from the local cache, else fetched if it may be."""
    if Path(source).expanduser().is_dir():
        return Path(source).expanduser()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    patterns = ["*.json", "*.txt", "*.model", "*.safetensors"]
    try:
        try:
            return Path(snapshot_download(source, allow_patterns=patterns, local_files_only=True))
        except FileNotFoundError:
            if not fetch:
                raise
            return Path(snapshot_download(source, allow_patterns=patterns, etag_timeout=TIMEOUT))
    except (OSError, ValueError, HfHubHTTPError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ExtractorUnavailable(
            f"extractor '{kind}:{source}' is no folder, not in the Hugging Face cache and cannot be fetched "
            f"({reason}); name a folder with config.json and model.safetensors"
        ) from error


def _weights_sha256(kind: str, folder: Path, cache_dir: Path) -> str:
    if not any(folder.glob("*.safetensors")) or not (folder / "config.json").is_file():
        raise ExtractorUnavailable(
            f"extractor '{kind}': {folder} lacks config.json or *.safetensors; name another folder"
        )
    return _files_digest(folder, ("*.safetensors",), cache_dir)


def _config(kind: str, folder: Path, cache_dir: Path) -> dict[str, str]:
    """The same weights are another network under another configuration, such as another activation."""
    file = folder / "config.json"
    if not file.is_file():
        raise ExtractorUnavailable(f"extractor '{kind}': no {file}; name a folder that has the network's configuration")
    return {"config_sha256": file_sha256(file, cache_dir)}


def _configured(folder: Path, key: str) -> int | None:
    """A number in the network's configuration; None where it leaves that to its library."""
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8")).get(key)
    except (OSError, ValueError, RecursionError, AttributeError):
        return None
    return found if isinstance(found, int) else None


def _files_digest(folder: Path, patterns: Sequence[str], cache_dir: Path) -> str:
    files = sorted({path for pattern in patterns for path in folder.glob(pattern)})
    return digest([[path.name, file_sha256(path, cache_dir)] for path in files])


def _registered(name: str, weights: Path | None) -> Extractor:
    """Any other extractor of torch-fidelity's registry; its weights are hashed tensor by tensor once it is loaded."""
    from t2i_track.metrics.networks import FidelityNetwork, registered_layers, state_sha256

    layers = registered_layers(name)
    network = FidelityNetwork(name, sorted(set(layers.values())), weights, "cpu")

    def load(device: str) -> Network:
        network.to(device)
        return network

    def dimension() -> int:
        import torch

        # The network is loaded already, and its layers' names need be no numbers: one black picture says it.
        with torch.inference_mode():
            return int(network(np.zeros((1, 3, 64, 64), np.uint8))[layers["features"]].shape[1])

    found = versions("torch", "torch-fidelity")
    return Extractor(name, state_sha256(network.module), layers, "its own", found, load, dimension)
