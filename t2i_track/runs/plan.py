"""One run that a user asked for, its row in the database, and what it came to."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from t2i_track.db import lineage
from t2i_track.db.models import ManifestEntry, Prompt, Run, RunStatus
from t2i_track.environment import environment
from t2i_track.errors import SettingsError
from t2i_track.prompts.manifest import Manifest
from t2i_track.runs.adapters import files_record
from t2i_track.runs.notes import NOTES, notes_to_store
from t2i_track.settings import DECLARED, Resolved, Settings, Values
from t2i_track.texts import unstorable
from t2i_track.workspace import IN_HOME

if TYPE_CHECKING:
    from t2i_track.images.loading import LoadedPipeline


RESOLVED = "resolved"
"""The key of a run's ``config`` under which the settings that have no column stand, as resolved."""

HALVES = "halves"
"""The key of a run's ``config`` that says how many passes of the network a step takes: two where it is guided so."""

CALL = "call"
"""The key of a run's ``config`` under which the arguments of the pipeline's call stand that are no settings."""

MARK_AI = "mark_ai"
"""The key of a run's ``config`` that says whether its PNGs say that a model made them; runs of before do not."""

NEGATIVE_TRUNCATED = "negative_truncated"
"""The key of a run's ``config`` that says whether its negative prompt was longer than the encoder's window."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """One run that a user asked for."""

    settings: Settings
    manifest: Manifest
    experiment: str
    run_name: str | None = None
    outdir: Path | None = None
    mark_ai: bool = True
    """Whether the PNGs say that a model made them."""
    join: str | None = None
    """An MLflow run that is open already, as `mlflow run` leaves it."""
    sweep_id: int | None = None
    cell: int | None = None
    """The sweep in the database, and which of its cells this is."""

    def __post_init__(self) -> None:
        for what, text in (("run name", self.name), ("experiment", self.experiment)):
            if reason := unstorable(text):
                raise SettingsError(f"the {what} {text!r:.60} cannot be stored ({reason}): give another")

    @property
    def name(self) -> str:
        return self.name_of(self.settings)

    def name_of(self, chosen: Values) -> str:
        """The run's name with these settings, which may be resolved."""
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
    negative_truncated: bool = False
    flagged: int
    not_finite: int
    """Of the flagged: black since the arithmetic overflowed; they are not scored."""
    mended: int
    """Images that half precision could not make, decoded or made again in fp32."""
    halved: int = 0
    """Images that were made in smaller batches, since those of the run did not fit in memory."""
    seconds: float
    images_per_second: float | None
    notes: tuple[str, ...] = ()
    """What was stored with the run that must be said of it."""
    unsent: bool
    """Not all of it is in MLflow yet: `t2i resync` sends the rest."""


def create_run(session: Session, plan: Plan, resolved: Resolved, loaded: LoadedPipeline) -> Run:
    """Store a new run, with its model and manifest."""
    from t2i_track.images.encoding import cuts_negative_prompt

    values = resolved.settings
    model = lineage.store_model(
        session,
        name=values.model,
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
        name=plan.name_of(values),
        experiment=plan.experiment,
        status=RunStatus.RUNNING,
        model=model,
        manifest=manifest,
        scheduler_config=resolved.scheduler_config,
        settings_sha256=resolved.fingerprint,
        config={
            "settings": plan.settings.to_dict(),
            "outdir": None if plan.outdir is None else str(plan.outdir.absolute()),
            MARK_AI: plan.mark_ai,
            "lora_sha256": resolved.lora_sha256,
            **files_record(loaded.adapters),
            NOTES: notes_to_store(loaded, values, [entry.prompt for entry in plan.manifest.head(values.num).entries]),
            NEGATIVE_TRUNCATED: cuts_negative_prompt(loaded.pipe, values),
            HALVES: 2 if loaded.family.guided(values, loaded.family.guided_by(loaded.configs)) else 1,
            CALL: loaded.family.call_arguments(values),
            RESOLVED: {name: getattr(values, name) for name, declared in DECLARED.items() if declared.column is None},
        },
        environment=environment(str(values.device)),
        **{
            declared.column: getattr(values, name)
            for name, declared in DECLARED.items()
            if declared.column is not None and "." not in declared.column
        },
    )
    session.add(run)
    session.flush()
    if plan.sweep_id is not None and plan.cell is not None:
        # In the run's own transaction: a sweep that is killed now will resume this run, not make another.
        lineage.add_to_sweep(session, plan.sweep_id, run, plan.cell)
    return run


def values_of(run: Run) -> Values:
    """Every setting of the run as it was resolved, of runs of any version."""
    columns = {name: attrgetter(declared.column)(run) for name, declared in DECLARED.items() if declared.column}
    return Values.stored({**beside_columns(run.config.get(RESOLVED), run.config.get("memory_format")), **columns})


def beside_columns(resolved: Mapping[str, Any] | None, memory_format: str | None) -> dict[str, Any]:
    """What a run's ``config`` says of the settings that have no column; the first of them had a key of its own."""
    if resolved is not None:
        return dict(resolved)
    return {} if memory_format is None else {"memory_format": memory_format}


def settings_of(run: Run) -> Values:
    """What the run was asked for, with the memory format that it got: a resume must not choose another."""
    asked = Values.stored(run.config["settings"])
    model = folder_name(asked.model, run.model.revision)
    return dataclasses.replace(asked, model=model, memory_format=values_of(run).memory_format)


def folder_name(model: str, revision: str) -> str:
    """A stored model so that a folder is never taken for an id of the hub: those have the commit that was loaded.

    Earlier versions stored a folder as it was typed, ``models/sd`` too.
    """
    is_plain = revision or "/" not in model or model.startswith(("/", "~", "."))
    return model if is_plain else f"{IN_HOME}{model}"


def stored_prompts(session: Session, run: Run) -> list[str]:
    """The prompts of a run in manifest order."""
    texts = session.scalars(
        select(Prompt.text)
        .join(ManifestEntry, ManifestEntry.prompt_id == Prompt.id)
        .where(ManifestEntry.manifest_id == run.manifest_id, ManifestEntry.position < run.num)
        .order_by(ManifestEntry.position)
    )
    return list(texts)
