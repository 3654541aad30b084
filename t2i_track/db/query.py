"""SQL by hand, on a session that can only read."""

from __future__ import annotations

from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from t2i_track.errors import DatabaseError


def run_query(session: Session, sql: str) -> tuple[list[str], list[dict[str, Any]]]:
    """The columns and rows of one statement.

    Raises:
        DatabaseError: with the engine's own words: a syntax error, an unknown table, a write.
    """
    try:
        result = session.connection().exec_driver_sql(sql)
        if not result.returns_rows:
            raise DatabaseError(f"'{sql[:80]}' gives no rows: 't2i db query' takes a SELECT")
        # Two columns of one name (a join's ids) are both kept.
        columns = _distinct(list(result.keys()))
        return columns, [dict(zip(columns, row, strict=True)) for row in result]
    except SQLAlchemyError as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        if reason == "not authorized":
            reason = "not authorized: the query command only reads"
        raise DatabaseError(f"the query failed ({reason}); docs/database.md lists the tables and columns") from None


def _distinct(names: list[str]) -> list[str]:
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return found
