"""What stored values were measured with, as values are held side by side."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from t2i_track.db.models import MetricValue, Protocol, Run
from t2i_track.metrics.protocol import DEVICE, IMAGES_PER_PROMPT, LEFT_OUT, SCORED, ProtocolRecord
from t2i_track.ranking.protocols import commonest
from t2i_track.ranking.rows import ENDED, Score, protocol_label

EMBEDDED = "shapes"
RUN_REFERENCE = "run:"
RUN_LABEL = "run "
"""How the stored name of a reference begins that was another run's pictures."""


class Protocols:
    """The protocols of a database, each as it is compared: with what values of earlier versions leave out of theirs."""

    def __init__(self, session: Session) -> None:
        self._stored = {row.id: row for row in session.scalars(select(Protocol))}
        self._n = {number: row.n for number, row in self._stored.items()}
        self.fingerprints = {number: row.fingerprint for number, row in self._stored.items()}
        """As stored."""
        self.options = {number: _options(row.reference) for number, row in self._stored.items()}
        """Of `t2i evaluate`, as far as the protocol tells those of values that were stored without them."""
        self._found: dict[tuple[Any, ...], tuple[str, str]] = {}

    def compared(
        self, protocol_id: int, num: int, images_per_prompt: int, prompts_sha256: str | None
    ) -> tuple[str, str]:
        """The fingerprint and the label of a value of a run with so many prompts and images of each.

        ``prompts_sha256``: of the prompts that were scored, where that is stored.
        """
        whole = self._n[protocol_id] >= num * images_per_prompt
        key = (protocol_id, images_per_prompt, None if whole else prompts_sha256 or "not stored")
        if key not in self._found:
            self._found[key] = self._completed(self._stored[protocol_id], *key[1:])
        return self._found[key]

    @staticmethod
    def _completed(stored: Protocol, images_per_prompt: int, prompts: str | None) -> tuple[str, str]:
        said = dict(stored.parameters)
        if images_per_prompt > 1:
            said.setdefault(IMAGES_PER_PROMPT, images_per_prompt)
        if prompts is not None and LEFT_OUT not in said:
            said[SCORED] = prompts  # which earlier versions did not say of what they left out
        fingerprint = stored.fingerprint
        if said != stored.parameters:
            fingerprint = replace(record_of(stored), parameters=said).fingerprint
        return fingerprint, _label(stored, said)


def _options(reference: str | None) -> str:
    if reference in (None, EMBEDDED):
        return ""
    run = reference.removeprefix(RUN_LABEL)
    return shlex.join(["--reference", reference if run == reference else f"{RUN_REFERENCE}{run}"])


def record_of(stored: Protocol) -> ProtocolRecord:
    return ProtocolRecord(**{name: getattr(stored, name) for name in ProtocolRecord.__dataclass_fields__})


def usual_values(session: Session, run: Run, names: Iterable[str]) -> dict[str, tuple[int, datetime]]:
    """Score -> the id of the run's value of it that can be held against those of most runs of its MLflow experiment.

    Chosen as ``compare`` chooses among them; the newest, where the run has none under that protocol. With it comes the
    time of their newest value, from which on it is so.
    """
    protocols = Protocols(session)
    fields = ("id", "name", "value", "protocol_id", "prompts_sha256", "created_at")
    columns = [getattr(MetricValue, name) for name in fields]
    query = (
        select(Run.id.label("run"), Run.status, Run.num, Run.images_per_prompt, *columns)
        .join(MetricValue.run)
        .where(Run.experiment == run.experiment, MetricValue.name.in_(list(names)))
        .order_by(Run.created_at, Run.id, MetricValue.created_at, MetricValue.id)
    )
    finished: dict[str, list[Score]] = {}
    newest: dict[str, datetime] = {}
    own: dict[str, dict[str, int]] = {}
    for row in session.execute(query):
        protocol, _ = protocols.compared(row.protocol_id, row.num, row.images_per_prompt, row.prompts_sha256)
        newest[row.name] = max(row.created_at, newest.get(row.name, row.created_at))
        if row.status in ENDED:
            finished.setdefault(row.name, []).append(Score(row.name, row.value, protocol=protocol))
        if row.run == run.id:
            values = own.setdefault(row.name, {})
            values.pop(protocol, None)  # so that the newest comes last
            values[protocol] = row.id
    chosen = {name: commonest(scores) for name, scores in finished.items()}
    return {
        name: (values.get(chosen.get(name) or "", list(values.values())[-1]), newest[name])
        for name, values in own.items()
    }


def _label(stored: Protocol, parameters: dict[str, Any]) -> str:
    """What is not said of most values is said of all here, so that a difference in it can be named."""
    fields = {name: value for name, value in asdict(record_of(stored)).items() if name != "metric"}
    versions = dict(stored.versions)
    device, number = versions.pop(DEVICE, "cpu"), parameters.get(IMAGES_PER_PROMPT, 1)
    said = {name: value for name, value in parameters.items() if name != IMAGES_PER_PROMPT}
    return protocol_label(
        {**fields, IMAGES_PER_PROMPT: number, "parameters": said, DEVICE: device, "versions": versions}
    )
