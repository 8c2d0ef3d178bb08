"""The server's named API keys, their changes, and sessions of the console that were begun with one."""

from alembic import op

from retrieval.store.schema import api_key_changes, api_keys, console_sessions

revision, down_revision = "0010", "0009"


def upgrade() -> None:
    """Add the tables."""
    for table in (api_keys, api_key_changes, console_sessions):
        table.create(op.get_bind())
