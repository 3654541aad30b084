"""A LoRA file: put into a pipeline, all of it or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from t2i_track.errors import ModelError, PickledWeights
from t2i_track.images.weights import SAFE

NAMED = 3
"""Keys that a message names."""


def lora_file(lora: str, allow_pickle: bool) -> Path:
    """The file of that name.

    Raises:
        ModelError: there is none. PickledWeights: it is not safetensors, and ``allow_pickle`` is not set.
    """
    file = Path(lora).expanduser()
    if not file.is_file():
        raise ModelError(f"no LoRA file '{lora}': --lora takes a local {SAFE} file")
    if file.suffix != SAFE and not allow_pickle:
        raise PickledWeights(f"LoRA '{lora}' is not {SAFE}: convert it, or pass --allow-pickle if you trust its author")
    return file


def load_lora(pipe: Any, file: Path, lora: str) -> None:
    """Put the LoRA into the pipeline's networks.

    Raises:
        ModelError: it does not fit, or some of its tensors have no place in this model: diffusers leaves them out.
    """
    try:
        given = _named_as_here(pipe, file) if file.suffix == SAFE else str(file)
        state, *_ = pipe.lora_state_dict(given)
        pipe.load_lora_weights(given)
    except Exception as error:  # noqa: BLE001 - the loaders raise many kinds
        raise ModelError(f"LoRA '{lora}' does not fit the model ({' '.join(str(error).split())[:160]})") from None
    placed = _placed(pipe)
    unused = sorted(key for key in state if ".lora" in key and _place(key) not in placed)
    if unused or not placed:
        named = ", ".join(unused[:NAMED]) + (f" and {len(unused) - NAMED} more" if len(unused) > NAMED else "")
        raise ModelError(
            f"LoRA '{lora}': {len(unused)} of its {len(state)} tensors fit nothing in this model and would be left out"
            f" ({named or 'it has no LoRA tensors'}): it was made for another kind of model"
        )


def _named_as_here(pipe: Any, file: Path) -> dict[str, Any]:
    """The file's tensors. transformers 5.6 moved the parts of ``text_model`` up into ``CLIPTextModel``, and diffusers
    would leave out those of a LoRA under the old names."""
    from safetensors.torch import load_file

    tensors = load_file(file)
    if any(name.startswith("text_model.") for name, _ in pipe.text_encoder.named_modules()):
        return tensors
    old, new = "text_encoder.text_model.", "text_encoder."
    return {new + name.removeprefix(old) if name.startswith(old) else name: tensor for name, tensor in tensors.items()}


def _place(key: str) -> str:
    """``unet.….to_q``, the layer that a tensor of the file belongs to."""
    return key.split(".lora", 1)[0].removesuffix(".processor")


def _placed(pipe: Any) -> set[str]:
    """The layers that have got a LoRA, under the names that files use."""
    places = set()
    for component in ("unet", "text_encoder"):
        for name, module in getattr(pipe, component).named_modules():
            if getattr(module, "lora_A", None):
                places.add(f"{component}.{name}")
    return places
