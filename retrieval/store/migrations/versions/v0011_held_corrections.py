"""Corrections that wait for a second person, an index to count the changes of the last hour, and counts of erasures."""

import sqlalchemy as sa
from alembic import op

from retrieval.store.schema import held_corrections

revision, down_revision = "0011", "0010"


def upgrade() -> None:
    """Add the table, the column, and the index, which a store has already whose table of changes was made with it."""
    held_corrections.create(op.get_bind())
    op.create_index("case_changes_by_time", "case_changes", ["changed_at"], if_not_exists=True)
    op.add_column("sources", sa.Column("erasures", sa.Integer, nullable=False, server_default="0"))
