"""runs have origins, notes and tags; what imported pictures do not tell is null

Of a database with imported or reused pictures there is no way back: the older schema cannot hold them.

Revision: 0004, after 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "run_tags",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(length=100), nullable=False),
        sa.Column("value", sa.String(length=500), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_run_tags_run_id_runs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run_tags")),
        sa.UniqueConstraint("run_id", "key", name=op.f("uq_run_tags_run_id_key")),
    )
    with op.batch_alter_table("run_tags", schema=None) as batch_op:
        batch_op.create_index("ix_run_tags_key_value", ["key", "value"], unique=False)

    with op.batch_alter_table("images", schema=None) as batch_op:
        batch_op.add_column(sa.Column("made_by", sa.String(length=32), nullable=True))
        batch_op.add_column(sa.Column("record_sha256", sa.String(length=64), nullable=True))
        batch_op.alter_column("seed", existing_type=sa.BIGINT(), nullable=True)
        batch_op.alter_column("tokens", existing_type=sa.INTEGER(), nullable=True)
        batch_op.alter_column("seconds", existing_type=sa.DOUBLE(), nullable=True)
        batch_op.create_index(batch_op.f("ix_images_record_sha256"), ["record_sha256"], unique=False)

    with op.batch_alter_table("manifest_entries", schema=None) as batch_op:
        batch_op.add_column(sa.Column("negative_prompt", sa.Text(), nullable=True))

    with op.batch_alter_table("models", schema=None) as batch_op:
        batch_op.alter_column("weights_sha256", existing_type=sa.VARCHAR(length=64), nullable=True)
        batch_op.alter_column("pipeline_class", existing_type=sa.VARCHAR(length=100), nullable=True)

    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("origin", sa.String(length=50), nullable=True))
        batch_op.add_column(sa.Column("note", sa.Text(), nullable=True))
        batch_op.add_column(sa.Column("deleted_at", sa.DateTime(), nullable=True))
        batch_op.alter_column("guidance", existing_type=sa.DOUBLE(), nullable=True)
        batch_op.alter_column("steps", existing_type=sa.INTEGER(), nullable=True)
        batch_op.alter_column("scheduler", existing_type=sa.VARCHAR(length=50), nullable=True)
        batch_op.alter_column("dtype", existing_type=sa.VARCHAR(length=20), nullable=True)
        batch_op.alter_column("device", existing_type=sa.VARCHAR(length=100), nullable=True)
        batch_op.alter_column("batch_size", existing_type=sa.INTEGER(), nullable=True)
        batch_op.alter_column("base_seed", existing_type=sa.BIGINT(), nullable=True)
        batch_op.create_index(batch_op.f("ix_runs_deleted_at"), ["deleted_at"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_runs_deleted_at"))
        batch_op.alter_column("base_seed", existing_type=sa.BIGINT(), nullable=False)
        batch_op.alter_column("batch_size", existing_type=sa.INTEGER(), nullable=False)
        batch_op.alter_column("device", existing_type=sa.VARCHAR(length=100), nullable=False)
        batch_op.alter_column("dtype", existing_type=sa.VARCHAR(length=20), nullable=False)
        batch_op.alter_column("scheduler", existing_type=sa.VARCHAR(length=50), nullable=False)
        batch_op.alter_column("steps", existing_type=sa.INTEGER(), nullable=False)
        batch_op.alter_column("guidance", existing_type=sa.DOUBLE(), nullable=False)
        batch_op.drop_column("deleted_at")
        batch_op.drop_column("note")
        batch_op.drop_column("origin")

    with op.batch_alter_table("models", schema=None) as batch_op:
        batch_op.alter_column("pipeline_class", existing_type=sa.VARCHAR(length=100), nullable=False)
        batch_op.alter_column("weights_sha256", existing_type=sa.VARCHAR(length=64), nullable=False)

    with op.batch_alter_table("manifest_entries", schema=None) as batch_op:
        batch_op.drop_column("negative_prompt")

    with op.batch_alter_table("images", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_images_record_sha256"))
        batch_op.alter_column("seconds", existing_type=sa.DOUBLE(), nullable=False)
        batch_op.alter_column("tokens", existing_type=sa.INTEGER(), nullable=False)
        batch_op.alter_column("seed", existing_type=sa.BIGINT(), nullable=False)
        batch_op.drop_column("record_sha256")
        batch_op.drop_column("made_by")

    with op.batch_alter_table("run_tags", schema=None) as batch_op:
        batch_op.drop_index("ix_run_tags_key_value")

    op.drop_table("run_tags")
