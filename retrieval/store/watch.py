"""What `watch` stores: where it goes on, counts by minute and label, and the templates that are not normal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, delete, select, update

from retrieval.store.engine import insert_statement
from retrieval.store.schema import live_counts as counts_table
from retrieval.store.schema import live_groups as groups_table
from retrieval.store.schema import watches

# days that counts by minute are kept
_KEPT_DAYS = 30


@dataclass(frozen=True)
class LiveGroup:
    """Records of one template and label that is not normal.

    Attributes
    ----------
    template, label
        Identify it within its source.
    verdict_id, probability, text, why
        Of its first record's verdict.
    count : int
        Records so far.
    first_at, last_at : datetime
        When they were judged (UTC).
    first_seen, last_seen : str
        Their file and line.
    is_muted : bool
        Whether it gives no alerts.
    acknowledged_at : datetime or None
        When a person last took note of it.
    notified_count : int
        Records up to the last alert.
    notified_at : datetime or None
        When that was.
    """

    source: str
    template: str
    label: str
    verdict_id: str
    probability: float
    text: str
    why: str
    count: int
    first_at: datetime
    last_at: datetime
    first_seen: str
    last_seen: str
    is_muted: bool = False
    acknowledged_at: datetime | None = None
    notified_count: int = 0
    notified_at: datetime | None = None


def load_state(engine: Engine, key: str) -> dict[str, Any] | None:
    """Where a watch goes on, None for one that has not begun."""
    with engine.connect() as connection:
        return connection.scalar(select(watches.c.state).where(watches.c.key == key))


def commit(
    engine: Engine,
    key: str,
    source: str,
    state: Mapping[str, Any],
    counts: Mapping[str, int],
    groups: Iterable[LiveGroup],
    now: datetime,
) -> None:
    """Store where a watch goes on and what it counted since the last commit, in one transaction.

    Parameters
    ----------
    key
        Identifies the watch.
    counts
        Records by label since then.
    groups
        Templates that are not normal, with their records since then.
    """
    minute = now.replace(second=0, microsecond=0)
    with engine.begin() as connection:
        insert = insert_statement(engine, watches)
        changed = {name: insert.excluded[name] for name in ("source", "state", "updated_at")}
        upsert = insert.on_conflict_do_update(index_elements=[watches.c.key], set_=changed)
        connection.execute(upsert, {"key": key, "source": source, "state": dict(state), "updated_at": now})
        # in one order in all processes: PostgreSQL would find a deadlock between two that count the same
        for label, count in sorted(counts.items()):
            _add_count(engine, connection, source, minute, label, count)
        for group in sorted(groups, key=lambda group: (group.template, group.label)):
            _add_group(engine, connection, group)


def _add_count(engine: Engine, connection: Connection, source: str, minute: datetime, label: str, count: int) -> None:
    insert = insert_statement(engine, counts_table)
    upsert = insert.on_conflict_do_update(
        index_elements=["source", "minute", "label"],
        set_={"count": counts_table.c.count + insert.excluded["count"]},
    )
    connection.execute(upsert, {"source": source, "minute": minute, "label": label, "count": count})


def _add_group(engine: Engine, connection: Connection, group: LiveGroup) -> None:
    insert = insert_statement(engine, groups_table)
    newest = ("verdict_id", "probability", "text", "why", "last_at", "last_seen")
    upsert = insert.on_conflict_do_update(
        index_elements=["source", "template", "label"],
        set_={
            **{name: insert.excluded[name] for name in newest},
            "count": groups_table.c.count + insert.excluded["count"],
        },
    )
    connection.execute(upsert, vars(group))


def live_groups(
    engine: Engine,
    source: str | None = None,
    *,
    since: datetime | None = None,
    muted: bool | None = None,
    limit: int = 500,
) -> list[LiveGroup]:
    """Templates that are not normal, those seen last first.

    Parameters
    ----------
    source
        None: of all sources.
    since
        Only those seen since then.
    muted
        Only those that are muted, or that are not; None: both.
    limit
        The most.
    """
    query = select(groups_table)
    if source is not None:
        query = query.where(groups_table.c.source == source)
    if since is not None:
        query = query.where(groups_table.c.last_at >= since)
    if muted is not None:
        query = query.where(groups_table.c.is_muted.is_(muted))
    with engine.connect() as connection:
        rows = connection.execute(query.order_by(groups_table.c.last_at.desc(), groups_table.c.template).limit(limit))
        return [LiveGroup(**{name: _with_zone(value) for name, value in row.items()}) for row in rows.mappings()]


def live_counts(
    engine: Engine, source: str | None = None, *, since: datetime | None = None
) -> list[tuple[str, datetime, str, int]]:
    """Source, minute (UTC), label and number of records, in the order of the minutes."""
    query = select(counts_table.c.source, counts_table.c.minute, counts_table.c.label, counts_table.c["count"])
    if source is not None:
        query = query.where(counts_table.c.source == source)
    if since is not None:
        query = query.where(counts_table.c.minute >= since)
    with engine.connect() as connection:
        rows = connection.execute(query.order_by(counts_table.c.minute, counts_table.c.source, counts_table.c.label))
        return [(row[0], _with_zone(row[1]), row[2], row[3]) for row in rows]


def mute(engine: Engine, source: str, template: str, *, muted: bool = True) -> bool:
    """Stop the alerts of a template, or let them go on; whether there is such a template."""
    return _update(engine, source, template, {"is_muted": muted})


def acknowledge(engine: Engine, source: str, template: str) -> bool:
    """Note that a person took note of a template now; whether there is such a template."""
    return _update(engine, source, template, {"acknowledged_at": datetime.now(UTC)})


def notified(engine: Engine, groups: Iterable[LiveGroup], now: datetime) -> None:
    """Note that alerts about these groups, with their counts, were sent."""
    with engine.begin() as connection:
        for group in groups:
            table = groups_table.c
            row = (table.source == group.source, table.template == group.template, table.label == group.label)
            values = {"notified_at": now, "notified_count": group.count}
            connection.execute(update(groups_table).where(*row).values(values))


def prune(engine: Engine, now: datetime) -> None:
    """Remove counts that are older than a month."""
    with engine.begin() as connection:
        connection.execute(delete(counts_table).where(counts_table.c.minute < now - timedelta(days=_KEPT_DAYS)))


def _update(engine: Engine, source: str, template: str, values: Mapping[str, Any]) -> bool:
    row = (groups_table.c.source == source, groups_table.c.template == template)
    with engine.begin() as connection:
        return bool(connection.execute(update(groups_table).where(*row).values(values)).rowcount)


def _with_zone(value: Any) -> Any:
    """SQLite returns times without their zone, which is UTC."""
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value
