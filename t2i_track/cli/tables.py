"""Tables: plain and whole where the output is piped, fitted to the width where it is a terminal.

rich is imported only for a terminal: it takes as long to import as the rest of a reading command.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from t2i_track.texts import clean

if TYPE_CHECKING:
    from rich.console import Console

GAP = 2
"""Spaces between columns."""
NARROWEST = 12
"""Characters to which a column of words is folded at most; a longer word of it keeps it wider."""
LONGEST_WORD = 30
"""Words longer than this, such as paths, may be broken."""
NO_BREAK = "\N{NO-BREAK SPACE}"
_HASH = re.compile("[0-9a-f]{40,64}")
# Where a difference folds: "-0.38 [-0.64, -0.11], corrected p = 0.081".
_FOLDS = re.compile(r" (?=\[)|(?<=,) (?=corrected)")
_INTERVAL = re.compile(r"\[[^][]{3,40}\]")


@dataclass(frozen=True)
class Column:
    """One column of text.

    ``drop``: where a terminal is too narrow, the column with the highest number goes first; 0 always stays.
    ``fold``: it may take several lines, at its words or before the bracket of an interval.
    ``styles``: cell -> rich style.
    """

    title: str
    cells: Sequence[str]
    drop: int = 0
    fold: Literal["", "words", "interval"] = ""
    styles: Mapping[str, str] = field(default_factory=dict)

    @property
    def width(self) -> int:
        return max(len(line) for cell in (self.title, *self.cells) for line in cell.split("\n"))

    @property
    def numeric(self) -> bool:
        return any(self.cells) and all(_numeric(cell) for cell in self.cells if cell)

    def folded(self, width: int) -> Column:
        """The same with cells of several lines, none wider than ``width`` where its words allow."""
        if self.fold == "interval":
            return replace(self, cells=[_FOLDS.sub("\n", cell) for cell in self.cells])
        return replace(
            self, cells=["\n".join(textwrap.wrap(cell, width, break_on_hyphens=False)) for cell in self.cells]
        )

    @property
    def narrowest(self) -> int:
        """The width with its words folded as far as they may be."""
        if self.fold != "words":
            return self.width
        longest = max((len(word) for cell in self.cells for word in cell.split()), default=0)
        return min(self.width, max(NARROWEST, len(self.title), min(longest, LONGEST_WORD)))


def columns_of(titles: Sequence[str], cells: Sequence[Sequence[str]]) -> list[Column]:
    return [Column(title, [line[place] for line in cells]) for place, title in enumerate(titles)]


def terminal() -> Console | None:
    """The terminal that the results are for; None where they go into a pipe or a file."""
    if not sys.stdout.isatty():
        return None
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False, soft_wrap=False)


def aligned(titles: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """Columns two spaces apart; numbers to the right."""
    lines = [[clean(cell) for cell in line] for line in [list(titles), *cells]]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    right = [all(_numeric(cell) for cell in column[1:] if cell) for column in zip(*lines, strict=True)]
    return "\n".join(
        (" " * GAP)
        .join(
            cell.rjust(width) if numeric else cell.ljust(width)
            for cell, width, numeric in zip(line, widths, right, strict=True)
        )
        .rstrip()
        for line in lines
    )


def fit(columns: Sequence[Column], width: int) -> tuple[list[Column], list[str]]:
    """The columns that fit, and the titles of those that had to go.

    What can fold before its bracket does so first, for a line more hides nothing; then columns go in their order;
    then words fold.
    """
    kept, gone = list(columns), []
    while _total(kept) > width:
        found = next((place for place, one in enumerate(kept) if _narrows(one)), None)
        dropped = max(kept, key=lambda one: one.drop)
        if found is not None:
            kept[found] = kept[found].folded(0)
        elif dropped.drop and _least(kept) > width:
            kept.remove(dropped)
            gone.append(dropped.title)
        else:
            break
    return _fold_words(kept, width), gone


def _narrows(column: Column) -> bool:
    return column.fold == "interval" and any(_FOLDS.search(cell) for cell in column.cells)


def _total(columns: Sequence[Column]) -> int:
    return sum(column.width for column in columns) + GAP * (len(columns) - 1)


def _least(columns: Sequence[Column]) -> int:
    return sum(column.narrowest for column in columns) + GAP * (len(columns) - 1)


def _fold_words(columns: Sequence[Column], width: int) -> list[Column]:
    """Columns of words, the widest first, as much narrower as the rest wants."""
    kept = list(columns)
    for column in sorted((one for one in kept if one.fold == "words"), key=lambda one: -one.width):
        over = _total(kept) - width
        if over > 0:
            kept[kept.index(column)] = column.folded(max(column.width - over, column.narrowest))
    return kept


def draw(console: Console, columns: Sequence[Column], indent: int = 0) -> None:
    """The table on a terminal, with a line below for the columns that had no room.

    Where even those that always stay have none, a record for each line.
    """
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    safe = [replace(one, title=clean(one.title), cells=[clean(cell) for cell in one.cells]) for one in columns]
    kept, gone = fit(safe, console.width - indent)
    if _total(kept) > console.width - indent:
        for number, cells in enumerate(zip(*(column.cells for column in safe), strict=True), 1):
            heading(console, f"{number} of {len(safe[0].cells)}")
            draw_names(console, {one.title: cell for one, cell in zip(safe, cells, strict=True)}, {})
        return
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, show_edge=False, header_style="bold")
    for column in kept:
        table.add_column(column.title, justify="right" if column.numeric else "left", overflow="fold")
    for line in zip(*(column.cells for column in kept), strict=True):
        pairs = zip(line, kept, strict=True)
        table.add_row(*(Text(cell, style=column.styles.get(cell, "")) for cell, column in pairs))
    console.print(Padding(table, (0, 0, 0, indent)))
    if gone:
        paragraph(
            console, f"no room for {', '.join(gone)}: a wider terminal or --format json shows them", "dim", indent
        )


def draw_names(console: Console, fields: Mapping[str, str], styles: Mapping[str, str]) -> None:
    """A name and its text on each line; a long text folds within its column, a hash is cut."""
    from rich.table import Table
    from rich.text import Text

    room = console.width - max(map(len, fields), default=0) - 2 * GAP
    grid = Table.grid(padding=(0, GAP, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in fields.items():
        safe = clean(text)
        if len(safe) > room and _HASH.fullmatch(safe):
            safe = f"{safe[: max(room - 1, 12)]}…"
        grid.add_row(Text(f"{' ' * GAP}{clean(name)}", style="dim"), Text(safe, style=styles.get(safe, "")))
    if fields:
        console.print(grid)


def heading(console: Console, text: str) -> None:
    from rich.text import Text

    console.print(Text(text, style="bold"))


def paragraph(console: Console, text: str, style: str = "", indent: int = 0) -> None:
    """A sentence folded at its words but not within an interval; its further lines are set in by two."""
    from rich.text import Text

    whole = _INTERVAL.sub(lambda found: found[0].replace(" ", NO_BREAK), clean(text))
    first = " " * indent
    lines = textwrap.wrap(
        whole,
        max(console.width, 20),
        initial_indent=first,
        subsequent_indent=first + "  ",
        break_on_hyphens=False,
    )
    console.print(Text("\n".join(lines).replace(NO_BREAK, " "), style=style))


def _numeric(cell: str) -> bool:
    try:
        float(cell.removesuffix("*"))  # the mark of a value that was measured otherwise
    except ValueError:
        return cell == "?"
    return True
