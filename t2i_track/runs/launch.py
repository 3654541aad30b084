"""From the options of `t2i generate` to a run with its scores."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2i_track.db import lineage
from t2i_track.errors import Interrupted, SettingsError, T2IError
from t2i_track.images.executors import Cluster, Executor, executor_of
from t2i_track.notebook import Shown
from t2i_track.prompts import manifest as manifests
from t2i_track.prompts.manifest import Entry, Manifest
from t2i_track.runs.generate import Generator
from t2i_track.runs.joining import joined_run
from t2i_track.runs.plan import Plan, Summary, require_made_here, stored_prompts, values_of
from t2i_track.settings import Settings, Values
from t2i_track.workspace import Workspace

if TYPE_CHECKING:
    from t2i_track.runs.evaluate import Scored
    from t2i_track.tracking import Tracker

EMBEDDED_PROMPTS = 512
EMBEDDED_NUM = 64
EMBEDDED_MANIFEST = "shapes-val"
DEFAULT_EXPERIMENT = "t2i"


@dataclasses.dataclass(frozen=True)
class Outcome(Shown):
    """A run and, where it was scored, its scores."""

    summary: Summary
    scored: Scored | None
    notes: list[str]
    unscored: str | None = None
    """Why it could not be scored, where it should have been."""

    def rows(self) -> Sequence[dict[str, Any]]:
        """The scores, or the summary where there are none."""
        return self.scored.scores if self.scored is not None else [dataclasses.asdict(self.summary)]

    def lines(self) -> list[str]:
        summary = self.summary
        made = f"run {summary.name} ({summary.run[:12]}): {summary.images} images in {summary.folder}"
        lacking = [] if self.unscored is None else [f"not scored: {self.unscored}"]
        return [made, *self.notes, *lacking, *(self.scored.notes() if self.scored else ())]


def experiment_name(given: str | None, tracking_uri: str | None) -> str:
    """The MLflow experiment: the one given, by an option, its variable or a file; MLflow's variables'; the default."""
    from t2i_track.tracking import experiment_of_environment

    return given or experiment_of_environment(tracking_uri) or DEFAULT_EXPERIMENT


def open_manifest(path: str | None, prompts: Sequence[str]) -> Manifest:
    """The prompts that were asked for; the embedded held-out captions where none were."""
    if path and prompts:
        raise SettingsError(f"--manifest {path} and --prompt exclude each other: give one of them")
    if prompts:
        return manifests.from_prompts(list(prompts))
    if path:
        return manifests.load(Path(path))
    from t2i_track import shapes

    rows = shapes.manifest_rows("val", EMBEDDED_PROMPTS)
    entries = (Entry(str(row["caption"]), str(row["image_id"]), str(row["caption_id"])) for row in rows)
    return Manifest(EMBEDDED_MANIFEST, tuple(entries))


def with_default_num(settings: Settings, manifest: Manifest) -> Settings:
    """All of a user's prompts; of the embedded ones as many as make a first run short."""
    if settings.num is None and manifest.name == EMBEDDED_MANIFEST:
        return dataclasses.replace(settings, num=EMBEDDED_NUM)
    if settings.num is not None and settings.num > len(manifest):
        raise SettingsError(f"num {settings.num} is more than the {len(manifest)} prompts of {manifest.name}")
    return settings


def generate(
    workspace: Workspace,
    *,
    settings: dict[str, Any],
    manifest: str | None,
    prompts: Sequence[str],
    tracking_uri: str | None,
    outdir: Path | None,
    mark_ai: bool,
    experiment: str | None,
    run_name: str | None,
    resume: str | None,
    fresh: bool,
    evaluate: bool | None,
    reference: str | None,
    allow_pickle: bool,
    cluster: Cluster | None = None,
) -> Outcome:
    """Make a run, or resume one, and score it where that was asked for or costs next to nothing.

    ``settings`` are those that were given; of a run that is resumed they must be what they were.

    Raises:
        MetricError: the scores that are asked for cannot be measured, found out before the first image.
    """
    from t2i_track.runs.evaluate import before_generation
    from t2i_track.tracking import Tracker

    if fresh and resume is not None:
        raise SettingsError("--fresh is of new runs: leave it out to resume one, or leave out --resume")
    chosen = Settings.from_mapping(settings)
    plan = None
    if resume is None:
        opened = open_manifest(manifest, prompts)
        plan = Plan(
            settings=with_default_num(chosen, opened),
            manifest=opened,
            experiment=experiment_name(experiment, tracking_uri),
            run_name=run_name,
            outdir=outdir,
            mark_ai=mark_ai,
            join=joined_run(),
            fresh=fresh,
        )
        values: Values = plan.settings
        texts = [entry.prompt for entry in opened.head(plan.settings.num).entries]
    else:
        with workspace.reading() as session:
            run = lineage.find_run(session, resume)
            require_made_here(run, "resumed")
            values, texts = values_of(run), stored_prompts(session, run)
    before_generation(workspace, values, texts, wanted=evaluate, reference=reference)
    executing = executor_of(cluster, workspace.cache, allow_pickle=allow_pickle)
    with Tracker(tracking_uri, workspace.outbox) as tracker, executing as executor:
        generator = Generator(workspace, tracker, executor, allow_pickle=allow_pickle)
        if plan is None:
            assert resume is not None
            summary = generator.resume(resume, {name: getattr(chosen, name) for name in settings})
        else:
            summary = generator.generate(plan)
        notes = notes_on(summary)
        scored = unscored = None
        if is_scored(summary, evaluate, reference):
            scored, unscored = _scored(workspace, tracker, executor, summary, evaluate, reference)
    return Outcome(summary, scored, notes, unscored)


def _scored(
    workspace: Workspace,
    tracker: Tracker,
    executor: Executor,
    summary: Summary,
    wanted: bool | None,
    reference: str | None,
) -> tuple[Scored | None, str | None]:
    """The scores, or why there are none though there should be: what was made is told all the same."""
    from t2i_track.runs.evaluate import after_generation

    try:
        return after_generation(
            workspace, tracker, summary.run, wanted=wanted, reference=reference, executor=executor
        ), None
    except KeyboardInterrupt:
        again = shlex.join(["t2i", "evaluate", summary.run[:12], *(["--reference", reference] if reference else [])])
        raise Interrupted(
            f"interrupted while run {summary.run[:12]} was scored; its {summary.images} images are in"
            f" {summary.folder}. Go on with: {again}"
        ) from None
    except T2IError as error:
        return None, str(error)
    except Exception as error:  # noqa: BLE001 - such as a full GPU
        return None, f"{type(error).__name__}: {error}"


def is_scored(summary: Summary, evaluate: bool | None, reference: str | None) -> bool:
    """Whether scores are due; those that nobody asked for are not where they would be refused, as the notes say."""
    asked = evaluate is not None or reference is not None
    return evaluate is not False and (asked or not summary.not_finite)


def notes_on(summary: Summary) -> list[str]:
    """What must be said of a run and its pictures."""
    notes = [*summary.notes]
    if summary.reused:
        notes.append(f"{summary.reused} of {summary.images} images are those of earlier runs: --fresh makes them anew")
    if summary.truncated:
        notes.append(
            f"{summary.truncated} of {summary.images} prompts are longer than the encoder's window and were cut"
        )
    if summary.negative_truncated:
        notes.append("the negative prompt is longer than the encoder's window and was cut")
    if summary.negatives_truncated:
        notes.append(
            f"the manifest's negative prompts of {summary.negatives_truncated} prompts are longer than the encoder's"
            " window and were cut"
        )
    if unsafe := summary.flagged - summary.not_finite:
        notes.append(f"{unsafe} images were blacked out by the model's safety checker")
    if summary.not_finite:
        notes.append(
            f"{summary.not_finite} of {summary.images} images are not finite in fp32, so black, and will not be scored:"
            " try less --guidance"
        )
    if summary.mended:
        notes.append(f"{summary.mended} of {summary.images} images overflowed in half precision and were made in fp32")
    if summary.halved:
        notes.append(
            f"{summary.halved} of {summary.images} images were made in smaller batches: the run's did not fit in memory"
        )
    if summary.sliced:
        notes.append(
            f"{summary.sliced} of {summary.images} images were decoded by themselves: batches did not fit in memory"
        )
    if summary.tiled:
        notes.append(
            f"{summary.tiled} of {summary.images} images were decoded in tiles, which moves their pixels: whole they"
            " did not fit in memory"
        )
    if summary.unsent:
        notes.append("not all of it could be sent to MLflow: send the rest with 't2i resync'")
    return notes
