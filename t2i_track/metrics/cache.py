"""Features, statistics and file hashes on disk: written once, whole or not at all, found again by content.

Layout under the cache folder::

    features/<extractor>/<shard>.npy    up to SHARD rows of features, memory-mapped
    features/<extractor>/<shard>.keys   the 32-byte key of each row
    statistics/<key>.npz                what is derived from a reference set
    hashes/<key>.json                   sha256 of a file, while its size and time stay as they were
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2i_track.files import TEMPORARY, remove_temporaries, replacing
from t2i_track.metrics.protocol import digest

SHARD = 1024
INFO = "info"
"""The field of a row that describes its input: width, height, black for a picture; tokens, truncated for a text."""


class Features:
    """The rows of some inputs, read from the shards a block at a time."""

    def __init__(self, shards: Sequence[NDArray[Any]], where: NDArray[np.int64]) -> None:
        self._shards = shards
        self._where = where

    def __len__(self) -> int:
        return len(self._where)

    def take(self, layer: str, rows: NDArray[np.intp] | slice = slice(None)) -> NDArray[np.float32]:
        """Float32 features of the given rows, (rows, dimension)."""
        where = self._where[rows]
        out: NDArray[Any] = np.empty(
            (len(where), *self._shards[0].dtype[layer].shape), self._shards[0].dtype[layer].base
        )
        for shard in np.unique(where[:, 0]):
            mine = where[:, 0] == shard
            out[mine] = self._shards[shard][layer][where[mine, 1]]
        return out

    def layer(self, name: str) -> Layer:
        return Layer(self, name)

    def info(self) -> NDArray[np.uint32]:
        """What the inputs were like, (rows, 3)."""
        return self.take(INFO)  # type: ignore[return-value]

    def select(self, rows: NDArray[np.intp]) -> Features:
        return Features(self._shards, self._where[rows])


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of some inputs' features; indexed like an array of shape (inputs, dimension)."""

    features: Features
    name: str

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, rows: NDArray[np.intp] | slice) -> NDArray[np.float32]:
        return self.features.take(self.name, rows)


class FeatureStore:
    """The features of one extractor, by the sha256 of their inputs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._shards: list[NDArray[Any]] = []
        self._where: dict[bytes, tuple[int, int]] = {}
        for keys in sorted(folder.glob("*.keys")):
            self._open(keys)

    def _open(self, keys: Path) -> None:
        # A shard that was pruned meanwhile or is not whole counts as not there: its features are made again.
        try:
            rows = np.load(keys.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)
            names = np.fromfile(keys, dtype="V32")
        except (OSError, ValueError, EOFError):
            return
        if len(rows) == len(names):
            with suppress(OSError):
                os.utime(keys.with_suffix(".npy"))
            self._where.update((name.tobytes(), (len(self._shards), i)) for i, name in enumerate(names))
            self._shards.append(rows)

    def __contains__(self, key: str) -> bool:
        return bytes.fromhex(key) in self._where

    def add(self, keys: Sequence[str], rows: NDArray[Any]) -> None:
        """Write a shard; its keys are there before it is, so a reader sees both or neither."""
        remove_temporaries(self.folder)
        path = self.folder / f"{digest(list(keys))[:32]}.npy"
        with replacing(path.with_suffix(".keys"), parents=True) as file:
            file.write(b"".join(map(bytes.fromhex, keys)))
        with replacing(path, parents=True) as file:
            np.save(file, rows, allow_pickle=False)
        self._open(path.with_suffix(".keys"))

    def rows(self, keys: Iterable[str]) -> Features:
        where = [self._where[bytes.fromhex(key)] for key in keys]
        return Features(self._shards, np.array(where, dtype=np.int64).reshape(-1, 2))


def kept(cache_dir: Path, key: Any, compute: Callable[[], Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Arrays derived from a reference set: read where they were kept, else computed and kept."""
    path = cache_dir / "statistics" / f"{digest(key)}.npz"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = dict(arrays)
        os.utime(path)
    except (OSError, ValueError, EOFError):
        found = dict(compute())
        with replacing(path, parents=True) as file:
            np.savez(file, **found)
    return found


def file_sha256(path: Path, cache_dir: Path) -> str:
    """sha256 of a file's bytes, not read again while its size and modification time stay."""
    return files_sha256([path], cache_dir)[0]


def files_sha256(
    paths: Sequence[Path], cache_dir: Path, of: Callable[[Path], str] | None = None, kind: str = ""
) -> list[str]:
    """The same of many files, noted together; only files that changed are read again.

    ``of`` makes another hash of a file than that of its bytes, and ``kind`` says which.
    """
    real = [path.resolve() for path in paths]
    stats = [path.stat() for path in real]
    stamps = [[str(p), stat.st_size, stat.st_mtime_ns] for p, stat in zip(real, stats, strict=True)]
    note = cache_dir / "hashes" / f"{digest([*([kind] if kind else []), *map(str, real)])[:32]}.json"
    noted: list[list[Any]] = []
    with suppress(OSError, ValueError):
        noted = json.loads(note.read_bytes())
    known = {tuple(stamp): str(sha256) for *stamp, sha256 in noted}
    make = of or sha256
    found = [known.get(tuple(stamp)) or make(path) for stamp, path in zip(stamps, real, strict=True)]
    entries = [[*stamp, sha256] for stamp, sha256 in zip(stamps, found, strict=True)]
    if entries != noted:
        with replacing(note, parents=True) as file:
            file.write(json.dumps(entries).encode())
    return found


def sha256(path: Path) -> str:
    """Of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class Pruned:
    files: int
    """Shards and statistics removed."""
    freed: int
    kept: int
    """Bytes."""


def prune_cache(cache_dir: Path, max_bytes: int) -> Pruned:
    """Remove the features and statistics that were not used for the longest time until ``max_bytes`` are left.

    Nothing is lost but time: what was removed is made again when it is needed. What killed writers left goes too.
    """
    for folder in {path.parent for path in cache_dir.rglob(f"*{TEMPORARY}")}:
        remove_temporaries(folder)
    units = []
    for path in [*cache_dir.glob("features/*/*.npy"), *cache_dir.glob("statistics/*.npz")]:
        parts = [part for part in (path, path.with_suffix(".keys")) if part.exists()]
        units.append((path.stat().st_mtime_ns, sum(part.stat().st_size for part in parts), parts))
    total = sum(size for _, size, _ in units)
    files = freed = 0
    for _, size, parts in sorted(units, key=lambda unit: (unit[0], unit[2])):
        if total - freed <= max_bytes:
            break
        for part in parts:
            part.unlink(missing_ok=True)
        files += 1
        freed += size
    return Pruned(files, freed, total - freed)
