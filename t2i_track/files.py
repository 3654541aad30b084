"""The one way to write a file: whole and on the disk under its name, or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

TEMPORARY = ".tmp"
"""How the name of a half-written file ends; a process that is killed leaves such a file, and a resume removes it."""


@contextmanager
def replacing(path: Path, *, parents: bool = False) -> Iterator[IO[bytes]]:
    """A stream whose bytes appear at ``path`` when the block ends; an error leaves what was there before.

    Args:
        path: a file that was there is replaced, at once for every reader.
        parents: make the folders that are missing. Pictures are written without it: where a disk was unmounted or a
            run's folder removed, an error is better than pictures in a place that nobody looks at.
    """
    if parents:
        path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, since a rename is atomic only within a file system; a name of its own, since two processes
    # or threads may write the same file; made by open(), unlike mkstemp's, so that the umask decides who may read it.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{TEMPORARY}")
    with temporary.open("xb") as stream:
        try:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            temporary.replace(path)
        except BaseException as error:
            # Of a full disk the system names no file.
            if isinstance(error, OSError) and error.errno is not None and error.filename is None:
                error.filename = str(path)
            with suppress(OSError):
                temporary.unlink()
            raise


def write_atomically(path: Path, content: bytes, *, parents: bool = False) -> None:
    """All of the bytes at ``path``, on the disk, or what was there before."""
    with replacing(path, parents=parents) as stream:
        stream.write(content)


def remove_left(lock: Path) -> None:
    """Remove the file of a lock that nobody holds: its holder was killed, and nobody has wanted it since."""
    if lock.exists():
        with suppress(OSError), alone(lock, timeout=0):  # filelock's Timeout is one
            pass


@contextmanager
def alone(lock: Path, *, timeout: float = -1) -> Iterator[None]:
    """One process and thread at a time, by a file that is there only meanwhile.

    Args:
        lock: a file in a folder that is there; where its holder was killed the next one takes it.
        timeout: seconds to wait; negative: without end.

    Raises:
        filelock.Timeout: somebody else holds it.
    """
    from filelock import FileLock

    with FileLock(lock).acquire(timeout=timeout):
        try:
            yield
        finally:
            # While it is held: filelock lets nobody have a file that is gone. Removed after its release, one process
            # could hold the removed file and another a new one.
            with suppress(OSError):  # Windows removes no open file
                lock.unlink()
