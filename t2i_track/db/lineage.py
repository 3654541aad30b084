"""Reads and writes of the lineage. Every function takes the session and none commits."""

from __future__ import annotations

import difflib
import hashlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, SQLColumnExpression, and_, func, insert, or_, select
from sqlalchemy.orm import Session

from t2i_track.db import shared
from t2i_track.db.models import (
    Image,
    ImageScore,
    Manifest,
    ManifestEntry,
    MetricValue,
    Model,
    Prompt,
    Protocol,
    Run,
    RunStatus,
    RunTag,
    Sweep,
    SweepRun,
)
from t2i_track.db.types import utc_now
from t2i_track.errors import Ambiguous, NotFound

# Below SQLite's and PostgreSQL's limits on bound parameters of one statement.
CHUNK = 500
LARGEST_KEY = 2**31 - 1
LATEST = "latest"
_NO_RUN = "there is no run yet: make one with 't2i generate'"

T = TypeVar("T")


def new_uuid() -> str:
    return uuid.uuid4().hex


def text_sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def store_model(
    session: Session, *, name: str, revision: str, weights_sha256: str | None, pipeline_class: str | None
) -> Model:
    same = {"name": name, "revision": revision, "weights_sha256": weights_sha256}
    found = shared.found(session, select(Model).filter_by(**same))
    if found is None:
        found = Model(**same, pipeline_class=pipeline_class)
        session.add(found)
        session.flush()
    return found


def store_prompts(session: Session, texts: Iterable[str]) -> dict[str, int]:
    """Store each text once; return every text's id."""
    by_digest = {text_sha256(text): text for text in texts}
    ids: dict[str, int] = {}
    for digests in chunks(by_digest):
        known = _prompt_ids(session, digests)
        if len(known) < len(digests) and shared.locked(session):
            known = _prompt_ids(session, digests)
        new = [{"text": by_digest[digest], "sha256": digest} for digest in digests if digest not in known]
        if new:
            added = session.execute(insert(Prompt).returning(Prompt.id, Prompt.sha256), new)
            known |= {digest: key for key, digest in added}
        ids |= {by_digest[digest]: known[digest] for digest in digests}
    return ids


def _prompt_ids(session: Session, digests: Sequence[str]) -> dict[str, int]:
    query = select(Prompt.id, Prompt.sha256).where(Prompt.sha256.in_(digests))
    return {digest: key for key, digest in session.execute(query)}


def store_manifest(session: Session, *, name: str, sha256: str, entries: Sequence[Mapping[str, Any]]) -> Manifest:
    """Store a manifest once. ``entries``: in order, each with ``prompt`` and optional ``image_id``, ``image_path``,
    ``caption_id`` and ``negative_prompt``."""
    found = shared.found(session, select(Manifest).filter_by(sha256=sha256))
    if found is not None:
        return found
    manifest = Manifest(name=name, sha256=sha256, size=len(entries))
    session.add(manifest)
    session.flush()
    prompts = store_prompts(session, (entry["prompt"] for entry in entries))
    rows = (
        {
            "manifest_id": manifest.id,
            "position": position,
            "prompt_id": prompts[entry["prompt"]],
            "source_image_id": entry.get("image_id"),
            "source_image_path": entry.get("image_path"),
            "caption_id": entry.get("caption_id"),
            "negative_prompt": entry.get("negative_prompt"),
        }
        for position, entry in enumerate(entries)
    )
    for chunk in chunks(rows):
        session.execute(insert(ManifestEntry), chunk)
    return manifest


def own_negatives(session: Session, manifest_id: int, num: int | None = None) -> dict[int, str]:
    """Position -> negative prompt, of the manifest's first ``num`` rows that have one of their own."""
    query = select(ManifestEntry.position, ManifestEntry.negative_prompt).where(
        ManifestEntry.manifest_id == manifest_id, ManifestEntry.negative_prompt.is_not(None)
    )
    rows = session.execute(query if num is None else query.where(ManifestEntry.position < num))
    return {position: str(text) for position, text in rows}


def negative_of(session: Session, image: Image) -> str | None:
    """The negative prompt that the image's row of the manifest has of its own."""
    return session.scalar(
        select(ManifestEntry.negative_prompt).where(
            ManifestEntry.manifest_id == image.run.manifest_id, ManifestEntry.position == image.prompt_index
        )
    )


def made_images(session: Session, run: Run) -> set[tuple[int, int]]:
    """The (prompt index, replicate) of every image that the run has a row for."""
    rows = session.execute(select(Image.prompt_index, Image.replicate).where(Image.run_id == run.id))
    return {(index, replicate) for index, replicate in rows}


def add_images(
    session: Session,
    run_id: int,
    prompt_ids: Mapping[str, int],
    records: Iterable[Mapping[str, Any]],
    *,
    again: bool = False,
) -> int:
    """Add rows for images whose files exist. ``records``: column values, with ``prompt`` (text) for the prompt's id.

    ``again``: they may be there already, all of them or none.
    """
    rows = []
    for record in records:
        values = {key: value for key, value in record.items() if key != "prompt"}
        rows.append({"run_id": run_id, "prompt_id": prompt_ids[record["prompt"]], "created_at": utc_now(), **values})
    if rows and not (again and _is_made(session, rows[0])):
        session.execute(insert(Image), rows)
    return len(rows)


def _is_made(session: Session, row: Mapping[str, Any]) -> bool:
    same = {name: row[name] for name in ("run_id", "prompt_index", "replicate", "path", "sha256")}
    return session.scalar(select(Image.id).filter_by(**same)) is not None


def finish_run(session: Session, run: Run, status: RunStatus, error: str | None = None) -> None:
    """Close a run: its status, its end, the reason, and the mean cost of its images."""
    run.status = status
    run.ended_at = utc_now()
    run.error = error
    run.seconds_per_image = session.scalar(select(func.avg(Image.seconds)).where(Image.run_id == run.id))


def find_run(session: Session, address: str, *, deleted: bool = False) -> Run:
    """The run with that id (or a prefix of 4 characters or more), name or MLflow run id; or ``latest``.

    Args:
        session: of the database.
        address: of a run.
        deleted: among those in the trash, in a session that sees them.

    Raises:
        NotFound, Ambiguous: the message lists the candidates.
    """
    runs = select(Run).where(Run.deleted_at.is_not(None) if deleted else Run.deleted_at.is_(None))
    if address == LATEST:
        latest = session.scalar(runs.order_by(Run.created_at.desc(), Run.id.desc()).limit(1))
        if latest is None:
            raise NotFound("there is no run in the trash" if deleted else _NO_RUN)
        return latest
    exact = list(session.scalars(runs.where(or_(Run.uuid == address, Run.mlflow_run_id == address))))
    found = exact or list(session.scalars(runs.where(Run.name == address).order_by(Run.created_at)))
    if not found and len(address) >= 4:
        prefix = or_(_starts(Run.uuid, address), _starts(Run.mlflow_run_id, address))
        found = list(session.scalars(runs.where(prefix).order_by(Run.created_at)))
    if not found and not deleted and _is_in_trash(session, address):
        raise NotFound(f"run '{address}' is in the trash: `t2i delete --undo {address}` brings it back")
    if not found:
        listed = "'t2i gc --dry-run' lists what is there" if deleted else "'t2i runs' lists them"
        raise NotFound(f"no run '{address}'{' in the trash' if deleted else ''}: {listed}")
    return _only(found, "run", address, lambda run: f"{run.uuid[:12]} ({run.name}, {run.created_at:%Y-%m-%d %H:%M:%S})")


def _is_in_trash(session: Session, address: str) -> bool:
    """Asked of the table, since a session does not see such runs."""
    runs = Run.__table__.c
    same = or_(runs.name == address, runs.mlflow_run_id == address, _starts(runs.uuid, address))
    query = select(runs.id).where(runs.deleted_at.is_not(None), same)
    return len(address) >= 4 and session.execute(query.limit(1)).first() is not None


def find_sweep(session: Session, address: str) -> Sweep:
    """The sweep with that id or prefix, name or MLflow run id; the newest of several with one name."""
    exact = or_(Sweep.uuid == address, Sweep.name == address, Sweep.mlflow_run_id == address)
    found = list(session.scalars(select(Sweep).where(exact).order_by(Sweep.created_at.desc()).limit(1)))
    if not found and len(address) >= 4:
        found = list(session.scalars(select(Sweep).where(_starts(Sweep.uuid, address))))
    if not found:
        raise NotFound(f"no sweep '{address}'")
    return _only(found, "sweep", address, lambda sweep: f"{sweep.uuid[:12]} ({sweep.name})")


def find_image(session: Session, address: str, home: Path) -> Image:
    """The image with that id, path (as stored, or as the user sees it), or prefix of either hash.

    Raises:
        NotFound, Ambiguous: as for runs.
    """
    found = [at] if (at := image_at(session, address, home)) else []
    # PostgreSQL compares its keys with nothing larger; such a number may be the beginning of a hash.
    if not found and address.isascii() and address.isdigit() and len(address) < 12 and int(address) <= LARGEST_KEY:
        found = list(session.scalars(select(Image).join(Run).where(Image.id == int(address))))
    if not found and len(address) >= 6:
        prefix = or_(_digest_starts(Image.sha256, address), _digest_starts(Image.pixels_sha256, address))
        # Limited before they are sorted: in the order of their keys SQLite would go through all images.
        few = select(Image.id).join(Run).where(prefix).limit(20)
        found = list(session.scalars(select(Image).where(Image.id.in_(session.scalars(few).all())).order_by(Image.id)))
    if not found:
        raise NotFound(f"no image '{address}': give its id, its path, or six or more characters of a hash")
    return _only(found, "image", address, lambda image: f"{image.id} ({image.path})")


def image_at(session: Session, path: str, home: Path) -> Image | None:
    """The image that was written there, by its path as stored or as the user sees it."""
    return session.scalars(select(Image).join(Run).where(Image.path.in_(_paths(path, home)))).first()


def is_taken(session: Session, mlflow_run_id: str) -> bool:
    """Whether that MLflow run is the one of a run or sweep here."""
    taken = (session.scalar(select(kind.id).where(kind.mlflow_run_id == mlflow_run_id)) for kind in (Run, Sweep))
    return any(key is not None for key in taken)


def list_runs(
    session: Session, *, experiment: str | None = None, status: RunStatus | None = None, limit: int | None = None
) -> list[Run]:
    """Runs, the newest first."""
    query = select(Run).order_by(Run.created_at.desc(), Run.id.desc())
    if experiment is not None:
        query = query.where(of_experiment(experiment))
    if status is not None:
        query = query.where(Run.status == status)
    return list(session.scalars(query.limit(limit)))


def of_experiment(name: str) -> ColumnElement[bool]:
    """Runs that were made in an experiment, and the cells of its sweeps, also those that were taken over from others.

    A sweep is of the experiment that it was asked for, also where it joined an MLflow run of another.
    """
    cells = select(SweepRun.run_id).join(Sweep).where(or_(Sweep.experiment == name, _asked_experiment() == name))
    return or_(Run.experiment == name, Run.id.in_(cells))


def _asked_experiment() -> ColumnElement[str]:
    asked: ColumnElement[str] = Sweep.spec["experiment"].as_string()
    return asked


def require_experiment(session: Session, name: str) -> None:
    """Raise NotFound, with the nearest names, where no run is of that experiment."""
    cells = select(Sweep.experiment, _asked_experiment()).join(SweepRun).distinct()
    named = {
        *session.scalars(select(Run.experiment).distinct()),
        *(one for row in session.execute(cells) for one in row),
    }
    known = sorted(filter(None, named))
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or known[:3]
    told = f"; there is {', '.join(near)}" if near else ": no run has been made here yet"
    raise NotFound(f"no experiment '{name}'{told}")


def image_counts(session: Session, run_ids: Iterable[int]) -> dict[int, int]:
    counts: dict[int, int] = {}
    for chunk in chunks(run_ids):
        rows = session.execute(select(Image.run_id, func.count()).where(Image.run_id.in_(chunk)).group_by(Image.run_id))
        counts |= {run_id: int(count) for run_id, count in rows}
    return counts


def reused_count(session: Session, run_id: int) -> int:
    """How many of the run's images another run made."""
    return session.scalar(select(func.count()).where(Image.run_id == run_id, Image.made_by.is_not(None))) or 0


def tags_of(session: Session, run_ids: Iterable[int]) -> dict[int, dict[str, str]]:
    """Run -> its tags, in the order of their keys' characters, which not every database has."""
    found: dict[int, dict[str, str]] = {}
    for chunk in chunks(run_ids):
        query = select(RunTag.run_id, RunTag.key, RunTag.value).where(RunTag.run_id.in_(chunk))
        for run_id, key, value in sorted(session.execute(query).all()):
            found.setdefault(run_id, {})[key] = value
    return found


def finished_like(session: Session, settings_sha256: str) -> Run | None:
    """The newest finished run of the same work, to be taken over by a sweep."""
    return session.scalar(
        select(Run)
        .where(Run.settings_sha256 == settings_sha256, Run.status == RunStatus.FINISHED)
        .order_by(Run.created_at.desc(), Run.id.desc())
        .limit(1)
    )


def add_to_sweep(session: Session, sweep_id: int, run: Run, cell: int) -> None:
    """Make the run that cell of the sweep, instead of the run that was."""
    found = session.scalar(select(SweepRun).where(SweepRun.sweep_id == sweep_id, SweepRun.cell == cell))
    if found is None:
        session.add(SweepRun(sweep_id=sweep_id, run_id=run.id, cell=cell))
    else:
        found.run_id = run.id


def store_protocol(session: Session, fingerprint: str, values: Mapping[str, Any]) -> Protocol:
    found = shared.found(session, select(Protocol).filter_by(fingerprint=fingerprint))
    if found is None:
        found = Protocol(fingerprint=fingerprint, **values)
        session.add(found)
        session.flush()
    return found


def store_value(session: Session, run: Run, name: str, protocol: Protocol, values: Mapping[str, Any]) -> None:
    """Store a score; the same measurement repeated replaces its row."""
    same = {"run_id": run.id, "name": name, "protocol_id": protocol.id}
    shared.locked(session)  # two programs may replace the same rows, each in its order
    found = session.scalar(select(MetricValue).filter_by(**same))
    if found is None:
        session.add(MetricValue(**same, **values))
        return
    for key, value in values.items():
        setattr(found, key, value)
    found.created_at = utc_now()


def store_image_scores(session: Session, name: str, protocol: Protocol, scores: Mapping[int, float]) -> None:
    """Store one score for each image id, replacing what the same measurement gave before."""
    shared.locked(session)
    for chunk in chunks(scores.items()):
        ids = [image_id for image_id, _ in chunk]
        query = select(ImageScore).where(
            ImageScore.image_id.in_(ids), ImageScore.name == name, ImageScore.protocol_id == protocol.id
        )
        known = {row.image_id: row for row in session.scalars(query)}
        for image_id, value in chunk:
            if image_id in known:
                known[image_id].value = value
            else:
                session.add(ImageScore(image_id=image_id, name=name, value=value, protocol_id=protocol.id))
        session.flush()


def _starts(column: SQLColumnExpression[Any], prefix: str) -> ColumnElement[bool]:
    return column.startswith(prefix, autoescape=True)


def _digest_starts(column: SQLColumnExpression[Any], prefix: str) -> ColumnElement[bool]:
    # LIKE looks at every row; a range is served by the index, and in any collation g comes after all hex digits.
    return and_(column.between(prefix.lower(), f"{prefix.lower()}g"), _starts(column, prefix.lower()))


def _paths(address: str, home: Path) -> list[str]:
    """The ways in which the path may be stored: as given, absolute, relative to home."""
    absolute = Path(address).expanduser().absolute()
    candidates = {Path(address).as_posix(), absolute.as_posix()}
    if absolute.is_relative_to(home.absolute()):
        candidates.add(absolute.relative_to(home.absolute()).as_posix())
    return sorted(candidates)


def _only(found: Sequence[T], kind: str, address: str, show: Any) -> T:
    if len(found) == 1:
        return found[0]
    listed = ", ".join(show(item) for item in found[:8])
    more = f" and {len(found) - 8} more" if len(found) > 8 else ""
    raise Ambiguous(f"'{address}' is {len(found)} {kind}s: {listed}{more}; give a longer id")


def chunks(items: Iterable[T]) -> Iterable[list[T]]:
    """The items in lists that fit into one statement."""
    iterator = iter(items)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk
