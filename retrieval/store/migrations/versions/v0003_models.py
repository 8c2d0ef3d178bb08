"""Fitted models are packed in another form."""

from alembic import op

revision, down_revision = "0003", "0002"


def upgrade() -> None:
    op.execute("UPDATE sources SET judge = NULL, models = NULL")
