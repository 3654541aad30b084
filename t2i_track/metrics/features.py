"""Features of pictures and texts: extracted once for each content and extractor, then read from the cache."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2i_track.metrics.cache import INFO, SHARD, Features, FeatureStore
from t2i_track.metrics.extractors import Extractor, Network
from t2i_track.metrics.inputs import ImageItem, Size, read

PASS = 16
"""Inputs of every pass of a network. Rounding depends on tensor shapes, so the last pass is padded to this number too:
the features of a picture then do not depend on the pictures beside it, nor on any batch size."""

READERS = 2
Progress = Callable[[int, int], None]
"""Called with inputs done and inputs in all."""


def picture_features(
    extractor: Extractor,
    items: Sequence[ImageItem],
    size: Size,
    cache_dir: Path,
    device: str = "cpu",
    progress: Progress | None = None,
) -> tuple[FeatureStore, dict[str, str]]:
    """Make the features that are missing.

    Returns:
        The store, which now has every readable picture, and the reason for each ``sha256`` that could not be read.
    """
    store = FeatureStore(extractor.folder(cache_dir, size, device))
    wanted = {item.sha256: item.path for item in items if item.sha256 not in store}

    def load(network: Network, path: Path) -> Any:
        return network.prepare(read(path, size))

    return store, _extract(extractor, wanted, load, store, device, progress)


def text_features(
    extractor: Extractor, texts: Sequence[str], cache_dir: Path, device: str = "cpu", progress: Progress | None = None
) -> Features:
    """One row a text, in the order given."""
    keys = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    store = FeatureStore(extractor.folder(cache_dir, None, device))
    wanted = {key: text for key, text in zip(keys, texts, strict=True) if key not in store}
    _extract(extractor, wanted, lambda network, text: network.prepare(text), store, device, progress)
    return store.rows(keys)


def _extract(
    extractor: Extractor,
    wanted: Mapping[str, Any],
    load: Callable[[Network, Any], Any],
    store: FeatureStore,
    device: str,
    progress: Progress | None,
) -> dict[str, str]:
    """Read ahead in threads, run the network in passes of equal shape, write a shard whenever one is full."""
    if not wanted:
        return {}
    network = extractor.load(device)
    failed: dict[str, str] = {}
    shard = _Shard(store)
    done = 0
    # What is extracted is kept, also when a later picture or the user ends it.
    from t2i_track.pictures import UnreadablePicture

    with _inference(), shard, ThreadPoolExecutor(READERS) as readers:
        for chunk in _ahead(readers, wanted, lambda value: load(network, value)):
            ready = []
            for key, future in chunk:
                try:
                    ready.append((key, *future.result()))
                except UnreadablePicture as error:
                    failed[key] = str(error)
            if ready:
                keys, inputs, infos = zip(*ready, strict=True)
                shard.append(keys, _run(network, inputs, infos))
            done += len(chunk)
            if progress:
                progress(done, len(wanted))
    return failed


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
