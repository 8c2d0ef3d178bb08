"""How often a key may call, and how many wrong keys may come from an address."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from starlette.requests import HTTPConnection
from starlette.testclient import TestClient

from agent.api.rate_limit import WRONG_KEYS, RateLimiter, WrongKeys
from agent.core.api_keys import Rate
from agent.core.settings import Settings
from server import create_app
from tests.api.keys import Keys, bearer
from tests.served import HOST


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_is_full_at_first_and_filled_evenly() -> None:
    clock = Clock()
    limiter, rate = RateLimiter(clock), Rate(3, "minute")
    assert [limiter.take("a", rate) for _ in range(4)] == [0, 0, 0, pytest.approx(20)]
    assert limiter.take("b", rate) == 0, "each has its own"
    clock.now += 19
    assert limiter.take("a", rate) == pytest.approx(1)
    clock.now += 1
    assert (limiter.wait("a", rate), limiter.take("a", rate)) == (0, 0)
    assert limiter.wait("a", rate) == pytest.approx(20)
    clock.now += 1e6
    assert [limiter.take("a", rate) > 0 for _ in range(4)] == [False, False, False, True], "never more than full"


def test_a_key_with_a_rate_is_refused_when_it_calls_too_often(copy_of: Callable[..., Settings]) -> None:
    settings = copy_of(model="none")
    keys = Keys(settings)
    key, other = keys.add("ada", "read", rate="3/hour"), keys.add("bob", "read")
    with TestClient(create_app(settings), base_url=HOST) as client:
        page = client.get("/docs", headers=bearer(key))
        assert page.status_code == 200
        assert client.get("/console/static/console.css", headers=bearer(key)).status_code == 200, "part of a page"
        answers = [client.get("/v1/sources", headers=bearer(key)) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert answers[-1].json() == {"detail": "the API key 'ada' may make at most 3/hour requests"}
        assert 1000 < int(answers[-1].headers["retry-after"]) <= 1200
        assert client.get("/v1/models", headers=bearer(key)).json()["error"]["code"] == "rate_limit_exceeded"
        assert {client.get("/v1/sources", headers=bearer(other)).status_code for _ in range(20)} == {200}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three wrong keys a day."""
    monkeypatch.setattr("agent.api.rate_limit.WRONG_KEYS", Rate(3, "day"))


@pytest.mark.usefixtures("few")
def test_wrong_keys_from_an_address_are_refused_and_right_ones_are_not(copy_of: Callable[..., Settings]) -> None:
    settings = copy_of(model="none", api_key="a key of the settings, long enough")
    key = Keys(settings).add("ada", "read")
    with TestClient(create_app(settings), base_url=HOST, follow_redirects=False) as client:
        answers = [client.get("/v1/sources", headers=bearer(f"wrong {n}")) for n in range(5)]
        assert [answer.status_code for answer in answers] == [401, 401, 401, 429, 429]
        assert 3_600 < int(answers[-1].headers["retry-after"]) <= 86_400 / 3
        for right in (key, settings.api_key):
            assert client.get("/v1/sources", headers=bearer(right)).status_code == 200
        assert client.post("/login", data={"key": "wrong"}).status_code == 429
        assert client.get("/v1/sources").status_code == 401, "no key is no wrong key"


@pytest.mark.usefixtures("few")
def test_a_key_that_could_be_guessed_is_not_accepted_among_wrong_ones(copy_of: Callable[..., Settings]) -> None:
    with TestClient(create_app(copy_of(model="none", api_key="sesame")), base_url=HOST) as client:
        assert client.get("/v1/sources", headers=bearer("sesame")).status_code == 200
        for n in range(4):
            client.get("/v1/sources", headers=bearer(f"wrong {n}"))
        assert client.get("/v1/sources", headers=bearer("sesame")).status_code == 429


def test_wrong_keys_are_counted_by_address_and_of_ipv6_by_network() -> None:
    def of(host: str | None) -> HTTPConnection:
        return HTTPConnection({"type": "http", "headers": [], "client": None if host is None else (host, 1)})

    wrong = WrongKeys()
    for n in range(WRONG_KEYS.requests):
        assert wrong.count(of(f"2001:db8::{n:x}")) == 0
    assert wrong.count(of("2001:db8::ffff:1")) > 0
    for other in ("2001:db8:0:1::1", "10.0.0.1", "10.0.0.2", None, "testclient"):
        assert wrong.wait(of(other)) == 0
