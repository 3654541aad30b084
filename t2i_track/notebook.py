"""Results that show themselves in a notebook: a few lines and a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


class Shown:
    """``to_frame()`` gives a result's rows as a pandas DataFrame, and a notebook shows them under its lines."""

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """The table behind the result, a mapping a row."""
        raise AttributeError(f"{type(self).__name__} has no rows")

    def lines(self) -> Sequence[str]:
        """What is said of it, a sentence each."""
        return ()

    def to_frame(self) -> pd.DataFrame:
        """The rows as a DataFrame."""
        import pandas as pd

        return pd.DataFrame([dict(row) for row in self.rows()])

    def _repr_html_(self) -> str:
        rows = [dict(row) for row in self.rows()]
        titles = list(dict.fromkeys(name for row in rows for name in row))
        return html(self.lines(), titles, [[_shown(row.get(name)) for name in titles] for row in rows])


def html(lines: Sequence[str], titles: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """Lines above a table, with whatever a prompt holds made harmless."""
    from html import escape

    said = "".join(f"<p>{escape(line)}</p>" for line in lines)
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in cells)
    return f"{said}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
