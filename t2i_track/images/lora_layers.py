"""The layers of a LoRA file, whichever program wrote it: diffusers', PEFT's and kohya's names for them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2i_track.errors import ModelError
from t2i_track.images.lora_sd3 import diffusers_names
from t2i_track.images.weights import SAFE

if TYPE_CHECKING:
    import torch

_HALF = re.compile(r"(?P<layer>.+)[._]lora(?:_linear_layer)?[._](?P<half>A|B|down|up)(?:\.\w+)?\.(?P<what>weight|bias)")
_ALPHA = ".alpha"
_METHODS = {
    "hada_": "LoHa", "lokr_": "LoKr", "lora_mid": "LoCon's CP decomposition", "dora_scale": "DoRA",
    "lora_magnitude_vector": "DoRA", ".oft_": "OFT", ".boft_": "OFT",
}  # fmt: skip
"""Other kinds of adapters, by what is in their tensors' names: a pipeline would take a part of them, or none."""
DENOISERS = ("unet", "transformer")
_KOHYA = {
    "unet": ("lora_unet_",),
    "transformer": ("lora_unet_", "lora_transformer_"),
    "text_encoder": ("lora_te_", "lora_te1_"),
    "text_encoder_2": ("lora_te2_",),
    "text_encoder_3": ("lora_te3_",),
}
"""How kohya's names of a component's layers begin; then come their names with ``_`` for ``.``."""
_WRAPPERS = ("base_model.model.", "diffusion_model.")
_PROJECTIONS = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}
"""What diffusers once called the projections of a text encoder."""


@dataclass(frozen=True)
class Layer:
    """The update of one layer's weight: ``up @ down``, times ``alpha / rank`` where the file says an alpha."""

    down: torch.Tensor
    up: torch.Tensor
    alpha: float | None = None
    bias: torch.Tensor | None = None
    keys: tuple[str, str] = ("", "")
    """The names of the two tensors."""

    @property
    def rank(self) -> int:
        return int(self.down.shape[0])


LEAST_DIMENSIONS = 2
"""Of a layer's two tensors: matrices, or kernels of a convolution."""
Place = tuple[str, str]
"""A component of the pipeline, and the name of a layer in it."""


@dataclass(frozen=True)
class Found:
    """The layers of a file that have a place, and the names of those that have none."""

    layers: Mapping[Place, Layer]
    homeless: tuple[str, ...] = ()


def read_tensors(file: Path, lora: str) -> dict[str, torch.Tensor]:
    """The file's tensors.

    Raises:
        ModelError: it has none, none of a LoRA, tensors of another kind of adapter, or values that are not finite.
    """
    import torch
    from safetensors.torch import load_file

    try:
        tensors = load_file(file) if file.suffix == SAFE else torch.load(file, "cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - the loaders raise many kinds
        raise ModelError(f"LoRA '{lora}' cannot be read ({' '.join(str(error).split())[:160]})") from None
    if not isinstance(tensors, dict) or not all(isinstance(value, torch.Tensor) for value in tensors.values()):
        raise ModelError(f"LoRA '{lora}' holds no tensors by their names: give a LoRA's {SAFE} file")
    for part, method in _METHODS.items():
        if (key := next((key for key in tensors if part in key), None)) is not None:
            raise ModelError(
                f"LoRA '{lora}' is a {method} adapter (tensor '{key}'), of which a pipeline would leave out a part:"
                " convert it to a plain LoRA"
            )
    if not any(_HALF.fullmatch(key) for key in tensors):
        first = f"none of a LoRA, the first is '{min(tensors)}'" if tensors else "nothing else is in it"
        raise ModelError(
            f"LoRA '{lora}' has {len(tensors)} tensors ({first}): a whole model is given with --model, a textual"
            " inversion with --embedding"
        )
    for key, tensor in tensors.items():
        if not torch.isfinite(tensor.float()).all():
            raise ModelError(f"LoRA '{lora}': its tensor '{key}' has values that are not finite: download it again")
    return tensors


def grouped(tensors: Mapping[str, torch.Tensor], lora: str) -> dict[str, Layer]:
    """The layers by the names that the file gives them.

    Raises:
        ModelError: one of a layer's two tensors is missing, or is no matrix; or an alpha is no number.
    """
    halves: dict[str, dict[str, tuple[str, torch.Tensor]]] = {}
    alphas: dict[str, float] = {}
    for key, tensor in tensors.items():
        if key.endswith(_ALPHA):
            name = key.removesuffix(_ALPHA)
            half = _HALF.fullmatch(name)
            if tensor.numel() != 1:
                raise ModelError(f"LoRA '{lora}': its tensor '{key}' is {list(tensor.shape)}, not one number")
            alphas[half["layer"] if half else name] = float(tensor)
        elif (half := _HALF.fullmatch(key)) is not None:
            side = "down" if half["half"] in ("A", "down") else "up"
            part = side if half["what"] == "weight" else "bias"
            halves.setdefault(half["layer"], {})[part] = key, tensor
    found = {}
    for name, parts in halves.items():
        if missing := {"down", "up"} - parts.keys():
            has = next(key for key, _ in parts.values())
            raise ModelError(f"LoRA '{lora}' has '{has}' without its {missing.pop()} half: download it again")
        keys = parts["down"][0], parts["up"][0]
        for key, tensor in (parts["down"], parts["up"]):
            if tensor.ndim < LEAST_DIMENSIONS or not tensor.numel():
                raise ModelError(f"LoRA '{lora}': its tensor '{key}' is {list(tensor.shape)}, not a matrix")
        bias = parts["bias"][1] if "bias" in parts else None
        found[name] = Layer(parts["down"][1], parts["up"][1], alphas.get(name), bias, keys)
    return found


@dataclass(frozen=True)
class Names:
    """The layers of a pipeline that can have a LoRA, by each name that a file may give them."""

    places: Mapping[str, Place]
    shapes: Mapping[Place, tuple[int, ...]] = field(default_factory=dict)

    def place(self, name: str) -> Place | None:
        """The layer that the file calls so."""
        for wrapper in _WRAPPERS:
            name = name.removeprefix(wrapper)
        name = name.replace(".processor.", ".")
        before, _, last = name.rpartition(".")
        tried = [name, f"{name}.0"] + ([f"{before}.{_PROJECTIONS[last]}"] if last in _PROJECTIONS else [])
        return next((self.places[one] for one in tried if one in self.places), None)


def names_of(pipe: Any) -> Names:
    """Of a pipeline that has no LoRA yet.

    transformers 5.6 moved the parts of ``text_model`` up into ``CLIPTextModel``; files have them under either name.
    """
    from torch import nn

    places: dict[str, Place] = {}
    shapes: dict[Place, tuple[int, ...]] = {}
    for component, module in modules(pipe):
        for name, layer in module.named_modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                shapes[component, name] = tuple(layer.weight.shape)
                for spelled in _spellings(component, name):
                    places.setdefault(spelled, (component, name))
    return Names(places, shapes)


def modules(pipe: Any) -> Iterator[tuple[str, Any]]:
    """The networks of a pipeline that LoRAs are made for, by their names."""
    for component, module in pipe.components.items():
        if module is not None and component in _KOHYA:
            yield component, module


def _spellings(component: str, name: str) -> Iterator[str]:
    texts = [name]
    if component not in DENOISERS:
        texts.append(name.removeprefix("text_model.") if name.startswith("text_model.") else f"text_model.{name}")
    for text in texts:
        yield f"{component}.{text}"
        if component in DENOISERS:
            yield text
        for prefix in _KOHYA[component]:
            yield prefix + text.replace(".", "_")


def layers_of(
    pipe: Any, names: Names, tensors: Mapping[str, torch.Tensor], configured: Mapping[str, Mapping[str, Any]], lora: str
) -> Found:
    """The file's layers with their places in the pipeline, and the names of those without.

    For a name that is none of the pipeline's own layers diffusers is asked, which knows those of the original programs
    (SDXL's ``input_blocks``, Flux's ``double_blocks`` with their joint projections).
    """
    placed: dict[Place, Layer] = {}
    homeless: list[str] = []
    own = _by_layer(tensors)
    for name, layer in grouped(tensors, lora).items():
        place = names.place(name)
        if place is not None:
            placed[place] = _with_alpha(layer, place, configured)
            continue
        # One at a time: diffusers refuses a whole file for one name, or leaves it out without a word.
        parts = split(name, layer) or grouped(_converted(pipe, own[name]), lora)
        there = {called: place for called in parts if (place := names.place(called)) is not None}
        placed |= {place: parts[called] for called, place in there.items()}
        homeless += [called for called in parts if called not in there] if there else [name]
    return Found(placed, tuple(sorted(homeless)))


def strangers(tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """The tensors that are no part of a LoRA's layer: nothing takes them."""
    return sorted(key for key in tensors if not key.endswith(_ALPHA) and _HALF.fullmatch(key) is None)


def _by_layer(tensors: Mapping[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    """The tensors of each layer by the file's own names."""
    found: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        half = _HALF.fullmatch(key.removesuffix(_ALPHA))
        found.setdefault(half["layer"] if half else key.removesuffix(_ALPHA), {})[key] = tensor
    return found


def split(name: str, layer: Layer) -> dict[str, Layer]:
    """A layer of Stable Diffusion 3's original program as diffusers' layers, a joint projection as its parts."""
    parts = diffusers_names(name)
    ups = layer.up.chunk(len(parts)) if parts else ()
    return {part: replace(layer, up=up) for part, up in zip(parts, ups, strict=False)}


def _converted(pipe: Any, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A layer's tensors by diffusers' names, with its alpha; none where diffusers does not know it either."""
    import torch

    config = {"unet_config": pipe.unet.config} if hasattr(pipe, "unet") else {}
    try:
        state = pipe.lora_state_dict(dict(tensors), **config)
    except Exception:  # noqa: BLE001 - a name that it does not know raises many kinds
        return {}
    state, alphas = state[:2] if isinstance(state, tuple) else (state, None)
    return {**state, **{name: torch.tensor(float(alpha)) for name, alpha in (alphas or {}).items()}}


def _with_alpha(layer: Layer, place: Place, configured: Mapping[str, Mapping[str, Any]]) -> Layer:
    """With the alpha that stands beside the tensors, as PEFT reads its configuration."""
    component, name = place
    said = configured.get(component) or configured.get("") or {}
    if layer.alpha is not None or "lora_alpha" not in said:
        return layer
    patterns = (said.get("alpha_pattern") or {}).items()
    alpha = next((own for key, own in patterns if re.match(rf"(.*\.)?({key})$", name)), said["lora_alpha"])
    scale = math.sqrt(layer.rank) if said.get("use_rslora") else 1.0
    return replace(layer, alpha=float(alpha) * scale)
