"""Runs in MLflow: started at once, everything after that queued on disk and sent from one thread."""

from __future__ import annotations

import json
import logging
import shutil
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from t2i_track.tracking import opening, sending, tables
from t2i_track.tracking.outbox import MAX_METRICS, MAX_PARAMS_OR_TAGS, Outbox
from t2i_track.tracking.records import Listed, RunInfo, Sent, Value, not_sent
from t2i_track.tracking.system import SystemMetrics

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)

SEARCHABLE = ("guidance", "steps")
"""Parameters that are also logged as metrics: MLflow compares parameters as text, and only metrics by ``>``."""
STATUSES = {"running": "RUNNING", "finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
_MAX_PARAM, _MAX_TAG, _MAX_NAME, _MAX_DIGEST = 6000, 8000, 500, 36


class Tracker:
    """MLflow, for any number of runs; a context manager that sends what is left when it ends.

    Only ``start_run`` needs the tracking server. Every other call writes a file into the outbox, which a thread
    sends, joined to large requests, so that a slow or missing server never holds up or fails a run.
    """

    def __init__(self, uri: str | None, outbox: Path, *, window: float = 0.5, retry: float = 5.0) -> None:
        """Connect to nothing yet.

        Args:
            uri: MLflow's tracking URI; None: the environment's, or MLflow's default ``sqlite:///mlflow.db``.
            outbox: folder for what has not been sent.
            window: seconds for which operations are gathered into one request.
            retry: seconds until the next attempt when the server has gone.
        """
        self._given = uri
        self._outbox, self._window, self._retry = outbox, window, retry
        self._boxes: dict[str, Outbox] = {}
        self._params: dict[str, dict[str, str]] = {}
        self._info: dict[str, RunInfo] = {}
        self._system: dict[str, SystemMetrics] = {}
        self._sending, self._appending = threading.Lock(), threading.Lock()
        self._wake, self._closed = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._warned = False

    @cached_property
    def uri(self) -> str:
        """The tracking URI, absolute; resolved when first needed, since MLflow takes seconds to import."""
        return sending.resolve(self._given)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Runs

    def start_run(
        self,
        experiment: str,
        name: str | None,
        params: Mapping[str, Value],
        tags: Mapping[str, Value] | None = None,
        *,
        parent: str | None = None,
        join: str | None = None,
        resume: str | None = None,
        system_metrics: bool = False,
    ) -> str:
        """Open a run in MLflow and return its id.

        Args:
            experiment: made where there is none; not used for a run that exists.
            name: None: MLflow's choice, or the name that the run has.
            params: None values are left out. See ``log_params`` for those that the run has already.
            tags: environment and the like.
            parent: id of the sweep's run, under which the UI folds this one.
            join: id of a run that ``mlflow run`` has opened for this process (``MLFLOW_RUN_ID``).
            resume: id of an earlier run to go on with; what its outbox still holds is sent first.
            system_metrics: sample processor, memory, disk, network and GPU load until ``finish``.

        Raises:
            TrackingError: MLflow cannot be reached within a few seconds, or the run or experiment is deleted.
        """
        sending.check(self.uri, create=True)
        existing = resume or join
        with sending.explained(self.uri):
            if existing is None:
                run = opening.create(self.uri, experiment, name, parent)
            else:
                run = opening.existing(self.uri, existing)
            self._info[run.info.run_id] = opening.describe(self.uri, run, name)
        run_id = str(run.info.run_id)
        self._params[run_id] = dict(run.data.params)
        if existing is not None:
            self._append(run_id, "status", {"status": "RUNNING", "end_time": None})
            own = {"mlflow.runName": name, "mlflow.parentRunId": parent}
            tags = {**(tags or {}), **{key: value for key, value in own.items() if value is not None}}
        self.log_params(run_id, params)
        self.log_metrics(run_id, {key: float(params[key] or 0) for key in SEARCHABLE if params.get(key) is not None})
        self.set_tags(run_id, tags or {})
        if system_metrics:
            self._watch_system(run_id, resumed=resume is not None)
        return run_id

    def check(self) -> None:
        """Find out now, before minutes of work, whether runs can be started.

        Raises:
            TrackingError: MLflow cannot be reached within a few seconds.
        """
        sending.check(self.uri, create=True)

    def find_run(self, experiment: str, tags: Mapping[str, str]) -> str | None:
        """The run of that experiment with those tags, if there is one; the newest of several.

        Raises:
            TrackingError: MLflow cannot be reached.
        """
        sending.check(self.uri, create=True)
        with sending.explained(self.uri):
            return opening.find(self.uri, experiment, tags)

    def info(self, run_id: str) -> RunInfo:
        """Name, experiment and address of a run that this tracker has started."""
        return self._info[run_id]

    def finish(self, run_id: str, status: str = "finished", reason: str | None = None) -> Sent:
        """End a run and send all that is left, unless MLflow cannot be reached; says what became of it.

        Args:
            run_id: any run.
            status: finished, failed or interrupted.
            reason: why it failed, in the tag ``t2i.reason``.
        """
        if run_id in self._system:
            self._system.pop(run_id).stop()
        if reason is not None:
            self.set_tags(run_id, {"t2i.reason": reason})
        self._append(run_id, "status", {"status": STATUSES[status], "end_time": int(time.time() * 1000)})
        return self.flush(run_id)

    def flush(self, run_id: str) -> Sent:
        """Send a run's records now and let go of its outbox; the next record opens it again."""
        with self._sending, self._appending:
            box = self._box(run_id)
            reason = sending.drain(box)
            sent = Sent(len(box), box.refused, reason)
            del self._boxes[run_id]
            box.close()
        return sent

    def close(self) -> None:
        """Stop the thread, after one more attempt to send what is left."""
        for system in self._system.values():
            system.stop()
        self._system.clear()
        for run_id in list(self._boxes):
            sent = self.flush(run_id)
            if not sent.complete:
                log.warning("%s", not_sent(run_id, sent))
        self._closed.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    # Records

    def log_params(self, run_id: str, params: Mapping[str, Value]) -> None:
        """Parameters. MLflow never changes one: an equal value (12, 12.0 and 1.2e1 are equal) is left as it was typed,
        and a different one is logged beside it as ``KEY_resolved`` (``device=auto`` and ``device_resolved=cuda``)."""
        known = self._params.setdefault(run_id, {})
        new: dict[str, str] = {}
        for key, value in params.items():
            text = "" if value is None else str(value)[:_MAX_PARAM]
            if value is None or (key in known and _equal(known[key], text)):
                continue
            new[key if key not in known else f"{key}_resolved"] = text
        known |= new
        for part in _parts(list(new.items()), MAX_PARAMS_OR_TAGS):
            self._append(run_id, "batch", {"metrics": [], "params": dict(part), "tags": {}})

    def log_metrics(self, run_id: str, values: Mapping[str, float | None], step: int = 0) -> None:
        """Metrics at one step and the present time; None values are left out."""
        now = int(time.time() * 1000)
        metrics = [[key, float(value), now, step] for key, value in values.items() if value is not None]
        for part in _parts(metrics, MAX_METRICS):
            self._append(run_id, "batch", {"metrics": part, "params": {}, "tags": {}})

    def set_tags(self, run_id: str, tags: Mapping[str, Value]) -> None:
        """Tags; unlike parameters they can be set again. None values are left out."""
        texts = [(key, str(value)[:_MAX_TAG]) for key, value in tags.items() if value is not None]
        for part in _parts(texts, MAX_PARAMS_OR_TAGS):
            self._append(run_id, "batch", {"metrics": [], "params": {}, "tags": dict(part)})

    def describe(self, run_id: str, markdown: str) -> None:
        """The description that the UI shows on the run's own page."""
        self.set_tags(run_id, {"mlflow.note.content": markdown})

    def log_artifact(self, run_id: str, path: Path, folder: str | None = None) -> None:
        """A file as it is now, into an artifact folder (None: the root)."""
        self.log_artifacts(run_id, [path], folder)

    def log_artifacts(self, run_id: str, paths: Iterable[Path], folder: str | None = None) -> None:
        """Files, or folders with all that is in them, as they are now, into an artifact folder (None: the root)."""

        def fill(files: Path) -> None:
            for path in paths:
                copy = shutil.copytree if path.is_dir() else shutil.copyfile
                copy(path, files / path.name)

        self._append(run_id, "files", {"folder": folder}, fill)

    def log_image_grid(self, run_id: str, picture: Image, key: str = "samples", step: int = 0) -> None:
        """A picture that the UI's chart view shows beside the other runs' pictures of the same key and step."""
        self._append(
            run_id, "files", {"folder": None}, partial(tables.write_keyed, picture=picture, key=key, step=step)
        )
        self.set_tags(run_id, {"mlflow.loggedImages": True})

    def log_prompt_table(self, run_id: str, rows: Sequence[Mapping[str, Any]], name: str = "prompts.json") -> None:
        """A table for the UI's table view, where runs are compared row by row.

        Args:
            run_id: any run.
            rows: the same columns in each; values are text, numbers, or pictures (``Path`` or PIL image).
            name: of the artifact; a table of that name is replaced.
        """
        entry = {"path": name, "type": "table"}
        data = {"folder": None, "listed": {"mlflow.loggedArtifacts": entry}}
        self._append(run_id, "files", data, partial(tables.write_table, rows=rows, name=name))

    def log_manifest(self, run_id: str, manifest: Listed, source: str | None = None) -> None:
        """The manifest as a dataset input.

        MLflow holds 36 characters of a digest, so this is the front of the sha256; the whole is in the input's tag
        ``sha256`` and the run's tag ``t2i.manifest_sha256``.
        """
        fields = ["prompt", "image_id", "caption_id"]
        colspec = [{"type": "string", "name": name, "required": name == "prompt"} for name in fields]
        dataset = {
            "name": manifest.name[:_MAX_NAME],
            "digest": manifest.sha256[:_MAX_DIGEST],
            "source_type": "local",
            "source": json.dumps({"uri": source or manifest.name}),
            "schema": json.dumps({"mlflow_colspec": colspec}),
            "profile": json.dumps({"num_rows": len(manifest)}),
        }
        tags = {"mlflow.data.context": "generation", "sha256": manifest.sha256}
        self._append(run_id, "dataset", {"dataset": dataset, "tags": tags})
        self.set_tags(run_id, {"t2i.manifest": manifest.name, "t2i.manifest_sha256": manifest.sha256})

    # Inside

    def _watch_system(self, run_id: str, resumed: bool) -> None:
        step = 0
        if resumed:
            with sending.explained(self.uri):
                history = sending.client(self.uri).get_metric_history(run_id, "system/cpu_utilization_percentage")
            step = max((metric.step + 1 for metric in history), default=0)
        self._system[run_id] = SystemMetrics(partial(self.log_metrics, run_id), step)

    def _box(self, run_id: str) -> Outbox:
        """The run's outbox; the caller holds ``_appending``."""
        if run_id not in self._boxes:
            self._boxes[run_id] = Outbox(self._outbox, run_id, self.uri)
        return self._boxes[run_id]

    def _append(self, run_id: str, kind: str, data: dict[str, Any], fill: Any = None) -> None:
        with self._appending:
            self._box(run_id).append(kind, data, fill)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
            self._thread.start()
        self._wake.set()

    def _work(self) -> None:
        while not self._closed.is_set():
            self._wake.wait()
            self._closed.wait(self._window)
            self._wake.clear()
            reasons = [self._drain(box) for box in list(self._boxes.values())]
            reason = next((reason for reason in reasons if reason is not None), None)
            if reason is not None:
                if not self._warned:
                    log.warning("%s; the records are kept in %s and sent later", reason, self._outbox)
                self._wake.set()
                self._closed.wait(self._retry)
            self._warned = reason is not None

    def _drain(self, box: Outbox) -> str | None:
        with self._sending:
            return sending.drain(box) if self._boxes.get(box.run_id) is box else None


def _equal(old: str, new: str) -> bool:
    """As numbers where both are, else as text without regard to case (True, true)."""
    try:
        return float(old) == float(new)
    except ValueError:
        return old.casefold() == new.casefold()


def _parts(items: list[Any], size: int) -> Iterable[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))
