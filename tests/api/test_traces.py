"""Spans of our own, sent to a collector on a real socket."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.testclient import TestClient

from agent.core.settings import Settings
from agent.core.tracing import span
from agent.pipeline.batcher import MicroBatcher
from server import create_app
from tests.served import HOST

pytestmark = [pytest.mark.network, pytest.mark.enable_socket]
SECRET = "customer Miller's card 4929123412341234 was declined"


class Collector:
    def __init__(self) -> None:
        self.bodies, self.paths, self.status = list[bytes](), set[str](), 200
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                collector.paths.add(self.path)
                collector.bodies.append(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(collector.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def test_the_steps_are_sent_without_the_text(copy_of: Callable[..., Settings], collector: Collector) -> None:
    with TestClient(create_app(copy_of(model="none", otlp_endpoint=collector.url)), base_url=HOST) as client:
        assert client.post("/v1/verdicts", json={"text": SECRET}).status_code == 200
    assert collector.paths == {"/v1/traces"}
    sent = b"".join(collector.bodies)
    resources = [of for body in collector.bodies for of in ExportTraceServiceRequest.FromString(body).resource_spans]
    spans = [each for resource in resources for scope in resource.scope_spans for each in scope.spans]
    by_id = {each.span_id: each.name for each in spans}
    parents = {
        each.name: {by_id.get(other.parent_span_id) for other in spans if other.name == each.name} for each in spans
    }
    steps = ("prepare", "retrieve", "score_fields", "collect_signals", "compare_clauses")
    assert {name: "judge" in parents.get(name, ()) for name in steps} == dict.fromkeys(steps, True), parents
    assert b"precedent" in sent
    assert not any(word in sent for word in (b"Miller", b"4929", b"declined"))


def test_a_step_that_ends_after_its_answer_is_sent_when_the_server_stops(
    copy_of: Callable[..., Settings], collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver = MicroBatcher._deliver_new

    def deliver_and_go_on(*arguments: Any) -> None:
        deliver(*arguments)
        time.sleep(1)

    monkeypatch.setattr(MicroBatcher, "_deliver_new", deliver_and_go_on)
    with TestClient(create_app(copy_of(model="none", otlp_endpoint=collector.url)), base_url=HOST) as client:
        assert client.post("/v1/verdicts", json={"text": SECRET}).status_code == 200
    assert b"judge" in b"".join(collector.bodies)


def test_without_a_collector_nothing_is_recorded() -> None:
    with span("judge", records=1) as recorded:
        assert recorded is None


def test_a_collector_that_fails_is_named_once_and_verdicts_are_given(
    copy_of: Callable[..., Settings], collector: Collector, capsys: pytest.CaptureFixture[str]
) -> None:
    collector.status = 500
    with TestClient(create_app(copy_of(model="none", otlp_endpoint=collector.url)), base_url=HOST) as client:
        assert client.post("/v1/verdicts", json={"text": SECRET}).json()["label"]
    assert capsys.readouterr().err.count("traces are not sent") == 1
