"""`t2i db`: the schema, SQL that can only read, and a copy of all of it."""

from __future__ import annotations

import click

from t2i_track.cli.options import format_option, workspace_options
from t2i_track.cli.output import print_rows
from t2i_track.texts import clean
from t2i_track.workspace import Workspace


@click.group()
def db() -> None:
    """The run database: its schema, read-only SQL, and a move to another."""


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


@db.command()
@click.option("--to", required=True, metavar="URL", help="A database that is not there yet, or empty.")
@format_option("table", "csv", "json", "markdown")
@workspace_options
def copy(workspace: Workspace, to: str, fmt: str) -> None:
    """Copy the whole database into another, SQLite or PostgreSQL, and compare both row by row.

    The database itself is only read, and pictures stay where they are. The same command goes on where it was stopped;
    until it has ended, no other command takes what is there for a database.

    \b
      t2i db copy --to postgresql+psycopg://user@host/t2i
      t2i db copy --db-url postgresql+psycopg://user@host/t2i --to sqlite:///t2i-data/t2i.db
    """
    from t2i_track import api

    copied = api.copy_database(to, home=workspace.home, db_url=workspace.db_url)
    for note in copied.lines():
        click.echo(f"note: {clean(note)}", err=True)
    print_rows(copied.rows(), fmt)
