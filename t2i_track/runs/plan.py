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
from t2i_track.environment import driver
from t2i_track.errors import SettingsError
from t2i_track.runs.notes import NOTES
from t2i_track.settings import DECLARED, Resolved, Settings, Values
from t2i_track.texts import unstorable
from t2i_track.workspace import IN_HOME, PLACES

if TYPE_CHECKING:
    from t2i_track.images.executors import Prepared
    from t2i_track.prompts.manifest import Manifest


RESOLVED = "resolved"
"""The key of a run's ``config`` under which the settings that have no column stand, as resolved."""

HALVES = "halves"
"""The key of a run's ``config`` that says how many passes of the network a step takes: two where it is guided so."""

EVALUATED = "evaluated"
"""Another: by the fingerprint of a protocol, the options of `t2i evaluate` that led to it."""

CALL = "call"
"""The key of a run's ``config`` under which the arguments of the pipeline's call stand that are no settings."""

FRESH = "fresh"
"""The key of a run's ``config`` that says that it takes no other run's pictures."""

IMPORTED = "imported"
"""The key of an imported run's ``config``: the ``folder`` that its pictures were found in, and what made them one."""

MARK_AI = "mark_ai"
"""The key of a run's ``config`` that says whether its PNGs say that a model made them; runs of before do not."""

NEGATIVE_TRUNCATED = "negative_truncated"
"""The key of a run's ``config`` that says whether its negative prompt was longer than the encoder's window."""

NEGATIVES_TRUNCATED = "negatives_truncated"
"""The key of a run's ``config`` that counts the prompts whose own negative prompt was."""


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
    fresh: bool = False
    """Make every picture, also those that other runs have made."""

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
    reused: int = 0
    """Images that another run had made."""
    truncated: int
    negative_truncated: bool = False
    """The run's negative prompt was cut."""
    negatives_truncated: int = 0
    """Prompts whose own negative prompt was cut."""
    flagged: int
    not_finite: int
    """Of the flagged: black since the arithmetic overflowed; they are not scored."""
    mended: int
    """Images that half precision could not make, decoded or made again in fp32."""
    halved: int = 0
    """Images that were made in smaller batches, since those of the run did not fit in memory."""
    sliced: int = 0
    """Images that were decoded by themselves, since their batch did not fit in memory."""
    tiled: int = 0
    """Images that were decoded in tiles, since whole they did not fit in memory: other pixels, by a little."""
    seconds: float
    images_per_second: float | None
    notes: tuple[str, ...] = ()
    """What was stored with the run that must be said of it."""
    unsent: bool
    """Not all of it is in MLflow yet: `t2i resync` sends the rest."""


def resolved_by(plan: Plan, stored: Values, prepared: Prepared) -> Resolved:
    """All that decides the pictures of a run that was prepared, with places as the database keeps them (``stored``)."""
    loaded = prepared.loaded
    places = {name: getattr(stored, name) for name in PLACES}
    return Resolved(
        settings=dataclasses.replace(prepared.settings, **places),
        weights_sha256=loaded.weights_sha256,
        lora_sha256=loaded.adapters.lora_sha256,
        embedding_sha256=loaded.adapters.embedding_sha256,
        scheduler_config=loaded.scheduler_config,
        manifest_sha256=plan.manifest.sha256,
    )


def create_run(session: Session, plan: Plan, resolved: Resolved, prepared: Prepared) -> Run:
    """Store a new run, with its model and manifest."""
    from t2i_track.runs.adapters import files_record  # not for those who read runs: it knows the files of models

    values, loaded = resolved.settings, prepared.loaded
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
            **({FRESH: True} if plan.fresh else {}),
            MARK_AI: plan.mark_ai,
            "lora_sha256": resolved.lora_sha256,
            **files_record(loaded.adapters),
            NOTES: prepared.notes,
            NEGATIVE_TRUNCATED: prepared.negative_truncated,
            NEGATIVES_TRUNCATED: prepared.negatives_truncated,
            HALVES: prepared.passes,
            CALL: prepared.call,
            RESOLVED: {name: getattr(values, name) for name, declared in DECLARED.items() if declared.column is None},
        },
        environment={**loaded.environment, **driver()},
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


def resolved_of(run: Run) -> Resolved:
    """All that decides the run's pictures, as it was resolved."""
    return Resolved(
        settings=values_of(run),
        weights_sha256=str(run.model.weights_sha256),
        lora_sha256=run.config["lora_sha256"],
        embedding_sha256=run.config.get("embedding_sha256"),
        scheduler_config=run.scheduler_config,
        manifest_sha256=run.manifest.sha256,
    )


def known_settings(run: Run) -> dict[str, Any]:
    """The run's settings as they were resolved; of an imported run those that its pictures tell."""
    values = values_of(run).to_dict()
    if run.origin is None:
        return values
    told = run.config.get(RESOLVED, {})
    return {
        name: value
        for name, value in values.items()
        if value is not None and (DECLARED[name].column is not None or name in told)
    }


def require_made_here(run: Run, what: str) -> None:
    """Refuse to ``what`` a run whose pictures another program made: neither its weights nor all settings are known.

    Raises:
        SettingsError: with the way on.
    """
    if run.origin is None:
        return
    known = {name: value for name, value in known_settings(run).items() if name in ("guidance", "steps")}
    words = " ".join(f"--{name} {value:g}" for name, value in known.items())
    raise SettingsError(
        f"run {run.uuid[:12]} was imported (its pictures are of {run.origin}), so it cannot be {what}: make one like it"
        f" with 't2i generate --model MODEL --prompt TEXT{' ' if words else ''}{words}', or add pictures to its folder"
        " and import that again"
    )


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
