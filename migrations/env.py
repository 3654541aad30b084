"""Alembic's entry: migrate the connection that t2i-track hands over, one transaction for each migration."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context

from t2i_track.db.models import Base
from t2i_track.db.types import UtcDateTime
from t2i_track.errors import DatabaseError


def rendered(kind: str, item: Any, _: Any) -> str | Literal[False]:
    """Migrations name no type of ours: they must run when the code that made them has changed."""
    return "sa.DateTime()" if kind == "type" and isinstance(item, UtcDateTime) else False


def require_whole(*, ctx: Any, step: Any, **_: Any) -> None:
    """In the migration's own transaction; SQLite's foreign keys are off meanwhile (see ``upgrade``)."""
    if ctx.dialect.name == "sqlite" and (row := ctx.connection.exec_driver_sql("PRAGMA foreign_key_check").first()):
        raise DatabaseError(
            f"migration {step.up_revision_id} leaves rows of {row[0]} without their {row[2]}: it was taken back"
        )


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    render_item=rendered,
    transaction_per_migration=True,
    compare_type=True,
    on_version_apply=require_whole,
)
with context.begin_transaction():
    context.run_migrations()
