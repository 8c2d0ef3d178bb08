"""Tables and keys by the field's names; a revision of each source; longer verdict ids; last use of cached answers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0004", "0003"


def upgrade() -> None:
    """Rename tables and keys, add the new columns, and widen the verdicts' ids."""
    op.rename_table("heard", "llm_cache")
    op.rename_table("remembered", "template_verdicts")
    op.add_column("llm_cache", sa.Column("used_at", sa.DateTime(timezone=True)))
    op.create_index("ix_llm_cache_used_at", "llm_cache", ["used_at"])
    op.add_column("sources", sa.Column("revision", sa.Integer, nullable=False, server_default="0"))
    # SQLite does not enforce lengths, and would copy the table
    if op.get_bind().dialect.name != "sqlite":
        op.alter_column("verdicts", "id", type_=sa.String(64))
    for table, columns in _COLUMNS.items():
        for old, new in columns.items():
            op.execute(f"ALTER TABLE {table} RENAME COLUMN {old} TO {new}")
    _rename_keys_of_models()


_COLUMNS = {
    "sources": {"space": "representation", "judge": "source_model"},
    "cases": {"kind": "label_value", "times": "occurrences"},
}
_KEYS = {
    "lonely": "nn_distance_quantiles",
    "full": "with_llm",
    "cheap": "without_llm",
    "keys": "templates",
    "way": "prompt",
    "normal_axes": "normal_field_encoder",
}


def _rename_keys_of_models() -> None:
    sources = sa.table("sources", sa.column("name", sa.String), sa.column("source_model", sa.JSON))
    connection = op.get_bind()
    for name, model in connection.execute(sa.select(sources).where(sources.c.source_model.is_not(None))).all():
        if model:
            renamed = {_KEYS.get(key, key): value for key, value in model.items()}
            connection.execute(sa.update(sources).where(sources.c.name == name).values(source_model=renamed))
