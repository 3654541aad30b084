"""Tables with tabs between their fields, of both habits: quoted as CSV is, and raw, where quotation marks are text.

What a field says depends on the field alone: one that is in quotation marks from its beginning to its end is quoted,
any other is text as it stands. Where the two habits would find other rows, nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from t2i_track.errors import ManifestError

_QUOTED = re.compile(r'"((?:[^"]++|"")*+)"(?=[\t\r\n]|\Z)')
_PLAIN = re.compile(r"[^\t\r\n]*")
_END = re.compile(r"\r\n|\r|\n")


def table(text: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """The cells of each row with the number of its first line, without blank rows.

    Raises:
        ManifestError: quotation marks enclose what would be whole rows without them.
    """
    start, line, width = 0, 1, 0
    while start < len(text):
        cells, end = _record(text, start)
        lines = _END.split(text[start:end])
        if any(cell.strip() for cell in cells):
            width = width or len(cells)
            _require_one_reading(lines, cells, width, f"{name}, line {line}", line)
            yield line, cells
        line += len(lines)
        start = found.end() if (found := _END.match(text, end)) else end


def _record(text: str, start: int) -> tuple[list[str], int]:
    """The cells of the row that starts here, and where it ends."""
    cells: list[str] = []
    while True:
        if quoted := _QUOTED.match(text, start):
            cells.append(quoted[1].replace('""', '"'))
            end = quoted.end()
        else:
            plain = _PLAIN.match(text, start)
            assert plain is not None
            cells.append(plain[0])
            end = plain.end()
        if text[end : end + 1] != "\t":
            return cells, end
        start = end + 1


def _require_one_reading(lines: list[str], cells: list[str], width: int, place: str, first: int) -> None:
    """A quoted field may hold tabs and line breaks, but not so that each of its lines is a row of the table as well."""
    raw = [line.count("\t") + 1 for line in lines]
    if raw == [len(cells)] or any(fields != width for fields in raw):
        return
    until = f"in line {first + len(lines) - 1}" if len(lines) > 1 else "behind a tab"
    raise ManifestError(
        f"{place}: a quotation mark opens a field here that closes {until}, and it may as well be text, for what it"
        ' encloses are whole rows: write a field that begins with one as """…", or save the manifest as .csv or .jsonl'
    )
