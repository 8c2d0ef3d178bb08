"""The tables of the relational store. It is the truth; the vector index is made from it."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

# the newest revision in migrations/versions; a change of the tables below needs a new one
HEAD = "0011"
VERSION_TABLE = "schema_version"
metadata = MetaData()


def _source_column(primary_key: bool = False) -> Column[str]:
    owner = ForeignKey("sources.name", ondelete="CASCADE")
    return Column("source", String(64), owner, primary_key=primary_key, nullable=False)


# `erasures` counts how often records were forgotten: processes then empty their caches;
# `version` counts changes of the cases; `revision` counts changes of anything in the row or of the cases
sources = Table(
    "sources",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("brief", Text, nullable=False, default=""),
    Column("brief_by", String(16), nullable=False, default="nobody"),
    Column("version", Integer, nullable=False, default=0),
    Column("revision", Integer, nullable=False, default=0, server_default="0"),
    Column("embedder", String(64)),
    Column("representation", JSON(none_as_null=True)),
    Column("reading", JSON(none_as_null=True)),
    Column("source_model", JSON(none_as_null=True)),
    Column("models", LargeBinary),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("erasures", Integer, nullable=False, default=0, server_default="0"),
)
# the fit before the one in `sources`
earlier_fits = Table(
    "earlier_fits",
    metadata,
    _source_column(primary_key=True),
    Column("source_model", JSON, nullable=False),
    Column("models", LargeBinary),
    Column("representation", JSON(none_as_null=True)),
    Column("embedder", String(64)),
    Column("replaced_at", DateTime(timezone=True), nullable=False),
)
cases = Table(
    "cases",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    _source_column(),
    Column("hash", String(64), nullable=False),
    Column("key", String(64), nullable=False),
    Column("label", String(16), nullable=False),
    Column("label_value", Text),
    Column("text", Text, nullable=False),
    Column("fields", JSON, nullable=False),
    Column("events", JSON, nullable=False),
    Column("series", JSON(none_as_null=True)),
    Column("file", Text),
    Column("line", Integer),
    Column("time", Text),
    Column("occurrences", Integer, nullable=False, default=1, server_default="1"),
    Column("given_by", Text, nullable=False),
    Column("given_at", DateTime(timezone=True), nullable=False),
    UniqueConstraint("source", "hash", "label"),
    Index("cases_by_key", "source", "key", "label"),
    # the id of a case that was removed names it for ever; PostgreSQL never gives one again
    sqlite_autoincrement=True,
)
# `before`: the rows of `cases` that the change replaced
case_changes = Table(
    "case_changes",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    _source_column(),
    Column("hash", String(64), nullable=False),
    Column("case_id", Integer, nullable=False),
    Column("action", String(16), nullable=False),
    Column("label_before", String(16)),
    Column("label_after", String(16)),
    Column("changed_by", Text, nullable=False),
    Column("changed_at", DateTime(timezone=True), nullable=False),
    Column("verdict_id", String(64)),
    Column("before", JSON, nullable=False),
    Column("undone", Boolean, nullable=False, default=False),
    Index("case_changes_by_content", "source", "hash"),
    Index("case_changes_by_case", "case_id"),
    Index("case_changes_by_verdict", "verdict_id"),
    Index("case_changes_by_time", "changed_at"),
)
# corrections that wait for a second person: one of a verdict, or of a case
held_corrections = Table(
    "held_corrections",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    _source_column(),
    Column("hash", String(64), nullable=False),
    Column("verdict_id", String(64)),
    Column("case_id", Integer),
    Column("label", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("held_by", Text, nullable=False),
    Column("held_at", DateTime(timezone=True), nullable=False),
    Column("decision", String(16)),
    Column("decided_by", Text),
    Column("decided_at", DateTime(timezone=True)),
    Index("held_corrections_by_content", "source", "hash"),
    Index("held_corrections_by_time", "held_at"),
)
vectors = Table(
    "vectors",
    metadata,
    _source_column(primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("label", String(16), primary_key=True),
    Column("vector", LargeBinary, nullable=False),
    Column("indexed", Boolean, nullable=False, default=False),
)
verdicts = Table(
    "verdicts",
    metadata,
    Column("id", String(64), primary_key=True),
    _source_column(),
    Column("label", String(16), nullable=False),
    Column("probability", Float, nullable=False),
    Column("body", JSON, nullable=False),
    Column("judged_at", DateTime(timezone=True), nullable=False),
    Column("corrected_to", String(16)),
    Index("verdicts_by_time", "source", "judged_at"),
)
llm_cache = Table(
    "llm_cache",
    metadata,
    Column("question", String(64), primary_key=True),
    Column("log_odds", Float, nullable=False),
    Column("used_at", DateTime(timezone=True), index=True),
)
template_verdicts = Table(
    "template_verdicts",
    metadata,
    _source_column(primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("state", String(64), nullable=False),
    Column("body", JSON, nullable=False),
)
# what `watch` has done: where it goes on, in one transaction with what it counted
watches = Table(
    "watches",
    metadata,
    Column("key", String(64), primary_key=True),
    _source_column(),
    Column("state", JSON, nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
)
live_counts = Table(
    "live_counts",
    metadata,
    _source_column(primary_key=True),
    Column("minute", DateTime(timezone=True), primary_key=True),
    Column("label", String(16), primary_key=True),
    Column("count", Integer, nullable=False),
)
live_groups = Table(
    "live_groups",
    metadata,
    _source_column(primary_key=True),
    Column("template", String(16), primary_key=True),
    Column("label", String(16), primary_key=True),
    Column("verdict_id", String(64), nullable=False),
    Column("probability", Float, nullable=False),
    Column("text", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("count", Integer, nullable=False),
    Column("first_at", DateTime(timezone=True), nullable=False),
    Column("last_at", DateTime(timezone=True), nullable=False),
    Column("first_seen", Text, nullable=False),
    Column("last_seen", Text, nullable=False),
    Column("is_muted", Boolean, nullable=False, default=False, server_default="0"),
    Column("acknowledged_at", DateTime(timezone=True)),
    Column("notified_count", Integer, nullable=False, default=0, server_default="0"),
    Column("notified_at", DateTime(timezone=True)),
    Index("live_groups_by_time", "source", "last_at"),
)
# sessions of the console that were signed out before their cookies expire
ended_sessions = Table(
    "ended_sessions",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("ended_at", DateTime(timezone=True), nullable=False),
)
# the server's named API keys: of each only a SHA-256, also of the one before its last rotation
api_keys = Table(
    "api_keys",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("previous_digest", String(64)),
    Column("previous_until", DateTime(timezone=True)),
    Column("role", String(16), nullable=False),
    Column("rate", String(32)),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("rotated_at", DateTime(timezone=True)),
    Column("expires_at", DateTime(timezone=True)),
    Column("last_used_at", DateTime(timezone=True)),
)
api_key_changes = Table(
    "api_key_changes",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("name", String(64), nullable=False),
    Column("action", String(16), nullable=False),
    Column("role", String(16), nullable=False),
    Column("changed_by", Text, nullable=False),
    Column("changed_at", DateTime(timezone=True), nullable=False),
)
# sessions of the console that were begun with a named key, by a SHA-256 of their cookie
console_sessions = Table(
    "console_sessions",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("key_name", String(64), nullable=False),
    Column("key_digest", String(64), nullable=False),
    Column("begun_at", DateTime(timezone=True), nullable=False),
)


def in_utc(moment: datetime) -> datetime:
    """A stored time in UTC: SQLite keeps no time zones, and all its times are in UTC."""
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
