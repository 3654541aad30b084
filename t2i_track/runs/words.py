"""What people say about runs: tags, notes and names, in the database and in MLflow."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from t2i_track.db import lineage
from t2i_track.db.models import Run, RunTag
from t2i_track.errors import SettingsError
from t2i_track.runs import projection
from t2i_track.runs.content import UNTAGGED
from t2i_track.texts import unstorable
from t2i_track.tracking import Tracker
from t2i_track.workspace import Workspace

KEY = re.compile(r"[^\W\d][\w.-]{0,99}")
MOST_VALUE, MOST_NAME, MOST_NOTE = 500, 250, 5000
"""Characters; MLflow takes no longer ones."""


@dataclass(frozen=True)
class Said:
    """A run as it is called and spoken of now."""

    run: str
    name: str
    tags: dict[str, str]
    note: str | None
    unsent: bool
    """MLflow does not know yet: `t2i resync` tells it."""


def tag(
    workspace: Workspace, uri: str | None, addresses: Sequence[str], tags: Mapping[str, str], remove: Sequence[str] = ()
) -> list[Said]:
    """Give runs tags, or other values of tags; take others away.

    Raises:
        SettingsError: a key or value that cannot be stored, or nothing to do.
    """
    if not tags and not remove:
        raise SettingsError("no tag was given: write KEY=VALUE, or --remove KEY")
    for key, value in tags.items():
        _require_key(key)
        _require_text(f"the value of tag {key}", value, MOST_VALUE)
    if both := sorted(set(tags) & set(remove)):
        raise SettingsError(f"tag {both[0]} is both given and removed: do one of them")

    def change(_session: Session, run: Run) -> None:
        known = {one.key: one for one in run.tags}
        if absent := [key for key in remove if key not in known]:
            has = f"; it has {', '.join(sorted(known))}" if known else ""
            raise SettingsError(f"run {run.name} has no tag '{absent[0]}'{has}")
        run.tags = [one for one in run.tags if one.key not in {*tags, *remove}]
        _session.flush()  # a key is there once
        run.tags += [RunTag(key=key, value=value) for key, value in tags.items()]
        left = {*run.config.get(UNTAGGED, ()), *remove} - set(tags)
        if left:
            run.config = {**run.config, UNTAGGED: sorted(left)}

    return _changed(workspace, uri, addresses, change)


def note(workspace: Workspace, uri: str | None, address: str, text: str) -> Said:
    """Say something about a run in place of what was said; nothing takes it away."""
    _require_text("the note", text, MOST_NOTE, empty=True)

    def change(_session: Session, run: Run) -> None:
        run.note = text

    return _changed(workspace, uri, [address], change)[0]


def rename(workspace: Workspace, uri: str | None, address: str, name: str) -> Said:
    """Call a run otherwise; its id, folder and pictures stay."""
    _require_text("the name", name, MOST_NAME)
    if name == lineage.LATEST:
        raise SettingsError(f"'{name}' is the newest run's address: choose another name")

    def change(_session: Session, run: Run) -> None:
        run.name = name

    return _changed(workspace, uri, [address], change)[0]


def _require_key(key: str) -> None:
    if not KEY.fullmatch(key):
        raise SettingsError(
            f"'{key:.60}' cannot be a tag: begin with a letter, and use letters, digits, '_', '-' and '.', 100 at most"
        )


def _require_text(what: str, text: str, most: int, *, empty: bool = False) -> None:
    if reason := unstorable(text):
        raise SettingsError(f"{what} {text!r:.60} cannot be stored ({reason}): give another")
    if len(text) > most:
        raise SettingsError(f"{what} has {len(text)} characters: give at most {most}")
    if not empty and not text.strip():
        raise SettingsError(f"{what} is empty: give one")


def _changed(
    workspace: Workspace, uri: str | None, addresses: Sequence[str], change: Callable[[Session, Run], None]
) -> list[Said]:
    """All runs or none; MLflow is told afterwards."""
    workspace.require_changeable()
    with workspace.reading() as session:
        for address in addresses:
            lineage.find_run(session, address)
    with workspace.begin() as session:
        runs = list(dict.fromkeys(lineage.find_run(session, address) for address in addresses))
        for run in runs:
            change(session, run)
            if run.mlflow_run_id is not None:
                projection.remember(run)
        session.flush()
        said = [(run, dict(sorted((one.key, one.value) for one in run.tags))) for run in runs]
    with Tracker(uri, workspace.outbox) as tracker:
        return [
            Said(run.uuid, run.name, tags, run.note or None, not _told(workspace, tracker, run)) for run, tags in said
        ]


def _told(workspace: Workspace, tracker: Tracker, run: Run) -> bool:
    return run.mlflow_run_id is None or projection.send(workspace, tracker, run).complete
