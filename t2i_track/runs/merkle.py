"""A hash over a list, of which every entry can be checked: the Merkle tree of RFC 6962, section 2.1."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

LEAF, NODE = b"\0", b"\1"
"""What is hashed before a leaf's bytes and before two children: no node can be passed off as a leaf."""


def canonical(record: Mapping[str, Any]) -> bytes:
    """A record's one JSON text: keys sorted, no blanks, characters as they are, in UTF-8.

    Raises:
        ValueError: a number is not finite, which JSON has no word for.
    """
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def leaf_hash(record: Mapping[str, Any]) -> str:
    """sha256 of a zero byte and the record's canonical JSON, in hexadecimal digits."""
    return hashlib.sha256(LEAF + canonical(record)).hexdigest()


def root(leaves: Sequence[str]) -> str:
    """The root over hashes of leaves, in hexadecimal digits.

    Of no leaves it is sha256 of nothing; of one it is that leaf; of n it is the hash of a one byte, the root of the
    first k and the root of the rest, k being the largest power of two below n.
    """
    if not leaves:
        return hashlib.sha256().hexdigest()
    level = [bytes.fromhex(leaf) for leaf in leaves]
    # Pairs from the left, an odd one taken up as it is: the same tree, level by level.
    while len(level) > 1:
        pairs = [hashlib.sha256(NODE + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)]
        level = pairs + level[len(level) - len(level) % 2 :]
    return level[0].hex()
