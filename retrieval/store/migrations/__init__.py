"""Migrations of the store by Alembic, run by `retrieval.store.engine` on its own connection."""
