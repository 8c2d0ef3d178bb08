"""Files that are judged in the console: uploads, rows by filter and order, whole verdicts, exports."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from agent.api.console.jobs import KEPT, Job, file_name
from agent.api.state import ServerState
from agent.data.read_options import ReadOptions
from tests.served import eventually
from tests.shop import ANOMALOUS, NORMAL

FORMULA = "=HYPERLINK('http://evil.example') is what a customer is called"
LINES = [NORMAL, ANOMALOUS, FORMULA, NORMAL, "<b>GET</b> /basket/4711 200 in 12 ms"]


def upload(client: TestClient, content: bytes, name: str = "shop.log") -> dict[str, Any]:
    answer = client.put("/console/uploads", params={"name": name}, content=content)
    assert answer.status_code == 200, answer.text
    sent: dict[str, Any] = answer.json()
    return sent


@pytest.fixture(scope="module")
def state(client: TestClient) -> ServerState:
    assert eventually(lambda: client.get("/readyz").status_code == 200)
    state = client.app.state.server  # type: ignore[attr-defined]
    assert isinstance(state, ServerState)
    return state


def judged(client: TestClient, state: ServerState, lines: list[str], source: str = "shop") -> Job:
    sent = state.jobs.upload(upload(client, "\n".join(lines).encode())["upload"])
    assert sent is not None
    job = state.jobs.start(state.context, sent, source, ReadOptions(format="log"))
    assert eventually(lambda: job.state != "running")
    return job


@pytest.fixture(scope="module")
def job(client: TestClient, state: ServerState) -> Job:
    job = judged(client, state, LINES)
    assert (job.state, job.problem) == ("done", None)
    return job


def rows(client: TestClient, job: Job, **query: object) -> dict[str, Any]:
    answer = client.get(f"/console/jobs/{job.id}/rows", params=query)  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_rows_are_the_records_in_their_order(client: TestClient, job: Job) -> None:
    body = rows(client, job)
    assert body["total"] == 5
    assert [row["text"] for row in body["rows"]] == LINES
    assert [row["line"] for row in body["rows"]] == [1, 2, 3, 4, 5]
    assert [row["label"] for row in body["rows"][:2]] == ["normal", "anomalous"]
    assert all(row["why"] for row in body["rows"])


def test_rows_come_by_page_filter_search_and_order(client: TestClient, job: Job) -> None:
    assert [row["line"] for row in rows(client, job, start=1, end=3)["rows"]] == [2, 3]
    filtered = rows(client, job, labels="anomalous,unsure")
    assert {row["label"] for row in filtered["rows"]} <= {"anomalous", "unsure"}
    assert filtered["total"] < 5
    assert [row["line"] for row in rows(client, job, search="BASKET/4711")["rows"]] == [1, 4, 5]
    assert rows(client, job, search="[")["total"] == 0
    down = [row["probability"] for row in rows(client, job, sort="probability", descending=True)["rows"]]
    assert down == sorted(down, reverse=True)
    assert client.get(f"/console/jobs/{job.id}/rows", params={"sort": "body"}).status_code == 422
    assert client.get("/console/jobs/none/rows").status_code == 404
    for address in (f"/console/jobs/{job.id}/rows?", "/console/cases?source=shop&"):
        for place in ("start", "end"):
            assert client.get(f"{address}{place}=99999999999999999999").status_code == 422


def test_a_row_has_its_whole_verdict_with_the_uploads_name(job: Job) -> None:
    verdict = job.verdict(1)
    assert (verdict.record.text, verdict.record.file, verdict.record.line) == (ANOMALOUS, "shop.log", 2)
    assert verdict.label == "anomalous"
    assert verdict.precedents
    for none in (-1, 5):
        with pytest.raises(IndexError):
            job.verdict(none)


def test_exports_hold_every_record(client: TestClient, job: Job) -> None:
    address = f"/console/jobs/{job.id}/verdicts"
    lines = client.get(f"{address}.jsonl").text.splitlines()
    assert [json.loads(line)["record"]["text"] for line in lines] == LINES
    table = list(csv.DictReader(io.StringIO(client.get(f"{address}.csv").text)))
    assert [row["text"] for row in table if row["line"] != "3"] == [*LINES[:2], *LINES[3:]]
    assert all(row["id"].startswith("v") and row["why"] for row in table)
    report = client.get(f"{address}.html")
    assert "disk failure" in report.text
    assert report.headers["content-disposition"].startswith("attachment")
    assert report.headers["content-security-policy"] == "sandbox"


def test_a_spreadsheet_runs_no_formula_of_a_record(client: TestClient, job: Job) -> None:
    table = list(csv.DictReader(io.StringIO(client.get(f"/console/jobs/{job.id}/verdicts.csv").text)))
    assert table[2]["text"] == "'" + FORMULA


def test_a_file_of_a_source_that_is_missing_fails_and_says_so(client: TestClient, state: ServerState) -> None:
    job = judged(client, state, LINES, source="nowhere")
    assert job.state == "failed"
    assert "nowhere" in (job.problem or "")
    assert client.get(f"/console/jobs/{job.id}/verdicts.csv").status_code == 409


def test_an_upload_that_arrives_slowly_is_kept(client: TestClient, state: ServerState) -> None:
    slow = state.jobs.new_upload("slow.log")
    for number in range(KEPT + 2):
        assert client.put(f"/console/uploads?name=refused-{number}.log", content=b"").status_code == 422
        upload(client, b"another")
    assert slow.folder.is_dir()
    assert not list(slow.folder.parent.rglob("refused-*")), "what was refused is gone"
    slow.path.write_bytes(b"whole")
    state.jobs.add_upload(slow)
    assert state.jobs.upload(slow.id) is slow


def test_an_empty_or_a_cut_upload_is_refused(client: TestClient) -> None:
    assert client.put("/console/uploads?name=a.log", content=b"").status_code == 422
    long = client.put("/console/uploads?name=a", content=b"a", headers={"Content-Length": str(101 * 2**20)})
    assert long.status_code == 413


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("a.log", "a.log"),
        ("../../etc/passwd", "passwd"),
        ("C:\\logs\\a b.log", "a b.log"),
        ("..", "records"),
        ("", "records"),
        ("-", "records"),
        ("a\0\nb.csv", "a�b.csv"),
        ("한국어 로그.csv", "한국어 로그.csv"),
        ("x" * 300 + ".jsonl.gz", "x" * 51 + ".jsonl.gz"),
    ],
)
def test_names_of_files_keep_to_their_folder(sent: str, name: str) -> None:
    assert file_name(sent) == name


def test_uploads_that_nobody_judges_do_not_pile_up(client: TestClient, state: ServerState) -> None:
    first = state.jobs.upload(upload(client, b"first")["upload"])
    assert first is not None
    for _ in range(KEPT + 1):
        upload(client, b"another")
    assert state.jobs.upload(first.id) is None
    assert not first.folder.exists()
