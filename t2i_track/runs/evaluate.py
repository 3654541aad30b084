"""Score runs: images from the database, measured by `metrics`, stored as typed rows and sent to MLflow."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from t2i_track.db import lineage
from t2i_track.db.models import Image, MetricValue, Prompt, Protocol, Run, RunStatus
from t2i_track.errors import BadImages, MetricError, T2IError
from t2i_track.images.decoding import Note
from t2i_track.images.executors import Executor
from t2i_track.images.loading import choose_device, device_kind
from t2i_track.metrics.evaluate import EvaluationResult, evaluate, plan
from t2i_track.metrics.extractors import resolve
from t2i_track.metrics.inputs import ImageItem
from t2i_track.metrics.measurable import default_metrics, too_small_for
from t2i_track.metrics.prompts import Prompts
from t2i_track.metrics.protocol import ProtocolRecord
from t2i_track.metrics.recorded import changed
from t2i_track.metrics.reference import Reference, open_reference
from t2i_track.metrics.registry import METRICS
from t2i_track.progress import Report, progress
from t2i_track.runs import projection
from t2i_track.runs.plan import EVALUATED
from t2i_track.runs.protocols import EMBEDDED, RUN_LABEL, RUN_REFERENCE
from t2i_track.runs.recorded import run_items
from t2i_track.runs.request import (
    Request,
    are_embedded,
    following,
    is_embedded,
    require_published,
)
from t2i_track.settings import EMBEDDED_MODEL, Values
from t2i_track.workspace import Workspace

if TYPE_CHECKING:
    from t2i_track.tracking import Tracker

STORED = ("value", "ci_low", "ci_high", "n", "note", "replicates", "grouping", "prompts_sha256", "parts")
"""Of a result, in the columns of its names."""
GIVE_REFERENCE = "give --reference (a folder, a manifest with image paths, an .npz, shapes or run:RUN)"


@dataclass(frozen=True)
class Scored:
    """A run's scores under the request: those that were known and those measured now."""

    run: str
    name: str
    scores: tuple[dict[str, Any], ...]
    measured: int
    warnings: tuple[str, ...]
    reference: str = ""
    """What was used of the reference that was named, and what was left out."""

    def notes(self) -> list[str]:
        """What a user must be told."""
        return [*([self.reference] if self.reference else []), *self.warnings]

    def values(self) -> dict[str, Any]:
        """Name -> value and interval."""
        names = ("value", "ci_low", "ci_high", "n", "note")
        return {score["name"]: {name: score[name] for name in names} for score in self.scores}


def before_generation(
    workspace: Workspace, settings: Values, prompts: Sequence[str], *, wanted: bool | None, reference: str | None
) -> None:
    """Find out before the first image what could not be measured after the last.

    Raises:
        MetricError: with the way on. Where the model's own size decides what is measured, nothing is asked yet.
    """
    if wanted is False or (wanted is None and reference is None):
        return
    size = (settings.height, settings.width)
    embedded = are_embedded(settings.model, size, prompts)
    known = embedded or None not in size or not are_embedded(EMBEDDED_MODEL, size, prompts)
    known_by = None
    try:
        if reference is not None:
            known_by = opened(workspace, reference)
        elif known and not embedded:
            raise MetricError(f"there is nothing to measure these by, so {GIVE_REFERENCE}")
        if known:
            extractor, clip = Request().networks(embedded)
            network = resolve(extractor, workspace.cache)
            if known_by is not None and known_by.statistics is not None:
                known_by.require_dimension(network.dimension())
            default_metrics(extractor, known_by, clip)  # a reference may be too small for all of them
    except T2IError as error:
        raise MetricError(
            f"nothing was made, for its scores could not be measured: {error}; --no-evaluate leaves them out"
        ) from error


def after_generation(
    workspace: Workspace,
    tracker: Tracker,
    run: str,
    *,
    wanted: bool | None,
    reference: str | None,
    executor: Executor | None = None,
) -> Scored | None:
    """Score a run that was just made: when asked to, or when the embedded reference fits its prompts."""
    with workspace.reading() as session:
        embedded = is_embedded(session, lineage.find_run(session, run))
    if wanted is None and reference is None and not embedded:
        return None
    return score(workspace, tracker, [run], Request(reference=reference), executor)[0]


def score(
    workspace: Workspace,
    tracker: Tracker,
    addresses: Sequence[str],
    request: Request,
    executor: Executor | None = None,
) -> list[Scored]:
    """Measure each run, store what is new, and tell MLflow. Without an executor, in this process.

    A second evaluation under the same protocol reads the stored values and measures nothing.

    Raises:
        MetricError: and its kinds; nothing is stored of a run that cannot be measured.
    """
    options = request.options()
    with workspace.reading() as session:
        runs = [lineage.find_run(session, address) for address in addresses]
        if request.protocol is not None:
            request = following(request, runs)
        reference = reference_of(session, workspace, request, runs)
        for run in runs:
            _require_images(session, run)
        shared = _shared_prompts(session, runs) if request.shared_prompts else None
    workspace.require_writable()
    if executor is not None and executor.device is not None and request.device is None:
        request = dataclasses.replace(request, device=executor.device)
    scored = [_score_one(workspace, tracker, run, request, reference, options, executor, shared) for run in runs]
    if any(one.measured for one in scored):
        _send_peers(workspace, tracker, runs)
    return scored


def _send_peers(workspace: Workspace, tracker: Tracker, runs: Sequence[Run]) -> None:
    """New values can make another protocol the usual one, and then MLflow gets the others' values of that."""
    with workspace.reading() as session:
        several = select(MetricValue.run_id).group_by(MetricValue.run_id, MetricValue.name).having(func.count() > 1)
        among = Run.experiment.in_({run.experiment for run in runs})
        peers = list(session.scalars(select(Run).where(Run.id.in_(several), among).order_by(Run.id)))
    for peer in peers:
        projection.send(workspace, tracker, peer)


def _score_one(
    workspace: Workspace,
    tracker: Tracker,
    run: Run,
    request: Request,
    reference: Reference | None,
    options: str,
    executor: Executor | None,
    only: frozenset[str] | None,
) -> Scored:
    with workspace.reading() as session:
        items = [item for item in run_items(session, workspace, run) if only is None or item.prompt in only]
        items, left_out = finite_items(session, run, items, request.skip_bad)
        embedded = is_embedded(session, run)
        known = known_scores(session, run)
    extractor, clip = request.networks(embedded)
    metrics = request.metrics or tuple(
        # Of pictures without a reference and a CLIP model, what says nothing of quality or alignment was not meant.
        default_metrics(extractor, reference, clip, items) if reference is not None or clip is not None else ()
    )
    if not metrics:
        raise MetricError(f"nothing to measure of run {run.name}: {GIVE_REFERENCE}, --clip, or --metrics")
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
        "only": None if only is None else Prompts.of(sorted(only)).sha256,
    }
    planned = plan(items, **shared, device=device_kind(request.device))
    if _all_known(planned, known):
        found = EvaluationResult([], _since_scored(run, items, workspace))
    else:
        each = executor.each if executor is not None and executor.apart else None
        with Bars(run.name) as bars:
            device = choose_device(request.device) if each is None else request.device or "cpu"
            found = evaluate(
                items, **shared, device=device, skip_bad=request.skip_bad, known=known, progress=bars, each=each
            )
    store(workspace, run, found, options)
    projection.send(workspace, tracker, run)
    asked = {**{metric: protocol.fingerprint for metric, protocol in planned.items()}, **found.fingerprints}
    wanted = {(score.name, asked[metric]) for metric in metrics for score in METRICS[metric].scores}
    if not request.metrics:
        left_out += too_small_for(extractor, reference, clip, items)
    found = dataclasses.replace(found, warnings=[*left_out, *found.warnings])
    return _scored(workspace, run, wanted, found, reference)


def _shared_prompts(session: Session, runs: Sequence[Run]) -> frozenset[str]:
    """The prompts that all of the runs have.

    Raises:
        MetricError: there is but one run, or they share none.
    """
    if len(runs) < 2:
        raise MetricError("--shared-prompts is of several runs: name those that are to be compared")
    made = select(Prompt.text).join(Image, Image.prompt_id == Prompt.id).distinct()
    shared = frozenset.intersection(*(frozenset(session.scalars(made.where(Image.run_id == run.id))) for run in runs))
    if not shared:
        raise MetricError(f"no prompt is in all of these {len(runs)} runs: leave --shared-prompts out")
    return shared


def finite_items(
    session: Session, run: Run, items: list[ImageItem], skip_bad: bool
) -> tuple[list[ImageItem], list[str]]:
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
        raise BadImages(f"{what}: make them again with less --guidance{way_on}")
    return [item for item in items if item.key not in black], [f"{what}: they were left out"]


def _since_scored(run: Run, items: Sequence[ImageItem], workspace: Workspace) -> list[str]:
    """Of a run whose stored scores are shown: a line on pictures that are not any more what was scored."""
    lost = changed(items, workspace.cache)
    first = next((f"{item.path.name} ({lost[item.key]})" for item in items if item.key in lost), "")
    what = f"{len(lost)} of {len(items)} pictures of run {run.name} are not what was scored, the first is {first}"
    return [f"{what}: these scores are of the recorded ones"] if lost else []


def _all_known(protocols: Mapping[str, ProtocolRecord], known: set[tuple[str, str]]) -> bool:
    """Asked before torch is imported: a second evaluation only reads."""
    return all(METRICS[metric].is_known(protocol.fingerprint, known) for metric, protocol in protocols.items())


def known_scores(session: Session, run: Run) -> set[tuple[str, str]]:
    """(score, protocol fingerprint) of what is stored already."""
    rows = session.execute(
        select(MetricValue.name, Protocol.fingerprint).join(Protocol).where(MetricValue.run_id == run.id)
    )
    return {(name, fingerprint) for name, fingerprint in rows}


def store(workspace: Workspace, run: Run, found: EvaluationResult, options: str = "") -> None:
    """All scores of an evaluation in one transaction, with the options of `t2i evaluate` that make them again."""
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
            stored = session.get_one(Run, run.id)
            made = dict.fromkeys((result.protocol.fingerprint for result in found.results), options)
            stored.config = {**stored.config, EVALUATED: {**stored.config.get(EVALUATED, {}), **made}}
            # In the same transaction: MLflow is known to lack them until they are there.
            projection.remember(stored)


def _scored(
    workspace: Workspace, run: Run, wanted: set[tuple[str, str]], found: EvaluationResult, reference: Reference | None
) -> Scored:
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
    used = f"reference {reference.label}: {reference.said}" if reference is not None and reference.said else ""
    return Scored(run.uuid, run.name, scores, len(found.results), tuple(found.warnings), used)


def reference_of(session: Session, workspace: Workspace, request: Request, runs: Sequence[Run]) -> Reference | None:
    spec = request.reference
    if spec is None:
        wanted = request.metrics is None or any(METRICS[name].reference for name in request.metrics if name in METRICS)
        if not wanted or not all(is_embedded(session, run) for run in runs):
            return None
        spec = EMBEDDED
    reference = _opened(session, workspace, spec, skip_bad=request.skip_bad)
    for run in runs:
        _refuse_own_pictures(session, run, reference, spec)
    require_published(request, reference)
    return reference


def _opened(session: Session | None, workspace: Workspace, spec: str, *, skip_bad: bool = False) -> Reference:
    """The reference that a user named; only a run's needs a session."""
    if session is None or not spec.startswith(RUN_REFERENCE):
        return open_reference(spec, workspace.cache)
    other = lineage.find_run(session, spec.removeprefix(RUN_REFERENCE))
    items, _ = finite_items(session, other, run_items(session, workspace, other), skip_bad)
    return open_reference(items, workspace.cache, label=f"{RUN_LABEL}{other.uuid[:12]}")


def opened(workspace: Workspace, spec: str, *, skip_bad: bool = False) -> Reference:
    """The reference that a user named, of what is no run."""
    with workspace.reading() if spec.startswith(RUN_REFERENCE) else contextlib.nullcontext() as session:
        return _opened(session, workspace, spec, skip_bad=skip_bad)


def _refuse_own_pictures(session: Session, run: Run, reference: Reference, spec: str) -> None:
    """Raises MetricError where the reference holds nothing but the run's own pictures or copies of their files."""
    rows = session.execute(select(Image.sha256, Image.pixels_sha256).where(Image.run_id == run.id))
    own = {sha256 for row in rows for sha256 in row}
    if reference.items and own.issuperset(item.sha256 for item in reference.items):
        raise MetricError(
            f"run {run.name} cannot be its own reference, for its distance from itself says nothing: name another than"
            f" {spec}, or leave the run out"
        )


def _require_images(session: Session, run: Run) -> None:
    made = lineage.image_counts(session, [run.id]).get(run.id, 0)
    if run.status not in (RunStatus.FINISHED, RunStatus.ENOUGH):
        raise MetricError(
            f"run {run.name} is {run.status.value} with {made} of {run.num * run.images_per_prompt} images: finish it"
            f" with 't2i generate --resume {run.uuid[:12]}', then evaluate it"
        )


class Bars:
    """A bar that appears when features have to be made, anew for each total."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._total: int | None = None
        self._open = contextlib.ExitStack()
        self._show: Report | None = None

    def __enter__(self) -> Bars:
        return self

    def __call__(self, done: int, total: int) -> None:
        if self._show is None or self._total != total:
            self._open.close()
            self._total = total
            self._show = self._open.enter_context(progress(f"features of {self._name}", total))
        self._show(done)

    def __exit__(self, *_: object) -> None:
        self._open.close()
