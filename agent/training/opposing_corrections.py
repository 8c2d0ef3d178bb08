"""Corrections with a named API key that oppose what others labelled: which of them wait for a second person.

Whoever may correct could else teach a source that known anomalies are normal. Corrections by the command line, with a
key of the role ``admin``, and in a server without named keys have effect at once: whoever gives them may remove the
source.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pydantic import BaseModel

from agent.core.access import Caller, Role, current_caller, signed
from agent.core.api_keys import Rate
from agent.core.errors import Busy, Forbidden
from agent.core.logs import log_event
from agent.core.records import Label, Record
from agent.pipeline.context import AppContext
from retrieval.store.held_corrections import AT_ONCE, HeldCorrection
from retrieval.types import KEY_MARK

# cosine from which on a case says something of a record: of texts, and of fields, where all cases are near each other
_SIMILAR, _SIMILAR_FIELDS = 0.85, 0.995
# cases of others from which on they are several
_SEVERAL = 2
# in an hour: corrections against one label of others that have effect at once; those that wait or were rejected, from
# which on the key itself is in doubt
_MOST_OPPOSED, _DOUBTED = 20, 5
_HOUR = timedelta(hours=1)


class HeldView(BaseModel):
    """A correction that has no effect until a second person confirms it.

    Attributes
    ----------
    held_id : str
        Its id, such as ``h3``.
    reason : str
        Why it waits.
    decision, decided_by : str or None
        ``confirmed`` or ``rejected``, and by whom; None while it waits.
    record : Record or None
        What is labelled; None if neither the verdict nor the case is stored any more.
    label_before : str or None
        The label of the verdict or of the case.
    """

    held_id: str
    source: str
    label: Label
    reason: str
    held_by: str
    held_at: datetime
    verdict_id: str | None = None
    case_id: str | None = None
    decision: str | None = None
    decided_by: str | None = None
    record: Record | None = None
    label_before: str | None = None

    @classmethod
    def of(cls, held: HeldCorrection, record: Record | None, label_before: str | None) -> HeldView:
        """The view of a stored one."""
        names = ("held_id", "source", "label", "reason", "held_by", "held_at", "verdict_id", "case_id")
        values = {name: getattr(held, name) for name in (*names, "decision", "decided_by")}
        return cls(**values, record=record, label_before=label_before)


def hold_if_opposing(
    context: AppContext,
    source: str,
    record: Record,
    label: Label,
    by: str,
    *,
    judged: str | None = None,
    verdict_id: str | None = None,
    case_id: str | None = None,
) -> HeldCorrection | None:
    """Keep a correction for a second person if it opposes what others labelled; None if it may have effect at once.

    It waits where at least two cases of others, of its template or very like it, have the other label, and more than
    twice as many as have this one; where it opposes one, and the key did so twenty times within an hour; and where it
    opposes anything, and five corrections of the key within an hour wait or were rejected.

    Parameters
    ----------
    by : str
        Who corrects, as it is stored.
    judged : str, optional
        The label of the verdict that is corrected.
    verdict_id, case_id : str, optional
        What is corrected.

    Raises
    ------
    Busy
        The key has made as many corrections as it may.
    """
    caller = _doubtable()
    if caller is None:
        return None
    _within_rate(context, caller)
    supported = _support(context, source, record, caller)
    opposing, agreeing = sum(supported.values()) - supported[label], supported[label]
    counts = context.held_corrections.counts_of_key(caller.name, datetime.now(UTC) - _HOUR)
    is_weak = opposing > agreeing
    reason = None
    if opposing >= _SEVERAL and opposing > 2 * agreeing:
        reason = f"{opposing} records like it, labelled by others, are {_other(label)}, and {agreeing} {label}"
    elif is_weak and counts.opposed_at_once >= _MOST_OPPOSED:
        reason = f"the key opposed labels of others {counts.opposed_at_once} times within an hour"
    elif (is_weak or judged == _other(label)) and counts.doubted >= _DOUBTED:
        reason = f"{counts.doubted} corrections with the key within an hour wait or were rejected"
    if reason is None and not is_weak:
        return None
    held = context.held_corrections.add(
        *(source, record.content_hash, label, reason or "one label of others opposes it", by),
        verdict_id=verdict_id,
        case_id=case_id,
        decision=None if reason else AT_ONCE,
    )
    if reason is None:
        return None
    log_event("correction held", "warning", source=source, held=held.held_id, key=caller.name)
    return held


def refuse_to_undo(context: AppContext, source: str, record: Record, after: Label, changed_by: str) -> None:
    """Refuse that a key undoes another client's change where a correction to that effect would wait.

    Parameters
    ----------
    after : str
        The label that the change gave.
    changed_by : str
        Who made the change.

    Raises
    ------
    Forbidden
    Busy
        The key has made as many corrections as it may.
    """
    caller = _doubtable()
    if caller is None:
        return
    _within_rate(context, caller)
    if is_of_key(changed_by, caller.name):
        return
    supported = _support(context, source, record, caller)
    counts = context.held_corrections.counts_of_key(caller.name, datetime.now(UTC) - _HOUR)
    too_many = counts.opposed_at_once >= _MOST_OPPOSED or counts.doubted >= _DOUBTED
    if supported[after] >= _SEVERAL or too_many:
        raise Forbidden(
            f"{changed_by} labelled the record {after}, which a key of the role {caller.role.word} does not undo here: "
            "give the case another label, which a second person can confirm, or ask an admin"
        )
    context.held_corrections.add(
        source, record.content_hash, _other(after), "it undid another client's change", signed("API"), decision=AT_ONCE
    )


def is_of_key(given_by: str, key: str) -> bool:
    """Whether a label was given with the API key of that name."""
    return given_by == KEY_MARK.removeprefix(", ") + key or given_by.endswith(KEY_MARK + key)


def _doubtable() -> Caller | None:
    """The key of the request, if its corrections may have to wait."""
    caller = current_caller()
    return None if caller is None or caller.role >= Role.ADMIN else caller


def _within_rate(context: AppContext, caller: Caller) -> None:
    rate = Rate.parse(context.settings.correction_rate)
    since = datetime.now(UTC) - timedelta(seconds=rate.seconds)
    if context.held_corrections.counts_of_key(caller.name, since).corrections >= rate.requests:
        raise Busy(f"the API key {caller.name!r} may make at most {rate} corrections: try again later", 60)


def _support(context: AppContext, source: str, record: Record, caller: Caller) -> dict[str, int]:
    """How often records like it were learned or labelled by others, by label."""
    representation = context.source(source).representation
    if representation is None:
        return {"normal": 0, "anomalous": 0}
    content_hash = record.content_hash
    found = context.casebook.find(source, record, content_hash, context.settings.precedents)
    least = _SIMILAR if representation.field_encoder is None else _SIMILAR_FIELDS
    near = {neighbour.case.key for neighbour in found.nearest if neighbour.similarity >= least}
    keys = near | {representation.key(record, content_hash)}
    return context.held_corrections.occurrences_by_label(source, keys, caller.name)


def _other(label: Label) -> Label:
    return "anomalous" if label == "normal" else "normal"
