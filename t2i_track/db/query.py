"""SQL by hand, on a session that can only read."""

from __future__ import annotations

from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from t2i_track.db.address import reason
from t2i_track.errors import DatabaseError


def run_query(session: Session, sql: str) -> tuple[list[str], list[dict[str, Any]]]:
    """The columns and rows of one query, its text as the engine takes it ('%' and ':' are nothing special).

    Raises:
        DatabaseError: with the engine's own words: a syntax error, an unknown table, a write.
    """
    if "\0" in sql or not sql.strip():
        raise DatabaseError("the query is empty or holds a NUL: 't2i db query' takes a SELECT")
    try:
        result = session.connection().exec_driver_sql(sql, execution_options={"no_parameters": True})
        if not result.returns_rows:
            raise DatabaseError(f"'{sql[:80]}' gives no rows: 't2i db query' takes a SELECT")
        # Two columns of one name (a join's ids) are both kept.
        columns = _distinct(list(result.keys()))
        return columns, [dict(zip(columns, map(_plain, row), strict=True)) for row in result]
    except SQLAlchemyError as error:
        why = reason(error, session.get_bind().engine.url)
        if why == "not authorized":
            why = "not authorized: the query command only reads"
        raise DatabaseError(f"the query failed ({why}); docs/database.md lists the tables and columns") from None


def _plain(value: Any) -> Any:
    """A value as JSON has it, apart from times and bytes, which are shown by each format in its own way."""
    if isinstance(value, Decimal):
        whole = value.is_finite() and value == value.to_integral_value()
        return int(value) if whole else float(value)
    if isinstance(value, memoryview | bytearray):
        return bytes(value)
    if value is None or isinstance(value, bool | int | float | str | bytes | dict | list | datetime):
        return value
    return value.isoformat() if isinstance(value, date | time) else str(value)


def _distinct(names: list[str]) -> list[str]:
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return found
