"""Prompt files to an ordered, hashed manifest: CSV, TSV, JSON lines, plain text, or prompts from the command line."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from t2i_track.errors import ManifestError

PROMPT_COLUMNS = ("caption", "prompt", "prompts", "text")
"""Names of the prompt's column, in any case, the first that is there; DrawBench says ``Prompts``."""
OTHER_COLUMNS = ("image_id", "caption_id", "image_path")


@dataclass(frozen=True, slots=True)
class Entry:
    """One row. ``image_path`` is absolute, or relative to the folder the program runs in; a file's own relative
    paths have been resolved against the file's folder."""

    prompt: str
    image_id: str | None = None
    caption_id: str | None = None
    image_path: str | None = None


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

    @cached_property
    def sha256(self) -> str:
        """Hash of the normalised rows: each as the JSON list ``[prompt, image_id, caption_id]`` and a line feed.

        The name, the file format and the image paths are left out: the same captions on another machine, where the
        photographs lie elsewhere, are the same manifest, and runs over them can be paired.
        """
        digest = hashlib.sha256()
        for entry in self.entries:
            row = [entry.prompt, entry.image_id, entry.caption_id]
            digest.update(json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
        return digest.hexdigest()

    def head(self, num: int | None) -> Manifest:
        """The first ``num`` entries; all of them for None, or where there are fewer."""
        if num is not None and num < 1:
            raise ManifestError(f"{num} prompts cannot be taken from {self.name}: ask for 1 or more")
        return self if num is None or num >= len(self) else Manifest(self.name, self.entries[:num])


def normalise(text: str) -> str:
    """Every run of white space (Unicode's, with line breaks and no-break spaces) becomes one space; none at the ends.

    Letters, case, accents and their composition (NFC or NFD) stay as they are, since tokenisers see them.
    """
    return " ".join(text.split())


def from_prompts(prompts: Iterable[str], name: str = "command line") -> Manifest:
    """A manifest of the prompts given with ``--prompt``."""
    places = ((f"prompt {number} of the {name}", {"prompt": text}) for number, text in enumerate(prompts, start=1))
    return _manifest(name, places)


def load(path: str | Path) -> Manifest:
    """Read a prompt file; its ending says what it is: .csv, .tsv, .jsonl, .ndjson or .txt.

    Raises:
        ManifestError: the file is missing, empty, not UTF-8, has no prompt column, or has a bad line.
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        hint = "run `t2i data coco` on COCO's annotations first" if path.suffix.lower() == ".json" else "rename it"
        raise ManifestError(f"{path}: a manifest ends in {', '.join(_READERS)}, not in {path.suffix!r}: {hint}")
    return _manifest(path.name, reader(_read_text(path), str(path)), folder=path.parent)


Row = tuple[str, Mapping[str, Any]]
"""Where it stands ("file, line 3") and what it says, by column."""


def _manifest(name: str, rows: Iterable[Row], folder: Path | None = None) -> Manifest:
    entries = tuple(_entry(place, row, folder) for place, row in rows)
    if not entries:
        raise ManifestError(f"{name}: the manifest has no prompts: add a line for each prompt")
    return Manifest(name, entries)


def _entry(place: str, row: Mapping[str, Any], folder: Path | None) -> Entry:
    prompt = row["prompt"]
    if not isinstance(prompt, str):
        raise ManifestError(f"{place}: the prompt must be text, not {prompt!r:.60}")
    values = {column: _text(place, column, row.get(column)) for column in OTHER_COLUMNS}
    prompt = normalise(storable(place, prompt))
    if not prompt:
        raise ManifestError(f"{place}: the prompt is empty: fill it in or delete the line")
    if folder is not None and values["image_path"] is not None:
        values["image_path"] = (folder / values["image_path"]).as_posix()
    return Entry(prompt, **values)


def _text(place: str, column: str, value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int | None):
        raise ManifestError(f"{place}: {column} must be text or a whole number, not {value!r:.60}")
    if value is None:
        return None
    text = storable(place, str(value))
    # A file's name may well hold two spaces.
    return (text if column == "image_path" else normalise(text)) or None


def storable(place: str, text: str) -> str:
    """Neither PostgreSQL nor PNG text chunks can hold a NUL, and no file can hold half a surrogate pair."""
    if "\0" in text:
        raise ManifestError(f"{place}: contains a NUL character: is this a text file?")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ManifestError(f"{place}: {text[error.start]!r} is not a character: save the text as UTF-8") from None
    return text


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ManifestError(f"{path}: there is no such manifest: check the path") from None
    except OSError as error:
        raise ManifestError(f"{path}: the manifest cannot be read: {error.strerror}") from None
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ManifestError(f"{path}: the manifest is UTF-16: save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = f"0x{error.object[error.start]:02x}"
        raise ManifestError(f"{path}, line {line}: byte {byte} is not UTF-8: save the manifest as UTF-8") from None


def _read_csv(text: str, name: str) -> Iterator[Row]:
    try:
        yield from _by_column(_table(text, strict=True), name)
    except csv.Error as error:
        raise ManifestError(f"{name}: not a CSV file ({error}): quote fields that hold commas or quotes") from None


def _read_tsv(text: str, name: str) -> Iterator[Row]:
    """Tables of both habits: quoted as CSV is, and raw as PartiPrompts is, where quotation marks are mere text."""
    try:
        table = list(_table(text, delimiter="\t", strict=True))
    except csv.Error:
        table = list(_table(text, delimiter="\t", quoting=csv.QUOTE_NONE))
    return _by_column(table, name)


def _table(text: str, **dialect: Any) -> Iterator[tuple[int, list[str]]]:
    """Rows with the number of their last line, without blank ones."""
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    reader = csv.reader(io.StringIO(text, newline=""), **dialect)
    return ((reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells))


def _by_column(table: Iterable[tuple[int, list[str]]], name: str) -> Iterator[Row]:
    rows = iter(table)
    _, header = next(rows, (0, []))
    if not header:
        raise ManifestError(f"{name}: the manifest is empty: add a header line and a line for each prompt")
    keys = _keys(header, name)
    for line, cells in rows:
        place = f"{name}, line {line}"
        if len(cells) > len(header):
            raise ManifestError(f"{place}: {len(cells)} fields under {len(header)} columns: quote fields with commas")
        yield place, {"prompt": "", **dict(zip(keys, cells, strict=False))}


def _keys(header: Sequence[str], name: str) -> list[str]:
    """The header's names, the one of the prompt replaced by ``prompt`` and others that would clash by nothing."""
    columns = [normalise(column).lower() for column in header]
    wanted = next((column for column in PROMPT_COLUMNS if column in columns), None)
    if wanted is None:
        found = ", ".join(repr(column) for column in header)
        raise ManifestError(f"{name}: no column caption, prompt, prompts or text; its columns are {found:.200}")
    for column in (wanted, *OTHER_COLUMNS):
        if columns.count(column) > 1:
            raise ManifestError(f"{name}: the column {column!r} is there {columns.count(column)} times: rename one")
    return ["prompt" if column == wanted else column if column in OTHER_COLUMNS else "" for column in columns]


def _read_jsonl(text: str, name: str) -> Iterator[Row]:
    """Each line an object with a prompt key, or just a string."""
    for line, content in _lines(text):
        place = f"{name}, line {line}"
        try:
            record = json.loads(content)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "too deep or too long"
            raise ManifestError(f"{place}: not JSON ({reason}): each line is one JSON object") from None
        if isinstance(record, str):
            record = {"prompt": record}
        if not isinstance(record, dict):
            raise ManifestError(f"{place}: a line is a JSON object or string, not {content:.60}")
        keys = {key.lower(): key for key in reversed(record)}
        wanted = next((keys[column] for column in PROMPT_COLUMNS if column in keys), None)
        if wanted is None:
            raise ManifestError(f"{place}: no key caption, prompt, prompts or text; its keys are {list(record)!r:.200}")
        yield place, {**record, "prompt": record[wanted]}


def _read_txt(text: str, name: str) -> Iterator[Row]:
    """One prompt a line."""
    return ((f"{name}, line {line}", {"prompt": content}) for line, content in _lines(text))


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Numbered lines that are not blank. Only CR and LF end a line: a caption may hold U+2028 and its like."""
    numbered = enumerate(io.StringIO(text, newline=None), start=1)
    return ((number, content) for number, content in numbered if content.strip())


_READERS: dict[str, Callable[[str, str], Iterator[Row]]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".txt": _read_txt,
}
