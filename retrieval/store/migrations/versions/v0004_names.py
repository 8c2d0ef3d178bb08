"""Tables and keys by the field's names; a revision of each source; longer verdict ids; last use of cached answers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0004", "0003"


def upgrade() -> None:
    op.rename_table("heard", "llm_cache")
    op.rename_table("remembered", "template_verdicts")
    op.add_column("llm_cache", sa.Column("used_at", sa.DateTime(timezone=True)))
    op.create_index("ix_llm_cache_used_at", "llm_cache", ["used_at"])
    op.add_column("sources", sa.Column("revision", sa.Integer, nullable=False, server_default="0"))
    # SQLite does not enforce lengths, and would copy the table
    if op.get_bind().dialect.name != "sqlite":
        op.alter_column("verdicts", "id", type_=sa.String(64))
    _rename_key_of_models("lonely", "nn_distance_quantiles")


def _rename_key_of_models(old: str, new: str) -> None:
    sources = sa.table("sources", sa.column("name", sa.String), sa.column("judge", sa.JSON))
    connection = op.get_bind()
    for name, judge in connection.execute(sa.select(sources).where(sources.c.judge.is_not(None))).all():
        if judge and old in judge:
            renamed = {new if key == old else key: value for key, value in judge.items()}
            connection.execute(sa.update(sources).where(sources.c.name == name).values(judge=renamed))
