"""LoRAs put into a pipeline: what fits is counted there, what does not is told, and each has its scale."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from t2i_track.errors import ModelError
from t2i_track.images.adapter_files import NAMED, AdapterFile, configuration
from t2i_track.images.lora_layers import Found, Names, Place, layers_of, modules, names_of, read_tensors, strangers
from t2i_track.images.quiet import quiet_libraries
from t2i_track.settings import DECLARED, Values


def load_loras(pipe: Any, files: Sequence[AdapterFile]) -> list[str]:
    """Put the LoRAs into the pipeline's networks, at scale 1; notes on what of them had no place.

    Raises:
        ModelError: a file is no LoRA, fits nothing of this model, or has another shape; or the pipeline takes none.
    """
    if not files:
        return []
    if not hasattr(pipe, "load_lora_weights"):
        raise ModelError(f"{type(pipe).__name__} takes no LoRA: leave out --lora '{files[0].place}'")
    names = names_of(pipe)
    return [note for number, file in enumerate(files) for note in _load(pipe, names, file, _name(number))]


def set_scales(pipe: Any, settings: Values) -> None:
    """Give the LoRAs the scales of the settings: each its own, times ``lora_scale``."""
    scales = lora_scales(settings)
    if scales:
        pipe.set_adapters([_name(number) for number in range(len(scales))], list(scales))


def lora_scales(settings: Values) -> tuple[float, ...]:
    """The scale of each LoRA."""
    return tuple(spec.scale * settings.lora_scale for spec in DECLARED["lora"].specs(settings.lora))


def _name(number: int) -> str:
    return f"lora_{number}"


def _load(pipe: Any, names: Names, file: AdapterFile, adapter: str) -> Iterator[str]:
    lora = file.place
    tensors = read_tensors(file.path, lora)
    found = layers_of(pipe, names, tensors, configuration(file.path), lora)
    total = len(found.layers) + len(found.homeless)
    if not found.layers:
        raise ModelError(_nothing_fits(lora, total, found.homeless))
    _require_shapes(names, found, lora)
    state = dict(_state(pipe, found))
    try:
        with quiet_libraries():
            pipe.load_lora_weights(state, adapter_name=adapter)
    except Exception as error:  # noqa: BLE001 - the loaders raise many kinds
        raise ModelError(f"LoRA '{lora}' does not fit the model ({' '.join(str(error).split())[:160]})") from None
    placed = dict(_placed(pipe, adapter))
    left_out = sorted([*found.homeless, *(".".join(place) for place in found.layers.keys() - placed.keys())])
    if not placed:
        raise ModelError(_nothing_fits(lora, total, left_out))
    for place, module in placed.items():
        # diffusers matches a file's alphas by patterns, and those of text encoders by names that they no longer have.
        layer = found.layers[place]
        module.lora_alpha[adapter] = layer.rank if layer.alpha is None else layer.alpha
    if left_out:
        are = "is" if len(left_out) == 1 else "are"
        fit = f"{len(placed)} of {total} layers fit, {len(left_out)} {are} left out"
        yield f"LoRA {file.path.name}: {fit}: {_named(left_out)}"
    if others := strangers(tensors):
        yield f"LoRA {file.path.name}: tensors that are no LoRA's are left out: {_named(others)}"


def _nothing_fits(lora: str, total: int, names: Sequence[str]) -> str:
    return (
        f"LoRA '{lora}' fits nothing in this model: of {total} layer{'s' * (total != 1)} none has a place"
        f" ({_named(names)}); it was made for another kind of model"
    )


def _named(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _require_shapes(names: Names, found: Found, lora: str) -> None:
    for (component, name), layer in found.layers.items():
        out, inner, *kernel = names.shapes[component, name]
        wanted = [layer.rank, inner, *kernel], [out, layer.rank, *[1] * len(kernel)]
        for key, tensor, shape in zip(layer.keys, (layer.down, layer.up), wanted, strict=True):
            if list(tensor.shape) != shape:
                raise ModelError(
                    f"LoRA '{lora}': its tensor '{key}' is {list(tensor.shape)}, and {component}.{name} wants {shape}:"
                    " it was made for a model of another size"
                )


def _state(pipe: Any, found: Found) -> Iterator[tuple[str, Any]]:
    """The tensors under PEFT's names, in the precision of the network: in another they would be computed in that."""
    for (component, name), layer in found.layers.items():
        dtype = getattr(pipe, component).dtype
        yield f"{component}.{name}.lora_A.weight", layer.down.to(dtype)
        yield f"{component}.{name}.lora_B.weight", layer.up.to(dtype)
        if layer.bias is not None:
            yield f"{component}.{name}.lora_B.bias", layer.bias.to(dtype)


def _placed(pipe: Any, adapter: str) -> Iterator[tuple[Place, Any]]:
    """The layers that have got it, with the modules that hold it."""
    for component, network in modules(pipe):
        for name, module in network.named_modules():
            if adapter in getattr(module, "lora_A", {}):
                yield (component, name), module
