"""The tables of the first version, which it created itself."""

revision, down_revision = "0001", None


def upgrade() -> None:
    """Nothing: new stores are created from `retrieval.store.schema`."""
