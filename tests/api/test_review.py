"""Over REST: what to correct, a judge that is fitted anew by corrections, drift among the metrics."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from agent.api import metrics
from agent.core.settings import Settings
from server import create_app
from tests.served import HOST, eventually
from tests.shop import NORMAL

NEW = [f"warehouse robot {i} reports that its gripper does not close" for i in range(60)]
STRANGE = ("the choir sang", "apples rolled downhill", "a ship left port", "snow fell all night", "a dog barked")


@pytest.fixture
def fresh(copy_of: Callable[..., Settings]) -> Iterator[TestClient]:
    with TestClient(create_app(copy_of(model="none")), base_url=HOST, raise_server_exceptions=False) as made:
        yield made


def gauge(client: TestClient, name: str) -> float | None:
    """The value for the source `shop`."""
    line = f'precedent_{name}{{source="shop"}} '
    return next(
        (
            float(sample.removeprefix(line))
            for sample in client.get("/metrics").text.splitlines()
            if sample.startswith(line)
        ),
        None,
    )


def test_the_review_lists_what_to_correct(fresh: TestClient) -> None:
    fresh.post("/v1/verdicts", json={"source": "shop", "records": [*NEW, NORMAL, *STRANGE]})
    listed = fresh.get("/v1/sources/shop/review", params={"n": 3}).json()
    assert len(listed) == 3
    assert set(listed[0]) == {"id", "label", "probability", "alike", "record"}
    candidates = fresh.get("/v1/sources/shop/review").json()
    assert {candidate["record"]["text"] for candidate in candidates} - set(NEW) == set(STRANGE)
    assert max(candidate["alike"] for candidate in candidates) == 60
    corrected = fresh.post(f"/v1/verdicts/{candidates[0]['id']}/feedback", json={"label": "normal"})
    assert corrected.status_code == 200
    assert candidates[0]["id"] not in [candidate["id"] for candidate in fresh.get("/v1/sources/shop/review").json()]


@pytest.mark.parametrize(("path", "status"), [("nope/review", 404), ("shop/review?n=0", 422), ("shop/review?n=x", 422)])
def test_a_review_that_cannot_be(fresh: TestClient, path: str, status: int) -> None:
    assert fresh.get(f"/v1/sources/{path}").status_code == status


def test_enough_feedback_fits_the_judge_anew(copy_of: Callable[..., Settings]) -> None:
    from agent.pipeline.context import AppContext

    chosen = copy_of(model="none")

    def fitted_on() -> int:
        context = AppContext(chosen)
        try:
            return int((context.source("shop").source_model or {})["fitted_on"])
        finally:
            context.close()

    before = fitted_on()
    with TestClient(create_app(chosen), base_url=HOST) as client:
        for done, text in enumerate(STRANGE, 1):
            verdict = client.post("/v1/verdicts", json={"text": text}).json()
            client.post(f"/v1/verdicts/{verdict['id']}/feedback", json={"label": "normal"})
            assert fitted_on() == before + (5 if done == 5 else 0)


def test_chat_corrections_fit_the_judge_anew(fresh: TestClient) -> None:
    answers = []
    for text in STRANGE:
        verdict = fresh.post("/v1/verdicts", json={"text": text}).json()
        messages = [{"type": "human", "content": f"{verdict['id']} was normal"}]
        asked = fresh.post("/chain/invoke", json={"input": {"messages": messages}}).json()["output"]
        messages += [{"type": "ai", "content": asked}, {"type": "human", "content": "yes"}]
        answers.append(fresh.post("/chain/invoke", json={"input": {"messages": messages}}).json()["output"])
    assert ["refitted" in answer for answer in answers] == [False] * 4 + [True]
    assert all(answer.startswith("Noted: ") for answer in answers)


def test_drift_is_refreshed_in_the_background(
    copy_of: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "REFRESH_SECONDS", 0.05)
    with TestClient(create_app(copy_of(model="none")), base_url=HOST) as client:
        assert gauge(client, "novel_share") is None
        client.post("/v1/verdicts", json={"source": "shop", "records": [*NEW, *[NORMAL] * 20]})
        assert eventually(lambda: gauge(client, "novel_share") == pytest.approx(60 / 61))
        assert gauge(client, "field_psi") is None
        shares = [gauge(client, name) for name in ("unsure_share", "anomalous_share")]
        assert all(share is not None and 0 <= share <= 1 for share in shares)


def test_a_scrape_computes_no_drift(copy_of: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it wait for the thread that does."""
    threads = list[str]()
    measure = metrics.propose

    def noted(*arguments: Any, **options: Any) -> Any:
        threads.append(threading.current_thread().name)
        return measure(*arguments, **options)

    monkeypatch.setattr(metrics, "propose", noted)
    with TestClient(create_app(copy_of(model="none")), base_url=HOST) as client:
        client.post("/v1/verdicts", json={"source": "shop", "records": [*NEW, NORMAL]})
        assert eventually(lambda: threads != [])
        for _ in range(5):
            client.get("/metrics")
    assert set(threads) == {"metrics"}
