"""Failure cases: labels of pictures by people, proposals that are read off scores, and how often runs fail.

Rates only read; everything else writes rows of ``labels`` and nothing else.
"""

from __future__ import annotations

import getpass
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sqlalchemy import String, select, type_coerce
from sqlalchemy.orm import Session

from t2i_track.db import lineage
from t2i_track.db.models import Failure, Image, ImageScore, Label, Run
from t2i_track.errors import LabelError
from t2i_track.ranking.failures import AUTO, FailureRate, Said, failure_rates
from t2i_track.shapes.alignment import PARTS, WHOLE
from t2i_track.texts import unstorable
from t2i_track.workspace import Workspace

PROPOSED = {"count": Failure.COUNT, "relation": Failure.SPATIAL, "background": Failure.BACKGROUND}
"""Part of an alignment -> what its being wrong is called; any other part is ``other``."""
_PARTS = {f"{WHOLE}_{part}": PROPOSED.get(part, Failure.OTHER) for part in PARTS}
"""The score of each image -> the same."""


@dataclass(frozen=True)
class Wanted:
    """A label to be stored; a note of None leaves that of an earlier label."""

    image: int
    failure: Failure
    author: str
    note: str | None = None


@dataclass(frozen=True)
class Labelled:
    """What became of the labels of some images."""

    images: int
    added: int = 0
    changed: int = 0
    """Labels whose note is another now."""
    removed: int = 0
    notes: tuple[str, ...] = ()
    failures: Mapping[str, int] = field(default_factory=dict)
    """How many of the images were given each label."""

    def lines(self) -> list[str]:
        did = ", ".join(f"{count} {word}" for word in ("added", "changed", "removed") if (count := getattr(self, word)))
        said = f"{self.images} image{'s' * (self.images != 1)}, labels: {did or 'nothing to change'}"
        return [said, *(f"note: {note}" for note in self.notes)]

    def record(self) -> dict[str, Any]:
        return asdict(self)


def login_name() -> str:
    """Who labels, where nobody is named.

    Raises:
        LabelError: the system does not know.
    """
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        raise LabelError("the system has no login name for you: say who labels with --author NAME") from None


def label(
    workspace: Workspace,
    addresses: Sequence[str],
    failures: Sequence[str],
    *,
    note: str | None = None,
    author: str | None = None,
) -> Labelled:
    """Give images these failures; ``ok`` takes an author's others away, and any other takes their ``ok`` away.

    Raises:
        LabelError: ok beside a failure, or an author or note that cannot be stored. NotFound, Ambiguous: an image.
    """
    who = known_author(author or login_name())
    given = [Failure(failure) for failure in dict.fromkeys(failures)]
    if Failure.OK in given and len(given) > 1:
        raise LabelError("'ok' says that nothing failed: label it alone, or leave it out")
    require_storable("note", note or "")
    with changing(workspace) as session:
        images = _images(session, workspace, addresses)
        return store(session, [Wanted(image, failure, who, note) for image in images for failure in given])


def unlabel(
    workspace: Workspace, addresses: Sequence[str], failures: Sequence[str] = (), *, author: str | None = None
) -> Labelled:
    """Take an author's labels of images back: these failures, or all where none is named."""
    who = known_author(author or login_name())
    with changing(workspace) as session:
        images = _images(session, workspace, addresses)
        named = [Failure(failure) for failure in failures] or list(Failure)
        held = [one for one in _labels(session, images) if one.author == who and one.failure in named]
        return Labelled(len(images), removed=_delete(session, held))


def propose(workspace: Workspace, addresses: Sequence[str]) -> Labelled:
    """Label the pictures of runs as their stored alignment scores say, by the author ``auto``, in place of what it said
    before: a part below 1 is a failure, and ``ok`` is none below 1.

    Raises:
        LabelError: a run has no such scores; the line has the command that measures them.
    """
    with changing(workspace) as session:
        runs = [lineage.find_run(session, address) for address in addresses]
        wanted, notes = [], []
        for run in runs:
            scores = _part_scores(session, run)
            if not scores:
                raise LabelError(
                    f"no image of run {run.name} has an alignment score to propose by:"
                    f" `t2i evaluate {run.uuid[:12]} --metrics alignment` measures them (embedded captions only);"
                    " people label any picture: `t2i label IMAGE --failure count`"
                )
            missing = lineage.image_counts(session, [run.id])[run.id] - len(scores)
            if missing:
                notes.append(f"{missing} images of {run.name} have no alignment score, so no proposal")
            wanted += [one for image, parts in scores.items() for one in _proposals(image, parts)]
        return _repropose(session, wanted, notes)


def unpropose(workspace: Workspace, addresses: Sequence[str]) -> Labelled:
    """Take the proposals for runs away."""
    with changing(workspace) as session:
        runs = [lineage.find_run(session, address).id for address in addresses]
        query = select(Label).join(Image).where(Image.run_id.in_(runs), Label.author == AUTO)
        held = list(session.scalars(query))
        return Labelled(len({one.image_id for one in held}), removed=_delete(session, held))


def changing(workspace: Workspace) -> Any:
    """A unit of work on a database that is there: labels are of pictures that are, so none is made for them."""
    with workspace.reading():
        pass
    return workspace.begin()


def store(session: Session, wanted: Sequence[Wanted], notes: Iterable[str] = ()) -> Labelled:
    """Store labels. The same label of the same author again changes its note, never how many there are."""
    images = list(dict.fromkeys(one.image for one in wanted))
    held: dict[tuple[int, str], dict[Failure, Label]] = {}
    for one in _labels(session, images):
        held.setdefault((one.image_id, one.author), {})[one.failure] = one
    done: Counter[str] = Counter()
    for new in wanted:
        mine = held.setdefault((new.image, new.author), {})
        against = [one for failure, one in mine.items() if (failure is Failure.OK) != (new.failure is Failure.OK)]
        for one in against:
            del mine[one.failure]
        done["removed"] += _delete(session, against)
        old = mine.get(new.failure)
        if old is None:
            mine[new.failure] = Label(image_id=new.image, failure=new.failure, author=new.author, note=new.note or "")
            session.add(mine[new.failure])
            done["added"] += 1
        elif new.note is not None and old.note != new.note:
            old.note = new.note
            done["changed"] += 1
    given = Counter(one.failure for one in wanted)
    failures = {failure.value: given[failure] for failure in Failure if failure in given}
    return Labelled(len(images), done["added"], done["changed"], done["removed"], tuple(notes), failures)


def known_author(name: str) -> str:
    """The name without spaces around it.

    Raises:
        LabelError: none, one that cannot be stored, or that of the proposals.
    """
    author = name.strip()
    require_storable("author", author)
    if author in ("", AUTO):
        told = "is the author of proposals" if author else "is no name"
        raise LabelError(f"'{author}' {told}: give a person's with --author NAME")
    return author


def require_storable(what: str, text: str) -> None:
    if reason := unstorable(text):
        raise LabelError(f"the {what} {reason}: write it without")


def rates(session: Session, runs: Sequence[str], level: float = 0.95) -> tuple[FailureRate, ...]:
    """How often each of these runs (uuids) that has labels fails in which way; no query of a single run."""
    if session.scalar(select(Label.id).limit(1)) is None:
        return ()
    # As it is stored: to make a word of an enumeration of each of many labels takes as long as reading it.
    columns = (Run.uuid, Image.id, Image.prompt_id, type_coerce(Label.failure, String), Label.author)
    labels: dict[str, list[Said]] = {uuid: [] for uuid in runs}
    for chunk in lineage.chunks(runs):
        query = select(*columns).select_from(Label).join(Image).join(Run).where(Run.uuid.in_(chunk))
        for uuid, image, prompt, failure, author in session.execute(query):
            labels[uuid].append(Said(image, prompt, failure, author))
    return failure_rates(labels, [failure.value for failure in Failure], level)


def _images(session: Session, workspace: Workspace, addresses: Sequence[str]) -> list[int]:
    found = (lineage.find_image(session, address, workspace.home).id for address in addresses)
    return list(dict.fromkeys(found))


def _labels(session: Session, images: Sequence[int]) -> list[Label]:
    return [
        one for ids in lineage.chunks(images) for one in session.scalars(select(Label).where(Label.image_id.in_(ids)))
    ]


def _delete(session: Session, labels: Sequence[Label]) -> int:
    for one in labels:
        session.delete(one)
    return len(labels)


def _part_scores(session: Session, run: Run) -> dict[int, dict[str, float]]:
    """Image -> part -> its score, of the protocol that came last."""
    query = (
        select(ImageScore.image_id, ImageScore.name, ImageScore.value)
        .join(Image)
        .where(Image.run_id == run.id, ImageScore.name.in_(_PARTS))
        .order_by(Image.prompt_index, Image.replicate, ImageScore.protocol_id)
    )
    found: dict[int, dict[str, float]] = {}
    for image, name, value in session.execute(query):
        found.setdefault(image, {})[name] = value
    return found


def _proposals(image: int, scores: Mapping[str, float]) -> list[Wanted]:
    """Each failure once, with the scores that say so."""
    wrong: dict[Failure, list[str]] = {}
    for name, value in scores.items():
        if value < 1:
            wrong.setdefault(_PARTS[name], []).append(f"{name} {value:g}")
    failing = wrong or {Failure.OK: [f"nothing wrong in {', '.join(scores)}"]}
    return [Wanted(image, failure, AUTO, ", ".join(why)) for failure, why in failing.items()]


def _repropose(session: Session, wanted: Sequence[Wanted], notes: Sequence[str]) -> Labelled:
    kept = {(one.image, one.failure) for one in wanted}
    held = _labels(session, list({one.image for one in wanted}))
    gone = [one for one in held if one.author == AUTO and (one.image_id, one.failure) not in kept]
    removed = _delete(session, gone)
    session.flush()
    stored = store(session, wanted, notes)
    return replace(stored, removed=stored.removed + removed)
