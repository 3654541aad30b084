"""PostgreSQL: connections that can only read, and many rows at once.

A READ ONLY transaction alone does not do: ``COMMIT; DELETE …`` in one string ends it, and COPY … TO PROGRAM writes
nothing that the server counts. So every statement is sent as ``DECLARE … CURSOR FOR``, which takes a query and nothing
else, by the protocol that takes one statement and no second one. What is left are the functions that a query calls:
they are bounded by what the role may do (docs/database.md).
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from typing import Any, NoReturn

import psycopg
from psycopg import sql
from psycopg.abc import Params, Query
from psycopg.rows import RowFactory
from sqlalchemy import Connection, Engine, Row, Table, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

# As SQLAlchemy asks for the settings of a connection; SHOW is no query.
_SHOW = re.compile(r"show\s+([a-z_.]+|transaction isolation level)\s*;?\s*", re.IGNORECASE)


class ReadingCursor(psycopg.ServerCursor[Any]):
    """What every cursor of such a connection is."""

    def __init__(self, connection: psycopg.Connection[Any], *, row_factory: RowFactory[Any] | None = None) -> None:
        super().__init__(connection, f"t2i_{uuid.uuid4().hex}", row_factory=row_factory or connection.row_factory)

    def execute(self, query: Query, params: Params | None = None, **kwargs: Any) -> ReadingCursor:
        kwargs.pop("prepare", None)
        if isinstance(query, str) and (asked := _SHOW.fullmatch(query)):
            query = f"SELECT current_setting('{asked[1].removesuffix(' level').replace(' ', '_')}')"
        return super().execute(query, params, **kwargs)

    def stream(self, *_: Any, **__: Any) -> NoReturn:
        raise psycopg.NotSupportedError("this connection only reads, by execute()")

    def copy(self, *_: Any, **__: Any) -> NoReturn:
        raise psycopg.NotSupportedError("this connection only reads, by execute()")


def reading_engine(url: URL, **settings: Any) -> Engine:
    """An engine none of whose connections can send anything but one query at a time, in READ ONLY transactions."""
    # No pool: a connection that a restart of the server has broken would be found out by a statement that is no query.
    engine = create_engine(
        url, poolclass=NullPool, use_native_hstore=False, connect_args={"cursor_factory": ReadingCursor}, **settings
    )
    event.listen(engine, "connect", _read_only)
    return engine


def _read_only(connection: psycopg.Connection[Any], _record: Any) -> None:
    connection.read_only = True


def copy_in(connection: Connection, table: Table, rows: Sequence[Row[Any]]) -> None:
    """Insert whole rows of a table by COPY, in the transaction of the connection: a third of the time of INSERT.

    Raises:
        sqlalchemy.exc.DBAPIError: as other statements do.
    """
    binds = [column.type.dialect_impl(connection.dialect).bind_processor(connection.dialect) for column in table.c]
    names = sql.SQL(", ").join(sql.Identifier(column.name) for column in table.c)
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table.name), names)
    opened = connection.connection.driver_connection
    assert opened is not None
    try:
        with opened.cursor().copy(statement) as stream:
            for row in rows:
                stream.write_row([bind(value) if bind else value for bind, value in zip(binds, row, strict=True)])
    except psycopg.Error as error:
        raise DBAPIError.instance(statement.as_string(), None, error, psycopg.Error) from error
