"""Alerts about anomalous templates of a watch: grouped, limited in number, held back in quiet hours."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from datetime import time as clock
from urllib.parse import quote

from sqlalchemy import Engine

from agent.core.errors import UsageError
from agent.core.records import clean_text
from agent.core.terminal import plural, truncate
from retrieval.store import watch as store
from retrieval.store.watch import LiveGroup

# between two alerts, and between two about one template; templates that one alert names
_PAUSE, _PER_TEMPLATE, _NAMED = timedelta(seconds=30), timedelta(minutes=15), 8
_TEXT_CHARS, _WHY_CHARS = 200, 200
_CLOCKS = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)-([01]?\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True)
class QuietHours:
    """A part of each day, in local time; it may go over midnight."""

    start: clock
    end: clock

    @classmethod
    def parse(cls, text: str) -> QuietHours:
        """The hours of a text such as ``22:00-06:00``.

        Raises
        ------
        UsageError
        """
        match = _CLOCKS.fullmatch(text.strip())
        if match is None:
            raise UsageError(f"--quiet {text!r}: write hours as 22:00-06:00")
        first, second, third, fourth = map(int, match.groups())
        return cls(clock(first, second), clock(third, fourth))

    def contains(self, moment: clock) -> bool:
        """Whether it is quiet then."""
        if self.start <= self.end:
            return self.start <= moment < self.end
        return moment >= self.start or moment < self.end


def apprise_sender(urls: Sequence[str]) -> Callable[[str, str], bool]:
    """A function that sends a title and a text to services by their apprise URLs; whether all took it.

    Raises
    ------
    UsageError
        A URL is none that apprise knows.
    """
    import apprise

    services = apprise.Apprise()
    for url in urls:
        if not services.add(url):
            scheme = url.partition("://")[0]
            raise UsageError(f"--notify: {scheme}://… is not a URL of a service that apprise knows")
    return lambda title, body: bool(services.notify(body=body, title=title, body_format=apprise.NotifyFormat.TEXT))


@dataclass
class Alerter:
    """Sends what is due; what could not be sent, or came in quiet hours, is sent with the next alert.

    Parameters
    ----------
    send : callable
        Takes a title and a text; returns whether that was sent.
    notify : callable
        Takes what a person at the terminal should know.
    console : str or None
        URL of the console, for a link.
    quiet : tuple of QuietHours
    now : callable
        The time, aware of its zone.
    """

    send: Callable[[str, str], bool]
    notify: Callable[[str], None]
    console: str | None = None
    quiet: tuple[QuietHours, ...] = ()
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _last: datetime | None = None
    _sending: threading.Thread | None = field(default=None, init=False)

    def send_due(self, engine: Engine, source: str, *, wait: bool = False) -> None:
        """Send an alert about the templates that have new records, if one is due; with ``wait``, before returning."""
        now = self.now()
        if self._sending is not None and self._sending.is_alive():
            return
        if self._last is not None and now - self._last < _PAUSE:
            return
        if any(hours.contains(now.astimezone().time()) for hours in self.quiet):
            return
        self._last = now
        groups = [group for group in store.live_groups(engine, source, muted=False) if self._is_due(group, now)]
        if not groups:
            return
        groups.sort(key=lambda group: (group.notified_count > 0, -_new(group), group.template))
        self._sending = threading.Thread(target=self._deliver, args=(engine, source, groups, now), name="alert")
        self._sending.start()
        if wait:
            self._sending.join()

    @staticmethod
    def _is_due(group: LiveGroup, now: datetime) -> bool:
        is_due = group.notified_at is None or now - group.notified_at >= _PER_TEMPLATE
        return group.label == "anomalous" and group.acknowledged_at is None and _new(group) > 0 and is_due

    def _deliver(self, engine: Engine, source: str, groups: Sequence[LiveGroup], now: datetime) -> None:
        title, body = self.compose(source, groups)
        if self.send(title, body):
            store.notified(engine, groups, now)
        else:
            self.notify("an alert could not be sent; it is tried again")

    def compose(self, source: str, groups: Sequence[LiveGroup]) -> tuple[str, str]:
        """The title and the text of an alert."""
        records = sum(map(_new, groups))
        title = f"Precedent: {plural(records, 'anomalous record')} of {source}"
        parts = []
        for group in groups[:_NAMED]:
            is_new = "new: " if not group.notified_count else ""
            lines = [
                f"{is_new}{plural(_new(group), 'record')}, p {group.probability:.2f}, {group.last_seen}",
                truncate(clean_text(group.text), _TEXT_CHARS),
                truncate(group.why, _WHY_CHARS),
            ]
            if self.console:
                lines.append(f"{self.console.rstrip('/')}/live?source={quote(source)}&template={group.template}")
            parts.append("\n".join(line for line in lines if line))
        if len(groups) > _NAMED:
            parts.append(f"and {plural(len(groups) - _NAMED, 'more template')}")
        return title, "\n\n".join(parts)

    def close(self) -> None:
        """Wait for the alert that is being sent, for a while."""
        if self._sending is not None:
            self._sending.join(10.0)


def _new(group: LiveGroup) -> int:
    """Records since the last alert."""
    return group.count - group.notified_count
