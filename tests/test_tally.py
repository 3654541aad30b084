"""Pictures counted by the database."""

from __future__ import annotations

from sqlalchemy.orm import Session
from test_db import add_image, make_run

from t2i_track.db.models import Image
from t2i_track.images.decoding import Note, written
from t2i_track.runs.tally import Tally, tally


def test_every_kind_is_counted(session: Session) -> None:
    run, other = make_run(session), make_run(session, uuid="cd" * 16)
    changes = [
        {},
        {"made_by": other.uuid},
        {"truncated": True, "flagged": True, "note": Note.NOT_FINITE.value},
        {"flagged": True, "note": written(Note.HALVED, Note.NOT_FINITE)},
        {"note": written(Note.SLICED)},
        {"note": written(Note.HALVED, Note.TILED, Note.DECODED)},
        {"note": Note.REMADE.value},
        {"note": "a stranger's"},
    ]
    for index, change in enumerate(changes):
        add_image(session, run, index)
        session.query(Image).filter_by(run_id=run.id, prompt_index=index).update({"replicate": 0, **change})
    add_image(session, other, 0)
    assert tally(session, run.id) == Tally(
        images=8, reused=1, truncated=1, flagged=2, not_finite=2, halved=2, sliced=1, tiled=1, mended=2
    )


def test_of_none_there_are_none(session: Session) -> None:
    assert tally(session, make_run(session).id) == Tally(0, 0, 0, 0, 0, 0, 0, 0, 0)
