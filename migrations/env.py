"""Alembic's entry: migrate the connection that t2i-track hands over, one transaction for each migration."""

from __future__ import annotations

from alembic import context
from sqlalchemy import create_engine

from t2i_track.db.models import Base


def run(connection) -> None:  # type: ignore[no-untyped-def]
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=True,
        transaction_per_migration=True,
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    # `alembic revision --autogenerate`, for whoever changes the tables.
    url = context.config.get_main_option("sqlalchemy.url") or context.get_x_argument(as_dictionary=True).get("url")
    if url is None:
        raise SystemExit("give a database: alembic -x url=sqlite:///t2i-data/t2i.db ...")
    with create_engine(url).connect() as opened:
        run(opened)
