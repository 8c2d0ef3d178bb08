"""One record, one verdict: files, Python, REST, NDJSON, LangServe and the chat read the same row alike."""

from __future__ import annotations

import csv
import json
import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sse_starlette.sse import AppStatus
from starlette.testclient import TestClient

from agent import judge_frame
from agent.core.records import Record
from agent.data.read_options import ReadOptions
from agent.data.readers import ParsedRow
from agent.pipeline.context import AppContext
from agent.pipeline.history import find_verdicts, load_verdict
from agent.pipeline.pipeline import build
from agent.pipeline.service import judge_many
from agent.training.learn import learn
from server import create_app
from tests import shop
from tests.conftest import make_settings

NAMES = ("speed", "load", "line")
NDJSON = {"content-type": "application/x-ndjson"}


def rows(count: int) -> list[list[str]]:
    rng = random.Random(11)
    return [
        [f"{rng.gauss(90 if i % 9 == 8 else 40, 4):.1f}", str(rng.randint(2, 9)), rng.choice(["north", "south"])]
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a source learned from a table with a row number, and room for files to judge."""
    folder = tmp_path_factory.mktemp("doors")
    with (folder / "learn.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["", *NAMES, "fault"])
        table.writerows([i, *row, int(i % 9 == 8)] for i, row in enumerate(rows(120)))
    context = AppContext(make_settings(folder / "home", model="none"))
    learn(context, [folder / "learn.csv"], "belts", ReadOptions(label="fault"))
    context.close()
    return folder


@pytest.fixture(scope="module")
def context(folder: Path) -> Iterator[AppContext]:
    context = AppContext(make_settings(folder / "home", model="none"))
    yield context
    context.close()


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[TestClient]:
    AppStatus.should_exit_event = None
    with TestClient(create_app(make_settings(folder / "home", model="none")), base_url="http://127.0.0.1") as client:
        yield client


def of_file(folder: Path, context: AppContext, name: str, content: str) -> dict[str, Any]:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    options = ReadOptions.model_validate(context.source("belts").reading)
    records = [row.record for row in options.read_unlabelled(path, 65_536) if isinstance(row, ParsedRow)]
    (verdict,) = judge_many(context, build(context), records, "belts")
    return verdict.model_dump(mode="json")  # type: ignore[union-attr]


def by_mcp(client: TestClient, form: dict[str, Any]) -> dict[str, Any]:
    arguments = {"records": [form], "source": "belts"}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "judge", "arguments": arguments}}
    answer = client.post("/mcp", json=call, headers={"accept": "application/json, text/event-stream"}).json()
    verdict: dict[str, Any] = answer["result"]["structuredContent"]["verdicts"][0]
    return verdict


def any_value(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return {"kvlistValue": {"values": [{"key": name, "value": any_value(part)} for name, part in value.items()]}}
    return {"stringValue": value} if isinstance(value, str) else {"doubleValue": value}


def by_otlp(client: TestClient, context: AppContext, body: Any, attributes: dict[str, Any]) -> dict[str, Any]:
    pairs = [{"key": name, "value": any_value(value)} for name, value in attributes.items()]
    record = {**({} if body is None else {"body": any_value(body)}), "attributes": pairs}
    resource = {"attributes": [{"key": "precedent.source", "value": {"stringValue": "belts"}}]}
    sent = {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": [record]}]}]}
    before = datetime.now(UTC)
    assert client.post("/otlp/v1/logs", json=sent).json() == {}
    (past,) = find_verdicts(context, since=before, limit=2)
    return past.verdict.model_dump(mode="json")


def history(context: AppContext, verdict_id: str) -> dict[str, Any]:
    return load_verdict(context, verdict_id).model_dump(mode="json")


def everywhere(folder: Path, context: AppContext, client: TestClient, cells: list[str]) -> Iterator[dict[str, Any]]:
    """The verdicts on a row through each door, in each form that the door takes."""
    texts = dict(zip(NAMES, cells, strict=True))
    numbers = {"speed": float(cells[0]), "load": float(cells[1]), "line": cells[2]}
    words = " ".join(f"{name} is {cell}" for name, cell in texts.items())
    yield of_file(folder, context, "one.csv", f"{','.join(NAMES)}\n{','.join(cells)}\n")
    yield of_file(folder, context, "numbered.csv", f",{','.join(NAMES)},fault\n7,{','.join(cells)},\n")
    yield of_file(folder, context, "texts.jsonl", json.dumps(texts))
    yield of_file(folder, context, "numbers.jsonl", json.dumps(dict(reversed(numbers.items()))))
    yield of_file(folder, context, "one.log", words)
    yield of_file(folder, context, "row.log", ",".join(cells))
    chain = build(context)
    sent: list[dict[str, Any]] = [
        {"fields": texts},
        {"fields": numbers},
        {"text": words},
        {"text": words, "fields": texts},
        {"text": ",".join(cells)},
        {"text": "; ".join(cells)},
    ]
    sent.append({"fields": {**dict(reversed(numbers.items())), "fault": "1", "0": 3}})
    for form in sent:
        request = {"source": "belts", **form}
        yield chain.invoke(request).model_dump(mode="json")
        yield chain.invoke({"source": "belts", "record": Record(**{"text": "", **form}).model_dump()}).model_dump(
            mode="json"
        )
        yield client.post("/v1/verdicts", json=request).json()
        yield json.loads(client.post("/v1/verdicts", content=json.dumps(request), headers=NDJSON).text)
        yield client.post("/verdict/invoke", json={"input": request}).json()["output"]
        yield client.post("/v1/verdicts", json={"source": "belts", "records": [form]}).json()[0]
        yield client.post("/v1/verdicts", json=[request]).json()[0]
        yield by_mcp(client, form)
    for frame in (
        pl.DataFrame([numbers]),
        pl.DataFrame([texts]),
        pd.DataFrame([numbers]),
        pl.DataFrame({"row": [words]}),
    ):
        yield history(context, judge_frame(frame, "belts", context=context)["verdict_id"][0])
    for body in (texts, numbers, words, json.dumps(numbers), ",".join(cells)):
        yield by_otlp(client, context, body, {})
    yield by_otlp(client, context, None, numbers)
    for message in (words, ",".join(cells), json.dumps(texts), json.dumps(numbers)):
        said = client.post(
            "/chain/invoke", json={"input": {"messages": [{"type": "human", "content": f"belts> {message}"}]}}
        )
        found = re.match(r"verdict (v\w+)", said.json()["output"])
        assert found
        yield client.get(f"/v1/verdicts/{found[1]}").json()


@settings(max_examples=6)
@given(
    speed=st.one_of(st.floats(20, 60), st.floats(70, 120)).map(lambda value: f"{value:.1f}"),
    load=st.integers(0, 12).map(str),
    line=st.sampled_from(["north", "south", "east"]),
)
def test_a_row_has_one_verdict_whichever_door(
    folder: Path, context: AppContext, client: TestClient, speed: str, load: str, line: str
) -> None:
    verdicts = list(everywhere(folder, context, client, [speed, load, line]))
    assert {verdict["label"] for verdict in verdicts} == {verdicts[0]["label"]}
    assert [verdict["probability"] for verdict in verdicts] == pytest.approx(
        [verdicts[0]["probability"]] * len(verdicts)
    )
    assert all(verdict["record"]["fields"] == verdicts[0]["record"]["fields"] for verdict in verdicts)
    assert all(verdict["record"]["text"] == verdicts[0]["record"]["text"] for verdict in verdicts)


def test_a_case_is_known_through_each_door(folder: Path, context: AppContext, client: TestClient) -> None:
    """The label of a row that was learned decides, however the row is written."""
    for cells in rows(10)[-2:]:
        verdicts = list(everywhere(folder, context, client, cells))
        assert len({verdict["probability"] for verdict in verdicts}) == 1
        assert verdicts[0]["precedents"][0]["similarity"] == pytest.approx(1)


@pytest.mark.parametrize("text", ["40.1", "40.1,3", "40.1,3,north,7", "north,3,40.1", "a, b, c", "nothing of a belt"])
def test_a_text_of_which_a_source_of_rows_reads_nothing_is_unsure(client: TestClient, text: str) -> None:
    verdict = client.post("/v1/verdicts", json={"source": "belts", "text": text}).json()
    assert verdict["label"] == "unsure"
    assert "no value of load, speed, line, which the cases have" in "; ".join(verdict["degraded"])


def test_a_row_that_is_read_by_the_order_of_its_values_says_so(client: TestClient) -> None:
    verdict = client.post("/v1/verdicts", json={"source": "belts", "text": "40.1,3,north"}).json()
    named = "fields: the text is read as a row, its values as those of speed, load, line in this order"
    assert (verdict["label"], verdict["degraded"]) == ("normal", [named])


def test_a_batch_takes_sessions_and_rows_without_a_text(client: TestClient) -> None:
    fields = {"speed": 40.0, "load": 3, "line": "north"}
    records = [{"fields": fields}, {"events": ["start", "stop"]}, "40,3,north", {"text": "", "fields": fields}]
    sent = {"source": "belts", "records": records}
    answers = client.post("/v1/verdicts", json=sent).json()
    assert [answer["label"] for answer in answers] == ["normal", "unsure", "normal", "normal"]
    assert client.post("/v1/verdicts", json={"source": "belts", "records": [{}]}).status_code == 422


def test_a_labelled_log_line_loses_its_label_as_in_a_file(
    folder: Path, context: AppContext, client: TestClient
) -> None:
    path = folder / "shop.log"
    path.write_text(shop.LOG, encoding="utf-8")
    learn(context, [path], "shop", ReadOptions(format="log", label="0", normal=("-",)))
    for line in ("- health check passed in 77 ms", "FAULT disk failure on sd77: input/output error, 9 sectors lost"):
        labelled = client.post("/v1/verdicts", json={"source": "shop", "text": line}).json()
        bare = client.post("/v1/verdicts", json={"source": "shop", "text": line.partition(" ")[2]}).json()
        assert labelled == {**bare, "elapsed_ms": labelled["elapsed_ms"]}
        assert labelled["record"]["text"] == line.partition(" ")[2]
    for line in ("- - -", "FAULT", "a - b", "FAULTY disk failure on sd1"):
        assert client.post("/v1/verdicts", json={"source": "shop", "text": line}).json()["record"]["text"] == line
