"""Which weights a model has, by the bytes of its tensors; each file is read once, not for every command."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from t2i_track.errors import ModelError
from t2i_track.files import write_atomically
from t2i_track.filesystems import is_lfs_pointer
from t2i_track.jsontext import KeyTwice, parsed

SAFE = ".safetensors"
CHUNK = 1 << 20
"""Bytes that are read at once."""
MOST_HEADER = 100_000_000
"""Bytes of a header: what the format allows."""
SETTLED = 1.0
"""Seconds after its last change in which a file's digest is not kept: a second change might bear the same time."""
WORTH_KEEPING = 1 << 24
"""Bytes: a smaller file is read in the time in which its digests are written."""
KEPT = "weights.json"
"""The file in a home's cache that the digests are kept in."""

Digests = list[tuple[str, str]]
"""(tensor, sha256 of its dtype, shape and bytes), in the file's order."""


def weights_sha256(folder: Path, files: list[Path], known: KnownDigests | None = None) -> str:
    """sha256 over all tensors: component, name, dtype, shape and bytes, in sorted order.

    The files' own headers and layout do not count, so that the same tensors in one file or in shards hash alike.
    Pickled files are hashed as they are.

    Args:
        folder: the component of a file is its folder's path in here.
        files: safetensors, or pickled.
        known: where digests are kept, so that files that have not changed are not read again.

    Raises:
        ModelError: a safetensors file is cut short or none.
    """
    return tensors_sha256(((file.parent.relative_to(folder).as_posix(), file) for file in files), known)


def tensors_sha256(files: Iterable[tuple[str, Path]], known: KnownDigests | None = None) -> str:
    """As ``weights_sha256``, of files with their components: those of one model may lie in several folders."""
    known = known or KnownDigests()
    digests = [(component, name, digest) for component, file in files for name, digest in known.of(file)]
    known.keep()
    return hashlib.sha256(json.dumps(sorted(digests)).encode()).hexdigest()


class KnownDigests:
    """The digests of files' tensors, kept in a JSON file by what tells a file from any other and from itself changed:
    path, device, inode, size, and the times of its last change, of which the second cannot be set back."""

    def __init__(self, path: Path | None = None, *, writes: bool = False) -> None:
        """Without a path, or where what lies there cannot be read, nothing is known yet."""
        self._path = path
        self._writes = writes
        self._kept = _read(path)
        self._new: dict[str, dict[str, Any]] = {}

    def of(self, file: Path) -> Digests:
        """The digests of the file's tensors, or of the file where it is pickled.

        Raises:
            ModelError: a safetensors file is cut short or none.
        """
        real = file.resolve()
        before = _identity(real)
        for entries in (self._new, self._kept):
            entry = entries.get(str(real))
            if entry is not None and entry["identity"] == before:
                return [(str(name), str(digest)) for name, digest in entry["tensors"]]
        tensors = list(_tensor_digests(file))
        settled = time.time() - before[-1] / 1e9 > SETTLED
        if settled and _identity(real) == before and real.stat().st_size >= WORTH_KEEPING:
            self._new[str(real)] = {"identity": before, "tensors": tensors}
        return tensors

    def keep(self) -> None:
        """Write what is new beside what others have written since; without those files that are gone or changed.

        Of two processes that write at once the later one's file stays, and the other's is read again some day.
        """
        if self._path is None or not self._writes or not self._new:
            return
        self._kept = {**_read(self._path), **self._new}
        whole = {path: entry for path, entry in self._kept.items() if _still(Path(path), entry)}
        with suppress(OSError):  # a full or locked disk costs the time of reading again, not the run
            write_atomically(self._path, json.dumps(whole).encode(), parents=True)
            self._new = {}


def _read(path: Path | None) -> dict[str, dict[str, Any]]:
    if path is None:
        return {}
    try:
        kept = json.loads(path.read_bytes())
        return {str(file): entry for file, entry in kept.items() if _is_entry(entry)}
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("identity"), list):
        return False
    tensors = entry.get("tensors")
    return isinstance(tensors, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in tensors)


def _identity(file: Path) -> list[int]:
    found = file.stat()
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _still(file: Path, entry: dict[str, Any]) -> bool:
    try:
        return bool(_identity(file) == entry["identity"])
    except OSError:
        return False


def header(file: Path) -> dict[str, Any]:
    """The safetensors file's tensors: name -> ``dtype``, ``shape`` and ``data_offsets`` in the file.

    Raises:
        ModelError: the file is cut short, or no safetensors file.
    """
    # The format is 8 bytes of header length, a JSON header, then the raw tensors; reading it here keeps torch out.
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > MOST_HEADER:
                raise ValueError("no header")
            found = parsed(stream.read(length))
        start = 8 + length
        tensors = {
            name: {
                "dtype": tensor["dtype"],
                "shape": tensor["shape"],
                "data_offsets": [start + offset for offset in tensor["data_offsets"]],
            }
            for name, tensor in found.items()
            if name != "__metadata__"
        }
        if max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0) > file.stat().st_size:
            raise ValueError("cut short")
        return tensors
    except KeyTwice as error:
        raise ModelError(f"{file.parent.name}/{file.name} cannot be used: in its header {error}") from None
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError):
        raise ModelError(f"{file.parent.name}/{file.name} {_what_it_is(file)}") from None
    except OSError as error:
        raise ModelError(f"{file.parent.name}/{file.name} cannot be read ({error.strerror})") from None


def _what_it_is(file: Path) -> str:
    if is_lfs_pointer(file):
        return "is only a pointer of Git LFS: run 'git lfs pull' in its repository"
    return f"is cut short, or no {SAFE} file: copy or download it again"


def _tensor_digests(file: Path) -> Iterator[tuple[str, str]]:
    if file.suffix != SAFE:
        with file.open("rb") as stream:
            yield file.name, hashlib.file_digest(stream, "sha256").hexdigest()
        return
    tensors = header(file)
    with file.open("rb") as stream:
        for name, tensor in tensors.items():
            yield name, _digest(stream, tensor)


def _digest(stream: BinaryIO, tensor: dict[str, Any]) -> str:
    found = hashlib.sha256(f"{tensor['dtype']} {tensor['shape']} ".encode())
    low, high = tensor["data_offsets"]
    stream.seek(low)
    while low < high:
        chunk = stream.read(min(CHUNK, high - low))
        if not chunk:
            raise ModelError(f"{stream.name} became shorter while it was read: load it again when it is whole")
        found.update(chunk)
        low += len(chunk)
    return found.hexdigest()
