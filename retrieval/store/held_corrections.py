"""Corrections that have no effect until a second person confirms them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Engine, and_, false, func, insert, not_, or_, select, update
from sqlalchemy.sql.schema import Column

from retrieval.store.schema import case_changes, cases, held_corrections
from retrieval.types import KEY_MARK, LABELS, case_id

_PREFIX, _LARGEST_ID = "h", 2**31 - 1
# what became of a correction; None: it waits
CONFIRMED, REJECTED, AT_ONCE = "confirmed", "rejected", "at once"


class KeyCounts(NamedTuple):
    """How much a key has corrected: all in all, against a label of others at once, and what waits or was rejected."""

    corrections: int
    opposed_at_once: int
    doubted: int


@dataclass(frozen=True)
class HeldCorrection:
    """A correction of a verdict, or of a case, that waits or waited.

    Attributes
    ----------
    verdict_id, case_id : str or None
        What is corrected; one of them is None.
    reason : str
        Why it waits.
    held_by : str
        Who corrects, with the name of the API key.
    decision : str or None
        ``confirmed``, ``rejected``, or ``at once`` of one that opposes labels of others but had not to wait; None: it
        waits.
    """

    number: int
    source: str
    content_hash: str
    verdict_id: str | None
    case_id: str | None
    label: str
    reason: str
    held_by: str
    held_at: datetime
    decision: str | None
    decided_by: str | None
    decided_at: datetime | None

    @property
    def held_id(self) -> str:
        """Its id, such as ``h3``."""
        return f"{_PREFIX}{self.number}"


class HeldCorrections:
    """The corrections in a store that wait. Safe to share between threads and processes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(
        self,
        source: str,
        content_hash: str,
        label: str,
        reason: str,
        held_by: str,
        *,
        verdict_id: str | None = None,
        case_id: str | None = None,
        decision: str | None = None,
    ) -> HeldCorrection:
        """Keep a correction; the one that waits already where the same client has sent it before."""
        same = and_(
            *(held_corrections.c.source == source, held_corrections.c.hash == content_hash),
            *(held_corrections.c.label == label, held_corrections.c.held_by == held_by),
            held_corrections.c.decision.is_(None) if decision is None else false(),
        )
        values = {
            **{"source": source, "hash": content_hash, "label": label, "reason": reason, "held_by": held_by},
            **{"verdict_id": verdict_id, "case_id": int(case_id[1:]) if case_id else None},
            "held_at": datetime.now(UTC),
            "decision": decision,
        }
        with self._engine.begin() as connection:
            row = connection.execute(select(held_corrections).where(same)).first()
            if row is None:
                inserted = connection.execute(insert(held_corrections).values(values)).inserted_primary_key
                number = inserted[0] if inserted else None
                row = connection.execute(select(held_corrections).where(held_corrections.c.id == number)).one()
        return _held(row)

    def get(self, held_id: str) -> HeldCorrection | None:
        """The correction of that id, also one that was decided on."""
        digits = held_id.removeprefix(_PREFIX)
        is_id = held_id.startswith(_PREFIX) and digits.isascii() and digits.isdecimal() and len(digits) <= 10
        if not is_id or int(digits) > _LARGEST_ID:
            return None
        with self._engine.connect() as connection:
            row = connection.execute(select(held_corrections).where(held_corrections.c.id == int(digits))).first()
        return _held(row) if row else None

    def waiting(self, source: str, limit: int, offset: int = 0) -> tuple[list[HeldCorrection], int]:
        """The corrections of a source that wait, oldest first, and how many there are in all."""
        waits = and_(held_corrections.c.source == source, held_corrections.c.decision.is_(None))
        query = select(held_corrections).where(waits).order_by(held_corrections.c.id).limit(limit).offset(offset)
        with self._engine.connect() as connection:
            total = connection.scalar(select(func.count()).select_from(held_corrections).where(waits)) or 0
            return [_held(row) for row in connection.execute(query)], total

    def decide(self, held: HeldCorrection, decision: str, decided_by: str) -> bool:
        """Note what was decided; False if somebody else was faster."""
        waits = and_(held_corrections.c.id == held.number, held_corrections.c.decision.is_(None))
        values = {"decision": decision, "decided_by": decided_by, "decided_at": datetime.now(UTC)}
        with self._engine.begin() as connection:
            return bool(connection.execute(update(held_corrections).where(waits).values(values)).rowcount)

    def wait_again(self, held: HeldCorrection) -> None:
        """Have a correction wait whose decision could not be carried out."""
        values = dict.fromkeys(("decision", "decided_by", "decided_at"))
        with self._engine.begin() as connection:
            connection.execute(update(held_corrections).where(held_corrections.c.id == held.number).values(values))

    def counts_of_key(self, key: str, since: datetime) -> KeyCounts:
        """What a key has changed since then."""
        changed = _is_of_key(case_changes.c.changed_by, key), case_changes.c.changed_at > since
        held = _is_of_key(held_corrections.c.held_by, key), held_corrections.c.held_at > since
        decided = _is_of_key(held_corrections.c.decided_by, key), held_corrections.c.decided_at > since
        by_decision = select(held_corrections.c.decision, func.count()).where(*held)
        with self._engine.connect() as connection:
            changes = connection.scalar(select(func.count()).select_from(case_changes).where(*changed)) or 0
            rows = connection.execute(by_decision.group_by(held_corrections.c.decision))
            counts: dict[str | None, int] = dict(rows.all())
            decisions = connection.scalar(select(func.count()).select_from(held_corrections).where(*decided)) or 0
        at_once, doubted = counts.get(AT_ONCE, 0), counts.get(None, 0) + counts.get(REJECTED, 0)
        # the change that a confirmed one made names who confirmed it
        return KeyCounts(changes + doubted + decisions, at_once, doubted)

    def occurrences_by_label(self, source: str, keys: Collection[str], without_key: str) -> dict[str, int]:
        """How often cases with one of these keys and each label were learned, but for those that an API key labelled.

        Parameters
        ----------
        keys : collection of str
            Of templates.
        without_key : str
            The name of the API key whose cases do not count.
        """
        counted = select(cases.c.label, func.sum(cases.c.occurrences))
        others = not_(_is_of_key(cases.c.given_by, without_key))
        query = counted.where(cases.c.source == source, cases.c.key.in_(keys), others).group_by(cases.c.label)
        with self._engine.connect() as connection:
            found = {label: int(count) for label, count in connection.execute(query)}
        return {**dict.fromkeys(LABELS, 0), **found}


def _is_of_key(column: Column[Any], key: str) -> ColumnElement[bool]:
    """Whether what a column says of who changed something names the key."""
    return or_(column == KEY_MARK.removeprefix(", ") + key, column.endswith(f"{KEY_MARK}{key}", autoescape=True))


def _held(row: Any) -> HeldCorrection:
    values = {name: _utc(row, name) for name in ("held_at", "decided_at")}
    same = ("source", "verdict_id", "label", "reason", "held_by", "decision", "decided_by")
    return HeldCorrection(
        number=row.id,
        content_hash=row.hash,
        case_id=None if row.case_id is None else case_id(row.case_id),
        **{name: getattr(row, name) for name in same},
        **values,
    )


def _utc(row: Any, name: str) -> Any:
    """The moment with its time zone, which SQLite does not store."""
    moment = getattr(row, name)
    return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=UTC)
