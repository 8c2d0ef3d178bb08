"""What a source redacts is in no prompt, log, trace, alert or conversation: a server on the loopback records them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from starlette.testclient import TestClient

from agent.chat.commands import build_chat
from agent.chat.memory import with_memory
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.training.brief import draft_brief
from server import create_app
from tests.conftest import Run, make_settings
from tests.end_to_end.test_redaction import CARD, FILES, KEY, MAIL, SECRET, VALUES, assert_nowhere, keys, text, write
from tests.llm.loopback import send, serving

# apprise, which sends alerts, imports what Python 3.13 has no more
pytestmark = [
    pytest.mark.network,
    pytest.mark.enable_socket,
    pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning"),
]
NORMAL, ANOMALOUS = {"token": "normal", "logprob": -0.2}, {"token": "anomalous", "logprob": -1.7}


class Recorder:
    """A model server, a collector of traces and a receiver of alerts, which keeps whatever is sent to it."""

    def __init__(self) -> None:
        self.bodies: list[tuple[str, bytes]] = []

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        self.bodies.append((handler.path, body))
        if handler.path == "/api/tags":
            answer: dict[str, Any] = {"models": [{"name": "m:latest", "digest": "d"}]}
        elif handler.path == "/api/show":
            # large enough to choose the tools of the agent
            info = {"llama.context_length": 4096, "general.parameter_count": 8_000_000_000}
            answer = {"details": {}, "model_info": info, "capabilities": ["completion", "tools"]}
        elif handler.path == "/api/chat":
            answer = self.reply(json.loads(body))
        else:
            answer = {}
        send(handler, 200, json.dumps(answer).encode() + b"\n", Content_Type="application/x-ndjson")

    @staticmethod
    def reply(asked: dict[str, Any]) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": "normal"}
        if asked.get("tools") and asked["messages"][-1]["role"] == "user":
            call = {"function": {"name": "history", "arguments": {}}}
            message |= {"content": "", "tool_calls": [call]}
        chosen = [{**NORMAL, "top_logprobs": [NORMAL, ANOMALOUS]}]
        return {"model": "m", "message": message, "done": True, "done_reason": "stop", "logprobs": chosen}

    def sent(self, path: str) -> bytes:
        return b"\n".join(body for sent_to, body in self.bodies if sent_to.startswith(path))

    def assert_clean(self) -> None:
        for path, body in self.bodies:
            assert not [value for value in VALUES if value.encode() in body], (path, body)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def address(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with serving(recorder) as found:
        monkeypatch.setenv("OLLAMA_HOST", found)
        yield found


@pytest.fixture
def learned(run: Run, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory with a redacted source of texts and one of a table, learned with the model server."""
    for name, value in (("MODEL", "ollama:m"), ("LANGUAGE_BUDGET", "20"), ("OTLP_ENDPOINT", f"http://{address}")):
        monkeypatch.setenv(f"PRECEDENT_{name}", value)
    inputs = tmp_path / "in"
    inputs.mkdir()
    write(inputs, 40)
    for source, file in (("texts", "texts.csv"), ("tables", "table.csv")):
        result = run("learn", inputs / file, "--source", source, "--redact", "default", *FILES[file])
        assert result.code == 0, result.err
    return tmp_path / "home"


def chosen(home: Path, address: str) -> Any:
    settings = {"model": "ollama:m", "ollama_hosts": address, "otlp_endpoint": f"http://{address}"}
    return make_settings(home, **settings)


def without_values(*said: str) -> None:
    for each in said:
        assert not [value for value in VALUES if value in each], each


def test_no_prompt_and_no_output_of_commands(
    run: Run, learned: Path, address: str, recorder: Recorder, tmp_path: Path
) -> None:
    fresh, out = tmp_path / "in" / "new.log", tmp_path / "out"
    out.mkdir()
    fresh.write_text("".join(f"unheard of {n}: {text(n * 10)} {' '.join(KEY)}\n" for n in range(6)), encoding="utf-8")
    said = [
        run("judge", fresh, "--source", "texts", "--to", "jsonl", "--detail", "full", "--output", out / "v.jsonl"),
        run("judge", "-", "--source", "texts", "--to", "csv", stdin=fresh.read_bytes()),
        run(
            "watch", fresh, "--source", "texts", "--once", "--output", out / "w.jsonl", "--notify", f"json://{address}"
        ),
        run("review", "--source", "texts"),
        run("sources", "propose", "texts"),
        run("backup", out / "b.tar"),
    ]
    for result in said:
        assert result.code in (0, 1), result.err
        without_values(result.out, result.err)
    assert b"<secret:" in recorder.sent("/api/chat"), "the model was queried about such records"
    alerts = [body for path, body in recorder.bodies if path == "/"]
    assert b"<secret:" in b"".join(alerts), "an alert about such records was sent"
    recorder.assert_clean()
    assert_nowhere(learned, out)


def test_no_log_trace_or_conversation_of_a_server(
    learned: Path, address: str, recorder: Recorder, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    unknown = f"unheard of: {text(10)}"
    with TestClient(create_app(chosen(learned, address)), base_url="http://127.0.0.1") as client:
        verdict = client.post("/v1/verdicts", json={"source": "texts", "text": unknown}).json()
        fields = {"amount": 5, "user": MAIL, "password": SECRET, "card": int(CARD)}
        answers = [
            client.post("/v1/verdicts", json={"source": "tables", "fields": fields}),
            client.get(f"/v1/verdicts/{verdict['id']}/explanation"),
            client.post("/v1/verdicts", content=f"{{{unknown}", headers={"content-type": "application/json"}),
            client.post("/v1/verdicts", json={"source": "texts", "fields": {"a": [unknown]}}),
            client.put("/v1/sources/made", json={"brief": "b", "redact": ["secret", "email", "card"]}),
            client.post(
                "/v1/cases", json={"source": "made", "cases": [{"record": {"text": unknown}, "label": "normal"}]}
            ),
            client.post("/v1/verdicts", json={"source": "made", "text": unknown}),
            client.get("/v1/sources/made"),
        ]
        assert answers[-1].json()["redacted"] == ["secret", "card", "email"]
        assert client.put("/v1/sources/made", json={"brief": "b", "redact": []}).status_code == 409, "it has cases"
        assert client.put("/v1/sources/made", json={"brief": "c"}).json()["redacted"], "it stays so"
        without_values(*(answer.text for answer in answers))
        talk = [
            {"type": "human", "content": f"texts> {unknown}"},
            {"type": "ai", "content": "ok"},
            {"type": "human", "content": f"what was the trend since the one of {MAIL} with password={SECRET}?"},
        ]
        client.post("/chain/invoke", json={"input": {"messages": talk}})
        openai = [{"role": {"human": "user", "ai": "assistant"}[str(m["type"])], "content": m["content"]} for m in talk]
        client.post("/v1/chat/completions", json={"model": "precedent", "messages": openai})
    logged = capfd.readouterr()
    without_values(logged.out, logged.err)
    assert recorder.sent("/v1/traces"), "spans were sent"
    assert b'"tools"' in recorder.sent("/api/chat"), "the agent's model was queried"
    recorder.assert_clean()
    assert_nowhere(learned)


def test_no_remembered_message_and_no_draft(learned: Path, address: str, recorder: Recorder) -> None:
    context = AppContext(chosen(learned, address))
    chat = with_memory(build_chat(context, build(context).invoke), context)
    session: Any = {"configurable": {"session_id": "1"}}
    for message in (f"texts> {text(10)}", "why?", f"and {MAIL} password={SECRET}?", "texts> " + " ".join(KEY)):
        chat.invoke([HumanMessage(message)], session)
    draft_brief(context.language_detector().model, context.casebook, "texts")
    context.close()
    recorder.assert_clean()
    assert_nowhere(learned)


def test_no_answer_of_mcp_on_standard_streams(learned: Path, recorder: Recorder) -> None:
    calls = [
        {"method": "initialize", "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": CLIENT}},
        {"method": "tools/call", "params": {"name": "judge", "arguments": {"records": [text(10)], "source": "texts"}}},
        {"method": "tools/call", "params": {"name": "history", "arguments": {"source": "texts"}}},
    ]
    sent = [{"jsonrpc": "2.0", "id": number, **call} for number, call in enumerate(calls)]
    sent.insert(1, {"jsonrpc": "2.0", "method": "notifications/initialized"})
    ran = subprocess.run(
        [Path(sys.executable).with_name("precedent"), "mcp"],
        input="".join(f"{json.dumps(call)}\n" for call in sent),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "verdicts" in ran.stdout, ran.stderr
    without_values(ran.stdout, ran.stderr, *keys(learned))
    recorder.assert_clean()
    assert_nowhere(learned)


CLIENT = {"name": "tests", "version": "1"}
