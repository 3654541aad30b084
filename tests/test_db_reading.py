"""`db query` and `open_database` take one query: forty ways to write with them, on each engine."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from test_db import fresh_postgres, make_run, postgres_server

from t2i_track import open_database
from t2i_track.cli.output import print_rows
from t2i_track.db import session as database
from t2i_track.db.query import run_query
from t2i_track.errors import DatabaseError

ON_POSTGRESQL = [
    "COMMIT; DELETE FROM runs",
    "ROLLBACK; DELETE FROM runs",
    "SELECT 1; DELETE FROM runs",
    "SELECT 1; COMMIT; DELETE FROM runs",
    "SELECT 1 -- harmless\n; DELETE FROM runs",
    "/* a comment */ COMMIT",
    "END; DROP TABLE image_scores",
    "ABORT",
    "COPY (SELECT 1) TO PROGRAM 'touch {file}'",
    "COPY runs TO '{file}'",
    "COPY (SELECT 1) TO STDOUT",
    "COPY prompts (text, sha256) FROM PROGRAM 'echo a,b' (FORMAT csv)",
    "SELECT 1; COPY (SELECT 1) TO PROGRAM 'touch {file}'",
    "DELETE FROM runs",
    "DELETE FROM runs RETURNING id",
    "UPDATE runs SET guidance = 1",
    "INSERT INTO prompts (text, sha256) VALUES ('x', 'y')",
    "MERGE INTO runs USING prompts ON runs.id = prompts.id WHEN MATCHED THEN DELETE",
    "TRUNCATE runs CASCADE",
    "DROP TABLE runs CASCADE",
    "CREATE TABLE made (x int)",
    "CREATE TEMP TABLE made (x int)",
    "CREATE TABLE made AS SELECT * FROM runs",
    "SELECT * INTO made FROM runs",
    "CREATE FUNCTION made() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE EXTENSION IF NOT EXISTS file_fdw",
    "CREATE ROLE made SUPERUSER LOGIN",
    "WITH gone AS (DELETE FROM runs RETURNING id) SELECT * FROM gone",
    "WITH new AS (INSERT INTO prompts (text, sha256) VALUES ('x', 'y') RETURNING id) SELECT * FROM new",
    "EXPLAIN ANALYZE DELETE FROM runs",
    "DO $$ BEGIN DELETE FROM runs; END $$",
    "DO $$ BEGIN COMMIT; DELETE FROM runs; END $$",
    "SET TRANSACTION READ WRITE",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
    "SET default_transaction_read_only = off",
    "SELECT set_config('transaction_read_only', 'off', false)",
    "PREPARE p AS DELETE FROM runs",
    "DECLARE held CURSOR WITH HOLD FOR SELECT 1",
    "SELECT nextval('runs_id_seq')",
    "SELECT setval('runs_id_seq', 1000)",
    "SELECT query_to_xml('DELETE FROM runs', true, true, '')",
    "SELECT * FROM runs FOR UPDATE",
    "LOCK TABLE runs IN ACCESS EXCLUSIVE MODE",
    "ALTER TABLE runs ADD COLUMN made int",
    "ALTER SYSTEM SET work_mem = '1GB'",
    "GRANT ALL ON runs TO PUBLIC",
    "COMMENT ON TABLE runs IS 'mine'",
    "VACUUM runs",
    "REINDEX TABLE runs",
    "LISTEN anything",
    "CHECKPOINT",
    "LOAD 'auto_explain'",
]
ON_SQLITE = [
    "COMMIT; DELETE FROM runs",
    "SELECT 1; DELETE FROM runs",
    "SELECT 1 -- harmless\n; DELETE FROM runs",
    "BEGIN IMMEDIATE",
    "BEGIN EXCLUSIVE",
    "SAVEPOINT here",
    "DELETE FROM runs",
    "DELETE FROM runs RETURNING id",
    "UPDATE runs SET guidance = 1",
    "INSERT INTO prompts (text, sha256) VALUES ('x', 'y')",
    "INSERT OR REPLACE INTO prompts (id, text, sha256) VALUES (1, 'x', 'y')",
    "REPLACE INTO prompts (id, text, sha256) VALUES (1, 'x', 'y')",
    "WITH old AS (SELECT id FROM runs) DELETE FROM runs WHERE id IN old",
    "WITH new AS (SELECT 'x' AS a) INSERT INTO prompts (text, sha256) SELECT a, a FROM new",
    "DROP TABLE runs",
    "ALTER TABLE runs ADD COLUMN made int",
    "ALTER TABLE runs RENAME TO made",
    "CREATE TABLE made (x int)",
    "CREATE TEMP TABLE made (x int)",
    "CREATE TABLE made AS SELECT * FROM runs",
    "CREATE VIEW made AS SELECT * FROM runs",
    "CREATE TEMP VIEW made AS SELECT * FROM runs",
    "CREATE TRIGGER made AFTER INSERT ON runs BEGIN DELETE FROM runs; END",
    "CREATE INDEX made ON runs (seed)",
    "CREATE VIRTUAL TABLE made USING fts5 (x)",
    "ATTACH '{file}' AS other",
    "ATTACH 'file:{file}?mode=rwc' AS other",
    "DETACH main",
    "VACUUM",
    "VACUUM INTO '{file}'",
    "REINDEX",
    "ANALYZE",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA query_only = OFF",
    "PRAGMA writable_schema = ON",
    "PRAGMA user_version = 7",
    "PRAGMA application_id = 7",
    "PRAGMA schema_version = 7",
    "PRAGMA foreign_keys = OFF",
    "PRAGMA locking_mode = EXCLUSIVE",
    "PRAGMA wal_checkpoint(TRUNCATE)",
    "PRAGMA incremental_vacuum",
    "PRAGMA optimize",
    "PRAGMA temp_store_directory = '{folder}'",
    "SELECT load_extension('{file}')",
    "SELECT writefile('{file}', 'x')",
    "SELECT fts3_tokenizer('simple', x'00')",
    "SELECT * FROM pragma_journal_mode('delete')",
    "SELECT * FROM pragma_wal_checkpoint('truncate')",
]

State = tuple[Any, ...]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database with a run, for all tests of this module: none of them can change it."""
    if request.param == "sqlite":
        address = f"sqlite:///{tmp_path_factory.mktemp('home') / 't2i.db'}"
        fill(address)
        yield address
    else:
        for address in fresh_postgres(postgres_server(), "reading"):
            fill(address)
            yield address


def fill(address: str) -> None:
    engine = database.writable_engine(address)
    with Session(engine) as session:
        make_run(session)
        session.commit()
    engine.dispose()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that a database server, which is another user, can write."""
    for parent in [tmp_path, *tmp_path.parents[:3]]:
        if parent.owner() == tmp_path.owner() and parent != Path("/tmp"):
            parent.chmod(parent.stat().st_mode | stat.S_IRWXO)
    return tmp_path


def state(url: str) -> State:
    engine = create_engine(url)
    with engine.connect() as connection:
        found = inspect(connection)
        tables = {name: [column["name"] for column in found.get_columns(name)] for name in found.get_table_names()}
        rows = [connection.execute(text(f"SELECT * FROM {name}")).fetchall() for name in ("runs", "prompts")]
        about: Any = None
        if engine.dialect.name == "postgresql":
            about = connection.execute(text("SELECT last_value, is_called FROM runs_id_seq")).one()
            about = about, connection.scalar(text("SELECT count(*) FROM pg_roles WHERE rolname = 'made'"))
        else:
            about = [connection.scalar(text(f"PRAGMA {name}")) for name in ("journal_mode", "user_version")]
    engine.dispose()
    return tables, rows, about


def by_query(session: Session, sql: str) -> Any:
    return run_query(session, sql)


def by_text(session: Session, sql: str) -> Any:
    return session.execute(text(sql.replace(":", r"\:"))).all()


def by_driver(session: Session, sql: str) -> Any:
    return session.connection().exec_driver_sql(sql).all()


def by_cursor(session: Session, sql: str) -> Any:
    cursor = session.connection().connection.cursor()
    try:
        return cursor.execute(sql).fetchall()  # type: ignore[attr-defined]
    finally:
        cursor.close()


def refusals(url: str) -> tuple[type[Exception], ...]:
    """The driver's own are of a raw cursor."""
    driver = sqlite3 if url.startswith("sqlite") else pytest.importorskip("psycopg")
    return DatabaseError, SQLAlchemyError, driver.Error, *([sqlite3.Warning] if driver is sqlite3 else [])


def hostile(url: str) -> list[str]:
    return ON_SQLITE if url.startswith("sqlite") else ON_POSTGRESQL


@pytest.mark.parametrize("way", [by_query, by_text, by_driver, by_cursor])
def test_nothing_can_be_written(url: str, folder: Path, way: Callable[[Session, str], Any]) -> None:
    before = state(url)
    for sql in hostile(url):
        sql = sql.format(file=folder / "made", folder=folder)
        with open_database(db_url=url) as session, pytest.raises(refusals(url)):
            way(session, sql)
        assert list(folder.iterdir()) == [], sql
    assert state(url) == before


def test_forty_ways_were_tried() -> None:
    assert min(len(set(ON_SQLITE)), len(set(ON_POSTGRESQL))) >= 40


def test_what_a_query_leaves_behind_opens_nothing(url: str) -> None:
    """On one connection: what an earlier query set does not let a later one write."""
    settings = ["SELECT set_config('default_transaction_read_only', 'off', false)", "SELECT 1"]
    with open_database(db_url=url) as session:
        for sql in settings if url.startswith("postgresql") else ["SELECT 1"]:
            by_driver(session, sql)
        session.rollback()
        with pytest.raises(DatabaseError, match="the query failed"):
            run_query(session, "WITH a AS (SELECT 1) DELETE FROM runs")
        session.rollback()
        with pytest.raises(SQLAlchemyError):
            session.execute(text("UPDATE runs SET steps = 1"))
        session.rollback()
        cursor = session.connection().connection.cursor()
        for name in ("copy", "stream"):
            if hasattr(cursor, name):
                with pytest.raises(Exception, match="only reads"):
                    getattr(cursor, name)("COPY runs TO STDOUT")
        cursor.close()
    with open_database(db_url=url) as session:
        assert by_query(session, "SELECT steps FROM runs")[1] == [{"steps": 30}]


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT guidance FROM runs", [{"guidance": 7.5}]),
        ("SELECT guidance FROM runs;", [{"guidance": 7.5}]),
        ("-- first\nSELECT guidance FROM runs -- last", [{"guidance": 7.5}]),
        ("WITH a AS (SELECT steps FROM runs) SELECT steps FROM a", [{"steps": 30}]),
        ("VALUES (1)", [{"column1": 1}]),
        ("SELECT 'a%sb' AS x", [{"x": "a%sb"}]),
        ("SELECT '%(name)s %% :name' AS x", [{"x": "%(name)s %% :name"}]),
        ("SELECT name FROM runs WHERE name LIKE 'base%'", [{"name": "baseline"}]),
        ("SELECT 7 % 4 AS x", [{"x": 3}]),
        ("SELECT 'a;b' AS x", [{"x": "a;b"}]),
        ("SELECT guidance FROM runs WHERE 1 = 0", []),
    ],
)
def test_queries_that_only_read(url: str, sql: str, rows: list[dict[str, Any]]) -> None:
    with open_database(db_url=url) as session:
        assert run_query(session, sql)[1] == rows


@pytest.mark.parametrize("sql", ["", " ", "SELECT '\0'", "SELEC 1", "SELECT * FROM nothing", "SELECT ?+", "SELECT %s"])
def test_a_query_that_is_none_is_one_line(url: str, sql: str) -> None:
    with open_database(db_url=url) as session, pytest.raises(DatabaseError) as raised:
        run_query(session, sql)
    assert "\n" not in str(raised.value)


def test_orm_sessions_read(url: str) -> None:
    from t2i_track.db.models import Run

    with open_database(db_url=url) as session:
        run = session.query(Run).one()
        assert (run.name, run.manifest.entries[2].prompt.text) == ("baseline", "a")
        run.name = "other"
        with pytest.raises(SQLAlchemyError):
            session.flush()


VALUES = {
    "sqlite": "SELECT 9e999 AS inf, -9e999 AS least, x'00ff' AS bytes, 1.5 AS number, NULL AS missing",
    "postgresql": "SELECT 'Infinity'::float8 AS inf, '-Infinity'::float8 AS least, '\\x00ff'::bytea AS bytes,"
    " 1.5::numeric AS number, NULL AS missing",
}


def test_values_that_json_does_not_have(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with open_database(db_url=url) as session:
        columns, rows = run_query(session, VALUES[url.partition(":")[0].partition("+")[0]])
    print_rows(rows, "json", columns=columns)
    expected = {"inf": None, "least": None, "bytes": "00ff", "number": 1.5, "missing": None}
    assert json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(name)) == [expected]
    print_rows(rows, "csv", columns=columns)
    assert capsys.readouterr().out.splitlines()[1] == "inf,-inf,00ff,1.5,"
    for fmt in ("table", "markdown"):
        print_rows(rows, fmt, columns=columns)
        assert "00ff" in capsys.readouterr().out


def test_values_of_postgresql(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    if url.startswith("sqlite"):
        pytest.skip("types of PostgreSQL")
    sql = (
        "SELECT DATE '2026-01-02' AS day, TIMESTAMP '2026-01-02 03:04' AS time, sum(2::bigint) AS total,"
        " 'NaN'::float8 AS n, 'NaN'::numeric AS m, ARRAY[1, 2] AS list,"
        " '{\"a\": [1.5]}'::json AS tree, INTERVAL '1 day' AS span,"
        " gen_random_uuid() IS NULL AS none, '10.0.0.1'::inet AS address, int4range(1, 3) AS range"
    )
    with open_database(db_url=url) as session:
        columns, rows = run_query(session, sql)
        print_rows(rows, "json", columns=columns)
        found = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(name))[0]
        assert found == {
            "day": "2026-01-02", "time": "2026-01-02T03:04:00", "total": 2, "n": None, "m": None, "list": [1, 2],
            "tree": {"a": [1.5]}, "span": "1 day, 0:00:00", "none": False, "address": "10.0.0.1", "range": "[1, 3)",
        }  # fmt: skip
        for day in ("'infinity'::date", "'4000-01-01 BC'::date", "'12345-01-01'::timestamp"):
            with pytest.raises(DatabaseError, match=r"(date|timestamp) too (large|small)"):
                run_query(session, f"SELECT {day}")
            session.rollback()


def test_a_role_that_can_only_select(url: str) -> None:
    """What docs/database.md says to type, and that it bounds the functions too."""
    if url.startswith("sqlite"):
        pytest.skip("roles of PostgreSQL")
    from conftest import ROOT

    page = (ROOT / "docs" / "database.md").read_text(encoding="utf-8")
    commands = page.partition("```sql\n")[2].partition("```")[0].replace("t2i_reader", f"t2i_reader_{os.getpid()}")
    admin = create_engine(url, isolation_level="AUTOCOMMIT")
    reader = admin.url.set(username=f"t2i_reader_{os.getpid()}", password="chosen")
    address = reader.render_as_string(hide_password=False)
    try:
        with admin.connect() as connection:
            for command in commands.replace("DATABASE t2i ", f"DATABASE {admin.url.database} ").split(";")[:-1]:
                connection.exec_driver_sql(command)
        with open_database(db_url=address) as session:
            assert run_query(session, "SELECT steps FROM runs")[1] == [{"steps": 30}]
            for call in (
                "pg_read_file('postgresql.conf')",
                "lo_export(1, '/x')",
                "lo_create(0)",
                "pg_reload_conf()",
            ):
                with pytest.raises(DatabaseError, match="permission denied"):
                    run_query(session, f"SELECT {call}")
                session.rollback()
        engine = database.writable_engine(address)
        for sql in ("DELETE FROM runs", "CREATE TABLE made (x int)", "CREATE TEMP TABLE made (x int)"):
            refused = pytest.raises(DatabaseError, match="permission denied")
            with refused, database.explained(address), engine.begin() as connection:
                connection.execute(text(sql))
        engine.dispose()
    finally:
        with admin.connect() as connection:
            connection.exec_driver_sql(f"DROP OWNED BY {reader.username}")
            connection.exec_driver_sql(f"DROP ROLE {reader.username}")
        admin.dispose()
