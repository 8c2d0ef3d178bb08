"""Each route declares the role that it needs, and serves keys of that role and of those above it only."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from fastapi import FastAPI
from starlette.routing import BaseRoute, Mount
from starlette.testclient import TestClient

from agent.api.roles import declared_role, routes_of
from agent.core.access import ROLES, Role
from agent.core.settings import Settings
from server import create_app
from tests.api.keys import Keys, bearer, keys, settings
from tests.served import HOST

__all__ = ["keys", "settings"]

# what the roles are for, apart from what the routes declare
EXPECTED = {
    ("GET", "/v1/sources"): "read",
    ("GET", "/v1/cases"): "read",
    ("GET", "/v1/verdicts/v1"): "read",
    ("GET", "/metrics"): "read",
    ("GET", "/docs"): "read",
    ("GET", "/openapi.json"): "read",
    ("GET", "/"): "read",
    ("GET", "/casebook"): "read",
    ("GET", "/console/static/console.css"): "read",
    ("GET", "/chain/playground/"): "read",
    ("POST", "/v1/verdicts"): "judge",
    ("POST", "/verdict/invoke"): "judge",
    ("POST", "/verdict/c/abc/stream"): "judge",
    ("POST", "/chain/stream_log"): "judge",
    ("POST", "/v1/chat/completions"): "judge",
    ("POST", "/otlp/v1/logs"): "judge",
    ("PUT", "/console/uploads"): "judge",
    ("POST", "/v1/verdicts/v1/feedback"): "correct",
    ("DELETE", "/v1/verdicts/v1/feedback"): "correct",
    ("PATCH", "/v1/cases/c1000000"): "correct",
    ("DELETE", "/v1/cases/c1000000/changes/last"): "correct",
    ("GET", "/v1/sources/none/proposal"): "correct",
    ("POST", "/v1/cases"): "admin",
    ("DELETE", "/v1/cases/c1000000"): "admin",
    ("PUT", "/v1/sources/none"): "admin",
    ("POST", "/v1/sources/none/refit"): "admin",
    ("POST", "/v1/sources/none/rollback"): "admin",
}


@pytest.fixture(scope="module")
def client(settings: Settings, keys: dict[str, str]) -> Iterator[TestClient]:
    with TestClient(create_app(settings), base_url=HOST, raise_server_exceptions=False) as made:
        yield made


def requests_to(route: BaseRoute) -> Iterator[tuple[str, str]]:
    """A method and a path that the route answers, for each method."""
    path = re.sub(r"\{[^}]*:path\}", "", getattr(route, "path", "/casebook"))
    path = re.sub(r"\{[^}]*\}", "none", path)
    if isinstance(route, Mount):
        yield "GET", path + "/none"
        return
    for method in sorted(getattr(route, "methods", None) or {"GET"}):
        yield method, path


def test_every_route_declares_its_role(client: TestClient) -> None:
    assert isinstance(client.app, FastAPI)
    routes = list(routes_of(client.app))
    kinds = {type(route).__name__ for route in routes}
    assert {"JsonRoute", "APIRoute", "Route", "Mount", "ConsoleRoute"} <= kinds, "LangServe's, MCP, mounts, the console"
    assert "_IncludedRouter" not in kinds, "the routes of the routers are seen one by one"
    undeclared = [route for route in routes if declared_role(route) is None]
    assert not undeclared, f"say with `needs` or `declare` which role these need: {undeclared}"
    open_to_all = {getattr(route, "path", None) for route in routes if declared_role(route) is Role.PUBLIC}
    assert open_to_all == {"/healthz", "/readyz"}


def test_each_route_with_each_role(client: TestClient, keys: dict[str, str]) -> None:
    assert isinstance(client.app, FastAPI)
    for route in routes_of(client.app):
        needed = declared_role(route)
        assert needed is not None
        for method, path in requests_to(route):
            for role in (None, *ROLES):
                answer = client.request(method, path, headers=bearer(role and keys[role]), follow_redirects=False)
                if needed is Role.PUBLIC or (role is not None and Role.of(role) >= needed):
                    assert answer.status_code not in (401, 403), (method, path, role, answer.text[:200])
                else:
                    assert answer.status_code == (401 if role is None else 403), (method, path, role)


@pytest.mark.parametrize(("method", "path"), EXPECTED)
def test_the_roles_are_what_they_are_for(client: TestClient, keys: dict[str, str], method: str, path: str) -> None:
    needed = EXPECTED[method, path]
    refused = [role for role in ROLES if client.request(method, path, headers=bearer(keys[role])).status_code == 403]
    assert refused == list(ROLES[: ROLES.index(needed)])


def test_a_refusal_says_which_role_is_needed_and_which_the_key_has(client: TestClient, keys: dict[str, str]) -> None:
    refused = client.post("/v1/cases", json={}, headers=bearer(keys["judge"]))
    expected = "this needs the role admin; the API key 'judge' has the role judge"
    assert (refused.status_code, refused.json()) == (403, {"detail": expected})
    chat = client.post("/v1/chat/completions", json={}, headers=bearer(keys["read"]))
    assert (chat.status_code, "the role judge" in chat.json()["error"]["message"]) == (403, True)


def test_a_route_that_declares_no_role_is_the_administrators(copy_of: Callable[..., Settings]) -> None:
    settings = copy_of(model="none")
    keys, app = Keys(settings).of_each_role(), create_app(settings)
    app.add_api_route("/new", lambda: {"a": 1})
    client = TestClient(app, base_url=HOST)
    answers = [client.get("/new", headers=bearer(key)).status_code for key in keys.values()]
    assert answers == [403, 403, 403, 200]


def test_what_does_not_exist_is_not_found_with_any_key(client: TestClient, keys: dict[str, str]) -> None:
    assert client.get("/v1/none", headers=bearer(keys["read"])).status_code == 404
    assert client.delete("/v1/sources", headers=bearer(keys["read"])).status_code == 405
    assert client.get("/v1/none").status_code == 401


def test_the_schema_says_how_a_key_is_sent_and_which_role_is_needed(client: TestClient, keys: dict[str, str]) -> None:
    schema = client.get("/openapi.json", headers=bearer(keys["read"])).json()
    scheme = schema["components"]["securitySchemes"]["API key"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    assert schema["paths"]["/v1/cases"]["post"]["security"] == [{"API key": ["admin"]}]
    assert schema["paths"]["/verdict/invoke"]["post"]["security"] == [{"API key": ["judge"]}]
    assert schema["paths"]["/healthz"]["get"]["security"] == []
    operations = [operation for methods in schema["paths"].values() for operation in methods.values()]
    assert all("security" in operation for operation in operations)
