"""Whether MLflow says of a run what it was told."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from t2i_track.errors import Missing
from t2i_track.tracking import opening, store
from t2i_track.tracking.records import OWN, RUN_TAG, Content
from t2i_track.tracking.writing import STATUSES, resolved_name, same_metric, same_param, written_param, written_tag

if TYPE_CHECKING:
    from mlflow.entities import Run


def differences(uri: str, run_id: str, content: Content) -> list[str]:
    """What MLflow says otherwise: parameters, metrics, our own tags and the status, a line for each; reads only.

    Raises:
        Missing: the run or its store is gone, or the run is deleted. Unreachable: MLflow does not answer.
    """
    path = store.sqlite_path(uri)
    if path is not None and not path.exists():
        raise Missing(f"the MLflow store {path} is gone")
    store.check(uri, create=False)
    with store.explained(uri):
        run = opening.existing(uri, run_id)
    return [*_params(run, content), *_tags(run, content), *_metrics(run, content), *_status(run, content)]


def _params(run: Run, content: Content) -> Iterator[str]:
    known = run.data.params
    for key, value in content.params.items():
        # A value that differs from what was there before is beside it, under a name of its own (``writing``).
        held = [known[name] for name in (key, resolved_name(key)) if name in known]
        # MLflow forgets no parameter, so one that is not there is of a setting that came after the run.
        if value is not None and held and not any(same_param(one, written_param(value)) for one in held):
            yield f"parameter {key} is {held[0]!r:.60}, not {value!r:.60}"
    if content.params and not known:
        yield "it has no parameters"


def _tags(run: Run, content: Content) -> Iterator[str]:
    for key, value in content.tags.items():
        now = run.data.tags.get(key)
        if key.startswith(OWN) and value is not None and now is not None and now != written_tag(value):
            yield f"tag {key} is {now!r:.60}, not {value!r:.60}"
    if content.tags and RUN_TAG not in run.data.tags:
        yield f"its tag {RUN_TAG} is gone"


def _metrics(run: Run, content: Content) -> Iterator[str]:
    for key, (value, _) in content.metrics.items():
        if value is not None and not math.isnan(value) and not same_metric(run.data.metrics.get(key), value):
            yield f"metric {key} is {run.data.metrics.get(key)}, not {value}"


def _status(run: Run, content: Content) -> Iterator[str]:
    if content.status is not None and run.info.status != STATUSES[content.status]:
        yield f"its status is {run.info.status}, not {STATUSES[content.status]}"
