"""Who reaches the console: the API key's page and cookie, the origin of its pages, and its headers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from agent.api.console.session import COOKIE, Sessions
from agent.core.settings import Settings
from retrieval.store.engine import open_store
from server import create_app
from tests.served import HOST

KEY = "a key with & signs"
HTML = {"Accept": "text/html"}
UPGRADE = {"Upgrade": "websocket"}
SOCKET = "ws://127.0.0.1/_nicegui_ws/socket.io/?EIO=4&transport=websocket"


def test_of_two_applications_of_a_process_one_serves_the_console(copy_of: Callable[..., Settings]) -> None:
    # first in this module: the application of the other tests serves the console until their end
    first, second = (TestClient(create_app(copy_of(model="none")), base_url=HOST) for _ in range(2))
    with second:
        with first:
            assert first.get("/").status_code == 200
            page = second.get("/")
            assert (page.status_code, "another application" in page.text) == (503, True)
            assert second.get("/healthz").status_code == 200
        assert second.get("/").status_code == 200


@pytest.fixture(scope="module")
def locked(copy_of: Callable[..., Settings]) -> Iterator[TestClient]:
    """An app with an API key."""
    app = create_app(copy_of(api_key=KEY, model="none"))
    with TestClient(app, base_url=HOST, raise_server_exceptions=False, follow_redirects=False) as made:
        yield made


@pytest.fixture
def client(locked: TestClient) -> TestClient:
    locked.cookies.clear()
    return locked


def test_a_browser_is_sent_to_the_page_that_takes_the_key(client: TestClient) -> None:
    sent = client.get("/casebook?source=a", headers=HTML)
    assert (sent.status_code, sent.headers["location"]) == (303, "/login?next=/casebook%3Fsource%3Da")
    page = client.get(sent.headers["location"])
    assert page.status_code == 200
    assert 'type="password"' in page.text
    assert client.get("/", headers={"Accept": "application/json"}).status_code == 401
    assert client.get("/console/static/console.css").status_code == 401


def test_the_key_signs_in_and_nothing_else_does(client: TestClient) -> None:
    wrong = client.post("/login?next=/", data={"key": "another"})
    assert wrong.status_code == 401
    assert COOKIE not in client.cookies
    signed_in = client.post("/login?next=/casebook", data={"key": KEY})
    assert (signed_in.status_code, signed_in.headers["location"]) == (303, "/casebook")
    cookie = signed_in.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert KEY not in cookie
    assert client.get("/", headers=HTML).status_code == 200
    assert client.get("/v1/sources").status_code == 200
    client.get("/logout")
    assert client.get("/", headers=HTML).status_code == 303


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_signing_in_leads_to_no_other_server(client: TestClient, target: str) -> None:
    assert client.post("/login", params={"next": target}, data={"key": KEY}).headers["location"] == "/"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Engine]:
    engine = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    yield engine
    engine.dispose()


def test_signing_out_ends_the_session_of_a_copied_cookie(client: TestClient) -> None:
    client.post("/login", data={"key": KEY})
    copied = {"Cookie": f"{COOKIE}={client.cookies[COOKIE]}"}
    client.cookies.clear()
    client.post("/login", data={"key": KEY})
    other = {"Cookie": f"{COOKIE}={client.cookies[COOKIE]}"}
    client.cookies.clear()
    assert client.get("/v1/sources", headers=copied).status_code == 200
    with client.websocket_connect(SOCKET, headers={**UPGRADE, **copied}) as open_page:
        assert open_page.receive_text().startswith("0{")
        left = client.get("/logout", headers=copied)
        assert {"precedent_session", "precedent_chat"} <= {
            cookie.partition("=")[0] for cookie in left.headers.get_list("set-cookie")
        }
        assert client.get("/v1/sources", headers=copied).status_code == 401
        assert client.get("/", headers={**copied, **HTML}).status_code == 303
        with pytest.raises(WebSocketDisconnect), client.websocket_connect(SOCKET, headers={**UPGRADE, **copied}):
            pass
        # a page that is open gets no answer any more
        open_page.send_text("40")
        with pytest.raises(WebSocketDisconnect):
            open_page.receive_text()
    # other browsers stay signed in, and who is not signed in may sign out
    assert client.get("/v1/sources", headers=other).status_code == 200
    assert client.get("/logout").status_code == 303


def test_a_session_that_was_ended_stays_so_in_every_process(store: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = Sessions("key", store), Sessions("key", store)
    cookie = here._signer.sign("one").decode()
    assert there.is_valid(cookie)
    here.end(cookie)
    here.end(cookie)
    assert not here.is_valid(cookie)
    assert not Sessions("key", store).is_valid(cookie)
    monkeypatch.setattr(there, "_going_on", {})
    assert not there.is_valid(cookie)
    assert there.is_ended(cookie)


def test_a_cookie_of_another_key_or_a_forged_one_is_not_valid(store: Engine) -> None:
    ours, theirs = Sessions("ours", store), Sessions("theirs", store)
    signed = theirs._signer.sign("x").decode()
    assert theirs.is_valid(signed)
    assert not ours.is_valid(signed)
    assert not ours.is_valid("x." + "A" * 27 + ".forged")
    assert not ours.is_valid(None)


def test_an_old_cookie_is_not_valid(store: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = Sessions("key", store)
    now = sessions._signer.get_timestamp()
    monkeypatch.setattr(type(sessions._signer), "get_timestamp", lambda _: now - 13 * 3600)
    signed = sessions._signer.sign("x").decode()
    monkeypatch.undo()
    assert not sessions.is_valid(signed)


def test_the_socket_is_guarded_as_the_pages_are(client: TestClient) -> None:
    with pytest.raises(WebSocketDisconnect), client.websocket_connect(SOCKET, headers=UPGRADE):
        pass
    with client.websocket_connect(SOCKET, headers={**UPGRADE, "Authorization": f"Bearer {KEY}"}) as it:
        assert it.receive_text().startswith("0{")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1.evil.example"])
def test_pages_of_other_servers_reach_neither_socket_nor_uploads(client: TestClient, origin: str) -> None:
    client.post("/login", data={"key": KEY})
    with client.websocket_connect(SOCKET, headers={**UPGRADE, "Origin": HOST}) as it:
        assert it.receive_text().startswith("0{")
    with pytest.raises(WebSocketDisconnect), client.websocket_connect(SOCKET, headers={**UPGRADE, "Origin": origin}):
        pass
    assert client.put("/console/uploads?name=a.log", content=b"a", headers={"Origin": origin}).status_code == 403


def test_another_hosts_name_reaches_no_page(client: TestClient) -> None:
    assert client.get("/login", headers={"Host": "evil.example"}).status_code == 400
    elsewhere = SOCKET.replace("127.0.0.1", "evil.example")
    authorized = {**UPGRADE, "Authorization": f"Bearer {KEY}"}
    with pytest.raises(WebSocketDisconnect), client.websocket_connect(elsewhere, headers=authorized):
        pass


def test_every_script_of_a_page_has_the_nonce_of_its_policy(client: TestClient) -> None:
    client.post("/login", data={"key": KEY})
    page, again = client.get("/"), client.get("/")
    nonces = [re.search(r"'nonce-([\w-]+)'", answer.headers["content-security-policy"]) for answer in (page, again)]
    assert nonces[0]
    assert nonces[1]
    assert nonces[0][1] != nonces[1][1]
    scripts = re.findall(r"<script[^>]*>", page.text)
    assert len(scripts) > 3
    assert all(f'nonce="{nonces[0][1]}"' in script for script in scripts)
    assert "unsafe-inline" not in page.headers["content-security-policy"].split("style-src")[0]
    assert page.headers["x-content-type-options"] == "nosniff"
    # nothing comes from another server
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", page.text)


def test_other_paths_stay_the_applications(client: TestClient) -> None:
    client.post("/login", data={"key": KEY})
    missing = client.get("/no-such-page", headers=HTML)
    assert (missing.status_code, missing.json()) == (404, {"detail": "Not Found"})
    assert client.request("DELETE", "/v1/sources").status_code == 405


def test_a_server_of_several_processes_says_that_it_has_no_console(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.post("/login", data={"key": KEY})
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "x")
    page = client.get("/")
    assert page.status_code == 503
    assert "--workers" in page.text
