"""Audits: pictures drawn at random are made again, and what that proves of the run; seals held against what is here.

Reads only. What a seal names is not loaded because the seal names it, as of a PNG from anywhere.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import select

from t2i_track.db import lineage
from t2i_track.db.models import Image, Run
from t2i_track.environment import environment
from t2i_track.errors import DatabaseError, SealError
from t2i_track.images import png
from t2i_track.images.decoding import Note
from t2i_track.notebook import Shown
from t2i_track.progress import progress
from t2i_track.runs import foreign, scored, seal_file, verify
from t2i_track.runs.bounds import drawn
from t2i_track.runs.claims import Claim, Findings, Verdict, blocks, judge
from t2i_track.runs.merkle import leaf_hash
from t2i_track.runs.picture_files import look, read_record
from t2i_track.runs.reproduce import Places, is_ours, loaded_for, made_again, whole_record
from t2i_track.runs.scored import ScoreCheck
from t2i_track.runs.seal import MACHINE, images_of, leaf, read_pixels
from t2i_track.runs.seal_file import Seal
from t2i_track.workspace import Workspace

SAMPLE = 100
"""Pictures that are made again: if all agree, at most 2.95 % of the run can be false at 95 %."""
MOST_TOLD = 20
_PLACE = re.compile(r"(\d{6,})(?:\.(\d+))?-\d+\.png")
"""How the files of a run are named (``png.file_name``)."""


@dataclass(frozen=True, kw_only=True)
class Audit(Shown):
    """What was found."""

    run: str
    name: str
    root: str | None
    """Of the seal; None where a run of the home was audited."""
    findings: Findings
    held: int | None
    """How many pictures at hand are the sealed ones; None where none were looked at."""
    wrong: tuple[str, ...]
    """What is wrong beside the sampled pictures, a line each."""
    scores: tuple[ScoreCheck, ...]

    @property
    def sound(self) -> bool:
        return not (self.findings.disagreeing or self.wrong or any(one.agrees is False for one in self.scores))

    def rows(self) -> list[dict[str, Any]]:
        """Every picture that was made again."""
        return [{"agrees": verdict.agrees, **asdict(verdict)} for verdict in self.findings.verdicts]

    def lines(self) -> list[str]:
        return [*self.wrong, *self._of_scores(), *self._of_pictures(), self.findings.proves()]

    def _of_pictures(self) -> Iterator[str]:
        if self.held is not None:
            whole = self.findings.whole
            yield f"{self.held} of {whole} pictures at hand are the sealed ones" + (
                ": the root is that of the seal" if self.held == whole else ""
            )
        for verdict in self.findings.disagreeing[:MOST_TOLD]:
            yield f"{verdict.name}: {'; '.join(verdict.faults)}"
        if self.findings.notes and any(verdict.difference != 0 for verdict in self.findings.verdicts):
            yield f"what may explain differences: {'; '.join(self.findings.notes)}"

    def _of_scores(self) -> Iterator[str]:
        yield from (one.what for one in self.scores if one.agrees is False)
        if unchecked := sorted({one.name for one in self.scores if one.agrees is None}):
            yield f"not checked, since no scores of single images are stored: {', '.join(unchecked)}"


def audit(
    workspace: Workspace,
    target: str,
    *,
    sample: int | None = None,
    nonce: str | None = None,
    pictures: Path | None = None,
    places: Places | None = None,
) -> Audit:
    """Check a run of the home, or a seal, by making pictures of it again.

    Args:
        workspace: whose run, or where the run of a seal is looked for.
        target: a run's address, or a seal's file.
        sample: pictures to make again; default: 100, of a seal whose pictures are at hand none.
        nonce: what the sample is drawn by; default: a random one. Who made the run must not have known it before.
        pictures: a folder that has the pictures of a seal; default: those of its run, if the home has it.
        places: where the weights are now.

    Raises:
        NotFound, Ambiguous: no run, or several. SealError: no seal, or one that cannot be checked with what is here.
        ModelError: the weights are others, or of a model that nobody here has named.
    """
    nonce = secrets.token_hex(8) if nonce is None else nonce
    places = places or Places()
    path = Path(target).expanduser()
    if path.is_file():
        return _of_seal(workspace, seal_file.read(path), sample, nonce, pictures, places)
    if pictures is not None:
        raise SealError(f"--pictures {pictures} is for a seal, and {target} is no file")
    return _of_run(workspace, target, SAMPLE if sample is None else sample, nonce, places)


def _of_run(workspace: Workspace, address: str, sample: int, nonce: str, places: Places) -> Audit:
    with workspace.reading() as session:
        run = lineage.find_run(session, address)
        if run.origin is not None:
            raise SealError(f"run {run.uuid[:12]} was imported from {run.origin}: no picture of it can be made again")
        rows = list(verify.stored_rows(session, workspace, run))
        if not rows:
            raise SealError(f"run {run.uuid[:12]} has no images")
        claims = []
        for place in drawn(nonce, run.uuid, len(rows), sample):
            row = rows[place]
            image, found = session.get_one(Image, row.image), look(row.expected)
            told = [fault.what for fault in row.faults] + ([found.what] if found and found.kind else [])
            at_hand = partial(read_pixels, row.expected.path)
            claims.append(_claim(row.stored, whole_record(session, image), pixels=at_hand, faults=told))
        scores, machine = tuple(scored.checks(session, run)), dict(run.environment)
    findings = _made_again(workspace, claims, len(rows), nonce, places, machine)
    return Audit(run=run.uuid, name=run.name, root=None, findings=findings, held=None, wrong=(), scores=scores)


def _claim(
    name: str,
    record: Mapping[str, Any],
    *,
    pixels: Callable[[], png.Pixels | None],
    colours: str | None = None,
    faults: Sequence[str] = (),
) -> Claim:
    digest = record["pixels_sha256"]
    return Claim(name=name, record=record, pixels_sha256=digest, pixels=pixels, blocks=colours, faults=tuple(faults))


def _made_again(
    workspace: Workspace, claims: Sequence[Claim], whole: int, nonce: str, places: Places, machine: Mapping[str, Any]
) -> Findings:
    """The sample's verdicts; the model is loaded once."""
    if not claims:
        return Findings(whole=whole, nonce=nonce, verdicts=())
    loaded, notes = loaded_for(workspace, claims[0].record, places)
    now = environment(loaded.device)
    notes = [*notes, *(_changed(name, machine, now) for name in MACHINE if machine.get(name) != now.get(name))]
    verdicts: list[Verdict] = []
    with progress("making pictures again", len(claims)) as show:
        for verdict in judge(claims, lambda claim: made_again(claim.record, loaded)):
            verdicts.append(verdict)
            show(len(verdicts))
    return Findings(whole=whole, nonce=nonce, verdicts=verdicts, notes=notes)


def _changed(name: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    return f"{name} was {then.get(name, 'none')!s:.60}, is {now.get(name, 'none')!s:.60}"


@dataclass(frozen=True)
class _Held:
    """What is at hand of a sealed picture."""

    path: Path
    record: Mapping[str, Any] | None
    """The whole of it, by its row or by the PNG itself."""
    leaf: Mapping[str, Any] | None
    """As it would stand in a seal now, with the pixels that its file has; None where it has none."""


def _of_seal(
    workspace: Workspace, seal: Seal, sample: int | None, nonce: str, pictures: Path | None, places: Places
) -> Audit:
    held, wrong = _held(workspace, seal, pictures)
    if held is None and seal.records is None:
        raise SealError(
            f"the seal of run {seal.run[:12]} is private: give the pictures with --pictures, or with --home the home"
            " that has the run"
        )
    whole = len(seal.leaves)
    number = sample if sample is not None else 0 if held is not None else SAMPLE
    claims = [_sealed_claim(workspace, seal, held, place) for place in drawn(nonce, seal.run, whole, number)]
    findings = _made_again(workspace, claims, whole, nonce, places, seal.environment)
    told = [] if held is None else list(_differing(seal, held))
    same = None if held is None else whole - len(told)
    if len(told) > MOST_TOLD:
        told = [*told[:MOST_TOLD], f"and {len(told) - MOST_TOLD} more pictures"]
    return Audit(
        run=seal.run, name=seal.name, root=seal.root, findings=findings, held=same, wrong=(*wrong, *told),
        scores=tuple(seal.checked_scores()),
    )  # fmt: skip


def _sealed_claim(workspace: Workspace, seal: Seal, held: Sequence[_Held] | None, place: int) -> Claim:
    at_hand = None if held is None else held[place]
    if seal.records is not None:
        record, colours = seal.record(place), seal.records[place]["blocks"]
    elif at_hand is not None and at_hand.record is not None:
        record, colours = foreign.validated(dict(at_hand.record)), None
    else:
        raise SealError(f"of picture {place} of a private seal nothing is at hand: draw again with another --seed")
    if not is_ours(workspace, record):
        foreign.require_bounded(record)
    pixels = (lambda: None) if at_hand is None else partial(read_pixels, at_hand.path)
    return _claim(f"picture {place}", record, pixels=pixels, colours=colours)


def _held(workspace: Workspace, seal: Seal, pictures: Path | None) -> tuple[list[_Held] | None, list[str]]:
    """What is at hand of every picture, in the seal's order, and what the database says otherwise."""
    if pictures is not None:
        return _in_threads(_of_png, _in_folder(seal, pictures)), []
    try:
        with workspace.reading() as session:
            run = session.scalars(select(Run).where(Run.uuid == seal.run)).first()
            if run is None:
                return None, []
            images = images_of(session, run)
            wrong = list(_otherwise(seal, tuple(scored.checks(session, run)), len(images)))
            rows = [(workspace.image_path(image), whole_record(session, image), leaf(image, "")) for image in images]
    except DatabaseError:  # a seal needs no database
        return None, []
    return (_in_threads(_of_row, rows) if len(rows) == len(seal.leaves) else None), wrong


def _in_threads(work: Callable[[Any], _Held], items: Sequence[Any]) -> list[_Held]:
    with ThreadPoolExecutor(verify.THREADS, thread_name_prefix="t2i-audit") as pool:
        return list(pool.map(work, items))


def _otherwise(seal: Seal, scores: Sequence[ScoreCheck], images: int) -> Iterator[str]:
    """What the database says otherwise than the seal; scores that were measured since are none of its."""
    if images != len(seal.leaves):
        yield f"the database has {images} images of the run, the seal {len(seal.leaves)}"
    stored = {(one.name, one.protocol): one for one in scores}
    for sealed in seal.checked_scores():
        now = stored.get((sealed.name, sealed.protocol))
        if now is None:
            yield f"the score {sealed.name} of the seal is not in the database"
        elif now.value != sealed.value:
            yield f"{sealed.name} is {now.value:.6g} in the database, {sealed.value:.6g} in the seal"
        elif now.agrees is False:
            yield f"in the database, {now.what}"


def _of_row(row: tuple[Path, dict[str, Any], dict[str, Any]]) -> _Held:
    path, record, own = row
    return _Held(path, record, _with_pixels(own, path))


def _of_png(path: Path) -> _Held:
    """By what the PNG says of itself."""
    record = read_record(path)
    if not isinstance(record, dict):
        return _Held(path, None, None)
    own = {name: record.get(name) for name in ("prompt", "prompt_index", "replicate", "seed")}
    halved = {"batch_size": record.get("batch_size")} if record.get("note") == Note.HALVED else {}
    return _Held(path, record, _with_pixels({**own, **halved}, path))


def _with_pixels(own: Mapping[str, Any], path: Path) -> dict[str, Any] | None:
    pixels = read_pixels(path)
    if pixels is None:
        return None
    return {**own, "pixels_sha256": png.pixels_sha256(pixels), "blocks": blocks(pixels)}


def _in_folder(seal: Seal, folder: Path) -> list[Path]:
    """The path of each sealed picture, by the names that a run gives them; one that is not there too."""
    if not folder.is_dir():
        raise SealError(f"--pictures {folder} is no folder")
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        if named := _PLACE.fullmatch(path.name):
            found[int(named[1]) * seal.images_per_prompt + int(named[2] or 0)] = path
    places = range(len(seal.leaves))
    return [found.get(place, folder / png.file_name(*divmod(place, seal.images_per_prompt), 0)) for place in places]


def _differing(seal: Seal, held: Sequence[_Held]) -> Iterator[str]:
    """A line for each picture at hand that is not the sealed one."""
    for place, (one, sealed) in enumerate(zip(held, seal.leaves, strict=True)):
        if one.leaf is None:
            yield f"picture {place}: {one.path.name} is gone, or has no pixels or no record"
        elif not _is_leaf(one.leaf, sealed):
            yield f"picture {place}: {_named(seal, one.leaf, place)} of {one.path.name} is not what was sealed"


def _is_leaf(record: Mapping[str, Any], sealed: str) -> bool:
    try:
        return leaf_hash(record) == sealed
    except (TypeError, ValueError):  # a PNG may say anything
        return False


def _named(seal: Seal, record: Mapping[str, Any], place: int) -> str:
    """Which of its values differ; of a private seal that is not known."""
    if seal.records is None:
        return "something"
    sealed = seal.records[place]
    return ", ".join(name for name in {**record, **sealed} if record.get(name) != sealed.get(name))
