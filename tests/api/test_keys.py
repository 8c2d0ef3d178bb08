"""Named keys in a server that runs: accepted, rotated, removed, expired; in headers, cookies, streams and sockets."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from datetime import timedelta
from urllib.parse import urlsplit

import httpx
import pytest
from sqlalchemy import select
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from agent.api.console.session import COOKIE
from agent.core.settings import Settings
from retrieval.store.schema import console_sessions
from server import create_app
from tests.api.keys import Keys, always_fresh, bearer
from tests.private_postgres import PrivatePostgres
from tests.served import HOST, eventually, running
from tests.shop import NORMAL

HOUR, HTML = timedelta(hours=1), {"Accept": "text/html"}
SOCKET, UPGRADE = "ws://127.0.0.1/_nicegui_ws/socket.io/?EIO=4&transport=websocket", {"Upgrade": "websocket"}


@pytest.fixture(scope="module")
def settings(copy_of: Callable[..., Settings]) -> Settings:
    return copy_of(model="none")


@pytest.fixture(scope="module")
def served(settings: Settings) -> Iterator[TestClient]:
    made = TestClient(create_app(settings), base_url=HOST, raise_server_exceptions=False, follow_redirects=False)
    with made:
        yield made


@pytest.fixture
def client(served: TestClient, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    always_fresh(monkeypatch)
    served.cookies.clear()
    return served


@pytest.fixture
def keys(settings: Settings) -> Iterator[Keys]:
    made = Keys(settings)
    yield made
    for key in made.stored.all():
        made.remove(key.name)


def status(client: TestClient, key: str | None, path: str = "/v1/sources") -> int:
    return client.get(path, headers=bearer(key)).status_code


def test_without_any_key_none_is_asked_for_and_with_the_first_one_is(client: TestClient, keys: Keys) -> None:
    assert status(client, None) == 200
    assert client.get("/login").status_code == 404
    key = keys.add("ada", "read")
    assert (status(client, None), status(client, key), status(client, "another")) == (401, 200, 401)
    assert client.get("/", headers=HTML).headers["location"] == "/login?next=/"
    keys.remove("ada")
    assert status(client, None) == 200


def test_a_key_is_sent_as_it_always_was(client: TestClient, keys: Keys) -> None:
    key = keys.add("ada", "read")
    refused = (
        key,
        f"bearer {key}",
        f"Basic {key}",
        f"Bearer  {key}",
        f"Bearer {key}x",
        f"Bearer {key[:-1]}",
        "Bearer",
        "",
    )
    for authorization in refused:
        assert client.get("/v1/sources", headers={"Authorization": authorization}).status_code == 401, authorization
    assert client.get("/v1/sources", headers={"X-API-Key": key}).status_code == 401
    assert client.get("/v1/sources", params={"key": key}).status_code == 401
    odd = {"Authorization": b"Bearer \xff\xfe\xe9"}
    assert client.get("/v1/sources", headers=odd).status_code == 401  # type: ignore[arg-type]
    # the name, its hash and what begins like a key are no keys
    (stored,) = keys.stored.all()
    for wrong in ("ada", stored.digest, "precedent_"):
        assert status(client, wrong) == 401


def test_a_rotation_takes_effect_while_the_server_runs(client: TestClient, keys: Keys) -> None:
    first = keys.add("ada", "read")
    second = keys.rotate("ada", HOUR)
    assert (status(client, first), status(client, second)) == (200, 200)
    third = keys.rotate("ada")
    assert [status(client, key) for key in (first, second, third)] == [401, 401, 200]


def test_an_expired_key_is_refused_and_keeps_the_server_closed(client: TestClient, keys: Keys) -> None:
    expired, good = keys.add("old", "admin", lasts=-HOUR), keys.add("new", "read", lasts=HOUR)
    assert (status(client, expired), status(client, good)) == (401, 200)
    keys.remove("new")
    assert (status(client, None), status(client, expired)) == (401, 401)


def test_the_key_of_the_settings_may_do_everything_beside_named_ones(copy_of: Callable[..., Settings]) -> None:
    odd = "päss & wörd, 100 %"
    settings = copy_of(model="none", api_key=odd)
    read = Keys(settings).add("ada", "read")
    with TestClient(create_app(settings), base_url=HOST) as client:
        for encoding in ("latin-1", "utf-8"):
            sent = {b"authorization": f"Bearer {odd}".encode(encoding)}
            answer = client.put("/v1/sources/new", json={"brief": "b"}, headers=sent)  # type: ignore[arg-type]
            assert answer.status_code == 200, encoding
        assert client.put("/v1/sources/new", json={"brief": "b"}, headers=bearer(read)).status_code == 403
        assert status(client, read) == 200


def test_a_removed_key_is_refused_by_every_server_on_the_store(
    copy_of: Callable[..., Settings], postgres: PrivatePostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    always_fresh(monkeypatch)
    url = postgres.empty_database()
    keys = Keys(copy_of(store=url))
    key, other = keys.add("ada", "read"), keys.add("bob", "read")
    servers = [TestClient(create_app(copy_of(model="none", store=url)), base_url=HOST) for _ in range(2)]
    assert [status(server, key) for server in servers] == [200, 200]
    keys.remove("ada")
    assert [status(server, key) for server in servers] == [401, 401]
    assert [status(server, other) for server in servers] == [200, 200]
    keys.engine.dispose()


def test_the_store_is_not_read_at_each_request(client: TestClient, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    key = keys.add("ada", "read")
    assert status(client, key) == 200
    monkeypatch.setattr("agent.api.key_ring._FRESH", 1e6)
    keys.remove("ada")
    assert status(client, key) == 200, "known from the last look"
    monkeypatch.setattr("agent.api.key_ring._FRESH", 0.0)
    keys.add("bob", "read")
    assert status(client, key) == 401


def test_on_a_read_only_store_keys_are_checked_and_their_use_is_not_noted(
    copy_of: Callable[..., Settings], postgres: PrivatePostgres, capfd: pytest.CaptureFixture[str]
) -> None:
    url = postgres.empty_database()
    keys = Keys(copy_of(store=url))
    key = keys.add("ada", "read")
    settings = copy_of(model="none", store=url + "&options=-c%20default_transaction_read_only%3Don")
    with TestClient(create_app(settings), base_url=HOST) as client:
        assert (status(client, key), status(client, "wrong"), status(client, None)) == (200, 401, 401)
        signed_in = client.post("/login", data={"key": key})
        assert (signed_in.status_code, "read-only" in signed_in.text) == (401, True)
    assert keys.stored.all()[0].last_used_at is None
    logged = capfd.readouterr().err
    assert "the use of an API key is not noted" in logged
    assert key not in logged
    keys.engine.dispose()


def test_the_last_use_is_noted(client: TestClient, keys: Keys) -> None:
    key = keys.add("carol", "read")
    assert status(client, key) == 200
    assert eventually(lambda: keys.stored.all()[0].last_used_at is not None)


def test_a_store_that_cannot_be_read_lets_nobody_in(copy_of: Callable[..., Settings]) -> None:
    settings = copy_of(model="none")
    (settings.home / "precedent.db").write_bytes(b"this is no database, however long one looks at it" * 100)
    with TestClient(create_app(settings), base_url=HOST) as client:
        refused = client.get("/metrics")
        assert (refused.status_code, "API keys cannot be checked" in refused.json()["detail"]) == (503, True)
        assert client.get("/healthz").status_code == 200


def test_a_browser_signs_in_with_a_named_key_and_has_its_role(client: TestClient, keys: Keys) -> None:
    key = keys.add("ada", "judge")
    assert client.post("/login", data={"key": "wrong"}).status_code == 401
    signed_in = client.post("/login?next=/casebook", data={"key": key})
    assert (signed_in.status_code, signed_in.headers["location"]) == (303, "/casebook")
    cookie = client.cookies[COOKIE]
    assert key not in cookie
    assert "ada: judge" in client.get("/casebook", headers=HTML).text
    assert client.post("/v1/verdicts", json={"text": NORMAL}).status_code == 200
    assert client.post("/v1/verdicts/v1/feedback", json={"label": "normal"}).status_code == 403
    with keys.engine.connect() as connection:
        digests = connection.scalars(select(console_sessions.c.digest)).all()
    assert cookie not in digests, "who reads the store cannot make a cookie"
    client.get("/logout")
    assert client.get("/v1/sources", headers={"Cookie": f"{COOKIE}={cookie}"}).status_code == 401


@pytest.mark.parametrize("end", ["remove", "rotate"])
def test_a_session_ends_with_its_key(client: TestClient, keys: Keys, end: str) -> None:
    keys.add("other", "read")
    client.post("/login", data={"key": keys.add("ada", "read")})
    assert status(client, None) == 200
    with client.websocket_connect(SOCKET, headers=UPGRADE) as page:
        assert page.receive_text().startswith("0{")
        getattr(keys, end)("ada")
        assert status(client, None) == 401
        page.send_text("40")
        with pytest.raises(WebSocketDisconnect):
            page.receive_text()
    # another key of that name does not revive it
    if end == "remove":
        keys.add("ada", "admin")
        assert status(client, None) == 401


@pytest.mark.parametrize("cookie", ["key.", "key.x", "key." + "A" * 43, "x", "a.b.c"])
def test_a_forged_cookie_is_nobodys(client: TestClient, keys: Keys, cookie: str) -> None:
    keys.add("ada", "read")
    assert client.get("/v1/sources", headers={"Cookie": f"{COOKIE}={cookie}"}).status_code == 401


@pytest.mark.network
@pytest.mark.enable_socket
def test_a_stream_is_cut_off_when_its_key_is_removed(
    copy_of: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    always_fresh(monkeypatch)
    settings = copy_of(model="none")
    keys = Keys(settings)
    key = keys.add("ada", "judge")
    keys.add("other", "read")
    line = json.dumps({"source": "shop", "text": NORMAL}).encode() + b"\n"
    chunk = b"%x\r\n%s\r\n" % (len(line), line)
    head = f"POST /v1/verdicts HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
    head += "Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
    with running(settings) as url:
        assert eventually(lambda: httpx.get(f"{url}/readyz", timeout=60).status_code == 200)
        address = urlsplit(url)
        with socket.create_connection((address.hostname, address.port), 60) as sent:
            sent.sendall(head.encode() + chunk)
            received = sent.makefile("rb")
            assert b"200 OK" in received.readline()
            assert any(b'"label"' in read for read in iter(received.readline, b"")), "the first line is judged"
            keys.remove("ada")
            sent.sendall(chunk)
            rest = received.read()
    assert b"the API key of this request is not accepted any more" in rest
    assert b'"label"' not in rest


def test_a_key_is_in_no_log(copy_of: Callable[..., Settings], capfd: pytest.CaptureFixture[str]) -> None:
    settings = copy_of(model="none")
    keys = Keys(settings)
    key = keys.add("ada", "read")
    with TestClient(create_app(settings), base_url=HOST, follow_redirects=False) as client:
        assert (status(client, key), status(client, key + "x")) == (200, 401)
        assert client.post("/login", data={"key": key}).status_code == 303
        assert client.post("/v1/verdicts", json={}, headers=bearer(key)).status_code == 403
    logged = [line for line in capfd.readouterr().err.splitlines() if " request " in line]
    assert [("key='ada'" in line) for line in logged if "/login" not in line] == [True, False, True]
    logged = "\n".join(logged)
    assert key not in logged
    assert keys.stored.all()[0].digest not in logged
