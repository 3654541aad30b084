"""A generation run from start to finish: made, stored, tracked; interrupted and resumed."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import time
from collections import abc
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import Timeout

from t2i_track.db import lineage, workers
from t2i_track.db.models import Run, RunStatus
from t2i_track.db.types import utc_now
from t2i_track.energy import Meter, PerBatch
from t2i_track.errors import Busy, DatabaseError, Interrupted, ModelError, SettingsError, T2IError
from t2i_track.files import TEMPORARY, alone
from t2i_track.images.executors import Executor, Loaded, Prepared, Spec, Wanted
from t2i_track.images.executors.local import Local
from t2i_track.images.loading import check_local
from t2i_track.images.sampling import Job, jobs
from t2i_track.images.weighting import require_weights
from t2i_track.images.writing import Record
from t2i_track.metrics.recorded import changed
from t2i_track.progress import progress
from t2i_track.runs import joining, projection, record
from t2i_track.runs.adapters import recorded_files, require_same_files, same_setting
from t2i_track.runs.content import PROGRESS
from t2i_track.runs.notes import mixed, stored_notes
from t2i_track.runs.plan import (
    FRESH,
    MARK_AI,
    NEGATIVE_TRUNCATED,
    NEGATIVES_TRUNCATED,
    Plan,
    Summary,
    create_run,
    require_made_here,
    resolved_by,
    settings_of,
    stored_prompts,
    values_of,
)
from t2i_track.runs.projection import Sent
from t2i_track.runs.rates import START
from t2i_track.runs.recorded import run_items
from t2i_track.runs.reuse import RecordHashes, reuse
from t2i_track.runs.tally import tally
from t2i_track.settings import Values
from t2i_track.workspace import Workspace

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from t2i_track.tracking import Tracker

PROGRESS_SECONDS = 2.0
"""Progress metrics go to MLflow this often at most: a chart of a run needs no more points."""


class Generator:
    """Makes runs one after another with one executor and one tracker; the driver and only writer."""

    def __init__(
        self,
        workspace: Workspace,
        tracker: Tracker,
        executor: Executor | None = None,
        *,
        allow_pickle: bool = False,
    ) -> None:
        """Without an executor, pictures are made in this process."""
        self._workspace = workspace
        self._tracker = tracker
        self._allow_pickle = allow_pickle
        self._executor = executor or Local(workspace.cache, allow_pickle=allow_pickle)
        self._start: dict[str, float] = {}
        self._logged_at = -PROGRESS_SECONDS

    def prepare(self, plan: Plan) -> Prepared:
        """Load the plan's model and make every open choice.

        Raises:
            SettingsError: a setting that this model or scheduler would ignore, how the model was trained and the
                scheduler would, or steps that it cannot do.
        """
        rows = plan.manifest.head(plan.settings.num)
        asked = self._workspace.located(self._workspace.stored_settings(plan.settings))
        prepared = self._executor.prepare(Wanted(asked, tuple(rows.prompts), tuple(rows.negative_prompts)))
        self._note_start(prepared.loaded)
        return prepared

    def fingerprint(self, plan: Plan, prepared: Prepared) -> str:
        """sha256 of all that decides the plan's set of images."""
        return resolved_by(plan, self._workspace.stored_settings(plan.settings), prepared).fingerprint

    def generate(self, plan: Plan, prepared: Prepared | None = None) -> Summary:
        """Make a new run, which may be prepared already.

        Raises:
            Interrupted: Ctrl-C; the run is marked so and the message has the command that resumes it.
            T2IError: whatever else a user can do something about; a run that had begun is marked failed.
        """
        self._require(plan)
        prepared = prepared or self.prepare(plan)
        return self._carry_out(self.begin(plan, prepared), prepared.loaded, join=plan.join)

    def _require(self, plan: Plan) -> None:
        """Refuse what cannot be done before the model is loaded."""
        rows = plan.manifest.head(plan.settings.num)
        check_local(plan.settings, allow_pickle=self._allow_pickle, negatives=rows.negative_prompts)
        require_weights([plan.settings], [*rows.prompts, *rows.negative_prompts])
        self._workspace.require_writable()
        joining.check(self._tracker, plan.join)

    def begin(self, plan: Plan, prepared: Prepared) -> Run:
        """Store a new run of which nothing is made yet."""
        plan = dataclasses.replace(plan, settings=self._workspace.stored_settings(plan.settings))
        resolved = resolved_by(plan, plan.settings, prepared)
        with self._workspace.begin() as session:
            return create_run(session, plan, resolved, prepared)

    def reopen(self, run: Run) -> Loaded:
        """Load the model of a run that goes on in rounds.

        Raises:
            SettingsError, ModelError: as ``resume``.
        """
        self._require_pictures(run)
        return self._same_model(run, settings_of(run))

    def make_some(self, run: Run, positions: Sequence[int], loaded: Loaded) -> int:
        """Make what is missing of some prompts of a run, in that order, and leave the run open; how many were made.

        Raises:
            Interrupted, T2IError: as ``generate``; the run is marked so.
        """
        with self._workspace.reading() as session:
            run = lineage.find_run(session, run.uuid)
        return self._carry_out(run, loaded, join=None, only=positions).made

    def end(self, run: Run, status: RunStatus, reason: str | None = None) -> Summary:
        """Close a run that was made in rounds; ``reason`` says why one has none."""
        with self._workspace.reading() as session:
            run = lineage.find_run(session, run.uuid)
        return self._summary(run, 0, 0.0, self._close(run, status, reason), status)

    def resume(self, address: str, given: Mapping[str, Any] | None = None) -> Summary:
        """Make exactly what is missing of a run; of a finished one, send what MLflow lacks.

        ``given`` are settings that the user repeated; one that differs from the run's is refused.

        Raises:
            SettingsError: changed settings, or pictures that are gone. ModelError: the model's weights are not those of
                the run. The run stays what it was.
        """
        with self._workspace.reading() as session:
            run = lineage.find_run(session, address)
            require_made_here(run, "resumed")
            stored = settings_of(run)
        located, made = self._workspace.located(stored), values_of(run)
        for key, value in (given or {}).items():
            if not any(same_setting(key, getattr(stands, key), value) for stands in (located, made)):
                raise SettingsError(
                    f"run {run.uuid[:12]} was made with {key} {getattr(stored, key)}, not {value}: leave the option out"
                    " to resume it, or start a new run without --resume"
                )
        self._workspace.require_writable()
        pictures = self._require_pictures(run)
        if run.status == RunStatus.FINISHED and pictures == run.num * run.images_per_prompt:
            return self.finished(run)
        self._tracker.check()
        with self._workspace.begin() as session:
            run = lineage.find_run(session, run.uuid)
            loaded = self._same_model(run, stored)
        return self._carry_out(run, loaded, join=None)

    def finished(self, run: Run) -> Summary:
        """What there is of a finished run; MLflow is sent what it lacks, as where it was killed after its last row."""
        _ = (
            self._workspace.engine
        )  # a writer, though it has nothing to write: at its end it folds in a killed one's log
        return self._summary(run, 0, 0.0, projection.send(self._workspace, self._tracker, run))

    def _note_start(self, loaded: Loaded) -> None:
        if loaded.seconds is not None:
            self._start = {START: loaded.seconds}

    def _same_model(self, run: Run, settings: Values) -> Loaded:
        """The run's model, loaded again.

        Raises:
            ModelError: it has changed, or a file beside it has. SettingsError: another device or precision.
        """
        loaded = self._executor.load(self._workspace.located(settings))
        self._note_start(loaded)
        require_same_files(run.config, loaded.adapters, f"since run {run.uuid[:12]} began")
        if loaded.weights_sha256 != run.model.weights_sha256:
            raise ModelError(
                f"the weights of '{settings.model}' have changed since run {run.uuid[:12]} began"
                f" ({str(run.model.weights_sha256)[:12]} then, {loaded.weights_sha256[:12]} now): start a new run"
            )
        # Keys that a later version of diffusers adds have their neutral value, and are not in what was stored.
        now = loaded.scheduler_config
        if changed := sorted(key for key, value in run.scheduler_config.items() if now.get(key) != value):
            raise ModelError(
                f"the scheduler configuration of '{settings.model}' has changed since run {run.uuid[:12]} began"
                f" ({', '.join(changed)}): put it back, or start a new run without --resume"
            )
        if (loaded.device, loaded.dtype) != (run.device, run.dtype):
            raise SettingsError(
                f"run {run.uuid[:12]} was made on {run.device} in {run.dtype}, here it would go on on {loaded.device}"
                f" in {loaded.dtype}: resume it on a machine like the first, or start a new run"
            )
        return loaded

    def _require_pictures(self, run: Run) -> int:
        """The number of pictures made; raises SettingsError where one is gone or another: it would be no whole run."""
        with self._workspace.reading() as session:
            items = run_items(session, self._workspace, run)
        reasons = changed(items, self._workspace.cache)
        lost = [item for item in items if item.key in reasons]
        if lost:
            first = lost[0]
            raise SettingsError(
                f"{len(lost)} of {len(items)} pictures of run {run.uuid[:12]} are not what was made, the first is"
                f" {first.path} ({reasons[first.key]}): bring them back, make each again as by `t2i reproduce"
                f" {first.key} --out {shlex.quote(str(first.path))}`, or make them in a new run without --resume"
            )
        return len(items)

    def _carry_out(self, run: Run, loaded: Loaded, *, join: str | None, only: Sequence[int] | None = None) -> Summary:
        folder = self._workspace.run_folder(run)
        new = run.started_at is None  # one that goes on, and cannot, stays what it was
        with contextlib.ExitStack() as held:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                held.enter_context(alone(self._workspace.run_lock(run), timeout=0))
            except Timeout:
                raise Busy(f"run {run.uuid[:12]} is being made by another process: wait for it to end") from None
            except OSError as error:
                if new:
                    self._close(run, RunStatus.FAILED, f"cannot write {folder}: {error.strerror}")
                raise SettingsError(
                    f"cannot write {folder} ({error.strerror}): choose another --outdir or --home"
                ) from None
            if not new:
                self._open(run, join)
            with self._marking(run):
                if new:
                    self._open(run, join)
                return self._make_and_report(run, folder, loaded, only)

    def _open(self, run: Run, join: str | None) -> None:
        """Mark the run running in both stores, joining or making its MLflow run; idempotent."""
        running = {"status": RunStatus.RUNNING, "started_at": run.started_at or utc_now()}
        projection.start(self._workspace, self._tracker, run, join, **running, ended_at=None, error=None)
        assert run.mlflow_run_id is not None
        self._tracker.watch_system(run.mlflow_run_id)

    @contextlib.contextmanager
    def _marking(self, run: Run) -> Iterator[None]:
        """Mark the run in both stores when it does not end well, with the reason."""
        try:
            yield
        except KeyboardInterrupt:
            self._close(run, RunStatus.INTERRUPTED, "interrupted by the user")
            raise Interrupted(
                f"interrupted; what is made is kept. Go on with: t2i generate --resume {run.uuid[:12]}{self._where()}"
            ) from None
        except (OSError, DatabaseError) as error:
            reason = self._what_failed(error)
            # A full disk may have no place for this either; a run that is left as running is resumed all the same.
            with contextlib.suppress(OSError, DatabaseError):
                self._close(run, RunStatus.FAILED, reason)
            raise T2IError(
                f"run {run.uuid[:12]} stopped ({reason}); put that right, then: t2i generate --resume {run.uuid[:12]}"
            ) from None
        except BaseException as error:
            self._close(run, RunStatus.FAILED, f"{type(error).__name__}: {error}")
            raise

    def _what_failed(self, error: OSError | DatabaseError) -> str:
        if isinstance(error, DatabaseError):
            return str(error)
        return f"{error.strerror or error}: {error.filename}" if error.filename else str(error)

    def _close(
        self, run: Run, status: RunStatus, reason: str | None = None, cost: Mapping[str, float] | None = None
    ) -> Sent:
        """Close the run in both stores; what became of its MLflow side."""
        with self._workspace.begin() as session:
            stored = session.get_one(Run, run.id)
            stored.config = {**stored.config, "cost": {**stored.config.get("cost", {}), **(cost or {})}}
            if status is RunStatus.FINISHED:
                stored.config = {**stored.config, **mixed(session, stored)}
            lineage.finish_run(session, stored, status, reason)
        return projection.send(self._workspace, self._tracker, run)

    def _where(self) -> str:
        workspace = self._workspace
        parts = [] if workspace.home == Workspace().home else ["--home", str(workspace.home)]
        return " " + shlex.join(parts) if parts else ""

    def _make_and_report(self, run: Run, folder: Path, loaded: Loaded, only: Sequence[int] | None = None) -> Summary:
        """All that is missing, after which the run is finished; or that of ``only`` some prompts, in that order."""
        for leftover in folder.glob("*" + TEMPORARY):
            leftover.unlink()
        values = values_of(run)
        with self._workspace.begin() as session:
            made = lineage.made_images(session, run)
            prompts = stored_prompts(session, run)
            negatives = lineage.own_negatives(session, run.manifest_id, run.num)
        todo = [
            job
            for job in jobs(prompts, values.seed, values.images_per_prompt, negatives)
            if (job.prompt_index, job.replicate) not in made
        ]
        if only is not None:
            turn = {position: number for number, position in enumerate(only)}
            todo = sorted((job for job in todo if job.prompt_index in turn), key=lambda job: turn[job.prompt_index])
        hashes = RecordHashes(run, todo, loaded.machine)
        there = len(made)
        if not run.config.get(FRESH):
            taken = {job for some in reuse(self._workspace, run, folder, hashes.all()) for job in some}
            todo = [job for job in todo if job not in taken]
            there += len(taken)
        started, energy = time.monotonic(), None if self._executor.apart else PerBatch(Meter(str(values.device)))
        with contextlib.closing(
            self._make(run, self._spec(run, folder, loaded), prompts, todo, hashes, there)
        ) as counts:
            for count in counts:
                if energy is not None:
                    energy.count(count)
                self._log_progress(run, there + count, count, time.monotonic() - started)
        seconds = time.monotonic() - started
        if only is not None:
            return self._summary(run, len(todo), seconds, Sent(run.uuid, run.name, "pending", run.mlflow_run_id))
        rate = len(todo) / seconds if todo else None
        peak = self._executor.peak_memory(str(values.device))
        cost = {**({} if peak is None else {"peak_memory_mb": peak / 1e6}), **self._start}
        cost |= {} if energy is None else energy.cost()
        self._start = {}  # what it took to load the model is told once
        sent = self._close(run, RunStatus.FINISHED, cost=cost if rate is None else {**cost, "images_per_second": rate})
        return self._summary(run, len(todo), seconds, sent)

    def _summary(
        self, run: Run, made: int, seconds: float, sent: Sent, status: RunStatus = RunStatus.FINISHED
    ) -> Summary:
        values = values_of(run)
        with self._workspace.reading() as session:
            return Summary(
                run=run.uuid,
                name=run.name,
                experiment=run.experiment,
                status=status.value,
                mlflow_run_id=run.mlflow_run_id,
                guidance=values.guidance,
                steps=values.steps,
                scheduler=values.scheduler,
                folder=str(self._workspace.run_folder(run)),
                made=made,
                **dataclasses.asdict(tally(session, run.id)),
                negative_truncated=bool(run.config.get(NEGATIVE_TRUNCATED)),
                negatives_truncated=int(run.config.get(NEGATIVES_TRUNCATED, 0)),
                seconds=seconds,
                images_per_second=made / seconds if made else None,
                notes=stored_notes(run),
                unsent=not sent.complete,
            )

    def _make(
        self, run: Run, spec: Spec, prompts: list[str], todo: Sequence[Job], hashes: RecordHashes, done: int
    ) -> abc.Generator[int, None, None]:
        """Make the jobs; yield the number made so far after each batch of rows is committed."""
        if not todo:
            return
        with self._workspace.begin() as session:
            prompt_ids = lineage.store_prompts(session, prompts)
        count = 0
        made = contextlib.closing(self._executor.make(todo, spec))
        with progress(run.name, done + len(todo), done) as show, made as batches:
            for records in batches:
                self._store(run, prompt_ids, records, hashes)
                count += len(records)
                show(done + count)
                yield count

    def _store(self, run: Run, prompt_ids: Mapping[str, int], records: Sequence[Record], hashes: RecordHashes) -> None:
        """Commit the rows of a batch; once, also where the database goes away meanwhile."""

        def unit(session: Session, again: bool) -> int:
            return lineage.add_images(session, run.id, prompt_ids, self._rows(session, records, hashes), again=again)

        self._workspace.committed(unit)

    def _spec(self, run: Run, folder: Path, loaded: Loaded) -> Spec:
        return Spec(
            asked=self._workspace.located(settings_of(run)),
            settings=values_of(run),
            folder=folder.absolute(),
            record=record.picture_record(run),
            marked=bool(run.config.get(MARK_AI)),
            machine=loaded.machine,
            weights_sha256=str(run.model.weights_sha256),
            lora_files=tuple(recorded_files(run.config, "lora")),
            embedding_files=tuple(recorded_files(run.config, "embedding")),
        )

    def _rows(self, session: Session, records: Sequence[Record], hashes: RecordHashes) -> Iterator[dict[str, Any]]:
        """The records as rows of ``images``."""
        makers = {record.maker for record in records} - {None}
        ids = {maker: workers.store_worker(session, maker.facts()) for maker in makers if maker is not None}
        for one in records:
            yield {
                **one.row(),
                "path": self._workspace.stored_path(one.path),
                "worker_id": None if one.maker is None else ids[one.maker],
                "record_sha256": hashes.of(one),
            }

    def _log_progress(self, run: Run, done: int, made: int, seconds: float) -> None:
        now = time.monotonic()
        if now - self._logged_at < PROGRESS_SECONDS:
            return
        self._logged_at = now
        assert run.mlflow_run_id is not None
        progress = {"images_done": done, "images_per_second": made / max(seconds, 1e-9)}
        named = {f"{PROGRESS}{name}": value for name, value in progress.items()}
        self._tracker.log_metrics(run.mlflow_run_id, named, step=done)
