"""Memory that is a file's: weights are mapped, not read, and what was copied out of them need not stay."""

from __future__ import annotations

import ctypes
import mmap
import re
import sys
from pathlib import Path
from typing import Any

MAPS = Path("/proc/self/maps")
_LINE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) r..p [0-9a-f]+ \S+ (\d+)")
"""A private mapping: its first and last address, and the file's inode, which is 0 for memory of no file."""


def mapped_files() -> list[tuple[int, int]]:
    """Where files are mapped into this process, as (first address, one behind the last); on Linux, else nowhere."""
    if sys.platform != "linux":
        return []
    found = (_LINE.match(line) for line in MAPS.read_text(encoding="utf-8", errors="replace").splitlines())
    return [(int(line[1], 16), int(line[2], 16)) for line in found if line and line[3] != "0"]


def release(tensor: Any, files: list[tuple[int, int]]) -> None:
    """Take the pages of a tensor that is no longer used out of memory, if they are a file's: read again from the file
    they would be as they were. Of the pages that it shares with its neighbours none is touched."""
    first = tensor.data_ptr()
    last = first + tensor.nbytes
    if not any(low <= first and last <= high for low, high in files):
        return
    first, last = -(-first // mmap.PAGESIZE) * mmap.PAGESIZE, last // mmap.PAGESIZE * mmap.PAGESIZE
    if first < last:
        # A failure leaves the pages where they are.
        ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), mmap.MADV_DONTNEED)
