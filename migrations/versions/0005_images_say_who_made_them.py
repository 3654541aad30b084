"""images say which worker made them

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


def downgrade() -> None:
    with op.batch_alter_table("images", schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f("fk_images_worker_id_workers"), type_="foreignkey")
        batch_op.drop_column("worker_id")

    op.drop_table("workers")
