"""The tools for other agents, by the official client: over HTTP on a real socket, and by standard input and output."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import ClientSession, McpError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult, TextContent

from agent.core.settings import Settings
from tests.served import Address
from tests.shop import ANOMALOUS, NORMAL

pytestmark = [pytest.mark.network, pytest.mark.enable_socket]
ROOT = Path(__file__).resolve().parents[2]
Use = Callable[[ClientSession], Awaitable[None]]


def by_http(address: Address, use: Use, **headers: str) -> None:
    async def run() -> None:
        async with (
            httpx.AsyncClient(headers={**address.headers, **headers}, timeout=60) as client,
            streamable_http_client(f"{address.url}/mcp", http_client=client) as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            await use(session)

    asyncio.run(run())


async def called(session: ClientSession, tool: str, **arguments: Any) -> dict[str, Any]:
    result = await session.call_tool(tool, arguments)
    assert not result.isError, result
    assert result.structuredContent is not None
    return result.structuredContent


def reason(result: CallToolResult) -> str:
    assert result.isError
    (content,) = result.content
    assert isinstance(content, TextContent)
    return content.text


async def judge_explain_correct(session: ClientSession, record: str) -> None:
    """The whole loop by tools; the client checks each result against the tool's schema."""
    tools = {tool.name: tool for tool in (await session.list_tools()).tools}
    assert set(tools) == {"judge", "explain", "precedents", "correct", "history", "sources"}
    assert all(tool.outputSchema and tool.description for tool in tools.values())
    assert set(tools["correct"].inputSchema["required"]) == {"verdict_id", "label"}
    (source,) = (await called(session, "sources"))["sources"]
    assert (source["name"], source["cases"]["normal"] > 0) == ("shop", True)
    before = datetime.now(UTC) - timedelta(seconds=1)
    judged = await called(session, "judge", records=[record, {"text": NORMAL, "line": 7}], source="shop")
    anomalous, normal = judged["verdicts"]
    assert (anomalous["label"], normal["label"], normal["record"]["line"]) == ("anomalous", "normal", 7)
    explained = await called(session, "explain", verdict_id=anomalous["id"], in_words=True)
    assert explained["facts"]
    assert explained["headline"].startswith("Anomalous, ")
    assert any(text.startswith("explanation: ") for text in explained["degraded"])
    near = (await called(session, "precedents", verdict_id=anomalous["id"]))["precedents"]
    assert near == anomalous["precedents"]
    past = (await called(session, "history", label="anomalous", since=before.isoformat()))["verdicts"]
    assert past[0]["verdict_id"] == anomalous["id"]
    assert (past[0]["text"], past[0]["corrected_to"]) == (record, None)
    corrected = await called(session, "correct", verdict_id=anomalous["id"], label="normal")
    assert (corrected["record"]["text"], corrected["label"], corrected["label_before"]) == (
        record,
        "normal",
        "anomalous",
    )
    again = (await called(session, "judge", records=[record]))["verdicts"][0]
    assert (again["label"], again["precedents"][0]["case_id"]) == ("normal", corrected["case_id"])
    assert (await called(session, "history", source="shop", limit=500))["verdicts"][0]["verdict_id"] == again["id"]


def test_the_loop_over_http(address: Address) -> None:
    record = f"database connection refused after {3 if address.key else 4} attempts by mcp"
    by_http(address, lambda session: judge_explain_correct(session, record))


def test_what_is_wrong_is_named(address: Address) -> None:
    async def use(session: ClientSession) -> None:
        async def refused(tool: str, **arguments: Any) -> str:
            return reason(await session.call_tool(tool, arguments))

        assert "no verdict 'v00'" in await refused("correct", verdict_id="v00", label="normal")
        assert "label" in await refused("correct", verdict_id="v00")
        assert "normal" in await refused("correct", verdict_id="v00", label="unsure")
        assert "unknown source 'bank'" in await refused("judge", records=["x"], source="bank")
        assert "must not be empty" in await refused("judge", records=[])
        assert "limit is 65536" in await refused("judge", records=["x" * 70_000])
        assert "record 1: an empty record" in await refused("judge", records=[NORMAL, "  "])
        assert "record" in await refused("judge", records=[{"speed": 3}])
        assert "no argument sources" in await refused("judge", records=["x"], sources="shop")
        assert "there is no tool 'delete'" in await refused("delete")
        assert "unknown source" in await refused("history", source="bank")
        for since in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"):
            assert "no year from 1 to 9999" in await refused("history", since=since)
        await called(session, "judge", records=[NORMAL])
        assert (await called(session, "history", limit=1))["verdicts"]
        assert (await called(session, "history", since="2999-01-01"))["verdicts"] == []

    by_http(address, use)


def test_bodies_that_python_cannot_read_or_store_are_refused(address: Address) -> None:
    def post(body: bytes) -> httpx.Response:
        sent = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
        return httpx.post(f"{address.url}/mcp", content=body, headers={**sent, **address.headers})

    for body in (b"[" * 50_000, b"\xff", b"9" * 5_000):
        answer = post(body)
        assert (answer.status_code, "body" in answer.json()["error"]["message"]) == (400, True)
    for body in (b"{", b""):
        assert (post(body).status_code, post(body).json()["error"]["code"]) == (400, -32_700)
    for identifier in (b"null", b"true", b"1.5", b"[1]", b"{}"):
        answer = post(b'{"jsonrpc": "2.0", "method": "ping", "id": %s}' % identifier)
        assert (answer.status_code, answer.json()["error"]["code"], answer.json()["id"]) == (400, -32_600, None)
    call = b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "explain", "arguments": {%s}}}'
    for argument, reason in ((b'"verdict_id": "\\ud800"', "no verdict"), (b'"\\ud800": 1', "has no argument")):
        result = post(call % argument).json()["result"]
        assert (result["isError"], reason in result["content"][0]["text"]) == (True, True)


def test_web_pages_and_strangers_are_refused(address: Address) -> None:
    url, sent = f"{address.url}/mcp", {"accept": "application/json, text/event-stream"}
    body = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    answer = httpx.post(url, json=body, headers={**sent, **address.headers})
    assert (answer.status_code, answer.json()["result"]) == (200, {})
    for header, value, status in (
        ("origin", "http://evil.example", 403),
        ("host", "evil.example", 400),
        ("content-type", "text/plain", 400),
    ):
        refused = httpx.post(url, json=body, headers={**sent, **address.headers, header: value})
        assert refused.status_code == status, header
    own_page = {**sent, **address.headers, "origin": address.url}
    assert httpx.post(url, json=body, headers=own_page).status_code == 200
    # there are no messages of the server's own to wait for
    assert httpx.get(url, headers={**sent, **address.headers}).status_code == 405
    if address.key:
        assert httpx.post(url, json=body, headers=sent).status_code == 401
        with pytest.raises(BaseExceptionGroup) as raised:
            by_http(Address(address.url, "wrong"), lambda session: called(session, "sources"))  # type: ignore[arg-type, return-value]
        assert raised.group_contains(httpx.HTTPStatusError) or raised.group_contains(McpError)


def stdio_server(chosen: Settings, **changed: str) -> StdioServerParameters:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PRECEDENT_")}
    return StdioServerParameters(
        command=sys.executable,
        args=["-c", "from agent.cli.app import main; main()", "mcp", "--model", "none"],
        env={
            **kept,
            "PRECEDENT_HOME": str(chosen.home),
            "PRECEDENT_CACHE": str(chosen.cache),
            "PRECEDENT_OFFLINE": "1",
            "PYTHONPATH": str(ROOT),
            **changed,
        },
        cwd=ROOT,
    )


def test_the_loop_by_standard_input_and_output(copy_of: Callable[..., Settings]) -> None:
    server = stdio_server(copy_of(model="none"))

    async def run() -> None:
        async with stdio_client(server) as (read, write), ClientSession(read, write) as session:
            started = await session.initialize()
            assert (started.serverInfo.name, bool(started.instructions)) == ("precedent", True)
            await judge_explain_correct(session, f"{ANOMALOUS} as a client of stdio sees it")

    asyncio.run(run())


def test_lines_that_cannot_be_read_are_answered_on_standard_output(copy_of: Callable[..., Settings]) -> None:
    server = stdio_server(copy_of(model="none"), PRECEDENT_MAX_BODY_BYTES="20000")
    call = '{"jsonrpc": "2.0", "id": %s, "method": "tools/call", "params": {"name": "explain", "arguments": {%s}}}'
    started = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    initialize = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": started}
    lines = [
        json.dumps(initialize),
        '{"jsonrpc": "2.0", "method": "notifications/initialized"}',
        "[" * 19_000,
        "{",
        "",
        "9" * 5_000,
        "\udcff",
        "x" * 50_000,
        '{"jsonrpc": "2.0", "id": 7}',
        call % (1, '"verdict_id": "\\ud800"'),
        call % (2, '"\\ud800": 1'),
        call % (3, f'"verdict_id": {"[" * 600}{"]" * 600}'),
        '{"jsonrpc": "2.0", "id": 4, "method": "ping"}',
    ]
    sent = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
    with subprocess.Popen(
        [server.command, *server.args], env=server.env, cwd=server.cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(sent)
        process.stdin.flush()
        # the server drops what it has not answered when standard input ends
        answers = [json.loads(process.stdout.readline()) for _ in range(11)]
        process.stdin.close()
        assert process.stdout.read() == b""
    refused = [answer["error"]["message"] for answer in answers if answer["id"] is None]
    assert [message.partition("(")[0].strip() for message in refused] == [
        "the body cannot be read: it is not valid JSON here: it is nested too deeply",
        "the body cannot be read: it is not valid JSON",
        "the body cannot be read: it is not valid JSON here: a number has too many digits",
        "the body cannot be read: it is not valid JSON: byte 1 is not UTF-8",
        "the line is longer than 20000 bytes",
    ]
    by_id = {answer["id"]: answer for answer in answers}
    assert by_id[7]["error"]["code"] == -32_600
    assert by_id[3]["error"]["code"] == -32_602
    for identifier, reason in ((1, "no verdict"), (2, "has no argument")):
        result = by_id[identifier]["result"]
        assert (result["isError"], reason in result["content"][0]["text"]) == (True, True)
    assert by_id[4]["result"] == {}
