"""Prompt files of every format to rows: CSV, TSV, JSON, JSON lines, Parquet, plain text, also compressed by gzip."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from t2i_track.errors import ManifestError
from t2i_track.filesystems import LFS_POINTER
from t2i_track.jsontext import KeyTwice, parsed
from t2i_track.prompts import tsv
from t2i_track.prompts.text import DAMAGED, MARK, normalise, open_bytes

PROMPT_COLUMNS = ("caption", "prompt", "prompts", "text")
"""Names of the prompt's column, in any case, the first that is there; DrawBench says ``Prompts``."""
IMAGE_PATH = "image_path"
FILE_NAME = "file_name"
"""What Hugging Face's ``metadata.csv`` and ``metadata.jsonl`` call the picture of a row."""
NEGATIVE_PROMPT = "negative_prompt"
"""What the picture of a row is steered away from, where that is not the run's."""
OTHER_COLUMNS = ("image_id", "caption_id", IMAGE_PATH, NEGATIVE_PROMPT)

Row = tuple[str, Mapping[str, Any]]
"""Where it stands ("file, line 3") and what it says, by column; its text is under ``prompt``."""

_SEPARATOR = re.compile(r'"?sep=([^\r\n])"?(?=[\r\n]|\Z)', re.IGNORECASE)
"""A line above the header, by which Excel is told what stands between the fields."""
_ROW_END = re.compile(r"\r\n?|\n")
_LONE_CR = re.compile(r"\r(?!\n)")
_PACKED = ".gz"
_SHEETS = "save the sheet as CSV (UTF-8)"
_ADVICE = {
    **dict.fromkeys((".xlsx", ".xls", ".ods", ".numbers"), _SHEETS),
    **dict.fromkeys((".zip", ".tar", ".tgz", ".7z", ".bz2", ".xz", ".zst"), "unpack it, or pack the file by gzip"),
    **dict.fromkeys((".arrow", ".feather", ".pkl", ".npy", ".npz"), "save the table as .parquet or .csv"),
    **dict.fromkeys((".yaml", ".yml"), "`t2i sweep` takes such files, and they name a manifest"),
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".webp"), "a picture holds no prompts"),
}
_CONTENT = (
    (b"\xff\xfe", "UTF-16", "save it as UTF-8"),
    (b"\xfe\xff", "UTF-16", "save it as UTF-8"),
    (b"PK\x03\x04", "a zip file or a spreadsheet", f"unpack it, or {_SHEETS}"),
    (b"\x1f\x8b", "packed by gzip", f"let its name end in {_PACKED}"),
    (b"PAR1", "a Parquet file", "let its name end in .parquet"),
    (LFS_POINTER, "only a pointer of Git LFS", "run `git lfs pull`"),
)
"""How content begins that is not the text that the file's ending promises."""


def rows(path: Path) -> Iterator[Row]:
    """The rows of a prompt file; its ending says what it is.

    Raises:
        ManifestError: the file is missing, not what its ending says, not UTF-8, has no prompt column, or has a bad row.
    """
    ending = path.suffix.lower()
    if path.is_dir():
        raise ManifestError(f"{path}: a manifest is a file, and this is a folder: name the file in it")
    if ending == ".parquet":
        return _read_parquet(path)
    packed = ending == _PACKED
    reader = _READERS.get(Path(path.stem).suffix.lower() if packed else ending)
    if reader is None:
        raise ManifestError(
            f"{path}: a manifest ends in {', '.join(_READERS)} (each also with {_PACKED}) or .parquet, not in"
            f" {path.suffix!r}: {_ADVICE.get(ending, 'rename it if it is one of these, else save it as one')}"
        )
    return reader(_read_text(path), str(path))


def _read_text(path: Path) -> str:
    try:
        with open_bytes(path) as file:
            data = file.read()
    except FileNotFoundError:
        raise ManifestError(f"{path}: there is no such manifest: check the path") from None
    except DAMAGED:
        raise ManifestError(f"{path}: not packed by gzip, or cut off: is the download complete?") from None
    except OSError as error:
        raise ManifestError(f"{path}: the manifest cannot be read: {error.strerror}") from None
    if path.suffix.lower() == _PACKED and data.startswith(b"\x1f\x8b"):
        raise ManifestError(f"{path}: the manifest is packed by gzip twice: unpack it once")
    if b"\0" in data[:2]:
        raise ManifestError(f"{path}: the manifest is UTF-16, or no text: save it as UTF-8")
    for start, what, advice in _CONTENT:
        if data.startswith(start):
            raise ManifestError(f"{path}: the manifest is {what}: {advice}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = f"0x{error.object[error.start]:02x}"
        raise ManifestError(f"{path}, line {line}: byte {byte} is not UTF-8: save the manifest as UTF-8") from None


def _read_csv(text: str, name: str) -> Iterator[Row]:
    try:
        yield from _by_column(_csv_table(_plain(text, name, ",")), name, ",")
    except csv.Error as error:
        raise ManifestError(f"{name}: not a CSV file ({error}): quote fields that hold commas or quotes") from None


def _read_tsv(text: str, name: str) -> Iterator[Row]:
    return _by_column(tsv.table(_plain(text, name, "\t"), name), name, "\t")


def _plain(text: str, name: str, separator: str) -> str:
    """A table's text without byte order marks, with one kind of row ends and its first line blank where it is no row.

    Where the header ends in LF, a CR alone ends no row: pandas writes one within a field without quoting it.
    """
    text = text.replace(MARK, "")
    if said := _SEPARATOR.match(text):
        if said[1] != separator:
            between, other = ("commas", ".tsv with tabs") if separator == "," else ("tabs", ".csv with commas")
            raise ManifestError(
                f"{name}: its first line says that {said[1]!r} parts the fields: write {between}, or a {other}"
            )
        text = text[said.end() :]
    end = _ROW_END.search(text)
    return text if end is None or end[0] == "\r" else _LONE_CR.sub(" ", text)


def _csv_table(text: str) -> Iterator[tuple[int, list[str]]]:
    """Rows with the number of their last line, without blank ones."""
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    return ((reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells))


def _by_column(table: Iterable[tuple[int, list[str]]], name: str, separator: str) -> Iterator[Row]:
    between = "commas" if separator == "," else "tabs"
    lines = iter(table)
    _, header = next(lines, (0, []))
    if not header:
        raise ManifestError(f"{name}: the manifest is empty: add a header line and a line for each prompt")
    keys = _keys(header, name, separator)
    for line, cells in lines:
        place = f"{name}, line {line}"
        if len(cells) > len(header):
            raise ManifestError(
                f"{place}: {len(cells)} fields under {len(header)} columns: quote fields with {between}"
            )
        if cells == header:
            raise ManifestError(f"{place}: the header stands here again: were two files joined? Delete the line")
        yield place, {"prompt": "", **dict(zip(keys, cells, strict=False))}


def _keys(header: Sequence[str], name: str, separator: str = "") -> list[str]:
    """The header's names, the one of the prompt replaced by ``prompt`` and others that would clash by nothing."""
    columns = [normalise(column).lower() for column in header]
    wanted = next((column for column in PROMPT_COLUMNS if column in columns), None)
    if wanted is None:
        found = ", ".join(repr(column) for column in header)
        other = next((mark for mark in ";\t|" if separator == "," and len(header) == 1 and mark in header[0]), None)
        hint = f": write commas for {other!r}, or a .tsv with tabs" if other else ""
        raise ManifestError(f"{name}: no column caption, prompt, prompts or text; its columns are {found:.200}{hint}")
    if IMAGE_PATH not in columns and columns.count(FILE_NAME) == 1:
        columns[columns.index(FILE_NAME)] = IMAGE_PATH
    for column in (wanted, *OTHER_COLUMNS):
        if columns.count(column) > 1:
            raise ManifestError(f"{name}: the column {column!r} is there {columns.count(column)} times: rename one")
    return ["prompt" if column == wanted else column if column in OTHER_COLUMNS else "" for column in columns]


def _read_jsonl(text: str, name: str) -> Iterator[Row]:
    """Each line an object with a prompt key, or just a string."""
    for line, content in _lines(text):
        place = f"{name}, line {line}"
        record = _parsed(content.replace(MARK, ""), place, "each line is one JSON object")
        if not isinstance(record, str | dict):
            raise ManifestError(f"{place}: a line is a JSON object or string, not {content.strip():.60}")
        yield place, _record(place, record)


def _read_json(text: str, name: str) -> Iterator[Row]:
    """A list of the same."""
    found = _parsed(text, name, "a manifest is one JSON list; with an object on each line it ends in .jsonl")
    if isinstance(found, dict) and "annotations" in found:
        raise ManifestError(f"{name}: COCO's annotations: run `t2i data coco --annotations {name}` to draw from them")
    if not isinstance(found, list):
        raise ManifestError(
            f"{name}: a manifest is a JSON list of prompts or of objects, not {type(found).__name__}; of COCO's"
            " annotations `t2i data coco` makes one"
        )
    for number, record in enumerate(found, start=1):
        place = f"{name}, item {number}"
        if not isinstance(record, str | dict):
            raise ManifestError(f"{place}: must be a JSON object or string, not {record!r:.60}")
        yield place, _record(place, record)


def _parsed(text: str, place: str, advice: str) -> Any:
    try:
        return parsed(text)
    except KeyTwice as error:
        raise ManifestError(f"{place}: {error}: keep one of them") from None
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "too deep or too long"
        raise ManifestError(f"{place}: not JSON ({reason}): {advice}") from None


def _record(place: str, record: str | dict[str, Any]) -> Mapping[str, Any]:
    if isinstance(record, str):
        return {"prompt": record}
    wanted = next((column for column in PROMPT_COLUMNS if any(key.lower() == column for key in record)), None)
    if wanted is None:
        raise ManifestError(f"{place}: no key caption, prompt, prompts or text; its keys are {list(record)!r:.200}")
    prompts = [key for key in record if key.lower() == wanted]
    if len(prompts) > 1:
        raise ManifestError(f"{place}: the key {wanted!r} is there more than once ({', '.join(prompts)}): keep one")
    picture = record.get(IMAGE_PATH, name if isinstance(name := record.get(FILE_NAME), str) else None)
    return {**record, "prompt": record[prompts[0]], IMAGE_PATH: picture}


def _read_txt(text: str, name: str) -> Iterator[Row]:
    """One prompt a line."""
    return ((f"{name}, line {line}", {"prompt": content}) for line, content in _lines(text))


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Numbered lines that are not blank. Only CR and LF end a line: a caption may hold U+2028 and its like."""
    numbered = enumerate(io.StringIO(text, newline=None), start=1)
    return ((number, content) for number, content in numbered if content.replace(MARK, "").strip())


def _read_parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            header = file.schema_arrow.names
            keys = dict(zip(_keys(header, str(path)), header, strict=True))
            columns = {key: name for key, name in keys.items() if key}
            table = file.read(columns=list(columns.values()))
    except FileNotFoundError:
        raise ManifestError(f"{path}: there is no such manifest: check the path") from None
    except (pyarrow.ArrowException, OSError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise ManifestError(f"{path}: not a Parquet file that can be read ({reason:.200}): write it again") from None
    values = [table.column(name).to_pylist() for name in columns.values()]
    for number, row in enumerate(zip(*values, strict=True), start=1):
        yield f"{path}, row {number}", dict(zip(columns, row, strict=True))


_READERS: dict[str, Callable[[str, str], Iterator[Row]]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _read_json,
    ".txt": _read_txt,
}
