"""One model in memory and what is made with it: by the driver itself, or in a process of its own anywhere."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from t2i_track.environment import environment, machine
from t2i_track.errors import ModelError
from t2i_track.images import writing
from t2i_track.images.adapters import Adapters, places
from t2i_track.images.batch_sizes import found_out
from t2i_track.images.compiling import eagerly
from t2i_track.images.embeddings import unused
from t2i_track.images.encoding import PromptEncoder, are_cut
from t2i_track.images.executors.data import Loaded, Prepared, Spec, Wanted
from t2i_track.images.fits import notes_on_use, require_fit
from t2i_track.images.loading import LoadedPipeline, choose_memory_format, load, set_memory_format
from t2i_track.images.lora import lora_scales, set_scales
from t2i_track.images.quantizing import notes as quantized
from t2i_track.images.quantizing import packages
from t2i_track.images.sampling import Job, Picture, sample
from t2i_track.images.schedulers import resolved, set_scheduler
from t2i_track.images.tiling import set_tiling
from t2i_track.images.weights import KEPT, KnownDigests
from t2i_track.images.writing import Record
from t2i_track.settings import AUTO, COSTLY, DECLARED, NO_OFFLOAD, UNCOMPILED, Stage, Values

_CHANGED = ("memory_format", "lora", "lora_scale", "embedding", "vae_tiling")
LOADED = tuple(name for name, declared in DECLARED.items() if declared.stage is Stage.LOAD and name not in _CHANGED)
"""The settings of which another value is another pipeline, as are other adapters; the rest can be changed in it."""
_SHAPING = tuple(name for name in COSTLY if name not in ("steps", "scheduler"))
"""What may decide the shapes that the network is called with."""
WARMING_STEPS = 2


class Worker:
    """Loads one model at a time. Of several threads, one computes; the others write what they have made meanwhile."""

    def __init__(self, cache: Path, *, allow_pickle: bool = False) -> None:
        self._cache = cache
        self._allow_pickle = allow_pickle
        self._lock = threading.RLock()
        self._loaded: tuple[tuple[Any, ...], LoadedPipeline] | None = None
        self._memory_format: str | None = None
        self._begun: float | None = time.monotonic()
        self._seconds: float | None = None
        self._encoders: dict[tuple[Any, ...], PromptEncoder] = {}
        self._warm: set[tuple[Any, ...]] = set()

    def load(self, settings: Values) -> Loaded:
        """See ``Executor.load``."""
        with self._lock:
            loaded, scheduler_config = self._pipeline(settings)
            seconds, self._seconds = self._seconds, None
            return Loaded(
                revision=loaded.revision,
                weights_sha256=loaded.weights_sha256,
                pipeline_class=loaded.pipeline_class,
                adapters=dataclasses.replace(loaded.adapters, tokens=()),  # which hold tensors
                dtype=loaded.dtype,
                device=loaded.device,
                scheduler_config=scheduler_config,
                environment=environment(loaded.device),
                machine=machine(loaded.device, *packages(settings)),
                seconds=seconds,
            )

    def prepare(self, wanted: Wanted) -> Prepared:
        """See ``Executor.prepare``."""
        with self._lock:
            asked = wanted.settings
            loaded, _ = self._pipeline(asked)
            height, width = loaded.size(asked)
            sized = dataclasses.replace(asked, height=height, width=width)
            chosen = resolved(loaded.configs["scheduler"], sized)
            require_fit(chosen, loaded.pipeline_class, loaded.configs, wanted.negative_prompts)
            settled = dataclasses.replace(
                chosen,
                dtype=loaded.dtype,
                memory_format=choose_memory_format(asked.memory_format, loaded.device),
                device=loaded.device,
                num=len(wanted.prompts),
            )
            told = self.load(chosen)
            size = asked.batch_size
            if size == AUTO:
                with eagerly(settled):
                    size = found_out(loaded, settled, self._cache)
            # A prompt alone costs one picture, not a whole batch of it.
            size = min(size, len(wanted.prompts) * asked.images_per_prompt)
            settled = dataclasses.replace(settled, batch_size=size)
            return _prepared(loaded, told, settled, wanted)

    def pictures(self, jobs: Sequence[Job], spec: Spec) -> Generator[Picture, None, None]:
        """The pictures of the jobs; no other thread computes until the last is there.

        Raises:
            ModelError: the model is not that of the run, or a single picture does not fit in memory.
        """
        with self._lock:
            loaded, _ = self._pipeline(spec.asked)
            _require_same(loaded, spec)
            self._warm_up(loaded, spec.settings, jobs[:1])
            yield from sample(loaded.pipe, self._encoder(loaded, spec.settings), jobs, spec.settings)

    def make(self, jobs: Sequence[Job], spec: Spec) -> Generator[list[Record], None, None]:
        """See ``Executor.make``; in the order of the jobs."""
        # A generator that is left to the garbage collector may be closed by a thread that does not hold the lock.
        with contextlib.closing(self.pictures(jobs, spec)) as pictures:
            yield from writing.write(pictures, spec.folder, spec.record, spec.settings.batch_size, marked=spec.marked)

    def _pipeline(self, settings: Values) -> tuple[LoadedPipeline, dict[str, Any]]:
        """The pipeline for these settings, loaded once, with their scheduler, memory format and scales of LoRAs."""
        adapters = (*places(settings, "lora"), None, *places(settings, "embedding"))
        layout = None if settings.offload == NO_OFFLOAD else settings.memory_format  # then it cannot be changed
        key = (*(getattr(settings, name) for name in LOADED), adapters, layout)
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = None  # frees the old weights before the new ones are read
            self._memory_format = None
            self._encoders.clear()
            self._warm.clear()
            begun, self._begun = self._begun or time.monotonic(), None
            known = KnownDigests(self._cache / KEPT, writes=True)
            loaded = load(settings, allow_pickle=self._allow_pickle, known=known)
            self._seconds = time.monotonic() - begun
            self._loaded = (key, loaded)
        _, loaded = self._loaded
        settings = resolved(loaded.configs["scheduler"], settings)
        memory_format = choose_memory_format(settings.memory_format, loaded.device)
        if memory_format != self._memory_format:
            set_memory_format(loaded.pipe, memory_format)
            self._memory_format = memory_format
        set_scales(loaded.pipe, settings)
        set_tiling(loaded.pipe, settings)
        return loaded, set_scheduler(loaded.pipe, loaded.configs["scheduler"], settings)

    def _warm_up(self, loaded: LoadedPipeline, settings: Values, jobs: Sequence[Job]) -> None:
        """Have the network compiled for these shapes, so that the time of the first pictures is that of the others."""
        key = (*(getattr(settings, name) for name in _SHAPING), *lora_scales(settings))
        if settings.compile == UNCOMPILED or key in self._warm:
            return
        tried = dataclasses.replace(settings, steps=min(WARMING_STEPS, settings.steps))
        list(sample(loaded.pipe, self._encoder(loaded, tried), jobs, tried))
        self._warm.add(key)

    def _encoder(self, loaded: LoadedPipeline, settings: Values) -> PromptEncoder:
        key = (*PromptEncoder.key(settings), *lora_scales(settings))  # text encoders have LoRAs too
        if key not in self._encoders:
            self._encoders[key] = PromptEncoder(loaded.pipe, settings)
        return self._encoders[key]


def _prepared(loaded: LoadedPipeline, told: Loaded, values: Values, wanted: Wanted) -> Prepared:
    own = wanted.negative_prompts
    # One row tells of all: what is guided only against a negative prompt has one in every row (fits).
    guided = dataclasses.replace(values, negative_prompt=own[0] or values.negative_prompt)
    shared = [values.negative_prompt] if None in own else []
    return Prepared(
        loaded=told,
        settings=values,
        call=loaded.family.call_arguments(values),
        passes=2 if loaded.family.guided(guided, loaded.family.guided_by(loaded.configs)) else 1,
        notes=[
            *notes_on_use(values, loaded.pipeline_class, loaded.configs),
            *loaded.adapters.notes,
            *quantized(loaded.pipe, values),
            *unused(
                loaded.pipe,
                loaded.adapters.tokens,
                wanted.prompts,
                [negative or values.negative_prompt for negative in own],
            ),
        ],
        negative_truncated=any(are_cut(loaded.pipe, shared, values)),
        negatives_truncated=sum(are_cut(loaded.pipe, [text for text in own if text is not None], values)),
    )


def _require_same(loaded: LoadedPipeline, spec: Spec) -> None:
    """Pictures of one run are of one model, whatever lies under its name on another machine."""
    if loaded.weights_sha256 != spec.weights_sha256:
        raise ModelError(
            f"the weights of '{spec.asked.model}' are others than those of the run ({spec.weights_sha256[:12]} there,"
            f" {loaded.weights_sha256[:12]} here): give all workers the same model"
        )
    if _files(loaded.adapters) != (spec.lora_files, spec.embedding_files):
        raise ModelError(f"a LoRA or embedding of '{spec.asked.model}' is another file than that of the run")


def _files(adapters: Adapters) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(adapters.lora_files), tuple(adapters.embedding_files)
