"""What lies beside pictures and speaks of them: a file for each, or a table of all."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from t2i_track.importing import found, tools
from t2i_track.importing.found import Found, Unreadable
from t2i_track.jsontext import parsed
from t2i_track.prompts.formats import PROMPT_COLUMNS

MOST_BESIDE = 2**20
"""Bytes of a file of one picture."""
MOST_TABLE = 2**28
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
"""As Hugging Face's imagefolder names them."""
TABLES = (".csv", ".jsonl")
_NAMES = {
    "negative_prompt": ("negative_prompt", "negative"),
    "seed": ("seed",),
    "guidance": ("guidance", "guidance_scale", "cfg_scale", "cfg"),
    "steps": ("steps", "num_inference_steps", "num_steps"),
    "sampler": ("scheduler", "sampler", "scheduler_class", "sampler_name"),
    "spacing": ("sigmas", "schedule", "schedule_type"),
    "model": ("model", "model_id", "model_name", "pretrained_model_name_or_path", "repo_id", "checkpoint"),
    "clip_skip": ("clip_skip",),
}
"""Our names, and those under which scripts write the same."""
_FILE = ("file_name", "image_path", "filename", "file", "path", "image")
_IDS = ("caption_id", "image_id", "id")


def places(path: Path) -> tuple[Path, Path, Path]:
    """Where a file of the picture's own may lie: two of JSON, and A1111's text."""
    return path.with_suffix(".json"), path.with_name(f"{path.name}.json"), path.with_suffix(".txt")


def of_picture(path: Path) -> tuple[Found, Path] | None:
    """What a file of the picture's own says, ``picture.json`` or ``picture.png.json`` or A1111's ``picture.txt``.

    Raises:
        Unreadable: there is one with a prompt in it, which cannot be read.
    """
    *objects, note = places(path)
    for place in objects:
        if place.is_file() and (value := _object(place)) is not None:
            return found.of("diffusers", _by_our_names(value)), place
    if note.is_file() and note.stat().st_size <= MOST_BESIDE:
        text = note.read_text(encoding="utf-8", errors="replace")
        if "Steps: " in text and (one := tools.understood({"parameters": text})) is not None:
            return one, note
    return None


def _object(path: Path) -> dict[str, Any] | None:
    """The JSON object of a file that speaks of a picture."""
    if path.stat().st_size > MOST_BESIDE:
        raise Unreadable(f"{path.name} beside it has more than {MOST_BESIDE:,} bytes")
    try:
        value = parsed(path.read_bytes())
    except RecursionError:
        raise Unreadable(f"{path.name} beside it is nested too deeply") from None
    except ValueError as error:
        raise Unreadable(f"{path.name} beside it is no JSON ({' '.join(str(error).split())[:60]})") from None
    return value if isinstance(value, dict) and any(name in value for name in PROMPT_COLUMNS) else None


def _by_our_names(row: Mapping[str, Any]) -> dict[str, Any]:
    said = {ours: _first(row, theirs) for ours, theirs in _NAMES.items()}
    return {**said, "prompt": _first(row, PROMPT_COLUMNS)}


def _first(row: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((row[name] for name in names if row.get(name) not in (None, "")), None)


@dataclass(frozen=True)
class Table:
    """Rows that speak of the pictures of a folder."""

    path: Path
    rows: tuple[dict[str, Any], ...]

    @property
    def origin(self) -> str:
        return "imagefolder" if self.path.name in METADATA else "scripts"

    def found(self, pictures: Sequence[Path]) -> dict[Path, Found]:
        """What it says of which pictures: by their names; else by ids, else by the numbers of its rows."""
        ways: list[Callable[[], dict[Path, int]]] = [
            partial(self._by_name, pictures),
            *(partial(self._by_id, pictures, column) for column in _IDS),
            partial(self._by_row, pictures),
        ]
        matched: dict[Path, int] = {}
        for way in ways:
            one = way()
            if len(one) > len(matched):
                matched = one
        return {path: found.of(self.origin, _by_our_names(self.rows[row])) for path, row in matched.items()}

    def _by_name(self, pictures: Sequence[Path]) -> dict[Path, int]:
        places: dict[str, int] = {}
        for row, values in enumerate(self.rows):
            name = str(_first(values, _FILE) or "").replace("\\", "/")
            places.setdefault(name, row)
            places.setdefault(name.rsplit("/", 1)[-1], row)
        known = [(path, path.relative_to(self.path.parent).as_posix() if path.is_relative_to(self.path.parent) else "")
                 for path in pictures]  # fmt: skip
        matched = {path: places.get(inside, places.get(path.name)) for path, inside in known}
        return {path: row for path, row in matched.items() if row is not None}

    def _by_id(self, pictures: Sequence[Path], column: str) -> dict[Path, int]:
        """By ids that are there once: COCO has five captions to a picture's id."""
        ids = [_bare(str(row.get(column) or "")) for row in self.rows]
        counted = Counter(ids)
        places = {one: row for row, one in enumerate(ids) if one and counted[one] == 1}
        return {path: places[stem] for path in pictures if (stem := _number(path)) in places}

    def _by_row(self, pictures: Sequence[Path]) -> dict[Path, int]:
        """By the number of the row, from 0; from 1 where the last is named and the first is not."""
        numbers = {path: int(stem) for path in pictures if (stem := _number(path)).isdigit() and len(stem) < 10}
        first = 1 if numbers and 0 not in numbers.values() and len(self.rows) in numbers.values() else 0
        return {path: number - first for path, number in numbers.items() if 0 <= number - first < len(self.rows)}


def _bare(text: str) -> str:
    return text.strip().lstrip("0") or ("0" if text.strip() else "")


def _number(path: Path) -> str:
    """A picture's name without its ending, or the one number in it, without leading zeros."""
    groups = re.findall(r"\d+", path.stem)
    return _bare(groups[0] if len(groups) == 1 else path.stem)


def tables(paths: Sequence[Path]) -> Iterator[Table]:
    """The tables among files that have a column of prompts; others are none of ours.

    Raises:
        Unreadable: one named ``metadata`` cannot be read.
    """
    for path in paths:
        if path.name in METADATA or path.suffix.lower() in TABLES:
            rows = list(_rows(path))
            if rows and any(name in rows[0] for name in PROMPT_COLUMNS):
                yield Table(path, tuple(rows))


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if path.stat().st_size > MOST_TABLE:
        raise Unreadable(f"{path.name} has more than {MOST_TABLE:,} bytes")
    try:
        if path.suffix.lower() == ".parquet":
            import pyarrow.parquet as pq

            schema = pq.read_schema(path)
            wanted = [field.name for field in schema if not str(field.type).startswith(("struct", "list", "binary"))]
            yield from pq.read_table(path, columns=wanted).to_pylist()
            return
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".jsonl":
            yield from (row for line in text.split("\n") if line.strip() and isinstance(row := parsed(line), dict))
            return
        csv.field_size_limit(max(csv.field_size_limit(), len(text)))
        for row in csv.DictReader(io.StringIO(text, newline="")):
            yield {str(name).strip().lower(): value for name, value in row.items() if name is not None}
    except RecursionError:
        raise Unreadable(f"{path.name} is nested too deeply") from None
    except (ValueError, csv.Error, OSError) as error:  # UnicodeDecodeError and pyarrow's are ValueErrors
        raise Unreadable(f"{path.name} cannot be read ({' '.join(str(error).split())[:80]})") from None
