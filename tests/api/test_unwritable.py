"""A server whose disk is full, or whose home is read-only: what needs no write goes on, and no write is half done."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent.core.settings import Settings
from tests.conftest import make_settings
from tests.disks import SmallDisk, disk, read_only
from tests.served import eventually, running
from tests.shop import ANOMALOUS, NEW, NORMAL

__all__ = ["disk"]
pytestmark = [pytest.mark.network, pytest.mark.enable_socket]
NOT_KEPT = "history: not kept: "


@contextlib.contextmanager
def serving(settings: Settings) -> Iterator[httpx.Client]:
    with running(settings) as url, httpx.Client(base_url=url, timeout=60) as client:
        assert eventually(lambda: client.get("/readyz").status_code == 200)
        yield client


@pytest.fixture
def full(
    disk: SmallDisk, learned: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> Iterator[tuple[httpx.Client, SmallDisk]]:
    """A server on a disk of its own."""
    shutil.copytree(learned, disk.path / "home", ignore=shutil.ignore_patterns("*.lock"))
    with serving(make_settings(disk.path / "home", model="none")) as client:
        yield client, disk


def judged(client: httpx.Client, text: str) -> dict[str, Any]:
    answer = client.post("/v1/verdicts", json={"text": text, "source": "shop"})
    assert answer.status_code == 200, answer.text
    verdict: dict[str, Any] = answer.json()
    return verdict


def is_kept(client: httpx.Client, verdict: dict[str, Any]) -> bool:
    return client.get(f"/v1/verdicts/{verdict['id']}").status_code == 200


def test_verdicts_are_given_on_a_full_disk_and_say_that_they_are_not_kept(full: tuple[httpx.Client, SmallDisk]) -> None:
    client, disk = full
    before = judged(client, NORMAL)
    assert before["degraded"] == []
    disk.fill()
    for text in (NORMAL, ANOMALOUS, NEW, f"{NORMAL[:-8]}99 in 3 ms"):
        for _ in range(3):
            verdict = judged(client, text)
            (note,) = [reason for reason in verdict["degraded"] if reason.startswith(NOT_KEPT)]
            assert f"the disk of {disk.path / 'home'} is full: free some space on it" in note
    assert judged(client, NORMAL)["label"] == before["label"]
    disk.free()
    for text in (NORMAL, ANOMALOUS, NEW):
        verdict = judged(client, text)
        assert not any(reason.startswith(NOT_KEPT) for reason in verdict["degraded"])
        assert is_kept(client, verdict)


def test_a_stream_goes_on_when_the_disk_fills_up(full: tuple[httpx.Client, SmallDisk]) -> None:
    client, disk = full
    texts = [f"GET /basket/{number} 200 in {number} ms" for number in range(3_000)]
    lines = "".join(json.dumps({"text": text, "source": "shop"}) + "\n" for text in texts)

    def stream() -> list[dict[str, Any]]:
        answer = client.post("/v1/verdicts", content=lines, headers={"content-type": "application/x-ndjson"})
        return [json.loads(line) for line in answer.text.splitlines()]

    disk.fill()
    verdicts = stream()
    assert [verdict["record"]["text"] for verdict in verdicts] == texts
    assert all(any(reason.startswith(NOT_KEPT) for reason in verdict["degraded"]) for verdict in verdicts)
    disk.free()
    verdicts = stream()
    assert all(verdict["degraded"] == [] for verdict in verdicts)
    assert all(is_kept(client, verdict) for verdict in verdicts[::500])


def test_changes_are_refused_with_507_and_nothing_acknowledged_is_lost(
    full: tuple[httpx.Client, SmallDisk], caplog: pytest.LogCaptureFixture
) -> None:
    client, disk = full
    kept = judged(client, NEW)
    disk.fill()
    changes: list[Callable[[], httpx.Response]] = [
        lambda: client.post(f"/v1/verdicts/{kept['id']}/feedback", json={"label": "normal"}),
        lambda: client.post("/v1/cases", json={"source": "shop", "cases": cases("disk")}),
        lambda: client.post("/v1/cases", json={"source": "other", "cases": cases("disk")}),
        lambda: client.put("/v1/sources/shop", json={"brief": "Something else."}),
        lambda: client.put("/v1/sources/other", json={"brief": "Something else."}),
        lambda: client.delete("/v1/cases/c1"),
        lambda: client.patch("/v1/cases/c1", json={"label": "anomalous"}),
    ]
    before = client.get("/v1/cases", params={"limit": 1_000}).json()
    for change in changes:
        answer = change()
        assert answer.status_code == 507, answer.text
        assert f"the disk of {disk.path / 'home'} is full: free some space on it" in answer.json()["detail"]
    assert client.get("/v1/cases", params={"limit": 1_000}).json() == before
    assert client.get("/v1/sources/shop").status_code == 200
    assert client.get("/readyz").status_code == 200
    assert not any(record.exc_info for record in caplog.records), "there is a traceback in the log"
    disk.free()
    acknowledged = [change().status_code for change in changes]
    assert acknowledged == [200, 201, 201, 200, 200, 200, 404]
    assert not is_case(client, "c1")
    assert client.get("/v1/sources/shop").json()["brief"] == "Something else."
    assert is_case(client, None, "a case about the disk 7")


def test_what_was_acknowledged_while_the_disk_filled_up_is_there(full: tuple[httpx.Client, SmallDisk]) -> None:
    client, disk = full
    acknowledged = list[str]()
    refused = 0
    for number in range(60):
        if number == 20:
            disk.fill()
        if number == 40:
            disk.free()
        cases = [
            {"record": {"text": f"case {number} {'abcdefgh'[place] * 400}"}, "label": "normal"} for place in range(8)
        ]
        answer = client.post("/v1/cases", json={"source": f"s{number % 2}", "cases": cases})
        assert answer.status_code in (201, 507), answer.text
        if answer.status_code == 201:
            acknowledged.append(f"case {number} ")
        else:
            refused += 1
    assert refused > 0
    assert len(acknowledged) >= 40
    for source in ("s0", "s1"):
        texts = [case["record"]["text"] for case in client.get(f"/v1/cases?source={source}&limit=1000").json()["cases"]]
        assert len(texts) == len(set(texts))
        for text in acknowledged:
            if int(text.split()[1]) % 2 == int(source[1]):
                assert sum(case.startswith(text) for case in texts) == 8


def test_an_exporter_of_opentelemetry_is_told_to_try_again(full: tuple[httpx.Client, SmallDisk]) -> None:
    client, disk = full
    log = {"body": {"stringValue": NORMAL}}
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]}
    body = {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": [log]}]}]}
    assert client.post("/otlp/v1/logs", json=body).status_code == 200
    disk.fill()
    answer = client.post("/otlp/v1/logs", json=body)
    assert answer.status_code == 503
    assert "is full" in answer.json()["message"]
    disk.free()
    assert client.post("/otlp/v1/logs", json=body).status_code == 200


def test_a_server_starts_on_a_read_only_home(copy_of: Callable[..., Settings]) -> None:
    home = copy_of().home
    with read_only(home) as view, serving(make_settings(view, model="none")) as client:
        verdict = judged(client, ANOMALOUS)
        assert verdict["label"] == "anomalous"
        (note,) = verdict["degraded"]
        assert note.startswith(NOT_KEPT)
        assert f"{view} is read-only" in note
        assert client.get("/v1/sources").status_code == 200
        answer = client.put("/v1/sources/other", json={"brief": "A source."})
        assert answer.status_code == 507
        assert f"{view} is read-only" in answer.json()["detail"]
        chat = {"model": "precedent", "messages": [{"role": "user", "content": f"judge: {ANOMALOUS}"}]}
        assert "anomalous" in client.post("/v1/chat/completions", json=chat).text


def cases(about: str) -> list[dict[str, Any]]:
    return [{"record": {"text": f"a case about the {about} {number}"}, "label": "normal"} for number in range(20)]


def is_case(client: httpx.Client, case_id: str | None, text: str = "") -> bool:
    found = client.get("/v1/cases", params={"limit": 1_000, "source": "shop"}).json()["cases"]
    return any(case["case_id"] == case_id or case["record"]["text"] == text for case in found)
