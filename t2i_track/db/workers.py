"""The processes that made pictures for drivers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from t2i_track.db import shared
from t2i_track.db.models import Image, Run, Worker


def store_worker(session: Session, facts: Mapping[str, Any]) -> int:
    """Store a worker once; its id. ``facts``: the columns of its table, but for their hash."""
    sha256 = hashlib.sha256(json.dumps(facts, sort_keys=True, default=dict).encode()).hexdigest()
    key = shared.found(session, select(Worker.id).filter_by(sha256=sha256))
    if key is None:
        worker = Worker(sha256=sha256, **facts)
        session.add(worker)
        session.flush()
        key = worker.id
    return key


def workers_of(session: Session, run: Run) -> list[Worker]:
    """Those that made pictures of the run."""
    ids = select(Image.worker_id).where(Image.run_id == run.id, Image.worker_id.is_not(None)).distinct()
    return list(session.scalars(select(Worker).where(Worker.id.in_(ids)).order_by(Worker.id)))


def threads_of_workers(session: Session, run: Run) -> dict[int, int]:
    """How many each of them had, by their ids."""
    return {worker.id: worker.environment["threads"] for worker in workers_of(session, run)}
