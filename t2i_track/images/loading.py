"""Load a diffusers pipeline: a Hugging Face id or a local folder, with its dtype, device, scheduler and adapters."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2i_track import assets
from t2i_track.errors import ModelError, SettingsError
from t2i_track.images.adapters import Adapters, find_adapters, put_adapters, require_local_adapters
from t2i_track.images.decoding import network
from t2i_track.images.families import Configs, Family, family_of
from t2i_track.images.fits import require_fit
from t2i_track.images.model import configs_in, configs_of
from t2i_track.images.model_folder import INDEX, index, weight_files
from t2i_track.images.weights import SAFE, weights_sha256
from t2i_track.settings import CONTIGUOUS, EMBEDDED_MODEL, Values


@dataclass(frozen=True)
class LoadedPipeline:
    """A pipeline on its device, and what it was made of."""

    pipe: Any
    name: str
    revision: str
    weights_sha256: str
    adapters: Adapters
    pipeline_class: str
    dtype: str
    device: str
    configs: Configs
    """As the model's folder has them: the pipeline's scheduler may be another by now."""

    @property
    def family(self) -> Family:
        return family_of(self.pipeline_class, self.name)

    @property
    def default_size(self) -> int:
        """Pixels of a side, as the model was trained."""
        return self.family.size(self.configs)

    def size(self, settings: Values) -> tuple[int, int]:
        """(height, width) in pixels: as chosen, else the size that the model was trained at."""
        return settings.height or self.default_size, settings.width or self.default_size


def choose_device(device: str | None) -> str:
    """The device as chosen, else CUDA, else MPS, else CPU.

    Raises:
        SettingsError: the chosen device is not on this machine.
    """
    import torch

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device is None:
        return next(name for name in ("cuda", "mps", "cpu") if available[name])
    kind = device.split(":")[0]
    if not available.get(kind, False):
        here = ", ".join(name for name, yes in available.items() if yes)
        raise SettingsError(f"device '{device}' is not on this machine: use --device {here}")
    try:
        index = torch.device(device).index or 0
    except RuntimeError:
        raise SettingsError(f"'{device}' is not a device: try --device {kind}") from None
    if kind == "cuda" and index >= torch.cuda.device_count():
        raise SettingsError(f"device '{device}' is not on this machine: it has {torch.cuda.device_count()} GPU")
    return device


GPU_FILES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""What the drivers of GPUs make on Linux: of NVIDIA's, of Windows' own Linux, of AMD's."""


def device_kind(device: str | None) -> str:
    """The class of the device that ``choose_device`` would choose; where there can be none but the CPU, without torch.

    Raises:
        SettingsError: as there, where torch had to be asked.
    """
    if device is not None:
        return device.split(":")[0]
    if sys.platform == "linux" and not any(Path(file).exists() for file in GPU_FILES):
        return "cpu"
    return choose_device(None)


def choose_dtype(dtype: str | None, device: str) -> str:
    """fp16 on CUDA, else fp32: half precision is slower than single on CPUs, and blacks out some models on MPS."""
    return dtype or ("fp16" if device.startswith("cuda") else "fp32")


def choose_memory_format(memory_format: str | None, device: str) -> str:
    """channels-last on CPUs and CUDA, where convolutions are faster so (docs/benchmarks.md), else contiguous."""
    return memory_format or (CONTIGUOUS if device.startswith("mps") else "channels-last")


def load(
    settings: Values, *, allow_pickle: bool = False, check: Callable[[str, Adapters], None] | None = None
) -> LoadedPipeline:
    """Load the model that the settings name, ready to sample.

    ``check`` is called with the hash of the weights and the files of LoRAs and embeddings before anything is built of
    them; it may refuse.

    Raises:
        ModelError: no such folder or id, no weights in it, or a pipeline that takes no CLIP prompt embeddings.
        PickledWeights: only pickled weights, and ``allow_pickle`` is not set.
    """
    device = choose_device(settings.device)
    dtype = choose_dtype(settings.dtype, device)
    folder, revision = _folder(settings, allow_pickle)
    family_of(index(folder, settings.model).get("_class_name"), settings.model)
    weights = weights_sha256(folder, list(weight_files(folder, settings.model, allow_pickle)))
    adapters = find_adapters(settings, allow_pickle)
    if check is not None:
        check(weights, adapters)
    pipe = _load_pipeline(folder, dtype, settings.model, allow_pickle)
    adapters = put_adapters(pipe, adapters, settings)
    pipe.set_progress_bar_config(disable=True)
    pipe.to(device)
    return LoadedPipeline(
        pipe=pipe,
        name=settings.model,
        revision=revision,
        weights_sha256=weights,
        adapters=adapters,
        pipeline_class=type(pipe).__name__,
        dtype=dtype,
        device=device,
        configs=configs_of(pipe),
    )


def check_local(settings: Values, *, allow_pickle: bool = False) -> None:
    """Refuse a model folder, LoRA or embedding that cannot be loaded, before anything is written or imported.

    Raises:
        ModelError, PickledWeights: as ``load``; ids of the hub are not looked up.
    """
    if settings.model == EMBEDDED_MODEL or not _is_hub_id(settings.model):
        folder, _ = _folder(settings, allow_pickle)
        class_name = index(folder, settings.model).get("_class_name")
        family_of(class_name, settings.model)
        list(weight_files(folder, settings.model, allow_pickle))
        require_fit(settings, str(class_name), configs_in(folder, settings.model))
    require_local_adapters(settings, allow_pickle)


def require_local_fit(cells: Iterable[Values]) -> None:
    """Refuse what the models on this machine would ignore or cannot do, by their configurations alone; ids of the hub
    are looked at when they are loaded.

    Raises:
        ModelError: a model that is none, or of no family that is run here. SettingsError: as ``fits.require_fit``.
    """
    unlike = ("seed", "num", "images_per_prompt", "batch_size", "device", "dtype", "memory_format", "revision")
    seen: set[tuple[Any, ...]] = set()
    for cell in cells:
        key = tuple(value for name, value in cell.to_dict().items() if name not in unlike)
        if key in seen or (cell.model != EMBEDDED_MODEL and _is_hub_id(cell.model)):
            continue
        seen.add(key)
        folder, _ = _folder(cell, allow_pickle=False)
        class_name = index(folder, cell.model).get("_class_name")
        family_of(class_name, cell.model)
        require_fit(cell, str(class_name), configs_in(folder, cell.model))


def set_memory_format(pipe: Any, memory_format: str) -> None:
    """How the convolutions' weights lie in memory, and with them everything that passes through. It decides the
    rounding, so it belongs to an image's record."""
    import torch

    layout = torch.contiguous_format if memory_format == CONTIGUOUS else torch.channels_last
    for module in (network(pipe), pipe.vae):
        module.to(memory_format=layout)


def _folder(settings: Values, allow_pickle: bool) -> tuple[Path, str]:
    if settings.model == EMBEDDED_MODEL:
        return assets.shapes_sd(), ""
    local = Path(settings.model).expanduser()
    if local.is_dir():
        if not (local / INDEX).is_file():
            raise ModelError(
                f"'{settings.model}' has no {INDEX}: --model takes a folder that diffusers saved with"
                " save_pretrained, or a Hugging Face id"
            )
        return local.resolve(), settings.revision or ""
    if not _is_hub_id(settings.model):
        raise ModelError(f"no model folder '{settings.model}': give a folder, a Hugging Face id (owner/name) or shapes")
    return _download(settings.model, settings.revision, allow_pickle)


def _is_hub_id(model: str) -> bool:
    return not Path(model).expanduser().exists() and re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", model) is not None


def _download(model: str, revision: str | None, allow_pickle: bool) -> tuple[Path, str]:
    """The snapshot folder of a Hugging Face id, downloaded or from the cache, and its commit."""
    from diffusers import DiffusionPipeline

    try:
        folder = Path(
            DiffusionPipeline.download(model, revision=revision, use_safetensors=None if allow_pickle else True)
        )
    except Exception as error:  # noqa: BLE001 - hub, http and file errors share no base class
        reason = " ".join(str(error).split())[:160]
        raise ModelError(
            f"model '{model}' cannot be had from the hub or its cache ({type(error).__name__}: {reason});"
            " check the id and the network, or give a local folder"
        ) from None
    return folder, folder.name


def _load_pipeline(folder: Path, dtype: str, model: str, allow_pickle: bool) -> Any:
    import torch
    from diffusers import DiffusionPipeline

    _quiet()
    torch_dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[dtype]
    variant = None
    if not any(path.name.count(".") == 1 for path in (folder / "unet").glob("*" + SAFE)):
        variant = "fp16" if any((folder / "unet").glob("*.fp16" + SAFE)) else None
    try:
        pipe = DiffusionPipeline.from_pretrained(
            folder, dtype=torch_dtype, variant=variant, use_safetensors=None if allow_pickle else True
        )
    except Exception as error:  # noqa: BLE001 - whatever a broken folder makes the loaders raise
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"model '{model}' cannot be loaded ({type(error).__name__}: {reason})") from None
    return pipe


def _quiet() -> None:
    """No bars for reading files from the disk; downloads keep theirs."""
    import diffusers.utils.logging
    import transformers.utils.logging

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
