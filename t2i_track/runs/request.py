"""What an evaluation was asked to measure, and what suits the prompts where that was left open."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from t2i_track.db.models import Run
from t2i_track.errors import MetricError, ProtocolMismatch
from t2i_track.metrics.extractors import INCEPTION
from t2i_track.metrics.published import GATED, check_protocol, load_protocol
from t2i_track.metrics.reference import Reference
from t2i_track.runs.plan import stored_prompts, values_of
from t2i_track.runs.protocols import EMBEDDED
from t2i_track.settings import EMBEDDED_MODEL, UNKNOWABLE, UNKNOWN

FLAGS = ("skip_bad", "shared_prompts")
"""What of a request is on or off."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to measure and with what; None: what suits the run's prompts."""

    metrics: tuple[str, ...] | None = None
    extractor: str | None = None
    weights: Path | None = None
    clip: str | None = None
    reference: str | None = None
    resize: int | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    device: str | None = None
    skip_bad: bool = False
    protocol: str | None = None
    shared_prompts: bool = False
    """Score the prompts that all of the runs have, and no others."""

    def options(self) -> str:
        """The options of `t2i evaluate` that say the same, but for which scores."""
        named = {"weights": "extractor-weights"}
        given = {
            named.get(name, name): value
            for name, value in vars(self).items()
            if name not in ("metrics", "parameters", *FLAGS) and value is not None
        }
        words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
        flags = [f"--{name.replace('_', '-')}" for name in FLAGS if getattr(self, name)]
        return shlex.join([*words, *flags])

    def networks(self, embedded: bool) -> tuple[str, str | None]:
        """The extractor and the CLIP model, if any, for prompts that are, or are not, all embedded captions."""
        return self.extractor or (EMBEDDED if embedded else INCEPTION), self.clip or (EMBEDDED if embedded else None)


def protocol_settings(run: Run) -> dict[str, Any]:
    """A run's settings under the names that protocols use; what an imported run does not tell follows none."""
    values = values_of(run).to_dict()
    return {name: UNKNOWN if value is None and name in UNKNOWABLE else value for name, value in values.items()}


def following(request: Request, runs: Sequence[Run]) -> Request:
    """The request with what its protocol says and the user left open.

    Raises:
        ProtocolMismatch: a run does not follow the protocol; every setting that differs is named.
    """
    assert request.protocol is not None
    protocol = load_protocol(request.protocol)
    for run in runs:
        differing = check_protocol(protocol, protocol_settings(run))
        if differing:
            raise ProtocolMismatch(
                f"run {run.name} does not follow protocol {protocol.name}: {'; '.join(map(str, differing))}"
            )
    said = {name: tuple(value) if name == "metrics" else value for name, value in protocol.evaluation.items()}
    if said.get("reference") not in (None, EMBEDDED) and request.reference is None:
        raise MetricError(
            f"protocol {protocol.name} measures against {said['reference']}, which t2i-track does not ship:"
            " name it with --reference"
        )
    given = {name: value for name, value in vars(request).items() if value}
    open_fields: dict[str, Any] = {name: value for name, value in said.items() if name not in (*given, *GATED)}
    return dataclasses.replace(request, **open_fields)


def require_published(request: Request, reference: Reference) -> None:
    """Raises MetricError where the request's protocol names the hash of another reference."""
    said = load_protocol(request.protocol).evaluation.get("reference_sha256") if request.protocol else None
    if said is not None and not reference.sha256.startswith(said):
        raise MetricError(
            f"protocol {request.protocol} measures against pictures of sha256 {said[:8]}, and {reference.label} has"
            f" {reference.sha256[:8]}: name them with --reference"
        )


def is_embedded(session: Session, run: Run) -> bool:
    """Whether every prompt is one of the embedded grammar, so that its pictures can be judged by it."""
    return are_embedded(run.model.name, (run.height, run.width), stored_prompts(session, run))


def are_embedded(model: str, size: tuple[int | None, int | None], prompts: Iterable[str]) -> bool:
    """The same of pictures of a model, of such a height and width."""
    from t2i_track import shapes

    if model != EMBEDDED_MODEL and size != (shapes.SIDE, shapes.SIDE):
        return False
    return all(shapes.parse(prompt) is not None for prompt in prompts)
