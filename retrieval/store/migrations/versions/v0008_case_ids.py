"""SQLite never gives the id of a removed case again; PostgreSQL never did."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0008", "0007"

_LARGEST_ID = """
SELECT MAX(id) FROM (
    SELECT MAX(id) AS id FROM cases UNION SELECT MAX(case_id) AS id FROM case_changes
)
"""


def upgrade() -> None:
    """Write the table of cases anew, with ids that only grow, beyond all that a change names."""
    connection = op.get_bind()
    if connection.dialect.name != "sqlite":
        return
    with op.batch_alter_table("cases", recreate="always", table_kwargs={"sqlite_autoincrement": True}):
        pass
    largest = connection.scalar(sa.text(_LARGEST_ID))
    connection.execute(sa.text("DELETE FROM sqlite_sequence WHERE name = 'cases'"))
    if largest is not None:
        connection.execute(sa.text("INSERT INTO sqlite_sequence VALUES ('cases', :largest)"), {"largest": largest})
