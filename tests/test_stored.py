"""Databases and pictures of earlier versions: upgraded, read, and made again from their records."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from homes import STORED, connected, copy_home, load, rows, tables
from sqlalchemy import func, select, text
from test_db import fresh_postgres, postgres_server

from t2i_track.db import lineage
from t2i_track.db import session as database
from t2i_track.db.models import Base, Image, Protocol, Run
from t2i_track.images import png
from t2i_track.images.seeds import image_seed
from t2i_track.metrics.evaluate import EvaluationResult, MetricResult
from t2i_track.metrics.protocol import ProtocolRecord
from t2i_track.ranking import compare
from t2i_track.runs.evaluate import store
from t2i_track.runs.plan import values_of
from t2i_track.runs.reproduce import reproduce
from t2i_track.runs.rows import image_rows, run_rows
from t2i_track.runs.show import record_of
from t2i_track.settings import Resolved
from t2i_track.workspace import Workspace

OLDER = {
    "sqlite": """UPDATE runs SET config = json_remove(config, '$.memory_format', '$.settings.memory_format')
                 WHERE name = 'contiguous'""",
    "postgresql": """UPDATE runs SET config = (config::jsonb - 'memory_format' #- '{settings,memory_format}')::json
                     WHERE name = 'contiguous'""",
}
"""Makes of the database what it was before memory formats were recorded: all runs were contiguous."""


def counts(home: Path) -> dict[str, int]:
    return {name: rows(home, f"SELECT count(*) AS n FROM {name}")[0]["n"] for name in tables(home)}


SCHEMAS = sorted(path.name.removeprefix("schema-") for path in STORED.glob("schema-*"))


@pytest.fixture(params=[*SCHEMAS, "0001 before memory formats"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of a stored home folder, as it was."""
    schema, *older = str(request.param).split(" ", 1)
    folder = tmp_path / "home"
    copy_home(STORED / f"schema-{schema}", folder)
    if older:
        with connected(folder) as opened:
            opened.execute(text(OLDER[opened.dialect.name]))
    return folder


@pytest.fixture
def upgraded(home: Path) -> Workspace:
    workspace = Workspace(home)
    database.upgrade(workspace.url)
    return workspace


def test_every_earlier_schema_has_a_stored_database() -> None:
    assert set(database.REVISIONS[:-1]) <= set(SCHEMAS) <= set(database.REVISIONS)


def test_an_upgrade_keeps_every_row(home: Path) -> None:
    before = counts(home)
    database.upgrade(Workspace(home).url)
    after = counts(home)
    assert {name: after[name] for name in before} == before
    assert min(before.values()) > 0
    with Workspace(home).reading() as session:
        for mapper in Base.registry.mappers:
            read = session.scalars(select(mapper.class_)).unique().all()
            assert len(read) == session.scalar(select(func.count()).select_from(mapper.class_))


def test_runs_are_listed_and_ranked(upgraded: Workspace) -> None:
    with upgraded.reading() as session:
        rows = run_rows(session, ())
        assert [(row.name, row.guidance, row.steps, row.scheduler, row.images) for row in rows] == [
            ("plain", 7.5, 4, "pndm", 4),
            ("contiguous", 3.0, 4, "pndm", 4),
            ("pndm-g1-s4-seed42", 1.0, 4, "pndm", 4),
            ("pndm-g5-s4-seed42", 5.0, 4, "pndm", 4),
            ("negative", 7.5, 4, "ddim", 4),
        ]
        assert rows[0].scores["fid"].value == pytest.approx(7962.78, abs=0.01)
        assert [entry.row.name for entry in compare(rows, "alignment").ranking] == [
            "pndm-g1-s4-seed42",
            "contiguous",
            "plain",
            "pndm-g5-s4-seed42",
        ]
        assert len(image_rows(session, upgraded, rows)) == 20


def test_runs_and_images_are_shown(upgraded: Workspace) -> None:
    with upgraded.reading() as session:
        assert record_of(session, upgraded, "negative")["negative_prompt"] == "a dark background"
        image = session.get_one(Image, 2)
        assert record_of(session, upgraded, image.path)["prompt"] == "on a beige background, four big blue stars"


def test_fingerprints_of_settings_stay(upgraded: Workspace) -> None:
    with upgraded.reading() as session:
        for run in session.scalars(select(Run)):
            resolved = Resolved(
                settings=values_of(run),
                weights_sha256=str(run.model.weights_sha256),
                lora_sha256=run.config["lora_sha256"],
                scheduler_config=run.scheduler_config,
                manifest_sha256=run.manifest.sha256,
            )
            assert resolved.fingerprint == run.settings_sha256, run.name


def test_fingerprints_of_protocols_stay(upgraded: Workspace) -> None:
    columns = list(ProtocolRecord.__dataclass_fields__)
    with upgraded.reading() as session:
        for stored in session.scalars(select(Protocol)):
            record = ProtocolRecord(**{name: getattr(stored, name) for name in columns})
            assert record.fingerprint == stored.fingerprint, stored.metric


def test_seeds_of_images_stay(upgraded: Workspace) -> None:
    with upgraded.reading() as session:
        for image in session.scalars(select(Image)):
            assert image.seed == image_seed(image.run.base_seed, image.prompt_index, image.replicate)


@pytest.mark.slow
@pytest.mark.parametrize("home", ["0001 before memory formats"], indirect=True)
def test_pictures_are_made_again(upgraded: Workspace) -> None:
    with upgraded.reading() as session:
        kept = {
            image.run.name: image for image in session.scalars(select(Image)) if upgraded.image_path(image).is_file()
        }
        assert sorted(kept) == ["contiguous", "plain"]
    file = upgraded.image_path(kept["plain"])
    assert (png.read_record(file) or {})["pixels_sha256"] == png.pixels_sha256(png.read_pixels(file))
    assert reproduce(upgraded, str(file)).close
    # From the database's record, which says nothing of memory formats.
    again = reproduce(upgraded, kept["contiguous"].pixels_sha256)
    assert (again.recorded_sha256, again.close) == (kept["contiguous"].pixels_sha256, True)


@pytest.mark.parametrize("home", ["0001"], indirect=True)
def test_values_say_their_prompts_since_they_are_stored_with_them(upgraded: Workspace) -> None:
    with upgraded.reading() as session:
        run = lineage.find_run(session, "plain")
        old = run_rows(session, ["plain"])[0].scores
        protocol = session.scalars(select(Protocol).where(Protocol.fingerprint == old["alignment"].protocol)).one()
        record = ProtocolRecord(**{name: getattr(protocol, name) for name in ProtocolRecord.__dataclass_fields__})
    assert {(score.grouping, score.prompts, score.parts) for score in old.values()} == {(None, "", None)}
    parts = np.array([0.25, np.nan, 0.75])
    stored = {"prompts_sha256": "f" * 64, "parts": parts.astype("<f8").tobytes()}
    result = MetricResult("alignment", 0.5, 0.2, 0.8, 4, None, record, [0.5] * 32, **stored)
    store(upgraded, run, EvaluationResult([result], []))
    with upgraded.reading() as session:
        found = run_rows(session, ["plain"])[0].scores["alignment"]
    assert (found.value, found.grouping, found.prompts) == (0.5, "prompts-sha256-32", "f" * 64)
    assert found.parts is not None
    assert np.array_equal(found.parts, parts, equal_nan=True)


@pytest.fixture
def postgres() -> Iterator[str]:
    yield from fresh_postgres(postgres_server(), "stored")


@pytest.mark.parametrize("schema", [schema for schema in SCHEMAS if schema != database.REVISIONS[-1]])
def test_rows_on_postgresql_outlive_an_upgrade_too(schema: str, postgres: str) -> None:
    """The rows of the stored file, put into a database of their schema there."""
    before = load(STORED / f"schema-{schema}" / "t2i.db", postgres)
    database.upgrade(postgres)
    with Workspace(Path("none"), db_url=postgres).reading() as session:
        for mapper in Base.registry.mappers:
            name = mapper.local_table.name  # type: ignore[attr-defined]
            assert len(session.scalars(select(mapper.class_)).unique().all()) == before.get(name, 0)
        assert next((row.name, row.images) for row in run_rows(session)) == ("plain", 4)
