"""What a number was measured with, and the fingerprint by which numbers are comparable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

IMAGES_PER_PROMPT, LEFT_OUT = "images_per_prompt", "left_out_sha256"
"""Among the parameters, see ``of_pictures``."""
SCORED = "scored_prompts_sha256"
"""Among the parameters where only prompts that other runs have too were scored: of their set (``Prompts.sha256``)."""
DEVICE = "device"
"""Among the versions, see ``of_device``."""


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


def of_pictures(images_per_prompt: int, left_out: Iterable[tuple[int, int]]) -> dict[str, Any]:
    """Which pictures of a manifest were scored, for the parameters of a protocol.

    With the number of pictures this decides them, since runs take prompts from the front of their manifest; it says
    nothing of which manifest that is, so runs over different ones can be compared. Nothing is said of one picture of
    each prompt: what is stored of those has no such parameters in its fingerprint.

    Args:
        images_per_prompt: of the run.
        left_out: prompt index and replicate of the pictures of the run that were not scored.
    """
    found: dict[str, Any] = {} if images_per_prompt == 1 else {IMAGES_PER_PROMPT: images_per_prompt}
    lost = sorted(left_out)
    return {**found, LEFT_OUT: digest(lost)} if lost else found


def of_device(device: str) -> dict[str, str]:
    """The class of the device that made the features, for the versions of a protocol: rounding depends on it.

    Nothing is said of a CPU: what is stored of earlier versions has no device in its fingerprint.
    """
    kind = device.split(":")[0]
    return {} if kind == "cpu" else {DEVICE: kind}


def digest(record: Any) -> str:
    """sha256 of a JSON-like value, independent of the order of keys."""
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def versions(*distributions: str) -> dict[str, str]:
    """Installed versions, read from the metadata so that nothing is imported."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in distributions:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
