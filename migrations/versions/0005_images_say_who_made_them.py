"""images say which worker made them, and adaptive sweeps keep what they decided

Revision: 0005, after 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "workers",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("process", sa.BigInteger(), nullable=False),
        sa.Column("device", sa.String(length=100), nullable=False),
        sa.Column("environment", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
        sa.UniqueConstraint("sha256", name=op.f("uq_workers_sha256")),
    )
    key = "fk_images_worker_id_workers"
    if op.get_bind().dialect.name == "sqlite":
        # Alembic would make the table anew, which takes a quarter of an hour and twice the disk for ten million images.
        op.execute(f"ALTER TABLE images ADD COLUMN worker_id INTEGER CONSTRAINT {key} REFERENCES workers (id)")
    else:
        op.add_column("images", sa.Column("worker_id", sa.Integer(), nullable=True))
        op.create_foreign_key(key, "images", "workers", ["worker_id"], ["id"])
    op.create_table(
        "decisions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("sweep_id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("look", sa.Integer(), nullable=False),
        sa.Column("prompts", sa.Integer(), nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.Column("metric", sa.String(length=50), nullable=False),
        sa.Column("protocol_id", sa.Integer(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column(
            "state",
            sa.Enum("out", "as good", "undecided", name="decisionstate", native_enum=False, length=20),
            nullable=False,
        ),
        sa.Column("against", sa.String(length=32), nullable=True),
        sa.Column("estimate", sa.Double(), nullable=False),
        sa.Column("low", sa.Double(), nullable=True),
        sa.Column("high", sa.Double(), nullable=True),
        sa.Column("margin", sa.Double(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["protocol_id"], ["protocols.id"], name=op.f("fk_decisions_protocol_id_protocols")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_decisions_run_id_runs"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["sweep_id"], ["sweeps.id"], name=op.f("fk_decisions_sweep_id_sweeps"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_decisions")),
        sa.UniqueConstraint("sweep_id", "run_id", "look", name=op.f("uq_decisions_sweep_id_run_id_look")),
    )
    with op.batch_alter_table("decisions", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_decisions_protocol_id"), ["protocol_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_decisions_run_id"), ["run_id"], unique=False)


def downgrade() -> None:
    op.drop_table("decisions")
    with op.batch_alter_table("images", schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f("fk_images_worker_id_workers"), type_="foreignkey")
        batch_op.drop_column("worker_id")

    op.drop_table("workers")
