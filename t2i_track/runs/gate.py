"""Whether stored scores lie in a protocol's windows. Reads only."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from t2i_track.db import lineage
from t2i_track.db.models import Image, MetricValue, Protocol, Run
from t2i_track.errors import ProtocolMismatch
from t2i_track.metrics.extractors import Identity, identity
from t2i_track.metrics.protocol import digest
from t2i_track.metrics.published import NamedProtocol, check_protocol, load_protocol
from t2i_track.metrics.published import gate as outside
from t2i_track.metrics.reference import open_reference
from t2i_track.metrics.registry import METRICS
from t2i_track.runs.protocols import EMBEDDED, RUN_LABEL, RUN_REFERENCE
from t2i_track.runs.request import protocol_settings
from t2i_track.workspace import Workspace

Stored = tuple[MetricValue, Protocol]


class Chosen(NamedTuple):
    """The value that counts and what it was measured with; or why none does."""

    value: MetricValue | None
    measured: str | None
    why: str


def gate(workspace: Workspace, addresses: Sequence[str], name: str) -> tuple[list[dict[str, Any]], list[str]]:
    """A row for each window and run, and a sentence for each value outside its window.

    Of all stored values those count that were measured as the protocol says: with its extractor and CLIP model, against
    its reference, at its size, with its parameters, and on all images of the run. Where several do that differ in what
    the protocol leaves open, none counts, and the sentence says so.

    Raises:
        ProtocolMismatch: a run was not made as the protocol says, so that its values mean nothing there.
        MetricError: no such protocol, or one without windows.
    """
    protocol = load_protocol(name)
    rows: list[dict[str, Any]] = []
    failures: list[str] = []
    with workspace.reading() as session:
        said = _said(session, workspace, protocol)
        for address in addresses:
            run = lineage.find_run(session, address)
            differing = check_protocol(protocol, protocol_settings(run))
            if differing:
                raise ProtocolMismatch(
                    f"run {run.name} does not follow protocol {protocol.name}: {'; '.join(map(str, differing))}"
                )
            own = _pictures_sha256(session, run)
            stored = _stored(session, run, protocol.windows)
            chosen = {score: _choose(values, said, run, own) for score, values in stored.items()}
            wrong = outside(
                protocol,
                {score: found.value for score, (found, _, _) in chosen.items() if found is not None},
                {score: why for score, (_, _, why) in chosen.items()},
            )
            failures += [f"{run.name}: {one}" for one in wrong]
            rows += _rows(run, protocol, chosen, {one.name for one in wrong})
    return rows, failures


def _rows(
    run: Run, protocol: NamedProtocol, chosen: Mapping[str, Chosen], wrong: Container[str]
) -> list[dict[str, Any]]:
    return [
        {
            "run": run.name,
            "score": score,
            "value": None if (found := chosen[score].value) is None else found.value,
            "low": low,
            "high": high,
            "inside": score not in wrong,
            "measured": chosen[score].measured,
        }
        for score, (low, high) in protocol.windows.items()
    ]


@dataclass(frozen=True)
class _Said:
    """What a protocol says of a measurement; None where it leaves that open. Hashes may be how hashes begin."""

    extractor: Identity | None
    clip: Identity | None
    reference: str | None
    reference_sha256: str | None
    n: int | None
    resize: int | None
    parameters: Mapping[str, Any]


def _said(session: Session, workspace: Workspace, protocol: NamedProtocol) -> _Said:
    said = protocol.evaluation
    extractor, clip, reference = said.get("extractor"), said.get("clip"), said.get("reference")
    sha256 = said.get("reference_sha256")
    if sha256 is None and reference is not None and reference != EMBEDDED:
        if reference.startswith(RUN_REFERENCE):
            other = lineage.find_run(session, reference.removeprefix(RUN_REFERENCE))
            sha256, _ = _pictures_sha256(session, other)
        elif _is_path(reference):
            sha256 = open_reference(reference, workspace.cache).sha256
    return _Said(
        None if extractor is None else identity(extractor, workspace.cache),
        None if clip is None else identity(clip if clip.startswith("clip:") else f"clip:{clip}", workspace.cache),
        reference,
        sha256,
        said.get("n"),
        said.get("resize"),
        said.get("parameters") or {},
    )


def _is_path(text: str) -> bool:
    """Whether it names something here; a protocol may also describe its reference in words."""
    try:
        return Path(text).exists()
    except OSError:  # longer than a name may be
        return False


def _stored(session: Session, run: Run, scores: Mapping[str, Any]) -> dict[str, list[Stored]]:
    """All values of these scores, the newest last."""
    found: dict[str, list[Stored]] = {score: [] for score in scores}
    query = select(MetricValue, Protocol).join(MetricValue.protocol).where(MetricValue.run_id == run.id)
    for value, how in session.execute(query.order_by(MetricValue.created_at, MetricValue.id)):
        if value.name in found:
            found[value.name].append((value, how))
    return found


def _pictures_sha256(session: Session, run: Run) -> tuple[str, str]:
    """What the run's pictures are called where they are a reference: as a run, and as a folder of files."""
    images = select(Image.pixels_sha256, Image.sha256).where(Image.run_id == run.id)
    rows = session.execute(images.order_by(Image.prompt_index, Image.replicate)).all()
    return digest([pixels for pixels, _ in rows]), digest([file for _, file in rows])


def _choose(values: Sequence[Stored], said: _Said, run: Run, own: Container[str]) -> Chosen:
    """The newest value that was measured as said, or why there is none."""
    told = [(pair, _differing(pair[1], said, run, own)) for pair in values]
    fitting = [pair for pair, differing in told if not differing]
    if not fitting:
        if not told:
            return Chosen(None, None, "")
        (value, _), differing = told[-1]
        more = f"; {len(told) - 1} older neither" if len(told) > 1 else ""
        return Chosen(None, None, f"{value.value:.6g} does not count, its {'; its '.join(differing)}{more}")
    newest = fitting[-1]
    left_open = [words for _, how in fitting if (words := _left_open(how, newest[1]))]
    if left_open:
        return Chosen(
            None, None, f"the protocol leaves open which is meant, {left_open[-1]}: say that in its evaluation"
        )
    return Chosen(newest[0], _words(newest[1]), "")


def _left_open(older: Protocol, newer: Protocol) -> str:
    """In what two values that fit differ; nothing where the newer one replaces the older, as after new libraries."""
    old, new = _identity(older), _identity(newer)
    # Values of earlier versions do not say their network's configuration.
    differing = [name for name in new if None not in (old[name], new[name]) and old[name] != new[name]]
    words = {"reference": (_reference(older), _reference(newer))}  # the same pictures may have had two names
    return ", ".join(f"{name} {' or '.join(words.get(name, (str(old[name]), str(new[name]))))}" for name in differing)


def _identity(how: Protocol) -> dict[str, str | None]:
    config = how.versions.get("config_sha256")
    return {
        "extractor": f"{how.extractor} {(how.weights_sha256 or '')[:8]}",
        "configuration": config and config[:8],
        "layer": how.layer,
        "resize": how.resize,
        "reference": how.reference_sha256,
    }


def _differing(how: Protocol, said: _Said, run: Run, own: Container[str]) -> list[str]:
    """In words, what a value was measured with that the protocol does not say."""
    metric = METRICS.get(how.metric)
    found = []
    spec = said.clip if metric is not None and metric.clip else said.extractor
    if spec is not None:
        found += _other_network(how, spec)
    if how.reference_sha256 is not None:
        found += _other_reference(how, said, own)
    n = said.n or run.num * run.images_per_prompt
    if how.n != n:
        found.append(f"number of images is {how.n}, not {n}")
    if said.resize is not None and not (how.resize or "").startswith(f"{said.resize}x{said.resize} "):
        found.append(f"resize is {how.resize}, not {said.resize}x{said.resize}")
    for name, value in said.parameters.items():
        if name in how.parameters and how.parameters[name] != value:
            found.append(f"{name} is {how.parameters[name]}, not {value}")
    return found


def _other_network(how: Protocol, said: Identity) -> list[str]:
    if how.extractor != said.name:
        return [f"extractor is {how.extractor}, not {said.name}"]
    if not said.here:
        return [f"{said.name} model cannot be compared: the protocol's is not on this machine"]
    pairs = {
        "weights": (how.weights_sha256, said.weights_sha256),
        "configuration": (how.versions.get("config_sha256"), said.config_sha256),
    }
    return [
        f"{said.name} {what} hash is {ours[:8]}, not {theirs[:8]}"
        for what, (ours, theirs) in pairs.items()
        if ours and theirs and not ours.startswith(theirs)
    ]


def _other_reference(how: Protocol, said: _Said, own: Container[str]) -> list[str]:
    sha256 = how.reference_sha256 or ""
    if sha256 in own:
        return ["reference is the run itself"]
    if said.reference_sha256 is not None:
        matches = sha256.startswith(said.reference_sha256)
        return [] if matches else [f"reference is {_reference(how)}, not {said.reference_sha256[:8]}"]
    label = how.reference or ""
    if label.startswith(RUN_LABEL):
        return [f"reference is {_reference(how)}, and the protocol names no run"]
    if said.reference is not None and (label == EMBEDDED) != (said.reference == EMBEDDED):
        return [f"reference is {_reference(how)}, not {said.reference}"]
    return []


def _reference(how: Protocol) -> str:
    return f"{how.reference} ({(how.reference_sha256 or '')[:8]}, {how.reference_n or '?'} pictures)"


def _words(how: Protocol) -> str:
    """What a value was measured with, for a reader of the gate."""
    what = f"{how.extractor} {(how.weights_sha256 or '')[:8]}, {how.n} images, {how.resize}"
    return f"{what}, against {_reference(how)}" if how.reference_sha256 else what
