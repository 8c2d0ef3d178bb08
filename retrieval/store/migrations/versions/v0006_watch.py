"""Tables of `watch`: where it goes on, counts by minute, and grouped anomalous templates."""

from alembic import op

from retrieval.store.schema import live_counts, live_groups, watches

revision, down_revision = "0006", "0005"


def upgrade() -> None:
    """Add the tables."""
    for table in (watches, live_counts, live_groups):
        table.create(op.get_bind())
