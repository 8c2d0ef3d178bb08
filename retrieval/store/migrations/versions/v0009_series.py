"""Cases keep the window of a time series that they are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0009", "0008"


def upgrade() -> None:
    """Add the column; the cases of before have none."""
    op.add_column("cases", sa.Column("series", sa.JSON(none_as_null=True)))
