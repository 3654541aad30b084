"""Load a diffusers pipeline as the settings name it, with its dtype, device, VAE and adapters."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2i_track import assets
from t2i_track.errors import ModelError, SettingsError
from t2i_track.images.adapters import Adapters, find_adapters, put_adapters, require_local_adapters
from t2i_track.images.caching import enable_cache
from t2i_track.images.compiling import compile_network, require_compiler
from t2i_track.images.download import is_hub_id
from t2i_track.images.families import Configs, Family, family_of
from t2i_track.images.fits import require_fit
from t2i_track.images.linked import linked
from t2i_track.images.mapped import mapped_files, release
from t2i_track.images.model import PIPELINE, configs_of, configs_of_parts
from t2i_track.images.model_folder import INDEX, Choice, Component
from t2i_track.images.quantizing import quantize_network, require_quantizable
from t2i_track.images.quiet import without_bars
from t2i_track.images.schedulers import resolved
from t2i_track.images.source import VAE, Source, find, read_index
from t2i_track.images.tiling import set_tiling
from t2i_track.images.variants import TRANSFORMERS
from t2i_track.images.weights import KnownDigests, tensors_sha256
from t2i_track.settings import CONTIGUOUS, EMBEDDED_MODEL, NO_OFFLOAD, Values


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
    settings: Values,
    *,
    allow_pickle: bool = False,
    check: Callable[[str, Adapters], None] | None = None,
    known: KnownDigests | None = None,
) -> LoadedPipeline:
    """Load the model that the settings name, ready to sample.

    ``check`` is called with the hash of the weights and the files of LoRAs and embeddings before anything is built of
    them; it may refuse.
    ``known`` spares reading files again whose tensors were hashed before.

    Raises:
        ModelError: no such folder, file or id, something of it that cannot be used, or a LoRA that does not fit.
        PickledWeights: only pickled weights, and ``allow_pickle`` is not set.
        SettingsError: a setting that would be ignored.
    """
    device = choose_device(settings.device)
    require_offload(settings.offload, device)
    require_compiler(settings, device)
    dtype = choose_dtype(settings.dtype, device)
    require_quantizable(settings, device, dtype)
    source = find(settings, Choice(dtype, settings.variant, allow_pickle))
    weights = tensors_sha256(source.weights(), known)
    adapters = find_adapters(settings, allow_pickle)
    if check is not None:
        check(weights, adapters)
    pipe = _load_pipeline(source, dtype, settings.model, allow_pickle)
    adapters = put_adapters(pipe, adapters, settings)
    pipe.set_progress_bar_config(disable=True)
    enable_cache(pipe, settings)
    if settings.offload == NO_OFFLOAD:
        pipe.to(device)
    else:  # what is offloaded has no layout that could be changed any more
        set_memory_format(pipe, choose_memory_format(settings.memory_format, device))
        _offload(pipe, settings.offload, device)
    quantize_network(pipe, settings)
    set_tiling(pipe, settings)
    compile_network(pipe, settings)
    return LoadedPipeline(
        pipe=pipe,
        name=settings.model,
        revision=source.revision,
        weights_sha256=weights,
        adapters=adapters,
        pipeline_class=type(pipe).__name__,
        dtype=dtype,
        device=device,
        configs=configs_of(pipe),
    )


def require_offload(offload: str, device: str) -> None:
    """Raises SettingsError where offloading would be ignored: main memory is where the CPU's networks are."""
    if offload != NO_OFFLOAD and not device.startswith("cuda"):
        raise SettingsError(
            f"offload {offload} would be ignored on {device}, whose own memory is where it leads: leave it out"
        )


def _offload(pipe: Any, offload: str, device: str) -> None:
    import torch

    if offload == "model":
        pipe.enable_model_cpu_offload(device=device)
    elif offload == "sequential":
        pipe.enable_sequential_cpu_offload(device=device)
    else:
        pipe.enable_group_offload(onload_device=torch.device(device), offload_type="leaf_level")


def check_local(settings: Values, *, allow_pickle: bool = False, negatives: Collection[str | None] = ()) -> None:
    """Refuse a model, VAE or LoRA that cannot be loaded, before anything is written or imported.

    ``negatives`` are as ``fits.require_fit`` takes them.

    Raises:
        ModelError, PickledWeights, SettingsError: as ``load``; ids of the hub are not looked up.
    """
    dtype = choose_dtype(settings.dtype, device_kind(settings.device))
    ids = {name for name in FROM_HUB if is_hub_id(getattr(settings, name) or "")} - {EMBEDDED_MODEL}
    if "model" not in ids and "model_config" not in ids:
        here = dataclasses.replace(settings, vae=None) if VAE in ids else settings
        source = find(here, Choice(dtype, settings.variant, allow_pickle))
        require_fit(settings, source.pipeline_class, source.configs(settings.model), negatives)
    require_local_adapters(settings, allow_pickle)


def require_local_fit(cells: Iterable[Values], negatives: Collection[str | None] = ()) -> None:
    """Refuse what the models on this machine would ignore or cannot do, by their configurations alone; others are
    looked at when they are loaded.

    Raises:
        ModelError: of no family that is run here. SettingsError: as ``fits.require_fit``.
    """
    unlike = ("seed", "num", "images_per_prompt", "batch_size", "device", "dtype", "memory_format", "revision")
    seen: set[tuple[Any, ...]] = set()
    for cell in cells:
        key = tuple(value for name, value in cell.to_dict().items() if name not in unlike)
        if key not in seen and (configs := _configs_here(cell)) is not None:
            require_fit(cell, str(configs[PIPELINE]["_class_name"]), configs, negatives)
        seen.add(key)


def resolved_here(settings: Values) -> Values:
    """With the model's own scheduler by its short name, if the model is on this machine."""
    configs = _configs_here(settings)
    return settings if configs is None else resolved(configs["scheduler"], settings)


def _configs_here(settings: Values) -> Configs | None:
    """The configurations of a model on this machine, none of its weights being looked at."""
    folder = assets.shapes_sd() if settings.model == EMBEDDED_MODEL else Path(settings.model).expanduser()
    if folder.is_file() and settings.model_config is not None:
        folder = Path(settings.model_config).expanduser()
    if not (folder / INDEX).is_file():
        return None
    index = read_index(folder, settings.model)
    return configs_of_parts(index, {name: folder / name for name in index}, settings.model)


FROM_HUB = ("model", "vae", "model_config")
"""The settings that may be ids of the hub."""


def set_memory_format(pipe: Any, memory_format: str) -> None:
    """How the convolutions' weights lie in memory, and with them everything that passes through. It decides the
    rounding, so it belongs to an image's record."""
    import torch

    layout = torch.contiguous_format if memory_format == CONTIGUOUS else torch.channels_last
    files = mapped_files()
    for name in ("unet", "transformer", VAE):
        module = pipe.components.get(name)
        # One by one, since both layouts of all of them take half as much memory again as the model.
        for parameter in [] if module is None else module.parameters():
            convolves = parameter.dim() == 4 and not parameter.is_meta  # not offloaded
            # Not `contiguous`: the weights of 1 x 1 convolutions are so in both layouts, and their strides choose.
            after = parameter.data.to(memory_format=layout) if convolves else parameter.data
            if after.data_ptr() != parameter.data_ptr():
                release(parameter.data, files)
            parameter.data = after


def _load_pipeline(source: Source, dtype: str, model: str, allow_pickle: bool) -> Any:
    """The pipeline of the files that were found, and of no others."""
    without_bars()
    with linked(source.index, source.parts) as folder:
        try:
            pipe = _pipeline(source, folder, dtype, allow_pickle)
            _require_whole(pipe)
        except ModelError as error:
            raise ModelError(f"model '{model}': {error}") from None
        except Exception as error:  # noqa: BLE001 - whatever a broken folder makes the loaders raise
            if "meta tensor" in str(error):  # how they say of a checkpoint that a tensor is not in it
                raise ModelError(
                    f"model '{model}': its weights lack tensors of one of its networks: they are those of another model"
                    " than --model-config says, or not all of them"
                ) from None
            reason = " ".join(str(error).split()).replace(str(folder), model)[:200]
            raise ModelError(f"model '{model}' cannot be loaded ({type(error).__name__}: {reason})") from None
    return pipe


def _pipeline(source: Source, folder: Path, dtype: str, allow_pickle: bool) -> Any:
    import diffusers
    import torch

    torch_dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[dtype]
    kind = getattr(diffusers, source.pipeline_class)
    safe = None if allow_pickle else True
    made: dict[str, Any] = {}
    for part in source.parts:
        network, place = part.component.class_name, folder / part.component.name
        if part.component.name == VAE and source.vae is not None:
            made[VAE] = getattr(diffusers, network).from_single_file(
                str(source.vae), config=str(place), local_files_only=True, torch_dtype=torch_dtype
            )
        elif part.component.name == VAE and source.checkpoint is not None and part.weights is not None:
            made[VAE] = getattr(diffusers, network).from_pretrained(
                place, torch_dtype=torch_dtype, use_safetensors=safe
            )
        elif part.weights is not None and part.component.library == TRANSFORMERS:
            made[part.component.name] = _text_encoder(folder, part.component, torch_dtype, safe)
    if source.checkpoint is not None:
        return kind.from_single_file(
            str(source.checkpoint), config=str(folder), local_files_only=True, dtype=torch_dtype, **made
        )
    return kind.from_pretrained(folder, dtype=torch_dtype, use_safetensors=safe, **made)


def _text_encoder(folder: Path, component: Component, torch_dtype: Any, safe: bool | None) -> Any:
    """A network of transformers, which draws tensors that no file has from its own random numbers."""
    import transformers

    network, found = getattr(transformers, component.class_name).from_pretrained(
        folder / component.name, dtype=torch_dtype, use_safetensors=safe, output_loading_info=True
    )
    if found["missing_keys"]:
        raise ModelError(_not_whole(component.name, sorted(found["missing_keys"])))
    return network


def _require_whole(pipe: Any) -> None:
    """Of tensors that no file has, diffusers only warns."""
    import torch

    for component, module in pipe.components.items():
        tensors = module.state_dict() if isinstance(module, torch.nn.Module) else {}
        if gone := [name for name, tensor in tensors.items() if tensor.is_meta]:
            raise ModelError(_not_whole(component, gone))


def _not_whole(component: str, gone: list[str]) -> str:
    return (
        f"its weights lack {len(gone)} tensors of its {component} ({', '.join(gone[:3])}): they are those of another"
        " model, or not all of them"
    )
