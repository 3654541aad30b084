"""The one way to write a file: whole and on the disk under its name, or not at all."""

from __future__ import annotations

import glob
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows, which removes no file that is open
    fcntl = None  # type: ignore[assignment]

TEMPORARY = ".tmp"
"""How the name of a half-written file ends; a process that is killed leaves such a file. A resume removes those of its
pictures, the next writer of the same file that of any other."""


@contextmanager
def replacing(path: Path, *, parents: bool = False) -> Iterator[IO[bytes]]:
    """A stream whose bytes appear at ``path`` when the block ends; an error leaves what was there before.

    Args:
        path: a file that was there is replaced, at once for every reader.
        parents: make the folders that are missing, and remove what killed writers of the same file left. Pictures are
            written without it: where a disk was unmounted or a run's folder removed, an error is better than pictures
            in a place that nobody looks at.
    """
    if parents:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_temporaries(path.parent, path.name)
    temporary, opened = _temporary(path)
    with opened as stream:
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


def _temporary(path: Path) -> tuple[Path, IO[bytes]]:
    """A new file beside the path, locked while it is open: that says to others that its writer is alive."""
    while True:
        # In the same folder, since a rename is atomic only within a file system; a name of its own, since two processes
        # or threads may write the same file; made by open(), unlike mkstemp's, so that the umask decides who may read.
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{TEMPORARY}")
        stream = temporary.open("xb")
        if _locked(stream) is not False and temporary.exists():
            return temporary, stream
        stream.close()  # somebody took it for a dead writer's, in the instant before it was locked


def _locked(stream: IO[bytes]) -> bool | None:
    """Whether the open file could be locked; None where files cannot be."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def is_held(lock: Path) -> bool:
    """Whether a process holds the lock of ``alone``; one that was killed leaves its file, which nobody holds."""
    if fcntl is None:
        return lock.exists()
    try:
        with lock.open("rb") as stream:
            return _locked(stream) is False
    except OSError:
        return False


def remove_temporaries(folder: Path, name: str | None = None) -> None:
    """Remove the half-written files that killed writers left in a folder, of one file or of all; those of writers at
    work stay."""
    for left in folder.glob(f".{'*' if name is None else glob.escape(name)}.*{TEMPORARY}"):
        with suppress(OSError):
            if fcntl is None:
                left.unlink()
                continue
            with left.open("r+b") as stream:
                if _locked(stream):
                    left.unlink()


def write_atomically(path: Path, content: bytes, *, parents: bool = False) -> None:
    """All of the bytes at ``path``, on the disk, or what was there before."""
    with replacing(path, parents=parents) as stream:
        stream.write(content)


def link(source: Path, target: Path) -> None:
    """The same file under another name as well, at once or not at all; a copy where the disk cannot do that.

    It is gone when its last name is: to remove one name leaves the others whole.
    """
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}{TEMPORARY}")
    try:
        temporary.hardlink_to(source)
    except OSError:  # another file system, or one without links
        write_atomically(target, source.read_bytes())
        return
    try:
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)  # to rename a file to its own other name does nothing


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
