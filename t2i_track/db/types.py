"""Column types shared by the tables."""

from __future__ import annotations

import json as plain
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from sqlalchemy import JSON, DateTime, String
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import mapped_column
from sqlalchemy.types import TypeDecorator

from t2i_track.errors import DatabaseError


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC time; stored naive in UTC, since SQLite keeps no zone."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time without a zone cannot be stored: {value!r}")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


def loads(text: str | bytes) -> Any:
    """The value of a column that holds JSON."""
    try:
        return orjson.loads(text)
    except ValueError:
        pass
    try:
        return plain.loads(text)  # knows NaN, infinities and halves of surrogates, which earlier versions wrote
    except ValueError:
        raise DatabaseError(f"the database holds {text[:80]!r} where JSON is due: restore it from a copy") from None


def utc_now() -> datetime:
    return datetime.now(UTC)


intpk = Annotated[int, mapped_column(primary_key=True)]
digest = Annotated[str, mapped_column(String(64))]
json = Annotated[dict[str, Any], mapped_column(JSON)]
utc = Annotated[datetime, mapped_column(UtcDateTime)]
