from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import create_engine, select, text
from sqlalchemy.exc import IntegrityError, StatementError
from sqlalchemy.orm import Session

from t2i_track.db import lineage
from t2i_track.db import session as database
from t2i_track.db.models import Base, Image, Run, RunStatus, RunTag
from t2i_track.db.query import run_query
from t2i_track.errors import Ambiguous, DatabaseError, NotFound, SchemaTooNew, SchemaTooOld
from t2i_track.workspace import Workspace

URLS = ["sqlite", "postgresql"]


@pytest.fixture(params=URLS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of this test's own: SQLite, and PostgreSQL where T2I_TEST_POSTGRES names a server."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'home' / 't2i.db'}"
        return
    yield from fresh_postgres(postgres_server())


def postgres_server() -> str:
    server = os.environ.get("T2I_TEST_POSTGRES")
    if server is None:
        pytest.skip("T2I_TEST_POSTGRES names no PostgreSQL server")
    return server


def fresh_postgres(server: str, purpose: str = "test") -> Iterator[str]:
    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    name = f"t2i_{purpose}_{os.getpid()}"
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield admin.url.set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture
def session(url: str) -> Iterator[Session]:
    engine = database.writable_engine(url)
    with Session(engine, expire_on_commit=False) as opened:
        yield opened
    engine.dispose()


def make_run(session: Session, uuid: str = "ab" * 16, name: str = "baseline", **changes: object) -> Run:
    model = lineage.store_model(session, name="shapes", revision="", weights_sha256="w" * 64, pipeline_class="SD")
    manifest = lineage.store_manifest(
        session, name="m", sha256="m" * 64, entries=[{"prompt": "a"}, {"prompt": "b"}, {"prompt": "a"}]
    )
    values = {
        "experiment": "t2i",
        "status": RunStatus.RUNNING,
        "guidance": 7.5,
        "steps": 30,
        "scheduler": "pndm",
        "scheduler_config": {},
        "negative_prompt": "",
        "height": 64,
        "width": 64,
        "dtype": "fp32",
        "device": "cpu",
        "batch_size": 8,
        "base_seed": 42,
        "num": 3,
        "settings_sha256": "s" * 64,
        "config": {},
        "environment": {},
        **changes,
    }
    run = Run(uuid=uuid, name=name, model=model, manifest=manifest, **values)
    session.add(run)
    session.flush()
    return run


def add_image(session: Session, run: Run, index: int, digest: str = "c") -> None:
    prompts = lineage.store_prompts(session, ["a"])
    record = {"prompt": "a", "prompt_index": index, "replicate": 0, "seed": 2**32 - 1 - index}
    record |= {"path": f"images/{run.uuid}/{index}.png", "sha256": digest * 64, "pixels_sha256": "d" * 64}
    record |= {"width": 64, "height": 64, "tokens": 5, "truncated": False, "flagged": False, "seconds": 0.5}
    lineage.add_images(session, run.id, prompts, [record])


def test_revisions_are_the_migration_scripts() -> None:
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(database.alembic_config())
    assert [script.revision for script in scripts.walk_revisions()][::-1] == list(database.REVISIONS)


def test_migrations_make_the_models(url: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    engine = database.writable_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


def test_upgrade_twice_changes_nothing(url: str) -> None:
    database.upgrade(url)
    database.upgrade(url)
    engine = database.any_read_engine(url)
    assert database.schema_version(engine) == database.REVISIONS[-1]
    engine.dispose()


@pytest.mark.parametrize(("version", "error"), [("9999", SchemaTooNew), ("0000", SchemaTooOld)])
def test_other_schemas_are_named(
    url: str, version: str, error: type[DatabaseError], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = database.writable_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :version"), {"version": version})
    engine.dispose()
    monkeypatch.setattr(database, "REVISIONS", ("0000", "0001"))
    for opener in (database.writable_engine, database.read_engine):
        with pytest.raises(error, match=version):
            opener(url)


def test_reading_makes_no_database(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="no run database at"):
        database.read_engine(f"sqlite:///{tmp_path / 't2i.db'}")
    assert list(tmp_path.iterdir()) == []


WRITE = "write sqlite:///path/to/t2i.db or postgresql+psycopg://user@host/name"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", f"'nonsense' is not a database URL: {WRITE}"),
        ("/a/path/t2i.db", f"'/a/path/t2i.db' is not a database URL: {WRITE}"),
        ("postgresql://h:abc/db", f"'postgresql://h:***' is not a database URL: {WRITE}"),
        ("postgresql://h:99999/db", f"the port of 'postgresql://h:99999/db' is not in [1, 65535]: {WRITE}"),
        ("mysterydb://x/y", f"'mysterydb://x/y' is of no database that can be used (mysterydb): {WRITE}"),
        ("mysql://u:secret@x/y", f"'mysql://x/y' is of no database that can be used (mysql): {WRITE}"),
        ("postgresql+psycopg2://x/y", f"'postgresql+psycopg2://x/y' is of no database that can be used"
         f" (postgresql+psycopg2): {WRITE}"),
        ("sqlite+pysqlcipher:///x", f"'sqlite+pysqlcipher:///x' is of no database that can be used"
         f" (sqlite+pysqlcipher): {WRITE}"),
        ("sqlite://study/t2i.db", "'sqlite://study/t2i.db' names no file: write three slashes,"
         " sqlite:///path/to/t2i.db"),
        ("sqlite://", "'sqlite://' names no file: write sqlite:///path/to/t2i.db"),
        ("sqlite:///:memory:", "'sqlite:///:memory:' names no file: write sqlite:///path/to/t2i.db"),
        ("sqlite:///study?a/t2i.db", "'sqlite:///study?***' has a '?', which is no part of a file name here:"
         " name its folder by --home"),
    ],
)  # fmt: skip
def test_bad_urls(url: str, said: str) -> None:
    for opened in (database.writable_engine, database.read_engine, database.any_read_engine, database.upgrade):
        with pytest.raises(DatabaseError) as raised:
            opened(url)
        assert str(raised.value) == said


def test_a_url_without_a_driver_is_psycopgs(url: str) -> None:
    if not url.startswith("postgresql"):
        pytest.skip("of PostgreSQL")
    database.upgrade(url)
    for scheme in ("postgresql", "postgres"):
        database.read_engine(scheme + url[url.index("://") :]).dispose()


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "t2i.db"
    path.write_text("this is not a database, however long it may be" * 100)
    with pytest.raises(DatabaseError, match="not a database"):
        database.writable_engine(f"sqlite:///{path}")


def test_columns_of_one_name_are_both_kept(session: Session) -> None:
    columns, rows = run_query(session, "SELECT 1 AS id, 2 AS id")
    assert columns == ["id", "id_2"]
    assert rows == [{"id": 1, "id_2": 2}]


def test_prompts_and_manifests_are_stored_once(session: Session) -> None:
    first = make_run(session)
    second = make_run(session, uuid="cd" * 16)
    assert first.manifest_id == second.manifest_id
    assert first.model_id == second.model_id
    assert session.scalar(text("SELECT count(*) FROM prompts")) == 2
    assert session.scalar(text("SELECT count(*) FROM manifest_entries")) == 3


def test_many_prompts(session: Session) -> None:
    texts = [f"prompt {number}" for number in range(1234)]
    ids = lineage.store_prompts(session, texts)
    assert len(set(ids.values())) == 1234
    assert lineage.store_prompts(session, reversed(texts)) == ids


def test_an_image_has_one_row(session: Session) -> None:
    run = make_run(session)
    add_image(session, run, 0)
    assert lineage.made_images(session, run) == {(0, 0)}
    with pytest.raises(IntegrityError):
        add_image(session, run, 0)


def test_seeds_of_32_bits_fit(session: Session) -> None:
    run = make_run(session, base_seed=2**63 - 1)
    add_image(session, run, 0)
    assert session.query(Image).one().seed == 2**32 - 1
    session.expire_all()
    assert session.get_one(Run, run.id).base_seed == 2**63 - 1


@pytest.mark.parametrize("address", ["ab" * 16, "abab", "baseline", "f00d" * 8, "f00d", "latest"])
def test_runs_are_found(session: Session, address: str) -> None:
    run = make_run(session, mlflow_run_id="f00d" * 8)
    assert lineage.find_run(session, address) is run


def test_ambiguous_names_list_the_candidates(session: Session) -> None:
    make_run(session)
    make_run(session, uuid="cd" * 16)
    with pytest.raises(Ambiguous, match=r"'baseline' is 2 runs: abababababab .*, cdcdcdcdcdcd .*give a longer id"):
        lineage.find_run(session, "baseline")


@pytest.mark.parametrize("address", ["nothing", "ab%", "aba", ""])
def test_unknown_runs(session: Session, address: str) -> None:
    make_run(session)
    with pytest.raises(NotFound, match="no run"):
        lineage.find_run(session, address)


def test_images_are_found(session: Session, tmp_path: Path) -> None:
    run = make_run(session)
    add_image(session, run, 0, "c")
    add_image(session, run, 1, "e")
    first, second = session.query(Image).order_by(Image.id)
    stored = first.path
    for address in (str(first.id), stored, str(tmp_path / stored), "cccccc", "c" * 64):
        assert lineage.find_image(session, address, tmp_path) is first
    assert lineage.find_image(session, "eeeeee", tmp_path) is second
    with pytest.raises(Ambiguous):
        lineage.find_image(session, "dddddd", tmp_path)
    with pytest.raises(NotFound):
        lineage.find_image(session, "ccc", tmp_path)


@pytest.mark.parametrize("digits", ["12345678901", "9999999999", "123456"])
def test_a_hash_that_begins_with_digits_only_is_found(session: Session, tmp_path: Path, digits: str) -> None:
    add_image(session, make_run(session), 0)
    image = session.scalars(select(Image)).one()
    image.sha256 = digits.ljust(64, "a")
    session.flush()
    assert lineage.find_image(session, digits, tmp_path) is image
    with pytest.raises(NotFound):
        lineage.find_image(session, "²", tmp_path)


def test_tags_are_in_one_order_on_every_database(session: Session) -> None:
    run = make_run(session)
    run.tags = [RunTag(key=key, value="1") for key in ("b", "a_b", "B", "a.b", "ab", "a-b")]
    session.flush()
    assert list(lineage.tags_of(session, [run.id])[run.id]) == ["B", "a-b", "a.b", "a_b", "ab", "b"]


def test_a_value_that_a_server_cannot_hold_is_no_fault_of_its_address(tmp_path: Path) -> None:
    for url in fresh_postgres(postgres_server()):
        workspace = Workspace(tmp_path, db_url=url)
        long = {"prompt": "a", "image_id": "x" * 101}
        said = r"cannot hold a value \(value too long for type character varying\(100\)\): shorten or correct it"
        with pytest.raises(DatabaseError, match=said), workspace.begin() as session:
            lineage.store_manifest(session, name="m", sha256="a" * 64, entries=[long])


def test_a_workspace_that_is_gone_leaves_no_connection(tmp_path: Path) -> None:
    """A server has a hundred of them; a notebook makes a workspace with each call."""
    for url in fresh_postgres(postgres_server()):
        for _ in range(3):
            with Workspace(tmp_path, db_url=url).begin() as session:
                lineage.store_prompts(session, ["a"])
        watch = create_engine(url)
        with watch.connect() as connection:
            query = (
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid != pg_backend_pid()"
            )
            left = (connection.scalar(text(query)) for _ in range(100) if not time.sleep(0.05))
            assert 0 in left, "the server is told, and takes a moment"
        watch.dispose()


def test_times_are_utc(session: Session) -> None:
    run = make_run(session)
    run.started_at = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    session.flush()
    session.expire_all()
    assert session.get_one(Run, run.id).started_at == datetime(2026, 1, 1, 10, tzinfo=UTC)
    run.started_at = datetime(2026, 1, 1)
    with pytest.raises(StatementError, match="without a zone"):
        session.flush()


def test_finishing_keeps_the_mean_cost(session: Session) -> None:
    run = make_run(session)
    add_image(session, run, 0)
    add_image(session, run, 1, "e")
    lineage.finish_run(session, run, RunStatus.FAILED, "why")
    assert (run.status, run.error, run.seconds_per_image) == (RunStatus.FAILED, "why", 0.5)
    assert lineage.finished_like(session, run.settings_sha256) is None
    lineage.finish_run(session, run, RunStatus.FINISHED)
    assert lineage.finished_like(session, run.settings_sha256) is run


def test_what_is_not_finite_is_stored_everywhere(url: str, tmp_path: Path) -> None:
    """As in the configuration of PixArt Sigma's scheduler; a server refused the whole run."""
    config = {
        "lambda_min_clipped": -math.inf,
        "most": [math.inf, 1.5],
        "no number": math.nan,
        "NaN": 'a "NaN" Infinity',
    }
    workspace = Workspace(home=tmp_path, db_url=url)
    with workspace.begin() as session:
        make_run(session).scheduler_config = config
    with workspace.reading() as session:
        stored = session.scalars(select(Run)).one()
        assert stored.scheduler_config == {**config, "no number": None}
        text_of = session.scalar(text("SELECT scheduler_config FROM runs"))
    assert "Infinity]" not in str(text_of)
