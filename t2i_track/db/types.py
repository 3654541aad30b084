"""Column types shared by the tables."""

from __future__ import annotations

import json as plain
import re
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


def dumps(value: Any) -> str:
    """The text of a column that holds JSON, which servers take too: an infinity is a number that is too large for a
    float, as every parser reads it back, and what is no number is null."""
    try:
        return plain.dumps(value, allow_nan=False)
    except ValueError:  # few have one: schedulers' configurations, for one
        return _TOKEN.sub(lambda found: _SPELLED.get(found[0], found[0]), plain.dumps(value))


_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|-?Infinity|NaN')
_SPELLED = {"Infinity": "1e999", "-Infinity": "-1e999", "NaN": "null"}


def utc_now() -> datetime:
    return datetime.now(UTC)


intpk = Annotated[int, mapped_column(primary_key=True)]
digest = Annotated[str, mapped_column(String(64))]
json = Annotated[dict[str, Any], mapped_column(JSON)]
utc = Annotated[datetime, mapped_column(UtcDateTime)]
