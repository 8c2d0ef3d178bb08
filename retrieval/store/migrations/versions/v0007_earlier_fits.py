"""The fit of each source before its present one, and sessions of the console that were ended."""

from alembic import op

from retrieval.store.schema import earlier_fits, ended_sessions

revision, down_revision = "0007", "0006"


def upgrade() -> None:
    """Add the tables."""
    for table in (earlier_fits, ended_sessions):
        table.create(op.get_bind())
