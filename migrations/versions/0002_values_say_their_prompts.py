"""values say their prompts

Revision: 0002, after 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("metric_values", schema=None) as batch_op:
        batch_op.add_column(sa.Column("grouping", sa.String(length=40), nullable=True))
        batch_op.add_column(sa.Column("prompts_sha256", sa.String(length=64), nullable=True))
        batch_op.add_column(sa.Column("parts", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("metric_values", schema=None) as batch_op:
        batch_op.drop_column("parts")
        batch_op.drop_column("prompts_sha256")
        batch_op.drop_column("grouping")
