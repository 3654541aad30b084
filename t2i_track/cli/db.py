"""`t2i db`: the schema, and SQL that can only read."""

from __future__ import annotations

import click

from t2i_track.cli.options import format_option, workspace_options
from t2i_track.cli.output import print_rows
from t2i_track.texts import clean
from t2i_track.workspace import Workspace


@click.group()
def db() -> None:
    """The run database: its schema, and read-only SQL."""


@db.command()
@workspace_options
def upgrade(workspace: Workspace) -> None:
    """Bring the schema up to this version; make the database where there is none."""
    from t2i_track.db import session

    workspace.require_writable()
    session.upgrade(workspace.url)
    click.echo(session.REVISIONS[-1])


@db.command()
@workspace_options
def current(workspace: Workspace) -> None:
    """Print the schema's version in the database and in this program."""
    from t2i_track.db import session

    engine = session.any_read_engine(workspace.url)
    try:
        with session.explained(workspace.url):
            found = session.schema_version(engine)
    finally:
        engine.dispose()
    click.echo(f"database {clean(found or 'none')}, program {session.REVISIONS[-1]}")


@db.command()
@click.argument("sql")
@format_option("table", "csv", "json", "markdown")
@workspace_options
def query(workspace: Workspace, sql: str, fmt: str) -> None:
    """Run one SQL query; the database engine itself refuses to write.

    \b
      t2i db query "SELECT guidance, steps, count(*) FROM runs GROUP BY 1, 2"
    """
    from t2i_track.db.query import run_query

    with workspace.reading() as session:
        columns, rows = run_query(session, sql)
    print_rows(rows, fmt, columns=columns)
