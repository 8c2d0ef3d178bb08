"""Which key corrected, relabelled, removed and learned what; and that a role holds in chat, MCP and console as well."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from agent.api.console.jobs import Jobs, Upload
from agent.api.state import ServerState
from agent.core.access import Caller, Role, calling_as
from agent.core.errors import Forbidden
from agent.core.settings import Settings
from agent.data.read_options import ReadOptions
from agent.training.cases import show_case
from agent.training.learn import learn
from server import create_app
from tests.api.keys import Keys, bearer
from tests.served import HOST, eventually
from tests.shop import ANOMALOUS, NORMAL

MCP = {"Accept": "application/json, text/event-stream"}


@pytest.fixture(scope="module")
def settings(copy_of: Callable[..., Settings]) -> Settings:
    return copy_of(model="none", api_key="the key of the settings")


@pytest.fixture(scope="module")
def keys(settings: Settings) -> dict[str, str]:
    made = Keys(settings)
    return {**made.of_each_role(), "ada": made.add("ada", "admin")}


@pytest.fixture(scope="module")
def client(settings: Settings, keys: dict[str, str]) -> Iterator[TestClient]:
    with TestClient(create_app(settings), base_url=HOST, raise_server_exceptions=False) as made:
        assert eventually(lambda: made.get("/readyz").status_code == 200)
        yield made


def state_of(client: TestClient) -> ServerState:
    state = client.app.state.server  # type: ignore[attr-defined]
    assert isinstance(state, ServerState)
    return state


def judged(client: TestClient, key: str, text: str) -> str:
    answer = client.post("/v1/verdicts", json={"source": "shop", "text": text}, headers=bearer(key))
    assert answer.status_code == 200, answer.text
    verdict_id: str = answer.json()["id"]
    return verdict_id


def test_a_case_says_which_key_labelled_it(client: TestClient, keys: dict[str, str]) -> None:
    verdict = judged(client, keys["judge"], "the audit is new here")
    path = f"/v1/verdicts/{verdict}/feedback"
    case = client.post(path, json={"label": "anomalous"}, headers=bearer(keys["correct"])).json()["case_id"]
    ada = bearer(keys["ada"])
    client.patch(f"/v1/cases/{case}", json={"label": "normal"}, headers=ada)
    shown = client.get(f"/v1/cases/{case}", headers=ada).json()
    assert shown["given_by"] == "API key ada"
    assert [change["changed_by"] for change in shown["history"]] == [
        f"feedback on {verdict}, API key correct",
        "API key ada",
    ]
    refused = client.delete(f"/v1/cases/{case}/changes/last", headers=bearer(keys["correct"]))
    assert (refused.status_code, "not by API key correct but by API key ada" in refused.text) == (409, True)
    assert client.delete(f"/v1/cases/{case}", headers=ada).status_code == 200
    undone = client.delete(f"/v1/cases/{case}/changes/last", headers=ada).json()
    assert (undone["action"], undone["changed_by"]) == ("deleted", "API key ada")


def test_learned_cases_and_those_of_the_settings_key_are_named(client: TestClient, keys: dict[str, str]) -> None:
    for name, key in (("ada", keys["ada"]), ("PRECEDENT_API_KEY", "the key of the settings")):
        sent = {"source": "shop", "cases": [{"record": {"text": f"learned with {name}"}, "label": "normal"}]}
        assert client.post("/v1/cases", json=sent, headers=bearer(key)).json()["added"] == 1
        found = client.get("/v1/cases", params={"text": name, "source": "shop"}, headers=bearer(key)).json()["cases"]
        assert [case["given_by"] for case in found] == [f"API key {name}"]


def test_a_file_that_another_key_learns_again_corrects_it(client: TestClient, tmp_path: Any) -> None:
    context, log = state_of(client).context, tmp_path / "again.csv"
    options = ReadOptions(format="csv", label="label", normal=("ok",))
    for name, label in (("ada", "ok"), ("bob", "bad")):
        log.write_text(f"label,text\n{label},the same row in a file\nok,another row\n")
        with calling_as(Caller(name, Role.ADMIN)):
            learn(context, [log], "shop", options, budget=0)
    (case,) = [case for case in context.casebook.cases("shop") if case.text == "the same row in a file"]
    assert (case.label, case.given_by) == ("anomalous", f"file {log}, API key bob")


def conversation(client: TestClient, key: str, verdict: str) -> list[tuple[str, str]]:
    """Who said what before a correction is confirmed."""
    wanted = ("human", f"{verdict} is anomalous")
    sent = {"messages": [{"type": "human", "content": wanted[1]}]}
    answer = client.post("/chain/invoke", json={"input": sent}, headers=bearer(key)).json()["output"]
    assert "(yes or no)" in answer
    return [wanted, ("ai", answer), ("human", "yes")]


@pytest.mark.parametrize("role", ["judge", "correct"])
@pytest.mark.parametrize("by", ["invoke", "stream", "openai", "openai stream"])
def test_the_chat_holds_to_the_role_of_the_key(client: TestClient, keys: dict[str, str], by: str, role: str) -> None:
    record = f"the chat is asked about this by {by}, {role}"
    verdict = judged(client, keys["judge"], record)
    said = conversation(client, keys[role], verdict)
    if by.startswith("openai"):
        kinds = {"human": "user", "ai": "assistant"}
        messages = [{"role": kinds[kind], "content": text} for kind, text in said]
        body: dict[str, Any] = {"model": "precedent", "messages": messages, "stream": by.endswith("stream")}
        answer = client.post("/v1/chat/completions", json=body, headers=bearer(keys[role]))
    else:
        messages = [{"type": kind, "content": text} for kind, text in said]
        answer = client.post(f"/chain/{by}", json={"input": {"messages": messages}}, headers=bearer(keys[role]))
    assert answer.status_code == 200, answer.text
    assert ("this needs the role correct; the API key 'judge' has the role judge" in answer.text) is (role == "judge")
    found = client.get("/v1/cases", params={"text": record, "source": "shop"}, headers=bearer(keys["read"])).json()
    by_key = [f"feedback on {verdict}, chat, API key correct"] if role == "correct" else []
    assert [case["given_by"] for case in found["cases"]] == by_key


def tool(client: TestClient, key: str, name: str, **arguments: object) -> dict[str, Any]:
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}}
    answer = client.post("/mcp", json=call, headers={**MCP, **bearer(key)})
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()["result"]
    return result


def test_each_tool_of_mcp_has_its_role(client: TestClient, keys: dict[str, str]) -> None:
    assert not tool(client, keys["read"], "sources")["isError"]
    assert not tool(client, keys["read"], "history")["isError"]
    refused = tool(client, keys["read"], "judge", records=[NORMAL], source="shop")
    assert "needs the role judge" in refused["content"][0]["text"]
    judged = tool(client, keys["judge"], "judge", records=["a tool is called"], source="shop")
    verdict = judged["structuredContent"]["verdicts"][0]["id"]
    refused = tool(client, keys["judge"], "correct", verdict_id=verdict, label="anomalous")
    assert "needs the role correct" in refused["content"][0]["text"]
    corrected = tool(client, keys["correct"], "correct", verdict_id=verdict, label="anomalous")["structuredContent"]
    case = show_case(state_of(client).context, corrected["case_id"])
    assert case.given_by == f"feedback on {verdict}, MCP, API key correct"


def test_what_a_page_starts_needs_its_role(client: TestClient, tmp_path: Any) -> None:
    context = state_of(client).context
    with calling_as(Caller("ada", Role.READ)):
        with pytest.raises(Forbidden, match="needs the role judge"):
            Jobs().start(context, Upload(tmp_path, "a.log"), "shop", ReadOptions())
        with pytest.raises(Forbidden, match="needs the role admin"):
            learn(context, [tmp_path / "a.csv"], "shop", ReadOptions(label="0"))


def test_without_keys_nobody_is_named(copy_of: Callable[..., Settings]) -> None:
    with TestClient(create_app(copy_of(model="none")), base_url=HOST) as client:
        verdict = client.post("/v1/verdicts", json={"source": "shop", "text": ANOMALOUS}).json()["id"]
        case = client.post(f"/v1/verdicts/{verdict}/feedback", json={"label": "normal"}).json()["case_id"]
        assert client.get(f"/v1/cases/{case}").json()["given_by"] == f"feedback on {verdict}, API"
