"""Which file system a folder is on, and whether programs on several machines share it."""

from __future__ import annotations

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
"""Linux's list; elsewhere nothing is known, and a folder is taken for local."""

_SHARED = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "beegfs", "ceph", "afs", "glusterfs", "orangefs"}
_SHARED |= {"pvfs2", "panfs", "ocfs2", "gfs2", "9p", "davfs", "ncpfs", "coda", "virtiofs"}
_SHARED_BY_FUSE = {
    "sshfs",
    "glusterfs",
    "ceph",
    "s3fs",
    "rclone",
    "gcsfuse",
    "juicefs",
    "beegfs",
    "davfs2",
    "curlftpfs",
}
_SHARED_BY_FUSE |= {
    "blobfuse",
    "blobfuse2",
    "mountpoint-s3",
    "goofys",
    "lizardfs",
    "moosefs",
    "mfs",
    "hdfs",
    "smbnetfs",
}
_ESCAPED = re.compile(r"\\([0-7]{3})")


def filesystem(folder: Path, mounts: str) -> str:
    """The type of the file system that holds the folder; empty where the list does not say.

    Args:
        folder: an absolute path without links; it need not be there.
        mounts: the text of ``/proc/self/mountinfo`` (proc(5)): mount point in the fifth field, type behind `` - ``.
    """
    found, depth = "", -1
    for line in mounts.splitlines():
        before, dash, after = line.partition(" - ")
        fields = before.split(" ")
        if not dash or len(fields) < 5 or not after.split():
            continue
        point = Path(_ESCAPED.sub(lambda code: chr(int(code[1], 8)), fields[4]))
        # Of two at one place the later one covers the earlier.
        if folder.is_relative_to(point) and len(point.parts) >= depth:
            found, depth = after.split()[0], len(point.parts)
    return found


def shared(kind: str) -> bool:
    """Whether several machines may use a file system of that type, so that memory of a file is not theirs in common."""
    kind, _, by = kind.lower().partition(".")
    return by in _SHARED_BY_FUSE if kind == "fuse" and by else kind in _SHARED


def shared_filesystem(folder: Path) -> str | None:
    """The type of the network or cluster file system that holds the folder; None for a local one."""
    try:
        mounts = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    kind = filesystem(folder.resolve(), mounts)
    return kind if shared(kind) else None


LFS_POINTER = b"version https://git-lfs"
"""How a file begins that is only a pointer of Git LFS."""


def is_lfs_pointer(path: Path) -> bool:
    """Whether only Git LFS's pointer to a file lies in its place; raises OSError where it cannot be read."""
    with path.open("rb") as stream:
        return stream.read(len(LFS_POINTER)) == LFS_POINTER
