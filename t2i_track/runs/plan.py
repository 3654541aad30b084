"""One run that a user asked for, its row in the database, and what it came to."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.orm import Session

from t2i_track.db import lineage
from t2i_track.db.models import ManifestEntry, Prompt, Run, RunStatus
from t2i_track.environment import environment
from t2i_track.prompts.manifest import Manifest
from t2i_track.settings import CONTIGUOUS, Resolved, Settings

if TYPE_CHECKING:
    from t2i_track.images.loading import LoadedPipeline


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """One run that a user asked for."""

    settings: Settings
    manifest: Manifest
    experiment: str
    run_name: str | None = None
    outdir: Path | None = None
    join: str | None = None
    """An MLflow run that is open already, as `mlflow run` leaves it."""
    sweep_id: int | None = None
    cell: int | None = None
    """The sweep in the database, and which of its cells this is."""

    @property
    def name(self) -> str:
        chosen = self.settings
        return self.run_name or f"{chosen.scheduler}-g{chosen.guidance:g}-s{chosen.steps}-seed{chosen.seed}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
    """What a run came to."""

    run: str
    name: str
    experiment: str
    status: str
    mlflow_run_id: str | None
    guidance: float
    steps: int
    scheduler: str
    folder: str
    images: int
    made: int
    truncated: int
    flagged: int
    seconds: float
    images_per_second: float | None
    unsent: bool
    """Not all of it is in MLflow yet: `t2i resync` sends the rest."""


def create_run(session: Session, plan: Plan, resolved: Resolved, loaded: LoadedPipeline) -> Run:
    """Store a new run, with its model and manifest."""
    settings = plan.settings
    model = lineage.store_model(
        session,
        name=settings.model,
        revision=loaded.revision,
        weights_sha256=loaded.weights_sha256,
        pipeline_class=loaded.pipeline_class,
    )
    manifest = lineage.store_manifest(
        session,
        name=plan.manifest.name,
        sha256=plan.manifest.sha256,
        entries=[dataclasses.asdict(entry) for entry in plan.manifest.entries],
    )
    run = Run(
        uuid=lineage.new_uuid(),
        name=plan.name,
        experiment=plan.experiment,
        status=RunStatus.RUNNING,
        model=model,
        manifest=manifest,
        guidance=settings.guidance,
        steps=settings.steps,
        scheduler=settings.scheduler,
        scheduler_config=resolved.scheduler_config,
        negative_prompt=settings.negative_prompt,
        lora=settings.lora,
        height=resolved.height,
        width=resolved.width,
        dtype=resolved.dtype,
        device=resolved.device,
        batch_size=settings.batch_size,
        base_seed=settings.seed,
        num=resolved.num,
        images_per_prompt=settings.images_per_prompt,
        settings_sha256=resolved.fingerprint,
        config={
            "settings": settings.to_dict(),
            "outdir": None if plan.outdir is None else str(plan.outdir.absolute()),
            "lora_sha256": resolved.lora_sha256,
            "memory_format": resolved.memory_format,
        },
        environment=environment(resolved.device),
    )
    session.add(run)
    session.flush()
    if plan.sweep_id is not None and plan.cell is not None:
        # In the run's own transaction: a sweep that is killed now will resume this run, not make another.
        lineage.add_to_sweep(session, plan.sweep_id, run, plan.cell)
    return run


def memory_format_of(run: Run) -> str:
    """Runs of before it was recorded were all made contiguous."""
    return str(run.config.get("memory_format", CONTIGUOUS))


def settings_of(run: Run) -> Settings:
    """What the run was asked for, with the memory format that it got: a resume must not choose another."""
    stored = Settings.from_mapping(run.config["settings"])
    return dataclasses.replace(stored, memory_format=memory_format_of(run))


def stored_prompts(session: Session, run: Run) -> list[str]:
    """The prompts of a run in manifest order."""
    texts = session.scalars(
        select(Prompt.text)
        .join(ManifestEntry, ManifestEntry.prompt_id == Prompt.id)
        .where(ManifestEntry.manifest_id == run.manifest_id, ManifestEntry.position < run.num)
        .order_by(ManifestEntry.position)
    )
    return list(texts)
