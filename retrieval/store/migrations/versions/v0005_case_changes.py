"""Who changed which case when, with what it replaced."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0005", "0004"


def upgrade() -> None:
    """Add the table of changes."""
    op.create_table(
        "case_changes",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("source", sa.String(64), sa.ForeignKey("sources.name", ondelete="CASCADE"), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("case_id", sa.Integer, nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("label_before", sa.String(16)),
        sa.Column("label_after", sa.String(16)),
        sa.Column("changed_by", sa.Text, nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("verdict_id", sa.String(64)),
        sa.Column("before", sa.JSON, nullable=False),
        sa.Column("undone", sa.Boolean, nullable=False),
    )
    op.create_index("case_changes_by_content", "case_changes", ["source", "hash"])
    op.create_index("case_changes_by_case", "case_changes", ["case_id"])
    op.create_index("case_changes_by_verdict", "case_changes", ["verdict_id"])
