"""What is fixed and stored before the first image of an adaptive sweep: by what it is decided, in which order, when."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from t2i_track.db.models import Run, Sweep
from t2i_track.errors import MetricError
from t2i_track.metrics.reference import Reference
from t2i_track.metrics.registry import METRICS, of_role, word_of
from t2i_track.ranking.evidence import doubling
from t2i_track.ranking.spending import planned
from t2i_track.runs.order import drawn, period
from t2i_track.runs.plan import values_of
from t2i_track.runs.request import Request, are_embedded
from t2i_track.runs.rounds import Measured, Rounds, default_score, measured
from t2i_track.runs.until_decided import ROUNDS
from t2i_track.workspace import Workspace

if TYPE_CHECKING:
    from t2i_track.prompts.manifest import Manifest
    from t2i_track.runs.grid import Experiment

ROUND = 32
"""Prompts of a setting between two looks, at least."""
DISTANCE_LOOKS = 6
FIRST_DISTANCE = 64
"""Prompts at the first look at a distance that has no gate."""
LEVEL = 0.95


def fixed(
    workspace: Workspace, experiment: Experiment, sweep: Sweep, manifest: Manifest, runs: Sequence[Run]
) -> Measured:
    """What the rounds of these runs are measured by: as it was fixed, or as it is now.

    Raises:
        MetricError: there is nothing to decide by, or no score that decides, or not of so few images.
    """
    from t2i_track.runs.evaluate import reference_of

    run, request = runs[0], Request(reference=experiment.reference)
    with workspace.reading() as session:
        record = session.get_one(Sweep, sweep.id).spec.get(ROUNDS)
        texts = manifest.head(run.num).prompts
        embedded = are_embedded(run.model.name, (run.height, run.width), texts)
        by = record["by"] if record is not None else experiment.by or default_score(embedded, experiment.reference)
        # Pictures to measure against are drawn or read, which takes long, only where they are.
        reference = reference_of(session, workspace, request, [run]) if METRICS[word_of(by)].reference else None
    if record is None:
        first = _first(workspace, by, request, reference, run, embedded)
        if by == "fid" and first is not None and first > len(texts):
            least = f"{first * run.images_per_prompt:,} images"
            raise MetricError(
                f"fid tells nothing of fewer than {least} a setting, and {len(texts):,} prompts are all: give"
                f" --max-num {first} or more, or another score with --by"
            )
        record = _record(by, texts, runs, first)
        with workspace.begin() as session:
            note(session.get_one(Sweep, sweep.id), record)
    return measured(
        Rounds(
            workspace=workspace,
            by=record["by"],
            request=request,
            reference=reference,
            order=tuple(tuple(unit) for unit in record["order"]),
            looks=tuple(record["looks"]),
            images_per_prompt=run.images_per_prompt,
        )
    )


def note(sweep: Sweep, record: dict[str, Any]) -> None:
    """Store something of the rounds with their sweep."""
    sweep.spec = {**sweep.spec, ROUNDS: {**sweep.spec.get(ROUNDS, {}), **record}}


def _record(by: str, texts: Sequence[str], runs: Sequence[Run], first: int | None) -> dict[str, Any]:
    values = [values_of(run) for run in runs]
    every = max(period(value.batch_size, value.images_per_prompt) for value in values)
    seed = int(values[0].seed)
    order = drawn(texts, seed, every)
    step = every * -(-ROUND // every)
    looks = doubling(step, len(order), step)
    if first is not None:
        looks = planned(-(-first // every) * every, len(order), DISTANCE_LOOKS, every)
    return {"by": by, "seed": seed, "period": every, "order": order, "looks": looks, "level": LEVEL}


def _first(
    workspace: Workspace, by: str, request: Request, reference: Reference | None, run: Run, embedded: bool
) -> int | None:
    """Prompts at the first look at a distance; None: by a mean."""
    if by in of_role("alignment"):
        return None
    if by != "fid" or reference is None:
        return FIRST_DISTANCE
    from t2i_track.images.loading import choose_device
    from t2i_track.metrics.gate import fid_images

    size = (request.resize, request.resize) if request.resize else (run.width, run.height)
    extractor, _ = request.networks(embedded)
    device = choose_device(request.device)
    images = fid_images(reference, extractor, request.weights, size, workspace.cache, device)
    return math.ceil(images / run.images_per_prompt)
