"""Folders of pictures that are no runs: measured as runs are, told, and kept nowhere but in the cache of features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from t2i_track.db import lineage
from t2i_track.errors import DatabaseError, MetricError, NotFound
from t2i_track.images.loading import choose_device
from t2i_track.metrics.evaluate import MetricResult, evaluate
from t2i_track.metrics.inputs import ImageItem
from t2i_track.metrics.measurable import default_metrics, too_small_for
from t2i_track.metrics.reference import Reference, open_reference
from t2i_track.metrics.registry import METRICS
from t2i_track.runs.evaluate import GIVE_REFERENCE, Bars, Scored, opened
from t2i_track.runs.request import Request, following, require_published
from t2i_track.workspace import Workspace

TOLD = ("name", "value", "ci_low", "ci_high", "n", "note")


def are_folders(workspace: Workspace, addresses: Sequence[str]) -> bool:
    """Whether the addresses are of folders; a run of such a name comes first.

    Raises:
        MetricError: some are, and some are of runs.
    """
    which = [Path(address).expanduser().is_dir() and not _is_run(workspace, address) for address in addresses]
    if any(which) and not all(which):
        run, folder = addresses[which.index(False)], addresses[which.index(True)]
        raise MetricError(f"'{folder}' is a folder and '{run}' a run: measure them by a command each")
    return any(which)


def _is_run(workspace: Workspace, address: str) -> bool:
    try:
        with workspace.reading() as session:
            lineage.find_run(session, address)
    except NotFound:
        return False
    except DatabaseError as error:
        return type(error).__name__ == "Ambiguous"
    return True


def score(workspace: Workspace, folders: Sequence[Path], request: Request) -> list[Scored]:
    """Measure each folder with the formulas and protocols of runs; every picture counts as a prompt of its own.

    Raises:
        MetricError: and its kinds, as for runs; also for scores that read prompts, of which a folder tells none.
    """
    if request.shared_prompts:
        raise MetricError("--shared-prompts is of runs: nobody knows the prompts of a folder's pictures")
    if request.protocol is not None:
        request = following(request, [])
    workspace.require_writable()
    return [_score_one(workspace, folder.expanduser(), request) for folder in folders]


def _score_one(workspace: Workspace, folder: Path, request: Request) -> Scored:
    generated = open_reference(folder, workspace.cache)
    items = [
        replace(item, prompt=generated.name_of(item), prompt_index=place, key=place)
        for place, item in enumerate(generated.items)
    ]
    reference = _reference(workspace, request, generated)
    extractor, clip = request.networks(embedded=False)
    metrics = _metrics(request, extractor, reference, clip, items)
    if not metrics:
        raise MetricError(f"nothing to measure of folder {folder}: {GIVE_REFERENCE}, or --metrics")
    with Bars(folder.name) as bars:
        found = evaluate(
            items,
            metrics=metrics,
            extractor=extractor,
            weights=request.weights,
            reference=reference,
            clip=clip,
            cache_dir=workspace.cache,
            device=choose_device(request.device),
            resize=request.resize,
            parameters=request.parameters,
            skip_bad=request.skip_bad,
            progress=bars,
        )
    small = [] if request.metrics else too_small_for(extractor, reference, clip, items)
    kept = "stored nowhere: 't2i import' makes runs of the pictures, whose scores are kept and compared"
    return Scored(
        run="",
        name=str(folder),
        scores=tuple(map(_told, found.results)),
        measured=len(found.results),
        warnings=(generated.said, *small, *found.warnings, kept),
        reference=f"reference {reference.label}: {reference.said}" if reference is not None and reference.said else "",
    )


def _told(result: MetricResult) -> dict[str, object]:
    return {**{name: getattr(result, name) for name in TOLD}, "protocol": result.protocol.fingerprint}


def _metrics(
    request: Request, extractor: str, reference: Reference | None, clip: str | None, items: Sequence[ImageItem]
) -> tuple[str, ...]:
    """Those that were named, or all that fit; none that reads a prompt.

    Raises:
        MetricError: one that was named does.
    """
    if request.metrics is None:
        if reference is None and clip is None:
            return ()
        return tuple(name for name in default_metrics(extractor, reference, clip, items) if not _reads_prompts(name))
    if named := [name for name in request.metrics if name in METRICS and _reads_prompts(name)]:
        raise MetricError(f"{named[0]} reads prompts, of which a folder tells none: 't2i import' it, or leave it out")
    return request.metrics


def _reads_prompts(name: str) -> bool:
    metric = METRICS[name]
    aligned = any(score.role == "alignment" for score in metric.scores)
    return aligned or "texts" in metric.layers or metric.refuses is not None


def _reference(workspace: Workspace, request: Request, generated: Reference) -> Reference | None:
    if request.reference is None:
        return None
    found = opened(workspace, request.reference, skip_bad=request.skip_bad)
    own = {item.sha256 for item in generated.items}
    if found.items and own.issuperset(item.sha256 for item in found.items):
        raise MetricError(
            f"folder {generated.label} cannot be its own reference, for its distance from itself says nothing: name"
            f" another than {request.reference}"
        )
    require_published(request, found)
    return found
