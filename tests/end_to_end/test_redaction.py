"""What a source redacts is nowhere: not in the data directory, not in an output, not in an answer, by any entrance."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from sse_starlette.sse import AppStatus
from starlette.testclient import TestClient

from agent import judge_frame
from agent.data.read_options import ReadOptions
from agent.pipeline.context import AppContext
from agent.training.learn import learn
from server import create_app
from tests.conftest import Run, make_settings

SECRET, MAIL, CARD = "Zq7uniqueSecret", "unique.person@corp.example", "4111111111111111"
KEY = [
    "-----BEGIN PRIVATE KEY-----",
    "MIIEuniqueKeyBAAKCAQEAu1SU1LfVLPHCozMx",
    "dW5pcXVlVGFpbA==",
    "-----END PRIVATE KEY-----",
]
VALUES = (SECRET, MAIL, CARD, KEY[1], KEY[2])
KINDS = ("secret", "card", "iban", "email", "phone")


def text(number: int) -> str:
    if number % 10 == 0:
        return f"login failed for {MAIL} password={SECRET} attempt {number}"
    return f"payment {number} by card {CARD} of {MAIL} accepted" if number % 2 else f"heartbeat {number} of node a ok"


def label(number: int) -> str:
    return "bad" if number % 10 == 0 else "normal"


def write(folder: Path, count: int = 120) -> None:
    """A log with entries over several lines, a table, a table of texts in three formats, and sessions."""
    lines = [f"2026-01-02 03:04:05 {label(n)} {text(n)}" for n in range(count)]
    lines[7:8] = [lines[7] + " key:", *("  " + line for line in KEY)]
    (folder / "a.log").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with (folder / "table.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["label", "amount", "user", "password", "card"])
        for n in range(count):
            amount = 900 + n if n % 10 == 0 else n % 9
            table.writerow([label(n), amount, MAIL if n % 3 else "no", f"{SECRET} {n}", CARD if n % 4 else ""])
    cells = pl.read_csv(folder / "table.csv")
    cells.write_parquet(folder / "table.parquet")
    cells.write_ndjson(folder / "table.jsonl")
    texts = pl.DataFrame({"label": map(label, range(count)), "text": map(text, range(count))})
    texts.write_csv(folder / "texts.csv")
    texts.write_ndjson(folder / "texts.jsonl")
    texts.write_parquet(folder / "texts.parquet")
    sessions = [
        {"label": label(n), "events": ["open", f"login {MAIL}", f"token={SECRET}" if n % 10 == 0 else "ok", "close"]}
        for n in range(count)
    ]
    (folder / "sessions.jsonl").write_text("\n".join(map(json.dumps, sessions)), encoding="utf-8")


def assert_nowhere(*folders: Path) -> None:
    for path in (path for folder in folders for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        assert not [value for value in VALUES if value.encode() in content], path


def keys(home: Path) -> list[str]:
    with sqlite3.connect(home / "precedent.db") as store:
        return [json.loads(reading)["redact"]["key"] for (reading,) in store.execute("SELECT reading FROM sources")]


FILES = {
    "a.log": ("--label", "2"),
    "table.csv": ("--label", "label"),
    "table.parquet": ("--label", "label"),
    "table.jsonl": ("--label", "label"),
    "texts.csv": ("--label", "label", "--text", "text"),
    "texts.jsonl": ("--label", "label", "--text", "text"),
    "texts.parquet": ("--label", "label", "--text", "text"),
    "sessions.jsonl": ("--label", "label"),
}


@pytest.mark.parametrize("name", FILES)
def test_values_of_files_are_nowhere(run: Run, tmp_path: Path, name: str) -> None:
    inputs, home, out = tmp_path / "in", tmp_path / "home", tmp_path / "out"
    inputs.mkdir()
    out.mkdir()
    write(inputs)
    file = inputs / name
    said = [run("learn", file, "--source", "s", "--brief", "b", "--redact", "default", *FILES[name])]
    assert said[0].code == 0, said[0].err
    found = dict[str, list[dict[str, Any]]]()
    for detail in ("compact", "full"):
        for form in ("jsonl", "csv"):
            written = out / f"{detail}.{form}"
            said.append(run("judge", file, "--source", "s", "--detail", detail, "--to", form, "--output", written))
        found[detail] = [json.loads(line) for line in (out / f"{detail}.jsonl").read_text("utf-8").splitlines()]
    said += [
        run("judge", file, "--source", "s", "--to", "jsonl", "--report", out / "report.html"),
        run("evaluate", file, "--source", "s", *FILES[name][:2], "--report", out / "evaluation.html"),
        run("sources", "show", "s"),
        run("sources", "show", "s", "--json"),
        run("cases", "list", "--source", "s"),
        run("learn", file, "--source", "t", "--dry-run", "--redact", "default", *FILES[name]),
    ]
    for result in said:
        assert not [value for value in (*VALUES, *keys(home)) if value in result.out + result.err]
    assert_nowhere(home, out)
    assert [key for key in keys(home) for path in out.iterdir() if key in path.read_text("utf-8")] == []
    assert "redacted: secret, iban, card, email, phone" in said[-4].out
    # by array and one by one
    assert len(found["compact"]) == len(found["full"]) == 120
    for one, other in zip(found["compact"], found["full"], strict=True):
        assert one["label"] == other["label"]
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-6)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    write(tmp_path)
    context = AppContext(make_settings(tmp_path / "home", model="none"))
    for name, file, columns in (("tables", "table.csv", ()), ("texts", "texts.csv", ("text",))):
        learn(context, [tmp_path / file], name, ReadOptions(label="label", text=columns), brief="b", redact=KINDS)
    context.close()
    AppStatus.should_exit_event = None
    with TestClient(create_app(make_settings(tmp_path / "home", model="none")), base_url="http://127.0.0.1") as made:
        yield made


def test_values_of_requests_are_nowhere(client: TestClient, tmp_path: Path) -> None:
    row = {"amount": 5, "user": MAIL, "password": f"{SECRET} 1", "card": int(CARD)}
    answers = [
        client.post("/v1/verdicts", json={"source": "texts", "text": text(10), "file": f"home/{MAIL}/x.log"}),
        client.post("/v1/verdicts", json={"source": "tables", "fields": row}),
        client.post("/v1/verdicts", json={"source": "tables", "fields": {**row, MAIL: 1}}),
        client.post("/v1/verdicts", json={"source": "tables", "text": f"5,{MAIL},{SECRET},{CARD}"}),
        client.post("/v1/verdicts", json={"source": "texts", "events": [text(10), f"token={SECRET}"]}),
        client.post(
            "/v1/verdicts",
            content=json.dumps({"source": "texts", "text": text(20)}) + "\n",
            headers={"content-type": "application/x-ndjson"},
        ),
        client.post(
            "/v1/cases", json={"source": "texts", "cases": [{"record": {"text": text(30)}, "label": "normal"}]}
        ),
        client.post("/verdict/invoke", json={"input": {"source": "texts", "text": text(40)}}),
        client.get("/v1/sources"),
        client.get("/v1/sources/texts"),
        client.get("/openapi.json"),
        client.get("/metrics"),
    ]
    verdict = answers[0].json()
    answers.append(client.post(f"/v1/verdicts/{verdict['id']}/feedback", json={"label": "normal"}))
    record = {"body": {"stringValue": text(50)}, "attributes": [{"key": "user", "value": {"stringValue": MAIL}}]}
    resource = {"attributes": [{"key": "precedent.source", "value": {"stringValue": "texts"}}]}
    sent = {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": [record]}]}]}
    answers.append(client.post("/otlp/v1/logs", json=sent))
    arguments = {"records": [{"text": text(60)}], "source": "texts"}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "judge", "arguments": arguments}}
    answers.append(client.post("/mcp", json=call, headers={"accept": "application/json, text/event-stream"}))
    said = f"texts> {text(70)}"
    answers.append(client.post("/chain/invoke", json={"input": {"messages": [{"type": "human", "content": said}]}}))
    for answer in answers:
        assert answer.status_code < 300, (answer.request.url, answer.text)
        assert not [value for value in (*VALUES, *keys(tmp_path / "home")) if value in answer.text], answer.request.url
    client.close()
    assert_nowhere(tmp_path / "home")


def test_a_record_is_judged_alike_by_file_and_by_request(client: TestClient, tmp_path: Path, run: Run) -> None:
    for name, file in (("tables", "table.csv"), ("texts", "texts.csv")):
        rows = list(csv.DictReader((tmp_path / file).open(encoding="utf-8")))[:12]
        forms = [
            {"text": row["text"]} if name == "texts" else {"fields": {k: v for k, v in row.items() if k != "label"}}
            for row in rows
        ]
        served = [client.post("/v1/verdicts", json={"source": name, **form}).json() for form in forms]
        result = run("judge", tmp_path / file, "--source", name, "--to", "jsonl", "--detail", "full")
        judged = [json.loads(line) for line in result.out.splitlines()[:12]]
        for one, other in zip(judged, served, strict=True):
            assert one["record"]["text"] == other["record"]["text"]
            assert one["label"] == other["label"]
            assert one["probability"] == pytest.approx(other["probability"], abs=1e-6)


def test_values_of_frames_are_nowhere(tmp_path: Path) -> None:
    write(tmp_path)
    context = AppContext(make_settings(tmp_path / "home", model="none"))
    learn(context, [tmp_path / "table.csv"], "s", ReadOptions(label="label"), brief="b", redact=KINDS)
    frame = judge_frame(pl.read_csv(tmp_path / "table.csv").drop("label"), source="s", context=context)
    context.close()
    assert len(frame) == 120
    assert_nowhere(tmp_path / "home")


def test_a_source_with_cases_keeps_what_it_redacts(run: Run, tmp_path: Path) -> None:
    write(tmp_path)
    file = tmp_path / "texts.csv"
    options = ("--label", "label", "--text", "text")
    assert run("learn", file, "--source", "clear", *options).code == 0
    refused = run("learn", file, "--source", "clear", "--redact", "default", *options)
    assert refused.code == 2
    assert "into a new source" in refused.err
    assert run("learn", file, "--source", "s", "--redact", "email,secret", *options).code == 0
    key = _key_of("s", tmp_path)
    assert run("learn", file, "--source", "s", "--redact", "none", *options).code == 2
    assert run("learn", file, "--source", "s", "--redact", "secret, email", *options).code == 0
    # the same values have the same placeholders: nothing is added
    assert "0 new" in (again := run("learn", file, "--source", "s", *options)).out or "0 " in again.out
    assert _key_of("s", tmp_path) == key
    wrong = run("learn", file, "--source", "x", "--redact", "emails", *options)
    assert wrong.code == 2
    assert "emails" in wrong.err


def _key_of(source: str, folder: Path) -> str:
    with sqlite3.connect(folder / "home" / "precedent.db") as store:
        ((reading,),) = store.execute("SELECT reading FROM sources WHERE name = ?", (source,))
    return str(json.loads(reading)["redact"]["key"])
