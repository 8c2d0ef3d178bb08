"""Logs by OpenTelemetry: the SDK as the client over a real socket; bodies of other exporters."""

from __future__ import annotations

import gzip
import json
import zlib
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from google.rpc.status_pb2 import Status
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from starlette.testclient import TestClient

from agent.api.otlp_logs import _content
from agent.data.read_options import ReadOptions
from agent.data.readers.table_schema import LearnedColumn, TableSchema
from tests.served import Address
from tests.shop import ANOMALOUS, NORMAL

pytestmark = [pytest.mark.network, pytest.mark.enable_socket]
PATH = "/otlp/v1/logs"


def body(*records: dict[str, Any], **resource: str) -> dict[str, Any]:
    attributes = [{"key": name, "value": {"stringValue": value}} for name, value in resource.items()]
    return {"resourceLogs": [{"resource": {"attributes": attributes}, "scopeLogs": [{"logRecords": list(records)}]}]}


def text(value: str, **more: Any) -> dict[str, Any]:
    return {"body": {"stringValue": value}, **more}


def past(address: Address, since: datetime) -> list[dict[str, Any]]:
    arguments = {"since": since.isoformat(), "limit": 100}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "history", "arguments": arguments}}
    sent = {"accept": "application/json, text/event-stream", **address.headers}
    answer = httpx.post(f"{address.url}/mcp", json=call, headers=sent).json()
    verdicts: list[dict[str, Any]] = answer["result"]["structuredContent"]["verdicts"]
    return verdicts


@pytest.mark.parametrize("compression", list(Compression))
def test_the_sdk_exports_and_the_history_has_the_verdicts(address: Address, compression: Compression) -> None:
    started = datetime.now(UTC) - timedelta(seconds=1)
    exporter = OTLPLogExporter(f"{address.url}{PATH}", headers=address.headers, compression=compression)
    provider = LoggerProvider(Resource({"service.name": "web", "precedent.source": "shop"}), shutdown_on_exit=False)
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    logger = provider.get_logger("shop")
    texts = {
        f"{ANOMALOUS} by {compression.name}": "anomalous",
        f"cache refreshed, {1000 + len(compression.name)} entries in 3 ms": "normal",
    }
    for number, sent in enumerate(texts):
        moment = 1_700_000_000_000_000_000 + number
        logger.emit(LogRecord(timestamp=moment, body=sent, attributes={"log.file.path": "/var/log/shop.log"}))
    assert provider.force_flush()
    provider.shutdown()
    verdicts = {verdict["text"]: verdict for verdict in past(address, started) if verdict["text"] in texts}
    assert {sent: verdict["label"] for sent, verdict in verdicts.items()} == texts
    url = f"{address.url}/v1/verdicts/{verdicts[next(iter(texts))]['verdict_id']}"
    record = httpx.get(url, headers=address.headers).json()["record"]
    assert (record["file"], record["time"][:19]) == ("/var/log/shop.log", "2023-11-14T22:13:20")


def test_without_the_key_nothing_is_judged(address: Address) -> None:
    answer = httpx.post(f"{address.url}{PATH}", json=body(text(NORMAL)))
    assert answer.status_code == (401 if address.key else 200)


@pytest.fixture
def post(client: TestClient) -> Any:
    def send(sent: Any, **headers: str) -> httpx.Response:
        content = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
        return client.post(PATH, content=content, headers={"content-type": "application/json", **headers})

    return send


def test_json_in_json_out(post: Any) -> None:
    ids = {"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "newKey": 1}
    assert post(body(text(NORMAL, **ids), text(ANOMALOUS, severityNumber=17))).json() == {}
    zipped = post(gzip.compress(json.dumps(body(text(NORMAL))).encode()), **{"content-encoding": "gzip"})
    assert (zipped.status_code, zipped.json()) == (200, {})


@pytest.mark.parametrize("sent", [{}, {"resourceLogs": []}, body()])
def test_nothing_to_judge_is_a_success(post: Any, sent: dict[str, Any]) -> None:
    assert (post(sent).status_code, post(sent).json()) == (200, {})


def test_what_cannot_be_judged_is_counted_and_named(post: Any, client: TestClient) -> None:
    records = (text(NORMAL), text("  "), {}, text("x" * 70_000))
    partial = post(body(*records)).json()["partialSuccess"]
    assert partial["rejectedLogRecords"] == "3"
    assert "an empty record" in partial["errorMessage"]
    assert "limit is 65536" in partial["errorMessage"]
    unknown = post(body(text(NORMAL), text(NORMAL), **{"precedent.source": "bank"})).json()["partialSuccess"]
    assert (unknown["rejectedLogRecords"], "unknown source 'bank'" in unknown["errorMessage"]) == ("2", True)
    client.put("/v1/sources/other", json={"brief": "another log"})
    unclear = post(body(text(NORMAL), **{"service.name": "web"})).json()["partialSuccess"]
    assert "precedent.source" in unclear["errorMessage"]
    assert post(body(text(NORMAL), **{"service.name": "shop"})).json() == {}
    assert post(body(text(NORMAL), **{"service.name": "web", "precedent.source": "shop"})).json() == {}


@pytest.mark.parametrize(
    ("sent", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"[]", {}, 400),
        (b"\xff\xff", {"content-type": "application/x-protobuf"}, 400),
        (b"plain", {"content-encoding": "gzip"}, 400),
        (b"plain", {"content-encoding": "br"}, 400),
        (b"", {"content-encoding": "deflate"}, 400),
        (zlib.compress(b"{}")[:-4], {"content-encoding": "deflate"}, 400),
        (gzip.compress(b"{}", mtime=0)[:-8], {"content-encoding": "gzip"}, 400),
        (gzip.compress(b" " * (17 << 20)), {"content-encoding": "gzip"}, 400),
        (b"a log line", {"content-type": "text/plain"}, 415),
    ],
)
def test_what_is_no_message_is_refused(post: Any, sent: bytes, headers: dict[str, str], status: int) -> None:
    answer = post(sent, **headers)
    assert answer.status_code == status
    if answer.headers["content-type"] == "application/json":
        assert answer.json()["message"]
    else:
        assert Status.FromString(answer.content).message


def test_a_body_that_unpacks_to_too_much_is_named(post: Any) -> None:
    answer = post(gzip.compress(b" " * (17 << 20)), **{"content-encoding": "gzip"})
    assert "longer than 16777216 bytes when it is unpacked" in answer.json()["message"]


@pytest.mark.parametrize("value", [{"arrayValue": {"values": []}}, {"kvlistValue": {"values": []}}, {"intValue": "5"}])
def test_a_service_that_is_no_text_names_no_source(post: Any, value: dict[str, Any]) -> None:
    sent = body(text(NORMAL))
    sent["resourceLogs"][0]["resource"]["attributes"] = [{"key": "service.name", "value": value}]
    assert post(sent).status_code == 200


def test_protobuf_in_protobuf_out(post: Any) -> None:
    answer = post(b"", **{"content-type": "application/x-protobuf"})
    assert answer.headers["content-type"] == "application/x-protobuf"
    assert not ExportLogsServiceResponse.FromString(answer.content).partial_success.rejected_log_records


BELTS = ReadOptions(table=TableSchema(columns=(LearnedColumn(name="speed", type="number"),)))
MESSAGES = ReadOptions(table=TableSchema(columns=(LearnedColumn(name="message", type="text"),)))


@pytest.mark.parametrize(
    ("body", "attributes", "options", "content"),
    [
        ("a line", {"thread": 3}, ReadOptions(format="log"), {"text": "a line"}),
        ('{"a": 1}', {}, ReadOptions(format="log"), {"text": '{"a": 1}'}),
        ('{"speed": 1, "on": {"belt": 2}}', {}, BELTS, {"fields": {"speed": 1, "on.belt": 2}}),
        ({"speed": 1.5}, {"host": "h1"}, BELTS, {"fields": {"speed": 1.5}}),
        (None, {"speed": 2, "host": "h1"}, BELTS, {"fields": {"speed": 2}}),
        ("belt moves", {"speed": 2}, BELTS, {"fields": {"speed": 2}}),
        ("belt moves", {"message": "moved"}, MESSAGES, {"fields": {"message": "moved"}}),
        ({"log": "a line", "stream": "stderr"}, {}, ReadOptions(), {"text": "a line"}),
        ({"level": "info"}, {}, ReadOptions(), {"fields": {"level": "info"}}),
        (["a", "b"], {}, ReadOptions(), {"text": "a, b"}),
        (3.5, {}, ReadOptions(), {"text": "3.5"}),
        ("{broken", {}, BELTS, {"text": "{broken"}),
    ],
)
def test_the_content_of_a_record_is_what_the_sources_files_have(
    body: Any, attributes: dict[str, Any], options: ReadOptions, content: dict[str, Any]
) -> None:
    assert _content(body, attributes, options) == content


@pytest.mark.parametrize(
    "record",
    [{"severityNumber": False}, {"severityNumber": 1.5}, {"spanId": "A"}, {"spanId": "!!!!"}, {"traceId": []}],
    ids=str,
)
def test_values_of_other_types_are_refused(post: Any, record: dict[str, Any]) -> None:
    def sent(logged: dict[str, Any]) -> bytes:
        return json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [logged]}]}]}).encode()

    assert post(sent({"body": {"stringValue": NORMAL}, **record})).status_code == 400
    ids = {"severityNumber": 9, "spanId": "00f067aa0ba902b7", "traceId": "4bf92f3577b34da6a3ce929d0e0e4736"}
    assert post(sent({"body": {"stringValue": NORMAL}, **ids})).status_code == 200
