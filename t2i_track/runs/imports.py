"""Pictures that other programs made become runs: found, read, grouped by their settings, stored."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session, joinedload

from t2i_track import tracking
from t2i_track.db import lineage
from t2i_track.db.models import Image, MetricValue, Run, RunStatus
from t2i_track.db.types import utc_now
from t2i_track.errors import T2IError, TransferError
from t2i_track.files import write_atomically
from t2i_track.importing.found import Found
from t2i_track.metrics.folder import look_through
from t2i_track.notebook import Shown
from t2i_track.prompts.manifest import Entry, Manifest
from t2i_track.runs import projection
from t2i_track.runs.looking import Item, Look, looked, without_home
from t2i_track.runs.plan import IMPORTED, RESOLVED
from t2i_track.settings import UNKNOWN
from t2i_track.texts import unstorable
from t2i_track.workspace import Workspace

if TYPE_CHECKING:
    from t2i_track.runs.evaluate import Scored
    from t2i_track.tracking import Tracker

NAMED = 3


@dataclass(frozen=True)
class ImportedRun:
    """A run that pictures were put into."""

    run: str
    name: str
    experiment: str
    origin: str
    guidance: float | None
    steps: int | None
    scheduler: str | None
    model: str
    width: int
    height: int
    images: int
    added: int


@dataclass(frozen=True)
class Import(Shown):
    """What became of a folder's pictures."""

    folder: str
    runs: tuple[ImportedRun, ...]
    imported: int
    known: int
    """Pictures that were images of a run already, by the hashes of their files."""
    left_out: Mapping[str, tuple[str, ...]]
    """Reason -> files, as paths within the folder."""
    said: str
    """In one line: how many were imported, and what was left out, why."""
    notes: tuple[str, ...]
    scored: tuple[Scored, ...] = ()
    unscored: str | None = None
    """Why what should have been scored was not."""

    def rows(self) -> list[dict[str, Any]]:
        return [dataclasses.asdict(run) for run in self.runs]

    def lines(self) -> list[str]:
        scored = [f"{one.name}: {note}" for one in self.scored for note in one.notes()]
        return [self.said, *self.notes, *scored, *([] if self.unscored is None else [f"not scored: {self.unscored}"])]


def import_folder(
    workspace: Workspace,
    folder: Path,
    *,
    experiment: str,
    run_name: str | None = None,
    fmt: str | None = None,
    table: Path | None = None,
    copy: bool = False,
    evaluate: bool | None = None,
    reference: str | None = None,
    tracking_uri: str | None = None,
) -> Import:
    """Make runs of the pictures of a folder and of the folders in it, one for each setting.

    Args:
        folder: of pictures, with what lies beside them.
        experiment: of the new runs, and in which known ones are looked for.
        run_name: default: the settings.
        fmt: of ``importing.FORMATS``: only pictures that this program made; None: all.
        table: a CSV or JSON lines file that speaks of the pictures and lies elsewhere.
        copy: copy the files into the home folder; else they are images where they lie.
        evaluate: score the runs; None: where the embedded reference fits, or one is given.
        reference: what to score against.
        tracking_uri: MLflow's.

    Raises:
        TransferError: no folder, or nothing in it that can be imported.
    """
    from t2i_track.tracking import Tracker

    for what, text in (("run name", run_name or ""), ("experiment", experiment)):
        if reason := unstorable(text):
            raise TransferError(f"the {what} {text!r:.60} cannot be stored ({reason}): give another")
    folder = folder.expanduser().absolute()
    if not folder.is_dir():
        other = "is a file: name its folder" if folder.exists() else "is not there: check the path"
        raise TransferError(f"{folder} {other}")
    listed = without_home(look_through(folder), workspace)
    if not listed.pictures:
        raise TransferError(f"{folder} has no pictures: {listed.said()}; name another folder")
    workspace.require_writable()
    look = looked(workspace, listed, table, fmt)
    if not look.items and not look.known:
        raise TransferError(f"nothing of {folder} can be imported: {look.folder.said_left_out()}")
    with Tracker(tracking_uri, workspace.outbox) as tracker:
        runs, notes = _stored(workspace, tracker, look, experiment, run_name, copy)
        scored, unscored = _scored(workspace, tracker, runs, evaluate, reference)
    return Import(
        folder=str(folder),
        runs=tuple(runs),
        imported=len(look.items),
        known=look.known,
        left_out={why: tuple(str(p.relative_to(folder)) for p in paths) for why, paths in listed.left_out.items()},
        said=_said(look, len(runs)),
        notes=(*_notes(look, workspace, copy), *notes),
        scored=tuple(scored),
        unscored=unscored,
    )


def _said(look: Look, runs: int) -> str:
    trash = f" ({look.trashed} in the trash: `t2i delete --undo` or `t2i gc`)" if look.trashed else ""
    made, known = len(look.items), f", {look.known} known{trash}" if look.known else ""
    into = f" into {runs} run{'s' * (runs != 1)}" if made else ""
    lost = f", {look.folder.said_left_out()}" if look.folder.left_out else ""
    return f"{made} picture{'s' * (made != 1)} imported{into}{known}{lost}"


def _notes(look: Look, workspace: Workspace, copy: bool) -> Iterator[str]:
    mute = [item for item in look.items if not item.found.prompt]
    if mute:
        yield (
            f"{len(mute)} of {len(look.items)} pictures have no prompt that is known ({_some(mute)}): scores of"
            " alignment are not for them, and they pair with none"
        )
    if look.unread:
        count = len(look.unread)
        what = f"{count} picture{'s say' if count > 1 else ' says'} of {'themselves' if count > 1 else 'itself'}"
        yield f"what {what} cannot be read: {'; '.join(look.unread[:NAMED])}"
    odd = [item for item in look.items if item.found.note]
    if odd:
        have = "1 picture has" if len(odd) == 1 else f"{len(odd)} pictures have"
        yield f"{have} a note, the first: {odd[0].path.name}: {odd[0].found.note}"
    away = any(Path(workspace.stored_path(item.path)).is_absolute() for item in look.items)
    if look.items and not copy and away:
        yield "the pictures are used where they lie, nothing was copied: keep them there, or import with --copy"


def _some(items: Sequence[Item]) -> str:
    more = f" and {len(items) - NAMED} more" if len(items) > NAMED else ""
    return ", ".join(item.path.name for item in items[:NAMED]) + more


@dataclass(frozen=True)
class _Group:
    """The pictures of one run."""

    setting: Mapping[str, Any]
    items: tuple[Item, ...]
    uuid: str
    name: str

    @property
    def first(self) -> Found:
        return self.items[0].found


def _groups(look: Look, experiment: str, run_name: str | None) -> list[_Group]:
    """One for each setting and size; where neither guidance nor steps are known, also one for each folder."""
    found: dict[str, list[Item]] = defaultdict(list)
    settings: dict[str, dict[str, Any]] = {}
    for item in look.items:
        setting = {**item.found.setting, "width": item.width, "height": item.height}
        if item.found.guidance is None and item.found.steps is None:
            setting["folder"] = str(item.path.parent)
        key = json.dumps(setting, sort_keys=True)
        settings[key] = setting
        found[key].append(item)
    names = _names(settings, run_name)
    return [
        _Group(settings[key], tuple(items), _digest("run", experiment, run_name or "", key)[:32], names[key])
        for key, items in found.items()
    ]


def _names(settings: Mapping[str, Mapping[str, Any]], run_name: str | None) -> dict[str, str]:
    """A name for each, of as much of its setting as tells it from the others."""
    if run_name is not None and len(settings) == 1:
        return dict.fromkeys(settings, run_name)
    named = {key: _short(one) for key, one in settings.items()}
    for more in ("{model}", "{width}x{height}"):
        counted = Counter(named.values())
        words = {key: more.format(**{**one, "model": one["model"] or UNKNOWN}) for key, one in settings.items()}
        named = {key: f"{text}-{words[key]}" if counted[text] > 1 else text for key, text in named.items()}
    seen: Counter[str] = Counter()
    for key, text in named.items():
        seen[text] += 1
        named[key] = " ".join(filter(None, [run_name, text, f"({seen[text]})" if seen[text] > 1 else ""]))
    return named


def _short(setting: Mapping[str, Any]) -> str:
    if setting["guidance"] is None and setting["steps"] is None:
        return f"{setting['origin']}-{Path(setting['folder']).name}"
    guidance = UNKNOWN if setting["guidance"] is None else f"{setting['guidance']:g}"
    steps = UNKNOWN if setting["steps"] is None else setting["steps"]
    return f"{setting['origin']}-{setting['scheduler'] or UNKNOWN}-g{guidance}-s{steps}"


def _digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps(["imported", *parts]).encode()).hexdigest()


def _stored(
    workspace: Workspace, tracker: Tracker, look: Look, experiment: str, run_name: str | None, copy: bool
) -> tuple[list[ImportedRun], list[str]]:
    """Each group in a transaction of its own, its files before its rows; then MLflow is told."""
    runs, notes = [], []
    for group in _groups(look, experiment, run_name):
        places = {item.sha256: _place(workspace, group, item, copy) for item in group.items}
        with workspace.begin() as session:
            run = _run(session, group, experiment, look.folder.root)
            _add(session, workspace, run, group, places)
            projection.remember(run, uri=projection.state_of(run).get("uri") or tracking.shown(tracker.uri))
            scores = session.scalar(select(MetricValue.id).where(MetricValue.run_id == run.id).limit(1))
        if scores is not None:
            notes.append(f"run {run.name} has scores of fewer pictures: measure it anew with 't2i evaluate'")
        projection.send(workspace, tracker, run)
        with workspace.reading() as session:
            runs.append(_told(session, session.get_one(Run, run.id), len(group.items)))
    return runs, notes


def _place(workspace: Workspace, group: _Group, item: Item, copy: bool) -> str:
    """The picture's path as it is stored; of a copy, which is made here."""
    if not copy:
        return workspace.stored_path(item.path)
    target = workspace.images_folder(group.uuid, None) / f"{item.sha256[:12]}{item.path.suffix.lower()}"
    try:
        write_atomically(target, item.path.read_bytes(), parents=True)
    except OSError as error:
        raise TransferError(f"cannot copy {item.path} to {target} ({error.strerror}): is the disk full?") from None
    return workspace.stored_path(target)


def _run(session: Session, group: _Group, experiment: str, folder: Path) -> Run:
    """The run of this setting, made where there is none."""
    run = session.scalar(select(Run).where(Run.uuid == group.uuid))
    if run is not None:
        if run.deleted_at is not None:
            raise TransferError(f"run {run.name} of these pictures was put away: give another --run-name")
        return run
    first, setting = group.first, group.setting
    model = lineage.store_model(
        session,
        name=first.model or UNKNOWN,
        revision=first.model_hash or "",
        weights_sha256=None,
        pipeline_class=None,
    )
    beside_columns = {"sigmas": first.sigmas, "clip_skip": first.clip_skip}
    run = Run(
        uuid=group.uuid,
        name=group.name,
        experiment=experiment,
        status=RunStatus.FINISHED,
        origin=first.origin,
        model=model,
        **{name: setting[name] for name in ("guidance", "steps", "scheduler", "negative_prompt", "width", "height")},
        scheduler_config={},
        settings_sha256=_digest("setting", json.dumps(setting, sort_keys=True)),
        config={
            "settings": {},
            "lora_sha256": None,
            RESOLVED: {name: value for name, value in beside_columns.items() if value is not None},
            IMPORTED: {"folder": str(folder), "setting": dict(setting)},
        },
        environment={"threads": None, "versions": {}},
        ended_at=utc_now(),
        num=0,
    )
    run.manifest = _manifest(session, folder.name, [])
    session.add(run)
    session.flush()
    return run


def _manifest(session: Session, name: str, prompts: Sequence[str]) -> Any:
    manifest = Manifest(name, tuple(map(Entry, prompts)))
    entries = [dataclasses.asdict(entry) for entry in manifest.entries]
    return lineage.store_manifest(session, name=name, sha256=manifest.sha256, entries=entries)


def _add(session: Session, workspace: Workspace, run: Run, group: _Group, places: Mapping[str, str]) -> None:
    """Add the pictures, and put all of the run into the order of their prompts and seeds.

    In the same order everywhere, so that runs over the same prompts have the same manifest and pair.
    """
    query = select(Image).where(Image.run_id == run.id).options(joinedload(Image.prompt))
    before = [(image.prompt.text, image.seed, image.path, image.id) for image in session.scalars(query)]
    items = {places[item.sha256]: item for item in group.items}
    now: list[tuple[str, int | None, str, int | None]] = [*before]
    now += [(item.found.prompt, item.found.seed, path, None) for path, item in items.items()]
    prompts, order = _ordered(now)
    if before:  # out of the way first: places are taken one by one
        away = [{"id": number, "prompt_index": -number, "replicate": 0} for *_, number in before]
        session.execute(update(Image), away)
    moved = [{"id": one[3], "prompt_index": index, "replicate": number} for one, index, number in order if one[3]]
    if moved:
        session.execute(update(Image), moved)
    ids = lineage.store_prompts(session, [item.found.prompt for item in group.items])
    new = [(items[one[2]], one[2], index, number) for one, index, number in order if one[3] is None]
    lineage.add_images(session, run.id, ids, [_row(*values) for values in new])
    counts = Counter(index for _, index, _ in order)
    run.manifest = _manifest(session, run.manifest.name, prompts)
    run.num, run.images_per_prompt = len(prompts), min(counts.values())
    run.ended_at = utc_now()
    session.flush()


def _ordered(
    images: Sequence[tuple[str, int | None, str, int | None]],
) -> tuple[list[str], list[tuple[tuple[str, int | None, str, int | None], int, int]]]:
    """The prompts in the order of their texts, and each image with its prompt's index and its number there by seeds.

    Prompts that are not known come last, one to an image: they are not one prompt.
    """
    known = sorted({prompt for prompt, *_ in images if prompt})
    index = {prompt: place for place, prompt in enumerate(known)}
    order, seen = [], Counter[int]()
    for image in sorted(images, key=lambda one: (one[0], one[1] is None, one[1] or 0, one[2])):
        place = index[image[0]] if image[0] else len(known) + seen[-1]
        order.append((image, place, seen[place]))
        seen[place if image[0] else -1] += 1
    return known + [""] * seen[-1], order


def _row(item: Item, path: str, index: int, number: int) -> dict[str, Any]:
    return {
        "prompt": item.found.prompt,
        "prompt_index": index,
        "replicate": number,
        "seed": item.found.seed,
        "path": path,
        "sha256": item.sha256,
        "pixels_sha256": item.pixels_sha256,
        "width": item.width,
        "height": item.height,
        "truncated": False,
        "note": item.found.note,
    }


def _told(session: Session, run: Run, added: int) -> ImportedRun:
    own = ("guidance", "steps", "scheduler", "width", "height", "name", "experiment")
    return ImportedRun(
        run=run.uuid,
        origin=run.origin or UNKNOWN,
        model=run.model.name,
        images=lineage.image_counts(session, [run.id])[run.id],
        added=added,
        **{name: getattr(run, name) for name in own},
    )


def _scored(
    workspace: Workspace, tracker: Tracker, runs: Sequence[ImportedRun], wanted: bool | None, reference: str | None
) -> tuple[list[Scored], str | None]:
    """The scores of the runs, or why there are none though there should be: what was imported is told all the same."""
    from t2i_track.runs.evaluate import after_generation

    if wanted is False:
        return [], None
    scored: list[Scored] = []
    for run in runs:
        try:
            one = after_generation(workspace, tracker, run.run, wanted=wanted, reference=reference)
        except T2IError as error:
            return scored, str(error)
        scored += [one] if one is not None else []
    return scored, None
