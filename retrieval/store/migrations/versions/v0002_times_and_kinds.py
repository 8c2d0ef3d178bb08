"""Cases count as often as they came, and keep the label's value; verdicts are found by time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0002", "0001"


def upgrade() -> None:
    op.add_column("cases", sa.Column("times", sa.Integer, nullable=False, server_default="1"))
    op.add_column("cases", sa.Column("kind", sa.Text))
    op.execute("ALTER TABLE sources RENAME COLUMN field_model TO models")
    # fitted models of another form: each source says that it must be fitted again
    op.execute("UPDATE sources SET judge = NULL, models = NULL")
    op.create_index("verdicts_by_time", "verdicts", ["source", "judged_at"])
