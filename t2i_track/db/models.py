"""The tables: which prompt, which seed, which settings and which weights made each image, and how it scored."""

# Annotations are no texts here: SQLAlchemy would evaluate each of them whenever a command starts.
import enum
from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    ColumnElement,
    Enum,
    ForeignKey,
    Index,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    event,
    inspect,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from t2i_track.db.types import UtcDateTime, digest, intpk, json, utc, utc_now
from t2i_track.errors import DatabaseError


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def require_sound(instance: Any, _context: Any) -> None:
    """An SQLite file takes any value in any column: what is read is what the tables say, or an error that names it."""
    for attribute in inspect(type(instance)).column_attrs:
        if attribute.key in instance.__dict__:
            require_value(attribute.columns[0], instance.__dict__[attribute.key])


def require_value(column: ColumnElement[Any], value: Any) -> None:
    """Raise DatabaseError where a table's column cannot hold what was read from it."""
    if isinstance(column, Column) and not isinstance(value, kinds(column)):
        raise DatabaseError(
            f"the database holds {str(value)[:40]!r} as {column.name} in {column.table.name}, where"
            f" {column.type.python_type.__name__} is due: restore it from a copy"
        )


def kinds(column: Column[Any]) -> tuple[type, ...]:
    """The types of the values that a table's column may hold."""
    kind = column.type.python_type
    return (kind, *((int,) if kind is float else ()), *((type(None),) if column.nullable else ()))


class RunStatus(enum.StrEnum):
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class Failure(enum.StrEnum):
    COUNT = "count"
    LIMBS = "limbs"
    SPATIAL = "spatial"
    BACKGROUND = "background"
    TEXT = "text"
    OTHER = "other"
    OK = "ok"


def _by_value(kind: type[enum.StrEnum]) -> Enum:
    return Enum(kind, native_enum=False, length=20, values_callable=lambda members: [m.value for m in members])


class Model(Base):
    """Weights, by what they are rather than by what they are called."""

    __tablename__ = "models"
    __table_args__ = (UniqueConstraint("name", "revision", "weights_sha256"),)

    id: Mapped[intpk]
    name: Mapped[str] = mapped_column(Text)
    """Hugging Face id, or the folder: absolute, or ``./…`` in the home folder."""
    revision: Mapped[str] = mapped_column(String(100), default="")
    weights_sha256: Mapped[str | None] = mapped_column(String(64))
    """Hash over the names, shapes, dtypes and bytes of all tensors; null where other tools made the pictures."""
    pipeline_class: Mapped[str | None] = mapped_column(String(100))


class Manifest(Base):
    """An ordered list of prompts."""

    __tablename__ = "manifests"

    id: Mapped[intpk]
    name: Mapped[str] = mapped_column(Text)
    sha256: Mapped[digest] = mapped_column(unique=True)
    size: Mapped[int]
    entries: Mapped[list["ManifestEntry"]] = relationship(back_populates="manifest", order_by="ManifestEntry.position")


class Prompt(Base):
    __tablename__ = "prompts"

    id: Mapped[intpk]
    text: Mapped[str] = mapped_column(Text)
    sha256: Mapped[digest] = mapped_column(unique=True)


class ManifestEntry(Base):
    __tablename__ = "manifest_entries"
    __table_args__ = (UniqueConstraint("manifest_id", "position"),)

    id: Mapped[intpk]
    manifest_id: Mapped[int] = mapped_column(ForeignKey("manifests.id", ondelete="CASCADE"))
    position: Mapped[int]
    prompt_id: Mapped[int] = mapped_column(ForeignKey("prompts.id"), index=True)
    source_image_id: Mapped[str | None] = mapped_column(String(100))
    source_image_path: Mapped[str | None] = mapped_column(Text)
    caption_id: Mapped[str | None] = mapped_column(String(100))
    negative_prompt: Mapped[str | None] = mapped_column(Text)
    """Where a row has its own; null: the run's."""
    manifest: Mapped[Manifest] = relationship(back_populates="entries")
    prompt: Mapped[Prompt] = relationship()


class Sweep(Base):
    """The parent of a grid of runs."""

    __tablename__ = "sweeps"

    id: Mapped[intpk]
    uuid: Mapped[str] = mapped_column(String(32), unique=True)
    name: Mapped[str] = mapped_column(Text)
    mlflow_run_id: Mapped[str | None] = mapped_column(String(64), unique=True)
    experiment: Mapped[str] = mapped_column(Text, index=True)
    status: Mapped[RunStatus] = mapped_column(_by_value(RunStatus))
    spec: Mapped[json]
    created_at: Mapped[utc] = mapped_column(default=utc_now)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    members: Mapped[list["SweepRun"]] = relationship(back_populates="sweep", order_by="SweepRun.cell")


class Run(Base):
    """One generation run: one setting over one manifest."""

    __tablename__ = "runs"
    __table_args__ = (Index("ix_runs_guidance_steps", "guidance", "steps"),)

    id: Mapped[intpk]
    uuid: Mapped[str] = mapped_column(String(32), unique=True)
    name: Mapped[str] = mapped_column(Text, index=True)
    mlflow_run_id: Mapped[str | None] = mapped_column(String(64), unique=True)
    experiment: Mapped[str] = mapped_column(Text, index=True)
    status: Mapped[RunStatus] = mapped_column(_by_value(RunStatus), index=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"), index=True)
    manifest_id: Mapped[int] = mapped_column(ForeignKey("manifests.id"), index=True)
    origin: Mapped[str | None] = mapped_column(String(50))
    """The program that made the pictures, where they were imported; what it does not tell is null. Null: made here."""
    note: Mapped[str | None] = mapped_column(Text)
    """What people say about it."""
    guidance: Mapped[float | None]
    steps: Mapped[int | None]
    scheduler: Mapped[str | None] = mapped_column(String(50))
    scheduler_config: Mapped[json]
    negative_prompt: Mapped[str] = mapped_column(Text, default="")
    lora: Mapped[str | None] = mapped_column(Text)
    height: Mapped[int]
    width: Mapped[int]
    dtype: Mapped[str | None] = mapped_column(String(20))
    device: Mapped[str | None] = mapped_column(String(100))
    batch_size: Mapped[int | None]
    base_seed: Mapped[int | None] = mapped_column(BigInteger)
    num: Mapped[int]
    """Prompts taken from the front of the manifest."""
    images_per_prompt: Mapped[int] = mapped_column(default=1)
    settings_sha256: Mapped[digest] = mapped_column(index=True)
    """Hash of all that decides the pixels; equal hashes mean equal images (``settings.Resolved.fingerprint``)."""
    config: Mapped[json]
    environment: Mapped[json]
    created_at: Mapped[utc] = mapped_column(default=utc_now)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    deleted_at: Mapped[datetime | None] = mapped_column(UtcDateTime, index=True)
    """When it was put into the trash, from which ``t2i gc`` takes it for good."""
    seconds_per_image: Mapped[float | None]
    error: Mapped[str | None] = mapped_column(Text)
    model: Mapped[Model] = relationship(lazy="joined", innerjoin=True)
    manifest: Mapped[Manifest] = relationship(lazy="joined", innerjoin=True)
    images: Mapped[list["Image"]] = relationship(
        back_populates="run", order_by="(Image.prompt_index, Image.replicate)", passive_deletes=True
    )
    metric_values: Mapped[list["MetricValue"]] = relationship(back_populates="run", passive_deletes=True)
    tags: Mapped[list["RunTag"]] = relationship(
        back_populates="run", order_by="RunTag.key", passive_deletes=True, cascade="all, delete-orphan"
    )


class RunTag(Base):
    """A word that people gave a run, to filter by."""

    __tablename__ = "run_tags"
    __table_args__ = (UniqueConstraint("run_id", "key"), Index("ix_run_tags_key_value", "key", "value"))

    id: Mapped[intpk]
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    key: Mapped[str] = mapped_column(String(100))
    value: Mapped[str] = mapped_column(String(500))
    run: Mapped[Run] = relationship(back_populates="tags")


class SweepRun(Base):
    """A cell of a sweep; a run can be a cell of several (finished cells are taken over, not made again)."""

    __tablename__ = "sweep_runs"
    __table_args__ = (UniqueConstraint("sweep_id", "cell"), UniqueConstraint("sweep_id", "run_id"))

    id: Mapped[intpk]
    sweep_id: Mapped[int] = mapped_column(ForeignKey("sweeps.id", ondelete="CASCADE"))
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), index=True)
    cell: Mapped[int]
    sweep: Mapped[Sweep] = relationship(back_populates="members")
    run: Mapped[Run] = relationship()


class Worker(Base):
    """A process that made pictures for a driver, on whatever machine."""

    __tablename__ = "workers"

    id: Mapped[intpk]
    sha256: Mapped[digest] = mapped_column(unique=True)
    """Over the other columns."""
    host: Mapped[str] = mapped_column(Text)
    process: Mapped[int] = mapped_column(BigInteger)
    device: Mapped[str] = mapped_column(String(100))
    environment: Mapped[json]
    """As that of ``runs``: versions, threads, GPU."""


class Image(Base):
    __tablename__ = "images"
    __table_args__ = (UniqueConstraint("run_id", "prompt_index", "replicate"),)

    id: Mapped[intpk]
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    prompt_id: Mapped[int] = mapped_column(ForeignKey("prompts.id"), index=True)
    prompt_index: Mapped[int]
    replicate: Mapped[int]
    seed: Mapped[int | None] = mapped_column(BigInteger)
    path: Mapped[str] = mapped_column(Text, unique=True)
    """Relative to the home folder, with forward slashes; absolute where ``--outdir`` led elsewhere."""
    made_by: Mapped[str | None] = mapped_column(String(32))
    """The uuid of the run that made the picture, where it was reused; null: this image's own run."""
    worker_id: Mapped[int | None] = mapped_column(ForeignKey("workers.id"))
    """The process that made it, where it was not the run's own."""
    record_sha256: Mapped[str | None] = mapped_column(String(64), index=True)
    """Hash of all that decides its pixels on machines of one kind; null: from before it was kept, or imported."""
    sha256: Mapped[digest] = mapped_column(index=True)
    pixels_sha256: Mapped[digest] = mapped_column(index=True)
    width: Mapped[int]
    height: Mapped[int]
    tokens: Mapped[int | None]
    truncated: Mapped[bool]
    flagged: Mapped[bool] = mapped_column(default=False)
    """It does not show what the model made: the safety checker blacked it out, or it is not finite (``note``)."""
    batch_size: Mapped[int | None]
    """Where it was made at another batch size than its run's, as ``dtype``; null: as the run."""
    dtype: Mapped[str | None] = mapped_column(String(20))
    note: Mapped[str | None] = mapped_column(Text)
    """How it was made, where that is not as its run says (``images.decoding.Note``)."""
    seconds: Mapped[float | None]
    """What it cost to make; null where it was not made for this run."""
    created_at: Mapped[utc] = mapped_column(default=utc_now)
    run: Mapped[Run] = relationship(back_populates="images")
    prompt: Mapped[Prompt] = relationship()
    worker: Mapped[Worker | None] = relationship()
    labels: Mapped[list["Label"]] = relationship(back_populates="image", passive_deletes=True)


class Protocol(Base):
    """What a number was measured with; values of different protocols are never ranked together."""

    __tablename__ = "protocols"

    id: Mapped[intpk]
    fingerprint: Mapped[digest] = mapped_column(unique=True)
    metric: Mapped[str] = mapped_column(String(50))
    extractor: Mapped[str | None] = mapped_column(Text)
    weights_sha256: Mapped[str | None] = mapped_column(String(64))
    layer: Mapped[str | None] = mapped_column(String(100))
    resize: Mapped[str | None] = mapped_column(String(100))
    n: Mapped[int]
    reference: Mapped[str | None] = mapped_column(Text)
    reference_sha256: Mapped[str | None] = mapped_column(String(64))
    reference_n: Mapped[int | None]
    parameters: Mapped[json]
    versions: Mapped[json]


class MetricValue(Base):
    __tablename__ = "metric_values"
    __table_args__ = (UniqueConstraint("run_id", "name", "protocol_id"),)

    id: Mapped[intpk]
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(50), index=True)
    value: Mapped[float]
    ci_low: Mapped[float | None]
    ci_high: Mapped[float | None]
    n: Mapped[int]
    note: Mapped[str | None] = mapped_column(Text)
    """Why there is no interval, or what else a reader must know."""
    protocol_id: Mapped[int] = mapped_column(ForeignKey("protocols.id"), index=True)
    replicates: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))
    """Leave-one-group-out values; null for an empty group."""
    grouping: Mapped[str | None] = mapped_column(String(40))
    """How their groups were made; null: by ``prompt_index % 32``, before it was recorded."""
    prompts_sha256: Mapped[str | None] = mapped_column(String(64))
    """Over the sorted hashes of the prompts that were scored."""
    parts: Mapped[bytes | None]
    """Of a mean: that of each prompt by their sorted hashes, little-endian float64, NaN where it does not apply."""
    created_at: Mapped[utc] = mapped_column(default=utc_now)
    run: Mapped[Run] = relationship(back_populates="metric_values")
    protocol: Mapped[Protocol] = relationship()


class ImageScore(Base):
    """A score of a single image, such as its CLIP score."""

    __tablename__ = "image_scores"
    __table_args__ = (UniqueConstraint("image_id", "name", "protocol_id"),)

    id: Mapped[intpk]
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(50))
    value: Mapped[float]
    protocol_id: Mapped[int] = mapped_column(ForeignKey("protocols.id"), index=True)
    protocol: Mapped[Protocol] = relationship()


class Label(Base):
    """A failure case, by a person."""

    __tablename__ = "labels"

    id: Mapped[intpk]
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id", ondelete="CASCADE"), index=True)
    failure: Mapped[Failure] = mapped_column(_by_value(Failure))
    note: Mapped[str] = mapped_column(Text, default="")
    author: Mapped[str] = mapped_column(Text, default="")
    created_at: Mapped[utc] = mapped_column(default=utc_now)
    image: Mapped[Image] = relationship(back_populates="labels")


for kind in (Model, Manifest, Sweep, Run, Worker):
    event.listen(kind, "load", require_sound)
