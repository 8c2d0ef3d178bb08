"""Cases over HTTP and by command: listed, shown, relabelled, deleted, undone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from agent.core.settings import Settings
from agent.training.cases import relabel_case
from server import create_app
from tests.conftest import Run
from tests.served import HOST
from tests.shop import ANOMALOUS, LOG, NORMAL


@pytest.fixture
def fresh(copy_of: Callable[..., Settings]) -> Iterator[TestClient]:
    with TestClient(create_app(copy_of(model="none")), base_url=HOST, raise_server_exceptions=False) as made:
        yield made


def test_a_case_is_listed_relabelled_deleted_and_brought_back(fresh: TestClient) -> None:
    page = fresh.get("/v1/cases", params={"source": "shop", "label": "anomalous", "text": "disk failure"}).json()
    assert page["total"] == 6
    case = page["cases"][0]
    path = f"/v1/cases/{case['case_id']}"
    assert fresh.get(path).json() == {**case, "history": []}
    changed = fresh.patch(path, json={"label": "normal"}).json()
    assert (changed["label"], changed["given_by"], changed["history"][0]["changed_by"]) == ("normal", "API", "API")
    assert fresh.delete(path).json()["label"] == "normal"
    assert fresh.get(path).status_code == 404
    assert fresh.get("/v1/sources/shop").json()["cases"] == {"normal": 36, "anomalous": 23}
    assert [fresh.delete(f"{path}/changes/last").json()["action"] for _ in range(2)] == ["deleted", "relabelled"]
    assert fresh.get(path).json()["label"] == "anomalous"
    assert fresh.delete(f"{path}/changes/last").status_code == 409


def test_feedback_is_taken_back(fresh: TestClient) -> None:
    verdict = fresh.post("/v1/verdicts", json={"text": NORMAL}).json()
    path = f"/v1/verdicts/{verdict['id']}/feedback"
    case_id = fresh.post(path, json={"label": "anomalous"}).json()["case_id"]
    assert fresh.post("/v1/verdicts", json={"text": NORMAL}).json()["label"] == "anomalous"
    undone = fresh.delete(path).json()
    assert (undone["case_id"], undone["label_before"], undone["verdict_id"]) == (case_id, None, verdict["id"])
    assert fresh.get(f"/v1/cases/{case_id}").status_code == 404
    assert fresh.post("/v1/verdicts", json={"text": NORMAL}).json()["label"] == "normal"


def test_a_change_is_undone_by_its_client_or_by_its_own_id(fresh: TestClient) -> None:
    page = fresh.get("/v1/cases", params={"text": "disk failure"}).json()
    case_id = page["cases"][0]["case_id"]
    context = fresh.app.state.server.context  # type: ignore[attr-defined]
    relabel_case(context, case_id, "normal", "console")
    refused = fresh.delete(f"/v1/cases/{case_id}/changes/last")
    assert refused.status_code == 409
    assert "not by API but by console" in refused.text
    (change,) = fresh.get(f"/v1/cases/{case_id}").json()["history"]
    undone = fresh.delete(f"/v1/cases/changes/{change['change_id']}").json()
    assert (undone["changed_by"], undone["label_before"]) == ("console", "anomalous")
    fresh.patch(f"/v1/cases/{case_id}", json={"label": "normal"})
    assert fresh.delete(f"/v1/cases/{case_id}/changes/last").json()["changed_by"] == "API"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/cases?source=nope", 404),
        ("GET", "/v1/cases?label=odd", 422),
        ("GET", "/v1/cases?limit=0", 422),
        ("GET", "/v1/cases/c9999", 404),
        ("GET", "/v1/cases/x%00", 404),
        ("DELETE", "/v1/cases/c9999", 404),
        ("DELETE", "/v1/cases/c9999/changes/last", 409),
        ("DELETE", "/v1/verdicts/v0/feedback", 409),
        ("DELETE", "/v1/cases/changes/u9999", 409),
    ],
)
def test_what_is_not_there_is_reported(client: TestClient, method: str, path: str, status: int) -> None:
    assert client.request(method, path).status_code == status


def test_the_only_source_need_not_be_named(client: TestClient) -> None:
    assert client.get("/v1/cases").json()["total"] == 60


def test_the_commands(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "shop.log"
    log.write_text(LOG, encoding="utf-8")
    arguments = ["--source", "shop", "--format", "log", "--label", "0", "--normal", "-"]
    assert run("learn", log, *arguments).code == 0
    listed = run("cases", "list", "--source", "shop", "--text", "disk failure", "-n", "2")
    assert "1 to 2 of 6 cases" in listed.out
    case_id = re.findall(r"\bc\d+\b", listed.out)[0]
    shown = run("cases", "show", case_id)
    assert "label: anomalous" in shown.out
    assert f"read from: {log}:" in shown.out
    assert f"case {case_id} is normal" in run("cases", "relabel", case_id, "normal").out
    assert "deleted" in run("cases", "delete", case_id, "--yes").out
    missing = run("cases", "show", case_id)
    assert (missing.code, missing.err) == (
        2,
        f"error: no case '{case_id}' in the casebook: `precedent cases list --source NAME` lists them\n",
    )
    assert f"case {case_id} is normal again" in run("cases", "undo", case_id).out
    assert f"case {case_id} is anomalous again" in run("cases", "undo", case_id).out
    history = [line for line in run("cases", "show", case_id).out.splitlines() if " -> " in line]
    assert [line.split(" UTC ")[1] for line in history] == [
        "relabelled: anomalous -> normal, by command line (undone since) [u1]",
        "deleted: normal -> no case, by command line (undone since) [u2]",
        "undone: no case -> normal, by command line [u3]",
        "undone: normal -> anomalous, by command line [u4]",
    ]
    assert ANOMALOUS not in listed.out
