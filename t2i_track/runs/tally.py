"""How many of a run's pictures are of which kind, counted by the database: no row of 30,000 is loaded for a number."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from t2i_track.db.models import Image
from t2i_track.images.decoding import Note, has


@dataclass(frozen=True)
class Tally:
    """The counts of a ``Summary``, under its names."""

    images: int
    reused: int
    truncated: int
    flagged: int
    not_finite: int
    halved: int
    sliced: int
    tiled: int
    mended: int


def tally(session: Session, run_id: int) -> Tally:
    count = func.count(Image.id)
    kinds = (count, func.count(Image.made_by), count.filter(Image.truncated), count.filter(Image.flagged))
    # Of notes there are as many as there are ways to make a picture otherwise than its run says.
    rows = session.execute(select(Image.note, *kinds).where(Image.run_id == run_id).group_by(Image.note)).all()

    def noted(*notes: Note) -> int:
        return sum(number for note, number, *_ in rows if has(note, *notes))

    images, reused, truncated, flagged = (sum(column) for column in list(zip(*rows, strict=True))[1:] or [()] * 4)
    return Tally(
        images=images,
        reused=reused,
        truncated=truncated,
        flagged=flagged,
        not_finite=noted(Note.NOT_FINITE),
        halved=noted(Note.HALVED),
        sliced=noted(Note.SLICED),
        tiled=noted(Note.TILED),
        mended=noted(Note.DECODED, Note.REMADE),
    )
