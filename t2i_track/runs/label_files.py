"""A CSV of labels: read whole, and stored whole or not at all."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from t2i_track.db import lineage
from t2i_track.db.models import Failure
from t2i_track.errors import Ambiguous, LabelError, NotFound
from t2i_track.runs.labels import Labelled, Wanted, changing, known_author, login_name, require_storable, store
from t2i_track.workspace import Workspace

REQUIRED = ("image", "failure")
COLUMNS = (*REQUIRED, "note", "author")
EXPLAINED = 10
"""Bad lines that are told with their reason; the rest by their numbers."""

Line = tuple[int, Mapping[str, str]]


def label_file(workspace: Workspace, path: Path, *, author: str | None = None) -> Labelled:
    """Store the labels of a CSV with the columns ``image,failure`` and optional ``note,author``.

    Args:
        author: of lines that name none; default: the login name.

    Raises:
        LabelError: the file cannot be read, or lines of it are wrong; every one is named, and nothing is stored.
    """
    lines = list(_lines(path))
    with changing(workspace) as session:

        @cache
        def image_id(address: str) -> int:
            return lineage.find_image(session, address, workspace.home).id

        wanted: list[Wanted] = []
        bad: dict[int, str] = {}
        said: dict[tuple[int, str], tuple[int, Failure]] = {}
        for number, line in lines:
            try:
                one = Wanted(
                    image_id(line["image"]),
                    _failure(line["failure"]),
                    known_author(line["author"] or author or login_name()),
                    line["note"] or None,
                )
                require_storable("note", line["note"])
                _require_agreeing(said, number, one)
            except (LabelError, NotFound, Ambiguous) as error:
                bad[number] = str(error)
            else:
                wanted.append(one)
        if bad:
            raise LabelError(f"{path}: nothing was stored: {_told(bad)}")
        return store(session, wanted)


def _failure(word: str) -> Failure:
    try:
        return Failure(word.strip().lower())
    except ValueError:
        raise LabelError(f"'{word}' is no failure: one of {', '.join(Failure)}") from None


def _require_agreeing(said: dict[tuple[int, str], tuple[int, Failure]], number: int, one: Wanted) -> None:
    """Raise LabelError where an author calls an image ``ok`` on one line and not on another."""
    line, failure = said.setdefault((one.image, one.author), (number, one.failure))
    if (failure is Failure.OK) != (one.failure is Failure.OK):
        raise LabelError(f"{one.author} calls image {one.image} '{one.failure}' here and '{failure}' on line {line}")


def _told(bad: Mapping[int, str]) -> str:
    reasons = [f"line {number}: {why}" for number, why in list(bad.items())[:EXPLAINED]]
    rest = list(bad)[EXPLAINED:]
    return "; ".join([*reasons, *([f"and lines {', '.join(map(str, rest))}"] if rest else [])])


def _lines(path: Path) -> Iterator[Line]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise LabelError(f"{path}: cannot read the labels ({error.strerror}): check the path") from None
    except UnicodeDecodeError:
        raise LabelError(f"{path}: not UTF-8: save the table as CSV (UTF-8)") from None
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="", strict=True)
    try:
        names = [name.strip().lower() for name in reader.fieldnames or ()]
        _require_columns(path, names)
        reader.fieldnames = names
        for row in reader:
            if "" in row:
                raise LabelError(f"{path}, line {reader.line_num}: more fields than columns: quote those with commas")
            yield reader.line_num, {name: row.get(name) or "" for name in COLUMNS}
    except csv.Error as error:
        raise LabelError(f"{path}: not a CSV file ({error}): quote fields that hold commas or quotes") from None


def _require_columns(path: Path, names: list[str]) -> None:
    missing = [name for name in REQUIRED if name not in names]
    unknown = [name for name in names if name not in COLUMNS]
    twice = [name for name in set(names) if names.count(name) > 1]
    if missing or unknown or twice:
        told = f"no column {missing[0]}" if missing else f"column '{(unknown or twice)[0]}'"
        raise LabelError(f"{path}: {told}: the first line is {','.join(REQUIRED)} and, if wanted, note,author")
