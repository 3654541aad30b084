"""An ordered, hashed manifest, of a prompt file or of prompts from the command line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from t2i_track.errors import ManifestError
from t2i_track.prompts.formats import IMAGE_PATH, NEGATIVE_PROMPT, OTHER_COLUMNS, Row, rows
from t2i_track.prompts.text import normalise, storable

EXACT = 2**53
"""Whole numbers below this are themselves as floats."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One row. ``image_path`` is absolute, or relative to the folder the program runs in; a file's own relative
    paths have been resolved against the file's folder. ``negative_prompt`` replaces the run's for this row; None: the
    run's."""

    prompt: str
    image_id: str | None = None
    caption_id: str | None = None
    image_path: str | None = None
    negative_prompt: str | None = None


@dataclass(frozen=True)
class Manifest:
    """An ordered list of prompts; a prompt's position is its ``prompt_index``."""

    name: str
    entries: tuple[Entry, ...]

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def prompts(self) -> list[str]:
        return [entry.prompt for entry in self.entries]

    @property
    def negative_prompts(self) -> list[str | None]:
        return [entry.negative_prompt for entry in self.entries]

    @cached_property
    def sha256(self) -> str:
        """Hash of the normalised rows: each as the JSON list ``[prompt, image_id, caption_id]`` and a line feed.

        A row with a negative prompt of its own has that as the fourth item.

        The name, the file format and the image paths are left out: the same captions on another machine, where the
        photographs lie elsewhere, are the same manifest, and runs over them can be paired.
        """
        digest = hashlib.sha256()
        for entry in self.entries:
            own = [] if entry.negative_prompt is None else [entry.negative_prompt]
            row = [entry.prompt, entry.image_id, entry.caption_id, *own]
            digest.update(json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
        return digest.hexdigest()

    def head(self, num: int | None) -> Manifest:
        """The first ``num`` entries; all of them for None, or where there are fewer."""
        if num is not None and num < 1:
            raise ManifestError(f"{num} prompts cannot be taken from {self.name}: ask for 1 or more")
        return self if num is None or num >= len(self) else Manifest(self.name, self.entries[:num])


def from_prompts(prompts: Iterable[str], name: str = "command line") -> Manifest:
    """A manifest of the prompts given with ``--prompt``."""
    places = ((f"prompt {number} of the {name}", {"prompt": text}) for number, text in enumerate(prompts, start=1))
    return _manifest(name, places)


def load(path: str | Path) -> Manifest:
    """Read a prompt file; its ending says what it is: .csv, .tsv, .jsonl, .ndjson, .json or .txt, each also packed by
    gzip, or .parquet.

    Raises:
        ManifestError: the file is missing, empty, not UTF-8, has no prompt column, or has a bad row.
    """
    path = Path(path)
    return _manifest(path.name, rows(path), folder=path.parent)


def _manifest(name: str, rows: Iterable[Row], folder: Path | None = None) -> Manifest:
    entries = tuple(_entry(place, row, folder) for place, row in rows)
    if not entries:
        raise ManifestError(f"{name}: the manifest has no prompts: add a line for each prompt")
    return Manifest(name, entries)


def _entry(place: str, row: Mapping[str, Any], folder: Path | None) -> Entry:
    prompt = row["prompt"]
    if not isinstance(prompt, str):
        raise ManifestError(f"{place}: the prompt must be text, not {prompt!r:.60}")
    if not isinstance(negative := row.get(NEGATIVE_PROMPT), str | None):
        raise ManifestError(f"{place}: {NEGATIVE_PROMPT} must be text, not {negative!r:.60}")
    values = {column: _text(place, column, row.get(column)) for column in OTHER_COLUMNS}
    prompt = normalise(storable(place, prompt))
    if not prompt:
        raise ManifestError(f"{place}: the prompt is empty: fill it in or delete the line")
    if folder is not None and (own := values[IMAGE_PATH]) is not None:
        values[IMAGE_PATH] = (folder / own).as_posix()
    return Entry(prompt, **values)


def _text(place: str, column: str, value: object) -> str | None:
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT:
        value = int(value)  # as tables have it that miss some ids
    if isinstance(value, bool) or not isinstance(value, str | int | None):
        raise ManifestError(f"{place}: {column} must be text or a whole number, not {value!r:.60}")
    if value is None:
        return None
    text = storable(place, str(value))
    # A file's name may well hold two spaces.
    return (text if column == IMAGE_PATH else normalise(text)) or None
