"""The decisions of an adaptive sweep, read back as they were stored."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from t2i_track.db import lineage
from t2i_track.db.decisions import decisions_of
from t2i_track.db.models import Decision, Sweep
from t2i_track.ranking.decided import Decided, Verdict
from t2i_track.ranking.rows import direction
from t2i_track.runs.plan import HALVES, values_of
from t2i_track.runs.until_decided import ROUNDS
from t2i_track.schedulers import network_calls


def decided(session: Session, address: str) -> Decided | None:
    """What a sweep decided; None of one that makes as many images of all settings, or has not decided yet."""
    sweep = lineage.find_sweep(session, address)
    rows = decisions_of(session, sweep.id)
    record: dict[str, Any] = sweep.spec.get(ROUNDS, {})
    if not rows:
        return None
    more = record.get("more", {})
    newest = {row.run_id: row for row in rows}  # the last of each
    order = {member.run_id: member.cell for member in sweep.members}
    last = sorted(newest.values(), key=lambda row: order.get(row.run_id, len(order)))
    axes = _axes(sweep)
    first = last[0]
    within = sweep.spec.get("within")
    return Decided(
        sweep=sweep.name,
        by=first.metric,
        protocol=first.protocol.fingerprint,
        direction=direction(first.metric),
        margin=first.margin,
        margin_text=str(within) if within else f"{first.margin:g}",
        level=record.get("level", 0.95),
        ended=record.get("ended", "open"),
        budget=sweep.spec.get("budget") or "",
        settings=tuple(_verdict(row, axes, more.get(row.run.uuid)) for row in last),
        most=first.run.num * first.run.images_per_prompt,
        history=tuple(_verdict(row, axes) for row in rows),
    )


def _axes(sweep: Sweep) -> list[str]:
    """What varies, guidance and steps first."""
    names = list(sweep.spec["axes"])
    return sorted(names, key=lambda name: ({"guidance": 0, "steps": 1}.get(name, 2), names.index(name)))


def _verdict(row: Decision, axes: list[str], more: int | None = None) -> Verdict:
    values = values_of(row.run)
    halves = row.run.config.get(HALVES)
    return Verdict(
        run=row.run.uuid,
        name=row.run.name,
        axes={name: getattr(values, name) for name in axes},
        passes=values.passes if halves is None else network_calls(values.scheduler, values.steps) * halves,
        state=row.state.value,
        value=row.value,
        images=row.images,
        estimate=row.estimate,
        low=row.low,
        high=row.high,
        more=more,
    )
