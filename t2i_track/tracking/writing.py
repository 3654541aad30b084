"""A run's content written into MLflow, in large requests, so that written again it changes nothing."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2i_track.errors import Refused
from t2i_track.tracking import opening, store, tables
from t2i_track.tracking.records import OWN, Content, Grid, Listed, Value

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run

MAX_METRICS, MAX_PARAMS_OR_TAGS = 1000, 100
"""MLflow's limits for one ``log_batch``."""
STATUSES = {
    "running": "RUNNING",
    "finished": "FINISHED",
    "enough": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}
_MAX_PARAM, _MAX_TAG, _MAX_NAME, _MAX_DIGEST = 6000, 8000, 500, 36


def write(uri: str, run_id: str, content: Content) -> list[str]:
    """Write what is not there yet, the status last; what MLflow will never take, a line for each.

    MLflow never changes a parameter: an equal value (12, 12.0 and 1.2e1 are equal) is left as it was typed, and a
    different one is written beside it as ``KEY_resolved`` (``device=auto`` and ``device_resolved=cuda``). A metric
    whose newest value is the same is left alone, whatever its time.

    Raises:
        TrackingError: MLflow does not answer, or the run is gone; what was written stays.
    """
    store.check(uri, create=False)
    with store.explained(uri):
        run = opening.existing(uri, run_id)
    metrics = [*_metrics(run, content), *_curves(uri, run_id, content)]
    refused = log_batch(uri, run_id, _params(run, content.params), _tags(content), metrics)
    with store.explained(uri):
        if refused:  # by a run that was deleted in between nothing is taken
            opening.existing(uri, run_id)
        for key in _past(run, content):
            store.client(uri).delete_tag(run_id, key)
        _write_files(uri, run_id, content)
        if content.manifest is not None:
            _write_manifest(uri, run_id, content.manifest)
        if content.status is not None:
            _write_status(uri, run, content)
    return refused


def log_batch(
    uri: str, run_id: str, params: Mapping[str, str], tags: Mapping[str, str], metrics: Sequence[Metric]
) -> list[str]:
    """In as few requests as MLflow's limits allow. What it refuses holds up nothing; a line for each.

    Raises:
        TrackingError: MLflow does not answer.
    """
    from mlflow.entities import Param, RunTag

    texts: list[Any] = [Param(key, value) for key, value in params.items()]
    texts += [RunTag(key, value) for key, value in tags.items()]
    parts = [*_parts(texts, MAX_PARAMS_OR_TAGS), *_parts(metrics, MAX_METRICS)]
    return [reason for part in parts for reason in _send(uri, run_id, part)]


def _send(uri: str, run_id: str, part: Sequence[Any]) -> Iterator[str]:
    from mlflow.entities import Metric, Param, RunTag

    metrics = [item for item in part if isinstance(item, Metric)]
    params = [item for item in part if isinstance(item, Param)]
    tags = [item for item in part if isinstance(item, RunTag)]
    try:
        with store.explained(uri):
            store.client(uri).log_batch(run_id, metrics, params, tags, synchronous=True)
    except Refused as error:
        if len(part) == 1:
            yield f"{part[0].key}: {error}"
            return
        for item in part:
            yield from _send(uri, run_id, [item])


def _parts(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _params(run: Run, params: Mapping[str, Value]) -> dict[str, str]:
    known = run.data.params
    new: dict[str, str] = {}
    for key, value in params.items():
        text = written_param(value)
        if value is None or (key in known and same_param(known[key], text)):
            continue
        name = key if key not in known else resolved_name(key)
        if name not in known:
            new[name] = text
    return new


def resolved_name(key: str) -> str:
    """Of a parameter that the run has already with another value."""
    return f"{key}_resolved"


def written_param(value: Value) -> str:
    return str(value)[:_MAX_PARAM]


def written_tag(value: Value) -> str:
    return str(value)[:_MAX_TAG]


def same_param(old: str, new: str) -> bool:
    """As numbers where both are, else as text without regard to case (True, true)."""
    try:
        return float(old) == float(new)
    except ValueError:
        return old.casefold() == new.casefold()


def _tags(content: Content) -> dict[str, str]:
    tags = dict(content.tags)
    if content.manifest is not None:
        tags |= {"t2i.manifest": content.manifest.name, "t2i.manifest_sha256": content.manifest.sha256}
    if content.grid is not None:
        tags["mlflow.loggedImages"] = True
    return {key: written_tag(value) for key, value in tags.items() if value is not None}


def _past(run: Run, content: Content) -> list[str]:
    """Our own tags that say what is so no more."""
    return [
        key for key, value in content.tags.items() if value is None and key.startswith(OWN) and key in run.data.tags
    ]


def _metrics(run: Run, content: Content) -> Iterator[Metric]:
    from mlflow.entities import Metric

    for key, (value, time) in content.metrics.items():
        if value is not None and not same_metric(run.data.metrics.get(key), value):
            yield Metric(key, float(value), int(time.timestamp() * 1000), 0)


def _curves(uri: str, run_id: str, content: Content) -> Iterator[Metric]:
    """The steps that are not there yet."""
    from mlflow.entities import Metric

    for key, points in content.curves.items():
        with store.explained(uri):
            there = {metric.step for metric in store.client(uri).get_metric_history(run_id, key)}
        for step, value, time in points:
            if step not in there:
                yield Metric(key, float(value), int(time.timestamp() * 1000), step)


def same_metric(old: float | None, new: float) -> bool:
    return old is not None and (old == new or (math.isnan(old) and math.isnan(new)))


def _write_files(uri: str, run_id: str, content: Content) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if content.files is not None:
            content.files(folder)
        if content.grid is not None:
            tables.write_keyed(folder, content.grid, _stem(uri, run_id, content.grid))
        if content.table is not None:
            tables.write_table(folder, content.table)
        for path in sorted(folder.rglob("*")):  # one by one, so that there is time to stop in between
            if path.is_file():
                within = path.parent.relative_to(folder).as_posix()
                store.client(uri).log_artifact(run_id, str(path), None if within == "." else within)
    if content.table is not None:
        store.list_in_tag(uri, run_id, "mlflow.loggedArtifacts", {"path": content.table.name, "type": "table"})


def _stem(uri: str, run_id: str, grid: Grid) -> str:
    """The name of the grid, or of the one of its key and step that an earlier version has written, to replace it."""
    prefix = tables.keyed_prefix(grid)
    there = (entry.path for entry in store.client(uri).list_artifacts(run_id, tables.IMAGES))
    names: Iterable[str] = (Path(path).stem for path in there if path.endswith(".png"))
    return next((name for name in names if name.startswith(prefix)), tables.keyed_stem(grid))


def _write_manifest(uri: str, run_id: str, manifest: Listed) -> None:
    """The manifest as a dataset input.

    MLflow holds 36 characters of a digest, so this is the front of the sha256; the whole is in the input's tag
    ``sha256`` and the run's tag ``t2i.manifest_sha256``.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag

    fields = ["prompt", "image_id", "caption_id"]
    colspec = [{"type": "string", "name": name, "required": name == "prompt"} for name in fields]
    dataset = Dataset(
        name=manifest.name[:_MAX_NAME],
        digest=manifest.sha256[:_MAX_DIGEST],
        source_type="local",
        source=json.dumps({"uri": manifest.name}),
        schema=json.dumps({"mlflow_colspec": colspec}),
        profile=json.dumps({"num_rows": len(manifest)}),
    )
    tags = [InputTag("mlflow.data.context", "generation"), InputTag("sha256", manifest.sha256)]
    store.client(uri).log_inputs(run_id, [DatasetInput(dataset, tags)])


def _write_status(uri: str, run: Run, content: Content) -> None:
    status = STATUSES[content.status or "running"]
    if content.ended is not None:
        store.client(uri).set_terminated(run.info.run_id, status, int(content.ended.timestamp() * 1000))
    elif run.info.status != status:
        store.client(uri).update_run(run.info.run_id, status=status)
