"""Alerts are grouped, limited, quiet when they should be, and not lost when a service is down."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from sqlalchemy import Engine

from agent.bulk.alerts import Alerter, QuietHours, apprise_sender
from agent.core.errors import UsageError
from agent.pipeline.context import AppContext
from retrieval.store import watch as store
from retrieval.store.watch import LiveGroup
from tests.conftest import make_settings

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    context = AppContext(make_settings(tmp_path, model="none"))
    context.casebook.create("app")
    yield context.casebook.engine
    context.close()


class Service:
    """A service that takes alerts, or does not, and a clock."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []
        self.is_up, self.now = True, START
        self.notes: list[str] = []

    def send(self, title: str, body: str) -> bool:
        if self.is_up:
            self.sent.append((title, body))
        return self.is_up

    def alerter(self, **options: object) -> Alerter:
        return Alerter(self.send, self.notes.append, now=lambda: self.now, **options)  # type: ignore[arg-type]


def record(engine: Engine, template: str, count: int, label: str = "anomalous", text: str = "disk gone") -> None:
    group = LiveGroup(
        "app",
        template,
        label,
        f"v-{template}",
        0.97,
        text,
        "nearest case c1",
        count,
        START,
        START,
        "a.log:1",
        "a.log:9",
    )
    store.commit(engine, "k", "app", {}, {label: count}, [group], START)


def test_grouped_with_why_and_a_link(engine: Engine) -> None:
    service = Service()
    record(engine, "t1", 3)
    record(engine, "t2", 4, text="\x1b[31mlogin refused\x07")
    record(engine, "t3", 9, label="unsure")
    service.alerter(console="http://host:8000/").send_due(engine, "app", wait=True)
    ((title, body),) = service.sent
    assert title == "Precedent: 7 anomalous records of app"
    assert "new: 4 records, p 0.97, a.log:9\nlogin refused" in body
    assert "nearest case c1" in body
    assert "http://host:8000/live?source=app&template=t2" in body
    assert "t3" not in body


def test_no_second_alert_until_there_is_more_and_time_has_passed(engine: Engine) -> None:
    service = Service()
    alerter = service.alerter()
    record(engine, "t1", 3)
    alerter.send_due(engine, "app", wait=True)
    service.now += timedelta(hours=1)
    alerter.send_due(engine, "app", wait=True)
    assert len(service.sent) == 1, "nothing is new"
    record(engine, "t1", 5)
    alerter.send_due(engine, "app", wait=True)
    assert len(service.sent) == 1, "half a minute between two"
    service.now += timedelta(minutes=1)
    alerter.send_due(engine, "app", wait=True)
    assert service.sent[1][0] == "Precedent: 5 anomalous records of app"
    assert "new:" not in service.sent[1][1]
    record(engine, "t1", 5)
    service.now += timedelta(minutes=1)
    alerter.send_due(engine, "app", wait=True)
    assert len(service.sent) == 2, "a quarter of an hour about one template"
    record(engine, "t4", 1)
    alerter.send_due(engine, "app", wait=True)
    service.now += timedelta(minutes=1)
    alerter.send_due(engine, "app", wait=True)
    assert "1 anomalous record of" in service.sent[2][0], "another one does not wait for it"


def test_what_was_sent_is_known_after_a_restart(engine: Engine) -> None:
    service = Service()
    record(engine, "t1", 3)
    service.alerter().send_due(engine, "app", wait=True)
    service.alerter().send_due(engine, "app", wait=True)
    assert len(service.sent) == 1


def test_a_service_that_is_down_gets_it_later(engine: Engine) -> None:
    service = Service()
    alerter = service.alerter()
    service.is_up = False
    record(engine, "t1", 3)
    alerter.send_due(engine, "app", wait=True)
    assert service.notes == ["an alert could not be sent; it is tried again"]
    service.is_up = True
    service.now += timedelta(minutes=1)
    alerter.send_due(engine, "app", wait=True)
    assert "3 anomalous records" in service.sent[0][0]


def test_muted_and_acknowledged_ones_are_left_out(engine: Engine) -> None:
    service = Service()
    record(engine, "t1", 3)
    record(engine, "t2", 3)
    store.mute(engine, "app", "t1")
    store.acknowledge(engine, "app", "t2")
    service.alerter().send_due(engine, "app", wait=True)
    assert service.sent == []
    store.mute(engine, "app", "t1", muted=False)
    service.alerter().send_due(engine, "app", wait=True)
    assert len(service.sent) == 1


def test_quiet_hours(engine: Engine) -> None:
    night = QuietHours.parse("22:00-06:30")
    assert [night.contains(time(hour)) for hour in (21, 22, 0, 6, 7)] == [False, True, True, True, False]
    noon = QuietHours.parse("9:15-10:00")
    assert [noon.contains(time(9, minute)) for minute in (14, 15, 59)] == [False, True, True]
    for wrong in ("22-6", "25:00-01:00", "22:00", "a"):
        with pytest.raises(UsageError, match="22:00-06:00"):
            QuietHours.parse(wrong)
    service = Service()
    local = START.astimezone()
    quiet = QuietHours(local.time(), (local + timedelta(hours=1)).time())
    alerter = service.alerter(quiet=(quiet,))
    record(engine, "t1", 3)
    alerter.send_due(engine, "app", wait=True)
    assert service.sent == []
    service.now += timedelta(hours=2)
    alerter.send_due(engine, "app", wait=True)
    assert len(service.sent) == 1, "it is sent when the hours are over"


@pytest.mark.network
@pytest.mark.enable_socket
# plugins of apprise import what Python removes later
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_by_apprise_to_a_service() -> None:
    got: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    assert apprise_sender([f"json://127.0.0.1:{server.server_port}/"])("a title", "two\nlines")
    server.shutdown()
    assert got[0]["title"] == "a title"
    assert "two\nlines" in got[0]["message"]
    with pytest.raises(UsageError, match="nonsense://"):
        apprise_sender(["nonsense://secret"])
