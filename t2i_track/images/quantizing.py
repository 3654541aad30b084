"""Linear layers in 8 bits by torchao, after the model is loaded: the hash of its weights stays that of its files.

Each row has a scale of its own: of weights that is an output channel, of what goes through them (``dq``) a token. One
scale for a whole tensor would be the batch's, so that a picture would depend on those made beside it.
"""

from __future__ import annotations

import importlib.util
import re
from importlib import metadata
from typing import Any

from t2i_track.errors import SettingsError
from t2i_track.images.decoding import network
from t2i_track.settings import UNQUANTIZED, Values

TOKENS = r"\.(attn\w*|attentions?|ff\w*|feed_forward|\w*mlp\w*)(\.|$)"
"""In the name of a layer that tokens go through: those of time and of modulation, a row a picture, are small and
sensitive, and 8-bit products want more rows."""
LORA = "lora_"
CONFIGS = {
    "int8": "Int8WeightOnlyConfig",
    "int8dq": "Int8DynamicActivationInt8WeightConfig",
    "fp8": "Float8WeightOnlyConfig",
    "fp8dq": "Float8DynamicActivationFloat8WeightConfig",
}
"""torchao's class for each."""
DYNAMIC_FP8 = "fp8dq"
LEAST_CAPABILITY = (8, 9)
"""Of a GPU that multiplies 8-bit floats."""


def packages(settings: Values) -> tuple[str, ...]:
    """What computes such pictures beside what computes all (``environment.machine``)."""
    return () if settings.quantize == UNQUANTIZED else ("torchao",)


def quantize_network(pipe: Any, settings: Values) -> None:
    """Bring the network's linear layers to 8 bits.

    Raises:
        SettingsError: it has none that could be.
    """
    if settings.quantize == UNQUANTIZED:
        return
    import torchao.quantization as ao

    names = set(layers(pipe))
    if not names:
        raise SettingsError(
            f"quantize {settings.quantize} would be ignored: this model has no layer for it; leave it out"
        )
    config = getattr(ao, CONFIGS[settings.quantize])(granularity=ao.PerRow(), set_inductor_config=False)
    ao.quantize_(network(pipe), config, filter_fn=lambda _, name: name in names)


def layers(pipe: Any) -> list[str]:
    """The names of the linear layers that are brought to 8 bits; LoRAs beside them are not."""
    import torch

    return [
        name
        for name, module in network(pipe).named_modules()
        if isinstance(module, torch.nn.Linear) and re.search(TOKENS, f".{name}") and LORA not in name
    ]


def notes(pipe: Any, settings: Values) -> list[str]:
    """What was quantized, by what."""
    if settings.quantize == UNQUANTIZED:
        return []
    import torch

    named = network(pipe).named_modules()
    whole = sum(isinstance(module, torch.nn.Linear) for name, module in named if LORA not in name)
    return [
        f"quantize {settings.quantize}: {len(layers(pipe))} of the network's {whole} linear layers, by"
        f" {CONFIGS[settings.quantize]} (a scale a row) of torchao {metadata.version('torchao')}"
    ]


def require_torchao(settings: Values) -> None:
    """Raises SettingsError where torchao is not installed."""
    if settings.quantize != UNQUANTIZED and importlib.util.find_spec("torchao") is None:
        raise SettingsError(
            f"quantize {settings.quantize} needs torchao, which is not installed: pip install 't2i-track[quantize]', or"
            " leave it out"
        )


def require_quantizable(settings: Values, device: str, dtype: str) -> None:
    """Refuse what the device has no arithmetic for.

    Raises:
        SettingsError: names the device or the precision.
    """
    if settings.quantize == UNQUANTIZED:
        return
    asked, kind = f"quantize {settings.quantize}", device.split(":")[0]
    if kind not in ("cpu", "cuda"):
        raise SettingsError(f"{asked} was never tried on {kind}, only on cpu and cuda: leave it out")
    if settings.quantize != DYNAMIC_FP8:
        return
    if not _multiplies_fp8(device):
        raise SettingsError(
            f"{asked} needs a GPU that multiplies 8-bit floats, and {device} does not: try fp8 or int8dq"
        )
    if dtype != "bf16":
        raise SettingsError(f"{asked} with a scale a row is for bf16, not {dtype}: give --dtype bf16")


def _multiplies_fp8(device: str) -> bool:
    import torch

    return device.startswith("cuda") and torch.cuda.get_device_capability(device) >= LEAST_CAPABILITY
