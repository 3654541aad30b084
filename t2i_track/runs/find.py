"""Pictures by the words of their prompts and by the settings of their runs. Reads only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, or_, select
from sqlalchemy.orm import Session

from t2i_track.db import lineage
from t2i_track.db.models import Image, Prompt, Run
from t2i_track.errors import SettingsError
from t2i_track.runs.rows import run_rows
from t2i_track.workspace import Workspace

Query = Select[Image, Run, str]
_NUMBER = r"-?(?:\d+\.?\d*|\.\d+)"
RECENT = 20_000
"""Pictures that are looked through first, one by one."""
_COMPARED = re.compile(rf"\s*(>=|<=|!=|>|<|=|)\s*({_NUMBER})\s*")
_BETWEEN = re.compile(rf"\s*({_NUMBER})\s*\.\.\s*({_NUMBER})\s*")
_TESTS = {
    ">": lambda column, number: column > number,
    ">=": lambda column, number: column >= number,
    "<": lambda column, number: column < number,
    "<=": lambda column, number: column <= number,
    "!=": lambda column, number: column != number,
    "=": lambda column, number: column == number,
    "": lambda column, number: column == number,
}


@dataclass(frozen=True)
class Found:
    """The newest pictures, and whether there are more than were asked for."""

    rows: tuple[dict[str, Any], ...]
    more: bool


def find(
    session: Session,
    workspace: Workspace,
    words: Sequence[str],
    *,
    guidance: str | None = None,
    steps: str | None = None,
    experiment: str | None = None,
    where: str | None = None,
    limit: int,
) -> Found:
    """Pictures whose prompts hold all the words, the newest first.

    Args:
        words: texts that the prompt must hold, in any case; one of several words is a phrase.
        guidance, steps: ``7``, ``>7``, ``3..5`` (both ends belong to it).
        experiment: of this experiment only, see ``lineage.of_experiment``.
        where: a condition over runs, as ``ranking.where`` reads it.
        limit: at most so many, at least 1.

    Raises:
        SettingsError: a comparison cannot be read. NotFound: no such experiment. CompareError: an unreadable condition.
    """
    query = select(Image, Run, Prompt.text).join(Run, Image.run_id == Run.id).join(Prompt, Image.prompt_id == Prompt.id)
    for name, text in (("guidance", guidance), ("steps", steps)):
        if text is not None:
            query = query.where(compared(name, text))
    if experiment is not None:
        lineage.require_experiment(session, experiment)
        query = query.where(lineage.of_experiment(experiment))
    # A run's images are stored in the order in which they were made.
    query = query.order_by(Image.id.desc()).limit(limit + 1)
    queries = _matching(session, query, where)
    found = _recent(session, queries, words)
    if len(found) <= limit:
        # The texts are looked through once, then the index on images.prompt_id leads to their pictures.
        prompts = select(Prompt.id).where(*(holds(word) for word in words))
        found = _read(session, [one.where(Image.prompt_id.in_(prompts)) if words else one for one in queries])
    rows = tuple(_row(workspace, image, run, prompt) for image, run, prompt in found[:limit])
    return Found(rows, len(found) > limit)


def holds(word: str) -> ColumnElement[bool]:
    """Whether a prompt holds the text, in any case.

    SQLite knows the case of ASCII letters only, so of other alphabets the usual writings are asked for: as it is, all
    small, all capital, the first capital.
    """
    writings = [word] if word.isascii() else [word, word.lower(), word.upper(), word.capitalize(), word.title()]
    return or_(*(Prompt.text.icontains(one, autoescape=True) for one in dict.fromkeys(writings)))


def compared(name: str, text: str) -> ColumnElement[bool]:
    """The condition on a run's number, from what a person writes.

    Raises:
        SettingsError: it is neither a number nor a comparison with one.
    """
    column = {"guidance": Run.guidance, "steps": Run.steps}[name]
    if between := _BETWEEN.fullmatch(text):
        low, high = map(float, between.groups())
        if low > high:
            raise SettingsError(f"{name} '{text}' holds no number: write the smaller end first, {high:g}..{low:g}")
        return and_(column >= low, column <= high)
    if one := _COMPARED.fullmatch(text):
        condition: ColumnElement[bool] = _TESTS[one[1]](column, float(one[2]))
        return condition
    raise SettingsError(f"{name} '{text}' is no number and no comparison: write 7, '>7', '<=7', '!=7' or 3..5")


def _matching(session: Session, query: Query, where: str | None) -> list[Query]:
    """The query, or one for each handful of the runs for which the condition holds."""
    if where is None:
        return [query]
    from t2i_track.ranking.where import where as matching

    runs = [row.run for row in matching(run_rows(session), where)]
    return [query.where(Run.uuid.in_(chunk)) for chunk in lineage.chunks(runs)]


def _recent(session: Session, queries: Iterable[Query], words: Sequence[str]) -> list[Any]:
    """Of the newest pictures alone, where common words are found at once: all their pictures would be many."""
    newest = session.scalar(select(func.max(Image.id))) or 0
    held = [holds(word) for word in words]
    return _read(session, [one.where(Image.id > newest - RECENT, *held) for one in queries])


def _read(session: Session, queries: Iterable[Query]) -> list[Any]:
    """The newest first, also of several queries."""
    rows = [row for query in queries for row in session.execute(query)]
    return sorted(rows, key=lambda row: -row[0].id)


def _row(workspace: Workspace, image: Image, run: Run, prompt: str) -> dict[str, Any]:
    return {
        "id": image.id,
        "run": run.uuid[:12],
        "guidance": run.guidance,
        "steps": run.steps,
        "seed": image.seed,
        "prompt": prompt,
        "path": str(workspace.image_path(image)),
    }
