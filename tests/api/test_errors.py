"""Errors over HTTP: in words, without advice for the command line; what is unexpected is logged once."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from agent.core.settings import Settings
from agent.pipeline.context import AppContext
from server import create_app
from tests.served import HOST, eventually

QUOTED = "a private record"
NDJSON = {"content-type": "application/x-ndjson"}


def test_rest_gives_no_advice_for_the_command_line(copy_of: Callable[..., Settings], tmp_path: Path) -> None:
    empty = copy_of(model="none").model_copy(update={"home": tmp_path / "empty"})
    with TestClient(create_app(empty), base_url=HOST) as client:
        answers = [
            client.post("/v1/verdicts", json={"text": "a"}),
            client.post("/v1/verdicts", json={"text": "a", "source": "shop"}),
            client.get("/v1/sources/shop"),
            client.get("/v1/verdicts/v000000000000"),
            client.post("/verdict/invoke", json={"input": {"text": "a"}}),
            client.post("/chain/invoke", json={"input": {"messages": [{"type": "human", "content": "sources"}]}}),
            client.post("/chain/invoke", json={"input": {"messages": [{"type": "human", "content": "a record"}]}}),
            client.post("/v1/verdicts", content=b'{"text": "a"}\n', headers=NDJSON),
        ]
    for answer in answers:
        assert not re.search(r"precedent [a-z]+|--[a-z]", answer.text), answer.text


def test_lines_of_a_stream_are_refused_in_plain_sentences(client: TestClient) -> None:
    lines = [b"not json", b'{"text": "a" "b"}', b"[" * 100_000, b'{"text": "\xff"}', b"1" * 5_000, b'{"text": 5}']
    answer = client.post("/v1/verdicts", content=b"\n".join(lines), headers=NDJSON)
    errors = [json.loads(line)["error"] for line in answer.text.splitlines()]
    assert errors == [
        "line 1: it is not valid JSON (see column 1)",
        "line 2: it is not valid JSON (see column 14)",
        "line 3: it is not valid JSON here: it is nested too deeply",
        "line 4: it is not valid JSON: byte 11 is not UTF-8",
        "line 5: it is not valid JSON here: a number has too many digits",
        "line 6: text: must be a text",
    ]


def test_a_store_that_breaks_is_a_503_in_words(copy_of: Callable[..., Settings]) -> None:
    chosen = copy_of(model="none")
    with TestClient(create_app(chosen), base_url=HOST, raise_server_exceptions=False) as client:
        assert eventually(lambda: client.get("/readyz").status_code == 200)
        with sqlite3.connect(chosen.home / "precedent.db") as store:
            store.execute("PRAGMA foreign_keys = OFF")
            for (table,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                if not table.startswith("sqlite_"):
                    store.execute(f'ALTER TABLE "{table}" RENAME TO "lost_{table}"')
        store.close()
        answers = [client.get("/v1/verdicts/v000000000000"), client.post("/v1/verdicts", json={"text": "never seen"})]
        answers.append(client.put("/v1/sources/new", json={"brief": "New."}))
    for answer in answers:
        assert answer.status_code == 503, answer.text
        assert answer.json()["detail"]


def test_readiness_says_what_broke_while_loading(copy_of: Callable[..., Settings], tmp_path: Path) -> None:
    """An error that nobody expected too: here the embedding model's folder holds other files."""
    (tmp_path / "config.json").write_text("{")
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with TestClient(create_app(copy_of(model="none", embedder=str(tmp_path))), base_url=HOST) as client:
        assert eventually(lambda: "loaded" not in client.get("/readyz").json()["detail"])
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert len(answer.json()["detail"]) > 20


@pytest.mark.parametrize("error", [RuntimeError("the disk is on fire"), SystemExit(3), MemoryError()], ids=type)
@pytest.mark.parametrize("part", ["embedder", "language_detector"])
def test_readiness_says_that_the_loading_thread_died(
    copy_of: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, error: BaseException, part: str
) -> None:
    def die(self: AppContext) -> Any:
        raise error

    monkeypatch.setattr(AppContext, part, die)
    with TestClient(create_app(copy_of()), base_url=HOST) as client:
        assert eventually(lambda: type(error).__name__ in client.get("/readyz").text)
        assert client.get("/readyz").status_code == 503


def test_an_unexpected_error_is_a_500_that_leads_to_its_one_traceback(
    copy_of: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def stumble(self: AppContext, name: str) -> Any:
        raise ZeroDivisionError(f"while reading {QUOTED}")

    with TestClient(create_app(copy_of(model="none")), base_url=HOST, raise_server_exceptions=False) as client:
        # loading reads sources too
        assert eventually(lambda: client.get("/readyz").status_code == 200)
        capfd.readouterr()
        monkeypatch.setattr(AppContext, "source", stumble)
        answer = client.get("/v1/sources/shop", headers={"x-request-id": "abc-123"})
    assert answer.status_code == 500
    assert answer.json() == {"detail": "internal error; the server's log has the details of request abc-123"}
    logged = capfd.readouterr().err
    assert logged.count("request failed") == 1
    # the thread that measures drift reads sources too, once a minute
    assert logged.count("builtins.ZeroDivisionError") == 1 + logged.count("drift was not measured")
    assert "test_errors.py" in logged
    assert QUOTED not in logged, "its message may quote a record"


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/v1/verdicts", {"text": 5}, "must be a text"),
        ("/v1/verdicts", {"text": "a", "colour": 1}, "is not a key of this object"),
        ("/v1/verdicts", {"records": []}, "must not be empty"),
        ("/v1/verdicts", {"text": "a", "fields": []}, "must be an object"),
        ("/v1/verdicts", {"text": "a", "line": "x"}, "must be a whole number"),
        ("/v1/cases", {"source": "svc"}, "is required"),
        ("/v1/verdicts/x/feedback", {"label": "strange"}, "must be 'normal' or 'anomalous'"),
    ],
)
def test_what_is_wrong_with_a_body_is_said_in_words(client: TestClient, path: str, body: object, message: str) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code == 422
    detail = answer.json()["detail"]
    assert message in (detail if isinstance(detail, str) else detail[0]["msg"])
    assert not any(word in answer.text for word in ("Input should", "Field required", "permitted", "valid"))
