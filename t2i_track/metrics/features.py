"""Features of pictures and texts: extracted once for each content and extractor, then read from the cache."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2i_track.images.batches import batches
from t2i_track.metrics.cache import INFO, SHARD, Features, FeatureStore
from t2i_track.metrics.extractors import Extractor, Network
from t2i_track.metrics.inputs import ImageItem, Size, read

PASS = 16
"""Inputs of every pass of a network. Rounding depends on tensor shapes, so the last pass is padded to this number too:
the features of a picture then do not depend on the pictures beside it, nor on any batch size."""

READERS = 2
PART = 8 * PASS
"""Inputs that a worker of its own is given at a time."""
Progress = Callable[[int, int], None]
"""Called with inputs done and inputs in all."""
Each = Callable[[Callable[["Part"], "Extracted"], Sequence["Part"]], Generator["Extracted", None, None]]
"""What a function comes to of each part, in any order: ``Executor.each``, where workers are other processes."""


@dataclass(frozen=True)
class Part:
    """Some of the inputs, for a worker in a process of its own."""

    extractor: Extractor
    device: str
    size: Size | None
    """Of pictures; None: the inputs are texts."""
    inputs: Mapping[str, Any]
    """By their keys: the paths of pictures, or texts."""


@dataclass(frozen=True)
class Extracted:
    """The features of some inputs."""

    keys: Sequence[str]
    rows: NDArray[Any] | None
    """One a key; None: there is none."""
    failed: Mapping[str, str]
    """Why others could not be read, by their keys."""
    inputs: int


def picture_features(
    extractor: Extractor,
    items: Sequence[ImageItem],
    size: Size,
    cache_dir: Path,
    device: str = "cpu",
    progress: Progress | None = None,
    each: Each | None = None,
) -> tuple[FeatureStore, dict[str, str]]:
    """Make the features that are missing, in this process or by ``each``.

    Returns:
        The store, which now has every readable picture, and the reason for each ``sha256`` that could not be read.
    """
    store = FeatureStore(extractor.folder(cache_dir, size, device))
    wanted = {item.sha256: item.path for item in items if item.sha256 not in store}
    return store, _extract(Part(extractor, device, size, wanted), store, progress, each)


def text_features(
    extractor: Extractor,
    texts: Sequence[str],
    cache_dir: Path,
    device: str = "cpu",
    progress: Progress | None = None,
    each: Each | None = None,
) -> Features:
    """One row a text, in the order given."""
    keys = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    store = FeatureStore(extractor.folder(cache_dir, None, device))
    wanted = {key: text for key, text in zip(keys, texts, strict=True) if key not in store}
    _extract(Part(extractor, device, None, wanted), store, progress, each)
    return store.rows(keys)


def _extract(whole: Part, store: FeatureStore, progress: Progress | None, each: Each | None) -> dict[str, str]:
    """Make the features of all inputs, and write a shard whenever one is full; why some could not be read."""
    if not whole.inputs:
        return {}
    parts = [whole] if each is None else _parts(whole)
    found = _passes(whole) if each is None else each(of_part, parts)
    failed: dict[str, str] = {}
    shard = _Shard(store)
    done = 0
    # What is extracted is kept, also when a later picture or the user ends it.
    with shard, closing(found):
        for made in found:
            failed |= made.failed
            if made.rows is not None:
                shard.append(made.keys, made.rows)
            done += made.inputs
            if progress:
                progress(done, len(whole.inputs))
    return failed


def _parts(whole: Part) -> list[Part]:
    return [replace(whole, inputs=dict(some)) for some in batches(whole.inputs.items(), PART)]


def of_part(part: Part) -> Extracted:
    """The features of a part, made in this process, which keeps the network for the next."""
    made = list(_passes(part))
    rows = [one.rows for one in made if one.rows is not None]
    return Extracted(
        keys=[key for one in made for key in one.keys],
        rows=np.concatenate(rows) if rows else None,
        failed={key: reason for one in made for key, reason in one.failed.items()},
        inputs=len(part.inputs),
    )


_networks: dict[tuple[str, str, str], Network] = {}
"""The last one that was loaded."""


def _network(part: Part) -> Network:
    key = (part.extractor.name, part.extractor.weights_sha256, part.device)
    if key not in _networks:
        _networks.clear()
        _networks[key] = part.extractor.load(part.device)
    return _networks[key]


def _passes(part: Part) -> Generator[Extracted, None, None]:
    """Read ahead in threads, and run the network in passes of equal shape."""
    from t2i_track.pictures import UnreadablePicture

    network = _network(part)
    size = part.size

    def load(value: Any) -> Any:
        return network.prepare(value if size is None else read(value, size))

    with _inference(), ThreadPoolExecutor(READERS) as readers:
        for chunk in _ahead(readers, part.inputs, load):
            ready, failed = [], {}
            for key, future in chunk:
                try:
                    ready.append((key, *future.result()))
                except UnreadablePicture as error:
                    failed[key] = str(error)
            if not ready:
                yield Extracted((), None, failed, len(chunk))
                continue
            keys, inputs, infos = zip(*ready, strict=True)
            yield Extracted(keys, _run(network, inputs, infos), failed, len(chunk))


class _Shard:
    """Rows that wait to be written together."""

    def __init__(self, store: FeatureStore) -> None:
        self.store = store
        self.keys: list[str] = []
        self.passes: list[NDArray[Any]] = []

    def append(self, keys: Sequence[str], rows: NDArray[Any]) -> None:
        self.keys += keys
        self.passes.append(rows)
        if len(self.keys) >= SHARD:
            self._write()

    def _write(self) -> None:
        if self.keys:
            self.store.add(self.keys, np.concatenate(self.passes))
        self.keys, self.passes = [], []

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._write()


def _ahead(
    readers: ThreadPoolExecutor, wanted: Mapping[str, Any], load: Callable[[Any], Any]
) -> Iterator[list[tuple[str, Future[Any]]]]:
    """Chunks of one pass, the next one being read while the caller works on this one."""
    previous: list[tuple[str, Future[Any]]] = []
    items = iter(wanted.items())
    while chunk := list(islice(items, PASS)):
        current = [(key, readers.submit(load, value)) for key, value in chunk]
        if previous:
            yield previous
        previous = current
    yield previous


def _run(network: Network, inputs: Sequence[NDArray[Any]], infos: Sequence[tuple[int, ...]]) -> NDArray[Any]:
    """One pass, padded to its fixed number of inputs, as rows of the store."""
    batch = np.zeros((PASS, *inputs[0].shape), inputs[0].dtype)
    batch[: len(inputs)] = inputs
    # A padded text must be a text, so the padding repeats an input.
    batch[len(inputs) :] = inputs[0]
    layers = {name: rows[: len(inputs)] for name, rows in network(batch).items()}
    fields = [(name, np.float32, rows.shape[1:]) for name, rows in layers.items()]
    out = np.empty(len(inputs), dtype=[(INFO, np.uint32, (3,)), *fields])
    out[INFO] = infos
    for name, rows in layers.items():
        out[name] = rows
    return out


@contextmanager
def _inference() -> Iterator[None]:
    """No gradients, and on CUDA full float32: TF32 would move features by 1e-3."""
    import torch

    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = before
