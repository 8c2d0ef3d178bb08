"""Over REST: what is proposed for a source, and a new fit that must not be worse."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from agent.api import metrics
from agent.core.settings import Settings
from server import create_app
from tests.served import HOST, copy_of, eventually, learned

__all__ = ["copy_of", "learned"]

NEW = [f"warehouse robot {i} reports that its gripper does not close" for i in range(60)]


def test_drift_is_proposed_to_be_labelled_and_shown_everywhere(
    copy_of: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "REFRESH_SECONDS", 0.05)
    with TestClient(create_app(copy_of(model="none", api_key="sesame")), base_url=HOST) as client:
        assert client.get("/v1/sources/shop/proposal").status_code == 401
        assert client.post("/v1/sources/shop/refit").status_code == 401
        client.headers["authorization"] = "Bearer sesame"
        assert client.get("/v1/sources/shop/proposal").json()["can_tell"] is False
        client.post("/v1/verdicts", json={"source": "shop", "records": NEW})
        found = client.get("/v1/sources/shop/proposal").json()
        assert (found["action"], found["can_tell"]) == ("label", True)
        assert [test["of"] for test in found["drift"]["tests"] if test["alarm"]] == ["templates"]
        assert len(found["proposals"][0]["candidates"]) == 1
        assert client.get("/v1/sources/shop/proposal", params={"last": 20}).json()["can_tell"] is False
        pending = 'precedent_proposal_pending{action="label",source="shop"} 1.0'
        assert eventually(lambda: pending in client.get("/metrics").text)
        shown = client.get("/v1/sources/shop").json()
        assert shown["proposal"] == {"action": "label", "reasons": found["proposals"][0]["reasons"]}
        assert [source["proposal"] for source in client.get("/v1/sources").json()] == [None]
        fitted = client.post("/v1/sources/shop/refit").json()
        assert (fitted["decision"], fitted["compared_on"]) == ("replaced", 0)
        assert [
            client.request(method, f"/v1/sources/{path}").status_code
            for method, path in (
                ("GET", "nope/proposal"),
                ("POST", "nope/refit"),
                ("GET", "shop/proposal?last=0"),
                ("GET", "shop/proposal?since=x"),
            )
        ] == [404, 404, 422, 422]


def test_what_has_not_changed_is_not_measured_again(
    copy_of: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app(copy_of(model="none"))
    looked, rounds, propose, log_verdicts = list[str](), list[int](), metrics.propose, metrics.Metrics._log_verdicts

    # servers of other tests may live in this process, and their threads come here too
    def noted(context: object, source: str, **options: object) -> object:
        if context is app.state.server.context:
            looked.append(source)
        return propose(context, source, **options)  # type: ignore[arg-type]

    def counted(self: metrics.Metrics) -> None:
        if self is app.state.server.metrics:
            rounds.append(1)
        log_verdicts(self)

    monkeypatch.setattr(metrics, "REFRESH_SECONDS", 0.01)
    monkeypatch.setattr(metrics, "propose", noted)
    monkeypatch.setattr(metrics.Metrics, "_log_verdicts", counted)
    with TestClient(app, base_url=HOST) as client:
        assert eventually(lambda: len(rounds) >= 10)
        assert looked == ["shop"]
        client.post("/v1/verdicts", json={"source": "shop", "text": NEW[0]})
        assert eventually(lambda: len(looked) == 2)
