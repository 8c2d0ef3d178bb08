"""What `serve` logs: one line an event, with the request's id and without the text of records."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from agent.core.settings import Settings
from server import create_app
from tests.conftest import Run
from tests.served import HOST, eventually

RECORD = "the gripper of warehouse robot 12 holds a canary"


def events(capfd: pytest.CaptureFixture[str], name: str | None = None) -> list[dict[str, Any]]:
    logged = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    return [event for event in logged if name in (None, event["event"])]


@pytest.fixture
def served(copy_of: Callable[..., Settings]) -> Callable[..., TestClient]:
    def make(**values: object) -> TestClient:
        return TestClient(create_app(copy_of(model="none", **{"log_format": "json", **values})), base_url=HOST)

    return make


def test_a_request_is_one_line(served: Callable[..., TestClient], capfd: pytest.CaptureFixture[str]) -> None:
    with served() as client:
        client.post("/v1/verdicts", json=[{"text": RECORD}, {"text": RECORD}])
        client.get("/v1/sources/nowhere", headers={"x-request-id": "mine_1.a-b"})
        client.get("/v1/sources", headers={"host": "evil.example"})
    judged, refused, wrong_host = events(capfd, "request")
    assert (judged["method"], judged["path"], judged["status"], judged["records"]) == ("POST", "/v1/verdicts", 200, 2)
    assert judged["ms"] > 0
    assert judged["level"] == "info"
    assert (refused["path"], refused["status"], refused["request_id"]) == ("/v1/sources/nowhere", 404, "mine_1.a-b")
    assert wrong_host["status"] == 400
    assert len({judged["request_id"], refused["request_id"], wrong_host["request_id"]}) == 3


@pytest.mark.parametrize("sent", ["", "a b", "a\nb", "x" * 65, "<script>", "ä", None])
def test_a_request_id_that_is_not_plain_is_replaced(client: TestClient, sent: str | None) -> None:
    headers = {} if sent is None else {"x-request-id": sent.encode()}
    assert re.fullmatch("[0-9a-f]{32}", client.get("/healthz", headers=headers).headers["x-request-id"])


def test_a_plain_request_id_is_kept(client: TestClient) -> None:
    for path in ("/healthz", "/v1/sources/nowhere", "/nowhere"):
        assert client.get(path, headers={"x-request-id": "job-7_a.b"}).headers["x-request-id"] == "job-7_a.b"


def test_loading_verdicts_and_refits_are_logged(
    served: Callable[..., TestClient], capfd: pytest.CaptureFixture[str]
) -> None:
    cases = [{"record": {"text": f"belt {i} runs"}, "label": "normal"} for i in range(3)]
    with served() as client:
        assert eventually(lambda: client.get("/readyz").status_code == 200)
        client.post("/v1/verdicts", json={"records": [RECORD, "GET /basket/4711 200 in 12 ms"]})
        client.post("/v1/cases", json={"source": "belts", "cases": cases})
    logged = events(capfd)
    by_name = {event["event"]: event for event in logged}
    assert by_name["embedding model loaded"]["ms"] >= 0
    assert by_name["refit"]["source"] == "belts"
    counts = [event for event in logged if event["event"] == "verdicts"]
    assert sum(event.get(label, 0) for event in counts for label in ("normal", "anomalous", "unsure")) == 2
    assert {event["source"] for event in counts} == {"shop"}


def test_no_text_of_a_record_is_logged(served: Callable[..., TestClient], capfd: pytest.CaptureFixture[str]) -> None:
    with served(log_level="info") as client:
        verdict = client.post("/v1/verdicts", json={"text": RECORD, "fields": {"bird": "canary"}}).json()
        client.post("/v1/verdicts", json={"text": RECORD, "line": 0})
        client.post(
            "/v1/verdicts", content=json.dumps(RECORD) + "\n{", headers={"content-type": "application/x-ndjson"}
        )
        client.post(f"/v1/verdicts/{verdict['id']}/feedback", json={"label": "normal"})
        client.post("/v1/cases", json={"source": "shop", "cases": [{"record": {"text": RECORD}, "label": "normal"}]})
        client.post("/verdict/invoke", json={"input": {"text": RECORD}})
        client.post("/chain/invoke", json={"input": {"messages": [{"type": "human", "content": RECORD}]}})
        client.get(f"/v1/verdicts?text={RECORD}")
    log = capfd.readouterr().err
    assert log.count('"event": "request"') == 8
    assert "canary" not in log


def test_people_read_text_and_nothing_that_is_sent_begins_a_line(
    served: Callable[..., TestClient], capfd: pytest.CaptureFixture[str]
) -> None:
    with served(log_format="text") as client:
        client.get("/a%0Arequest%20forged%1b[31m")
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "method=" in line]
    assert re.search(r"request +.*method='GET'.*status=404", line)
    assert "\x1b" not in line


def test_the_level_is_kept(served: Callable[..., TestClient], capfd: pytest.CaptureFixture[str]) -> None:
    for level, seen in (("warning", []), ("info", ["/v1/sources"]), ("debug", ["/healthz", "/v1/sources"])):
        with served(log_level=level) as client:
            client.get("/healthz")
            client.get("/v1/sources")
        assert [event["path"] for event in events(capfd, "request")] == seen


def test_the_command_line_logs_nothing(run: Run) -> None:
    done = run("sources", "list")
    assert (done.code, done.err) == (0, "")


def test_what_a_library_says_of_a_whole_message_is_not_logged(
    served: Callable[..., TestClient], capfd: pytest.CaptureFixture[str]
) -> None:
    tool = {"name": "judge", "arguments": {"records": [RECORD]}}
    message = {"jsonrpc": "2.0", "id": {"a": 1}, "method": "tools/call", "params": tool}
    with served() as client:
        answer = client.post("/mcp", json=message, headers={"accept": "application/json, text/event-stream"})
        assert answer.status_code < 500
    assert "canary" not in capfd.readouterr().err
