"""Which weights a model has, by the bytes of its tensors."""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Iterator
from pathlib import Path

from t2i_track.errors import ModelError
from t2i_track.jsontext import KeyTwice, parsed
from t2i_track.prompts.text import POINTER

SAFE = ".safetensors"


def weights_sha256(folder: Path, files: list[Path]) -> str:
    """sha256 over all tensors: component, name, dtype, shape and bytes, in sorted order.

    The files' own headers and layout do not count, so that the same tensors in one file or in shards hash alike.
    Pickled files are hashed as they are.

    Raises:
        ModelError: a safetensors file is cut short or none.
    """
    digests: list[tuple[str, str, str]] = []
    for file in files:
        component = file.parent.relative_to(folder).as_posix()
        digests += [(component, name, digest) for name, digest in _tensor_digests(file)]
    return hashlib.sha256(json.dumps(sorted(digests)).encode()).hexdigest()


def _tensor_digests(file: Path) -> Iterator[tuple[str, str]]:
    if file.suffix != SAFE:
        with file.open("rb") as stream:
            yield file.name, hashlib.file_digest(stream, "sha256").hexdigest()
        return
    # The format is 8 bytes of header length, a JSON header, then the raw tensors; reading it here keeps torch out and
    # hashes from the page cache.
    try:
        with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
            start = 8 + int.from_bytes(view[:8], "little")
            header = parsed(view[8:start])
            tensors = {name: tensor for name, tensor in header.items() if name != "__metadata__"}
            if start + max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0) > len(view):
                raise ValueError("cut short")
            for name, tensor in tensors.items():
                low, high = tensor["data_offsets"]
                digest = hashlib.sha256(f"{tensor['dtype']} {tensor['shape']} ".encode())
                digest.update(memoryview(view)[start + low : start + high])
                yield name, digest.hexdigest()
    except KeyTwice as error:
        raise ModelError(f"{file.parent.name}/{file.name} cannot be used: in its header {error}") from None
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError):
        raise ModelError(f"{file.parent.name}/{file.name} {_what_it_is(file)}") from None


def _what_it_is(file: Path) -> str:
    with file.open("rb") as stream:
        if stream.read(len(POINTER)) == POINTER:
            return "is only a pointer of Git LFS: run 'git lfs pull' in its repository"
    return f"is cut short, or no {SAFE} file: copy or download it again"
