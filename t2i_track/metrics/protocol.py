"""What a number was measured with, and the fingerprint by which numbers are comparable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Any


@dataclass(frozen=True)
class ProtocolRecord:
    """The measurement behind a value; two values are comparable where their fingerprints are equal."""

    metric: str
    extractor: str | None
    weights_sha256: str | None
    layer: str | None
    resize: str | None
    """The size the pictures are brought to, then the extractor's own resize."""
    n: int
    reference: str | None
    """What the user called the reference; not part of the fingerprint, since ``reference_sha256`` says what it is."""
    reference_sha256: str | None
    reference_n: int | None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the canonical JSON of all fields but the reference's name."""
        record = asdict(self)
        del record["reference"]
        return digest(record)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "fingerprint": self.fingerprint}


def digest(record: Any) -> str:
    """sha256 of a JSON-like value, independent of the order of keys."""
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def versions(*distributions: str) -> dict[str, str]:
    """Installed versions, read from the metadata so that nothing is imported."""
    found = {}
    for name in distributions:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
