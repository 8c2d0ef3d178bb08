"""JSON objects that are lines of a log: which of their members is the text, and which the time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from agent.data.readers.json_document import CONTAINER_TEXT, is_container_line

JOURNAL = frozenset({"__CURSOR", "__REALTIME_TIMESTAMP", "_BOOT_ID"})
_MESSAGE, _MICROSECONDS = "MESSAGE", "__REALTIME_TIMESTAMP"
_KUBERNETES, _LINE_TEXTS = "kubernetes", (CONTAINER_TEXT, "message")
# what an event of Kubernetes is about, by the name of its text
_EVENT, _EVENT_TEXTS = "Event", {"message": "involvedObject", "note": "regarding"}


@dataclass(frozen=True)
class LogObject:
    """What is known of an object that is a line of a log: who writes it so, and the names of its text and time."""

    written_by: str
    text: str
    time: str | None = None

    @property
    def note(self) -> str:
        """How it is read, in words."""
        return f"these are lines as {self.written_by} writes them: their text is {self.text!r} (--text names others)"


def log_object(value: Any) -> LogObject | None:
    """What is known of a JSON value as a line of a log; None if it is none."""
    if not isinstance(value, Mapping):
        return None
    if is_container_line(value):
        return LogObject("Docker", CONTAINER_TEXT, "time")
    if is_of_journal(value) and _MESSAGE in value:
        return LogObject("journald", _MESSAGE, _MICROSECONDS)
    if isinstance(value.get(_KUBERNETES), Mapping):
        text = next((name for name in _LINE_TEXTS if isinstance(value.get(name), str)), None)
        return LogObject("a collector of Kubernetes", text, "time") if text else None
    if value.get("kind") == _EVENT:
        for name, about in _EVENT_TEXTS.items():
            if about in value and isinstance(value.get(name), str):
                return LogObject("kubectl", name, "lastTimestamp")
    return None


def is_of_journal(value: Mapping[str, Any]) -> bool:
    """Whether an object has fields of systemd's journal."""
    return not JOURNAL.isdisjoint(value)


def time_of(found: LogObject, cells: Mapping[str, Any]) -> Any:
    """The time of a line; journald writes microseconds."""
    value: Any = cells.get(found.time or "")
    if found.time != _MICROSECONDS:
        return value
    try:
        return datetime.fromtimestamp(int(value) / 1e6, UTC).isoformat(timespec="milliseconds")
    except (TypeError, ValueError, OverflowError, OSError):
        return None
