"""Whether stored scores lie in a protocol's windows. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from t2i_track.db import lineage
from t2i_track.db.models import MetricValue, Protocol
from t2i_track.errors import ProtocolMismatch
from t2i_track.metrics.published import NamedProtocol, check_protocol, load_protocol
from t2i_track.metrics.published import gate as outside
from t2i_track.metrics.registry import METRICS
from t2i_track.runs.evaluate import protocol_settings
from t2i_track.workspace import Workspace


def gate(workspace: Workspace, addresses: Sequence[str], name: str) -> tuple[list[dict[str, Any]], list[str]]:
    """A row for each window and run, and a sentence for each value outside its window.

    Only values that were measured as the protocol says count: with its extractor, and at its size.

    Raises:
        ProtocolMismatch: a run was not made as the protocol says, so that its values mean nothing there.
        MetricError: no such protocol, or one without windows.
    """
    protocol = load_protocol(name)
    rows: list[dict[str, Any]] = []
    failures: list[str] = []
    with workspace.reading() as session:
        for address in addresses:
            run = lineage.find_run(session, address)
            differing = check_protocol(protocol, protocol_settings(run))
            if differing:
                raise ProtocolMismatch(
                    f"run {run.name} does not follow protocol {protocol.name}: {'; '.join(map(str, differing))}"
                )
            stored = session.execute(
                select(MetricValue, Protocol)
                .join(MetricValue.protocol)
                .where(MetricValue.run_id == run.id)
                .order_by(MetricValue.created_at, MetricValue.id)
            )
            values = {value.name: value.value for value, how in stored if _as_said(protocol, how)}
            wrong = {found.name: found for found in outside(protocol, values)}
            failures += [f"{run.name}: {found}" for found in wrong.values()]
            rows += [
                {
                    "run": run.name,
                    "score": score,
                    "value": values.get(score),
                    "low": low,
                    "high": high,
                    "inside": score not in wrong,
                }
                for score, (low, high) in protocol.windows.items()
            ]
    return rows, failures


def _as_said(protocol: NamedProtocol, how: Protocol) -> bool:
    """Whether a value was measured with the extractor and at the size that the protocol names."""
    said = protocol.evaluation
    metric = METRICS.get(how.metric)
    own = metric is not None and not metric.clip
    if own and said.get("extractor") not in (None, how.extractor):
        return False
    side = said.get("resize")
    return side is None or (how.resize or "").startswith(f"{side}x{side} ")
