"""Score runs: images from the database, measured by `metrics`, stored as typed rows and sent to MLflow."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from t2i_track.db import lineage
from t2i_track.db.models import Image, MetricValue, Protocol, Run, RunStatus
from t2i_track.errors import BadImages, MetricError, ProtocolMismatch
from t2i_track.images.decoding import Note
from t2i_track.images.loading import choose_device
from t2i_track.metrics.evaluate import EvaluationResult, default_metrics, evaluate, plan
from t2i_track.metrics.extractors import INCEPTION
from t2i_track.metrics.inputs import ImageItem
from t2i_track.metrics.protocol import ProtocolRecord
from t2i_track.metrics.published import GATED, check_protocol, load_protocol
from t2i_track.metrics.reference import Reference, open_reference
from t2i_track.metrics.registry import METRICS
from t2i_track.progress import Report, progress
from t2i_track.runs import projection
from t2i_track.runs.plan import values_of
from t2i_track.settings import EMBEDDED_MODEL
from t2i_track.workspace import Workspace

if TYPE_CHECKING:
    from t2i_track.tracking import Tracker

EMBEDDED = "shapes"
RUN_REFERENCE = "run:"
STORED = ("value", "ci_low", "ci_high", "n", "note", "replicates", "grouping", "prompts_sha256", "parts")
"""Of a result, in the columns of its names."""


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


@dataclass(frozen=True)
class Scored:
    """A run's scores under the request: those that were known and those measured now."""

    run: str
    name: str
    scores: tuple[dict[str, Any], ...]
    measured: int
    warnings: tuple[str, ...]

    def values(self) -> dict[str, Any]:
        """Name -> value and interval."""
        names = ("value", "ci_low", "ci_high", "n", "note")
        return {score["name"]: {name: score[name] for name in names} for score in self.scores}


def after_generation(
    workspace: Workspace, tracker: Tracker, run: str, *, wanted: bool | None, reference: str | None
) -> Scored | None:
    """Score a run that was just made: when asked to, or when the embedded reference fits its prompts."""
    with workspace.reading() as session:
        embedded = _is_embedded(session, lineage.find_run(session, run))
    if wanted is None and reference is None and not embedded:
        return None
    return score(workspace, tracker, [run], Request(reference=reference))[0]


def score(workspace: Workspace, tracker: Tracker, addresses: Sequence[str], request: Request) -> list[Scored]:
    """Measure each run, store what is new, and tell MLflow.

    A second evaluation under the same protocol reads the stored values and measures nothing.

    Raises:
        MetricError: and its kinds; nothing is stored of a run that cannot be measured.
    """
    with workspace.reading() as session:
        runs = [lineage.find_run(session, address) for address in addresses]
        if request.protocol is not None:
            request = _following(request, runs)
        reference = _reference(session, workspace, request, runs)
        for run in runs:
            _require_images(session, run)
    workspace.require_writable()
    return [_score_one(workspace, tracker, run, request, reference) for run in runs]


def protocol_settings(run: Run) -> dict[str, Any]:
    """A run's settings under the names that protocols use."""
    return values_of(run).to_dict()


def _following(request: Request, runs: Sequence[Run]) -> Request:
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


def _score_one(
    workspace: Workspace, tracker: Tracker, run: Run, request: Request, reference: Reference | None
) -> Scored:
    with workspace.reading() as session:
        items, left_out = _finite(session, run, run_items(session, workspace, run), request.skip_bad)
        embedded = _is_embedded(session, run)
        known = known_scores(session, run)
    clip = request.clip or (EMBEDDED if embedded else None)
    extractor = request.extractor or (EMBEDDED if embedded else INCEPTION)
    metrics = request.metrics or tuple(
        # Of pictures without a reference and a CLIP model, what says nothing of quality or alignment was not meant.
        default_metrics(extractor, reference, clip, items) if reference is not None or clip is not None else ()
    )
    if not metrics:
        raise MetricError(
            f"nothing to measure of run {run.name}: give --reference (a folder, a manifest with image paths, an .npz,"
            " shapes or run:RUN), --clip, or --metrics"
        )
    shared: dict[str, Any] = {
        "metrics": metrics,
        "extractor": extractor,
        "weights": request.weights,
        "reference": reference,
        "clip": clip,
        "cache_dir": workspace.cache,
        "size": (run.width, run.height),
        "resize": request.resize,
        "parameters": request.parameters,
    }
    planned = plan(items, **shared)
    if _all_known(planned, known):
        found = EvaluationResult([], [])
    else:
        with _Bars(run.name) as bars:
            device = choose_device(request.device)
            found = evaluate(items, **shared, device=device, skip_bad=request.skip_bad, known=known, progress=bars)
    store(workspace, run, found)
    projection.send(workspace, tracker, run)
    asked = {**{metric: protocol.fingerprint for metric, protocol in planned.items()}, **found.fingerprints}
    wanted = {(score.name, asked[metric]) for metric in metrics for score in METRICS[metric].scores}
    found.warnings[:0] = left_out
    return _scored(workspace, run, wanted, found)


def _finite(session: Session, run: Run, items: list[ImageItem], skip_bad: bool) -> tuple[list[ImageItem], list[str]]:
    """The run's pictures without those that are not finite, and a line on how many those are.

    Raises:
        BadImages: there are some, and ``skip_bad`` is false, or nothing is left.
    """
    query = select(Image.id).where(Image.run_id == run.id, Image.note == Note.NOT_FINITE.value)
    black = set(session.scalars(query))
    if not black:
        return items, []
    what = f"{len(black)} of {len(items)} pictures of run {run.name} are not finite, so black"
    if not skip_bad or len(black) == len(items):
        way_on = "" if len(black) == len(items) else ", or score the rest with --skip-bad"
        raise BadImages(f"{what}: make them again with less --guidance or --dtype fp32{way_on}")
    return [item for item in items if item.key not in black], [f"{what}: they were left out"]


def _all_known(protocols: Mapping[str, ProtocolRecord], known: set[tuple[str, str]]) -> bool:
    """Asked before torch is imported: a second evaluation only reads."""
    return all(METRICS[metric].is_known(protocol.fingerprint, known) for metric, protocol in protocols.items())


def run_items(session: Session, workspace: Workspace, run: Run) -> list[ImageItem]:
    images = session.scalars(
        select(Image)
        .where(Image.run_id == run.id)
        .options(joinedload(Image.prompt))
        .order_by(Image.prompt_index, Image.replicate)
    )
    return [
        ImageItem(
            path=workspace.image_path(image),
            sha256=image.pixels_sha256,
            prompt=image.prompt.text,
            prompt_index=image.prompt_index,
            replicate=image.replicate,
            key=image.id,
        )
        for image in images
    ]


def known_scores(session: Session, run: Run) -> set[tuple[str, str]]:
    """(score, protocol fingerprint) of what is stored already."""
    rows = session.execute(
        select(MetricValue.name, Protocol.fingerprint).join(Protocol).where(MetricValue.run_id == run.id)
    )
    return {(name, fingerprint) for name, fingerprint in rows}


def store(workspace: Workspace, run: Run, found: EvaluationResult) -> None:
    """All scores of an evaluation in one transaction."""
    with workspace.begin() as session:
        for result in found.results:
            record = dataclasses.asdict(result.protocol)
            protocol = lineage.store_protocol(session, result.protocol.fingerprint, record)
            values = {name: getattr(result, name) for name in STORED}
            lineage.store_value(session, run, result.name, protocol, values)
            if result.per_image:
                scores = {int(key): value for key, value in result.per_image.items()}
                lineage.store_image_scores(session, result.name, protocol, scores)
        if found.results:
            # In the same transaction: MLflow is known to lack them until they are there.
            projection.remember(session.get_one(Run, run.id))


def _scored(workspace: Workspace, run: Run, wanted: set[tuple[str, str]], found: EvaluationResult) -> Scored:
    """The stored value of each score under the protocol that was asked for, also where a newer one has another."""
    with workspace.reading() as session:
        rows = session.execute(
            select(MetricValue, Protocol.fingerprint)
            .join(Protocol)
            .where(MetricValue.run_id == run.id)
            .order_by(MetricValue.created_at, MetricValue.id)
        )
        names = ("name", "value", "ci_low", "ci_high", "n", "note")
        scores = tuple(
            {name: getattr(row, name) for name in names}
            for row, fingerprint in rows
            if (row.name, fingerprint) in wanted
        )
    return Scored(run.uuid, run.name, scores, len(found.results), tuple(found.warnings))


def _reference(session: Session, workspace: Workspace, request: Request, runs: Sequence[Run]) -> Reference | None:
    spec = request.reference
    if spec is None:
        wanted = request.metrics is None or any(METRICS[name].reference for name in request.metrics if name in METRICS)
        if not wanted or not all(_is_embedded(session, run) for run in runs):
            return None
        spec = EMBEDDED
    if spec.startswith(RUN_REFERENCE):
        other = lineage.find_run(session, spec.removeprefix(RUN_REFERENCE))
        items, _ = _finite(session, other, run_items(session, workspace, other), request.skip_bad)
        reference = open_reference(items, workspace.cache, label=f"run {other.uuid[:12]}")
    else:
        reference = open_reference(spec, workspace.cache)
    for run in runs:
        _refuse_own_pictures(session, run, reference, spec)
    _require_published(request, reference)
    return reference


def _refuse_own_pictures(session: Session, run: Run, reference: Reference, spec: str) -> None:
    """Raises MetricError where the reference holds nothing but the run's own pictures or copies of their files."""
    rows = session.execute(select(Image.sha256, Image.pixels_sha256).where(Image.run_id == run.id))
    own = {sha256 for row in rows for sha256 in row}
    if reference.items and own.issuperset(item.sha256 for item in reference.items):
        raise MetricError(
            f"run {run.name} cannot be its own reference, for its distance from itself says nothing: name another than"
            f" {spec}, or leave the run out"
        )


def _require_published(request: Request, reference: Reference) -> None:
    """Raises MetricError where the request's protocol names the hash of another reference."""
    said = load_protocol(request.protocol).evaluation.get("reference_sha256") if request.protocol else None
    if said is not None and not reference.sha256.startswith(said):
        raise MetricError(
            f"protocol {request.protocol} measures against pictures of sha256 {said[:8]}, and {reference.label} has"
            f" {reference.sha256[:8]}: name them with --reference"
        )


def _require_images(session: Session, run: Run) -> None:
    made = lineage.image_counts(session, [run.id]).get(run.id, 0)
    if run.status != RunStatus.FINISHED:
        raise MetricError(
            f"run {run.name} is {run.status.value} with {made} of {run.num * run.images_per_prompt} images: finish it"
            f" with 't2i generate --resume {run.uuid[:12]}', then evaluate it"
        )


def _is_embedded(session: Session, run: Run) -> bool:
    """Whether every prompt is one of the embedded grammar, so that its pictures can be judged by it."""
    from t2i_track import shapes
    from t2i_track.runs.plan import stored_prompts

    if run.model.name != EMBEDDED_MODEL and (run.height, run.width) != (shapes.SIDE, shapes.SIDE):
        return False
    return all(shapes.parse(prompt) is not None for prompt in stored_prompts(session, run))


class _Bars:
    """A bar that appears when features have to be made, anew for each total."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._total: int | None = None
        self._open = contextlib.ExitStack()
        self._show: Report | None = None

    def __enter__(self) -> _Bars:
        return self

    def __call__(self, done: int, total: int) -> None:
        if self._show is None or self._total != total:
            self._open.close()
            self._total = total
            self._show = self._open.enter_context(progress(f"features of {self._name}", total))
        self._show(done)

    def __exit__(self, *_: object) -> None:
        self._open.close()
