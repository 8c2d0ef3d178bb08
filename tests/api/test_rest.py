"""REST: verdicts, cases, corrections and explanations, in process, with the real models."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from starlette.testclient import TestClient

from agent.core.records import Verdict
from agent.core.requests import JudgeRequest
from agent.core.settings import Settings
from agent.explain.headline import headline
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from retrieval.encoding.text_embedder import Embedder
from server import create_app
from tests.served import HOST, eventually
from tests.shop import ANOMALOUS, NEW, NORMAL

NDJSON = {"content-type": "application/x-ndjson"}
KEYS = {
    "id": str,
    "source": str,
    "label": str,
    "probability": float,
    "unsure_band": list,
    "explanation": str,
    "precedents": list,
    "signals": dict,
    "record": dict,
    "provenance": dict,
    "degraded": list,
    "elapsed_ms": float,
}


@pytest.fixture
def fresh(copy_of: Callable[..., Settings]) -> Iterator[TestClient]:
    """An app on a copy of its own, for tests that change memory; without a language model, which refitting asks."""
    with TestClient(create_app(copy_of(model="none")), base_url=HOST, raise_server_exceptions=False) as made:
        yield made


def judge(client: TestClient, sent: Any) -> Any:
    answer = client.post("/v1/verdicts", json=sent)
    assert answer.status_code == 200, answer.text
    return answer.json()


def same(verdict: dict[str, Any]) -> dict[str, Any]:
    """A verdict without the time that it took."""
    return {name: value for name, value in verdict.items() if name != "elapsed_ms"}


def test_a_verdict_has_the_keys_of_the_contract(client: TestClient) -> None:
    record = {"text": ANOMALOUS, "file": "app.log", "line": 1042, "time": "noon", "fields": {"n": 1.5}}
    verdict = judge(client, record)
    assert {name: type(value) for name, value in verdict.items()} == KEYS
    assert verdict["source"] == "shop"
    assert verdict["label"] == "anomalous"
    assert 0.5 < verdict["probability"] <= 1
    assert len(verdict["unsure_band"]) == 2
    assert set(verdict["signals"]) == {"language", "neighbours", "novelty", "fields"}
    assert set(verdict["precedents"][0]) == {"case_id", "label", "similarity", "text"}
    assert verdict["precedents"][0]["label"] == "anomalous"
    assert "disk failure" in verdict["precedents"][0]["text"]
    assert verdict["record"] == record
    assert set(verdict["provenance"]) == {"model", "model_sha256", "prompt_sha256", "casebook_version"}
    assert verdict["degraded"] == ["fields: no case has 'n', which is not read"]


def test_the_labels_follow_the_cases(client: TestClient) -> None:
    labels = [
        verdict["label"] for verdict in judge(client, {"source": "shop", "records": [NORMAL, {"text": ANOMALOUS}]})
    ]
    assert labels == ["normal", "anomalous"]


def test_the_language_model_is_queried_about_new_texts(client: TestClient) -> None:
    verdict = judge(client, {"text": NEW})
    assert isinstance(verdict["signals"]["language"], float)
    assert verdict["provenance"]["model"] == "embedded:qwen2.5-coder-0.5b"


def test_one_many_a_batch_and_a_stream_give_the_same_verdicts(client: TestClient) -> None:
    texts = [NORMAL, ANOMALOUS, NEW, NORMAL]
    one_by_one = [same(judge(client, {"text": text})) for text in texts]
    many = judge(client, [texts[0], {"text": texts[1], "source": "shop"}, {"record": texts[2]}, {"text": texts[3]}])
    batch = judge(client, {"records": texts, "source": "shop"})
    body = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    streamed = client.post("/v1/verdicts", content=body, headers=NDJSON)
    assert streamed.headers["content-type"].startswith("application/x-ndjson")
    assert [same(verdict) for verdict in many] == one_by_one
    assert [same(verdict) for verdict in batch] == one_by_one
    assert [same(json.loads(line)) for line in streamed.text.splitlines()] == one_by_one


def test_every_entry_point_gives_the_same_verdict(copy_of: Callable[..., Settings]) -> None:
    chosen = copy_of()
    with TestClient(create_app(chosen), base_url=HOST) as client:
        for text in (NORMAL, NEW):
            rest = judge(client, {"text": text})
            served = client.post("/verdict/invoke", json={"input": {"text": text}}).json()["output"]
            batched = client.post("/verdict/batch", json={"inputs": [{"text": text}] * 2}).json()["output"]
            assert same(served) == same(rest)
            assert [same(verdict) for verdict in batched] == [same(rest)] * 2
        normal = judge(client, {"text": NORMAL})
        chat = client.post("/chain/invoke", json={"input": {"messages": [{"type": "human", "content": NORMAL}]}})
        line = headline(Verdict.model_validate(normal))
        assert chat.json()["output"] == f"verdict {normal['id']} (source shop): {line}"
    context = AppContext(chosen)
    try:
        again = build(context).invoke(JudgeRequest(text=NEW)).model_dump(mode="json")
    finally:
        context.close()
    kept = lasting(again)
    assert math.isclose(kept.pop("probability"), rest["probability"], abs_tol=1e-6)
    assert kept == {name: value for name, value in lasting(rest).items() if name != "probability"}


def lasting(verdict: dict[str, Any]) -> dict[str, Any]:
    """What must not depend on the process: all but time, and floats that are compared apart."""
    return {
        name: verdict[name] for name in ("id", "source", "label", "probability", "record", "provenance", "degraded")
    }


@pytest.mark.parametrize("explain", ["none", "facts", "llm"])
def test_as_much_is_explained_as_requested(client: TestClient, explain: str) -> None:
    verdict = judge(client, {"text": ANOMALOUS, "explain": explain})
    facts = judge(client, {"text": ANOMALOUS})["explanation"]
    if explain == "none":
        assert verdict["explanation"] == ""
    else:
        assert verdict["explanation"].startswith(facts)


def test_a_record_that_cannot_be_judged_is_reported_and_the_others_are_judged(
    copy_of: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No such record is known, so the embedding model is made to fail on one text."""
    encode = Embedder.encode

    def failing(self: Embedder, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> Any:
        if any("unreadable" in text for text in texts):
            raise ValueError("the vector is not finite")
        return encode(self, texts, progress)

    monkeypatch.setattr(Embedder, "encode", failing)
    reason = "could not be judged: the vector is not finite"
    with TestClient(create_app(copy_of(model="none")), base_url=HOST) as client:
        refused = client.post("/v1/verdicts", json={"text": "an unreadable text"})
        assert (refused.status_code, refused.json()) == (422, {"detail": reason})
        first, failed, last = judge(client, [{"text": text} for text in (NORMAL, "an unreadable text", ANOMALOUS)])
        assert (first["label"], failed, last["label"]) == ("normal", {"error": reason}, "anomalous")
        lines = "".join(json.dumps({"text": text}) + "\n" for text in ("an unreadable text", NEW))
        failed, last = map(json.loads, client.post("/v1/verdicts", content=lines, headers=NDJSON).text.splitlines())
        assert (failed, last["record"]["text"]) == ({"error": f"line 1: {reason}"}, NEW)


def test_a_verdict_is_kept_in_the_history(client: TestClient) -> None:
    verdict = judge(client, {"text": ANOMALOUS, "line": 7})
    assert client.get(f"/v1/verdicts/{verdict['id']}").json() == verdict


def test_feedback_changes_the_next_verdict(fresh: TestClient) -> None:
    before = judge(fresh, {"text": ANOMALOUS})
    assert before["label"] == "anomalous"
    case = fresh.post(f"/v1/verdicts/{before['id']}/feedback", json={"label": "normal"})
    assert case.status_code == 200
    assert case.json()["label"] == "normal"
    assert case.json()["record"]["text"] == ANOMALOUS
    after = judge(fresh, {"text": ANOMALOUS})
    assert after["label"] == "normal"
    assert case.json()["case_id"] in [precedent["case_id"] for precedent in after["precedents"]]
    assert after["provenance"]["casebook_version"] > before["provenance"]["casebook_version"]
    assert after["id"] != before["id"]
    again = fresh.post(f"/v1/verdicts/{after['id']}/feedback", json={"label": "anomalous"})
    assert again.status_code == 200
    assert judge(fresh, {"text": ANOMALOUS})["label"] == "anomalous"


def test_cases_are_added_once(fresh: TestClient) -> None:
    before = fresh.get("/v1/sources/shop").json()
    new = {"source": "shop", "cases": [{"record": {"text": "a meteor hit rack 3"}, "label": "anomalous"}]}
    first = fresh.post("/v1/cases", json=new)
    assert first.status_code == 201
    assert first.json() == {
        "source": "shop",
        "received": 1,
        "added": 1,
        "casebook_version": before["casebook_version"] + 1,
    }
    second = fresh.post("/v1/cases", json=new)
    assert second.status_code == 201
    assert second.json() == {**first.json(), "added": 0}
    counts = fresh.get("/v1/sources/shop").json()["cases"]
    assert counts == {"normal": before["cases"]["normal"], "anomalous": before["cases"]["anomalous"] + 1}
    verdict = judge(fresh, {"text": "a meteor hit rack 3"})
    assert verdict["label"] == "anomalous"


def test_a_fit_is_taken_back(fresh: TestClient) -> None:
    missing = fresh.post("/v1/sources/shop/rollback")
    assert (missing.status_code, "no earlier fit" in missing.json()["detail"]) == (409, True)
    assert fresh.post("/v1/sources/nowhere/rollback").status_code == 404
    # a web page of another origin sends its origin
    elsewhere = fresh.post("/v1/sources/shop/rollback", headers={"Origin": "https://evil.example"})
    assert elsewhere.status_code == 415
    cases = [{"record": {"text": f"GET /basket/{'x' * i} 500"}, "label": "anomalous"} for i in range(12)]
    # the answer comes before the refit
    fresh.post("/v1/cases", json={"source": "shop", "cases": cases})
    after = judge(fresh, {"text": NORMAL})["probability"]
    source = fresh.post("/v1/sources/shop/rollback")
    assert (source.status_code, source.json()["cases"]["anomalous"]) == (200, 36)
    assert judge(fresh, {"text": NEW})["label"]
    assert fresh.post("/v1/sources/shop/rollback").status_code == 200
    assert judge(fresh, {"text": NORMAL})["probability"] == pytest.approx(after, abs=1e-6)


def test_cases_make_a_source(fresh: TestClient) -> None:
    cases = [{"record": {"text": f"belt {i} runs"}, "label": "normal"} for i in range(3)]
    assert fresh.post("/v1/cases", json={"source": "factory", "cases": cases}).json()["added"] == 3
    assert [source["name"] for source in fresh.get("/v1/sources").json()] == ["factory", "shop"]
    answer = fresh.post("/v1/verdicts", json={"text": "belt 9 runs"})
    assert answer.status_code == 409
    assert "factory, shop" in answer.json()["detail"]
    assert judge(fresh, {"text": "belt 9 runs", "source": "factory"})["label"] == "normal"


def test_a_brief_is_written(fresh: TestClient) -> None:
    shown = fresh.put("/v1/sources/shop", json={"brief": "  A shop.\x00 "}).json()
    assert {**shown, "proposal": None} == {**fresh.get("/v1/sources/shop").json(), "proposal": None}
    assert shown["brief"] == "A shop.\ufffd"
    assert shown["brief_by"] == "person"
    made = fresh.put("/v1/sources/new.one", json={"brief": "New."})
    assert made.json() == {
        "name": "new.one",
        "brief": "New.",
        "brief_by": "person",
        "casebook_version": 0,
        "cases": {"normal": 0, "anomalous": 0},
        "proposal": None,
    }


def test_a_brief_with_a_lone_surrogate_is_refused(fresh: TestClient) -> None:
    before = fresh.get("/v1/sources/shop").json()["brief"]
    answer = fresh.put(
        "/v1/sources/shop", content=b'{"brief": "a \\ud800 b"}', headers={"content-type": "application/json"}
    )
    assert answer.status_code == 422
    assert fresh.get("/v1/sources/shop").json()["brief"] == before


def test_an_explanation_comes_in_lines_the_facts_first(client: TestClient) -> None:
    verdict = judge(client, {"text": ANOMALOUS})
    answer = client.get(f"/v1/verdicts/{verdict['id']}/explanation")
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text.splitlines()[0] == verdict["explanation"]
    assert client.get("/v1/verdicts/vnone/explanation").status_code == 404


def test_an_empty_casebook_still_judges(copy_of: Callable[..., Settings]) -> None:
    with TestClient(create_app(copy_of()), base_url=HOST) as client:
        client.put("/v1/sources/empty", json={"brief": "A queue of jobs; failures are anomalous."})
        verdict = judge(client, {"source": "empty", "text": "job 7 failed: disk full"})
    assert verdict["precedents"] == []
    assert isinstance(verdict["signals"]["language"], float)


def test_broken_lines_in_a_stream_leave_the_others_alone(client: TestClient) -> None:
    lines = [
        json.dumps({"text": NORMAL, "line": 1}),
        "not json",
        "",
        json.dumps({"text": "x", "source": "nowhere"}),
        "[1, 2]",
        "[" * 100_000,
        '{"text": "\udcff"}',
        json.dumps({"text": "x" * 70_000}),
        json.dumps({"text": "y", "line": 0}),
        json.dumps(ANOMALOUS),
    ]
    body = "\n".join(lines).encode("utf-8", "surrogateescape")
    answer = client.post("/v1/verdicts", content=body, headers=NDJSON)
    assert answer.status_code == 200
    shown = [json.loads(line) for line in answer.text.split("\n")[:-1]]
    assert [answer.get("label", "error") for answer in shown] == ["normal", *["error"] * 7, "anomalous"]
    assert [answer["error"].partition(":")[0] for answer in shown if "error" in answer] == [
        "line 2",
        "line 4",
        "line 5",
        "line 6",
        "line 7",
        "line 8",
        "line 9",
    ]


def test_a_line_of_a_stream_over_the_limit_is_skipped(copy_of: Callable[..., Settings]) -> None:
    with TestClient(create_app(copy_of(max_body_bytes=2_000)), base_url=HOST) as client:
        body = b"\n".join([b'"' + b"x" * 5_000 + b'"', json.dumps(NORMAL).encode(), b'"' + b"y" * 5_000])

        def pieces() -> Iterator[bytes]:
            yield from (body[at : at + 700] for at in range(0, len(body), 700))

        shown = [
            json.loads(line) for line in client.post("/v1/verdicts", content=pieces(), headers=NDJSON).text.splitlines()
        ]
    assert [answer.get("label") or answer["error"] for answer in shown] == [
        "line 1: longer than 2000 bytes",
        "normal",
        "line 3: longer than 2000 bytes",
    ]


@pytest.mark.parametrize("path", ["/v1/verdicts", "/v1/cases", "/verdict/invoke", "/chain/stream"])
@pytest.mark.parametrize("has_length", [True, False], ids=["content-length", "chunked"])
def test_a_body_over_the_limit_is_refused(copy_of: Callable[..., Settings], path: str, has_length: bool) -> None:
    with TestClient(create_app(copy_of(max_body_bytes=2_000)), base_url=HOST) as client:
        body = json.dumps({"text": "x" * 3_000}).encode()
        content: Any = body if has_length else iter([body[:1_500], body[1_500:]])
        answer = client.post(path, content=content, headers={"content-type": "application/json"})
        assert answer.status_code == 413
        assert answer.json() == {"detail": "the body is longer than 2000 bytes"}
        if path != "/v1/verdicts":
            answer = client.post(path, content=body, headers=NDJSON)
            assert answer.status_code == 413


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "testserver", "[::2]", "localhost@evil"]
)
@pytest.mark.parametrize("path", ["/", "/v1/sources", "/chain/playground/", "/healthz"])
def test_another_host_name_is_refused(client: TestClient, host: str, path: str) -> None:
    answer = client.get(path, headers={"host": host})
    assert answer.status_code == 400
    assert "Host" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("path", "host"), [("/", "localhost"), ("/docs", "localhost"), ("/v1/x", "localhost"), ("/healthz", "evil.example")]
)
def test_every_answer_has_security_headers(client: TestClient, path: str, host: str) -> None:
    headers = client.get(path, headers={"host": host}).headers
    assert "default-src '" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] in ("same-origin", "no-referrer")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000", "[::1]"])
def test_the_loopbacks_names_are_served(client: TestClient, host: str) -> None:
    assert client.get("/healthz", headers={"host": host}).status_code == 200


def test_every_name_is_served_when_bound_to_every_address(copy_of: Callable[..., Settings]) -> None:
    client = TestClient(create_app(copy_of(host="0.0.0.0")), base_url="http://judge.example")
    assert client.get("/healthz").status_code == 200


def test_requests_without_the_api_key_are_refused(copy_of: Callable[..., Settings]) -> None:
    with TestClient(create_app(copy_of(api_key="s3cret")), base_url=HOST) as client:
        routes = [
            ("GET", path) for path in ("/", "/v1/sources", "/metrics", "/docs", "/openapi.json", "/chain/playground/")
        ]
        routes += [("POST", path) for path in ("/v1/verdicts", "/v1/cases", "/v1/verdicts/x/feedback")]
        routes += [
            ("POST", f"/{chain}/{method}") for chain in ("chain", "verdict") for method in ("invoke", "batch", "stream")
        ]
        for authorization in (
            None,
            "Bearer wrong",
            "s3cret",
            "Bearer s3cret ",
            "Basic s3cret",
            "Bearer s3cr\u00e9t",
            "bearer",
        ):
            headers = {} if authorization is None else {"authorization": authorization.encode()}
            for method, path in routes:
                answer = client.request(method, path, headers=headers)
                assert (answer.status_code, "API key" in answer.json()["detail"]) == (401, True), (authorization, path)
        assert client.get("/healthz").status_code == 200
        key = {"authorization": "Bearer s3cret"}
        assert client.post("/v1/verdicts", json={"text": NORMAL}, headers=key).json()["label"] == "normal"
        assert client.post("/verdict/invoke", json={"input": {"text": NORMAL}}, headers=key).status_code == 200


def test_readiness_comes_after_the_models(copy_of: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    may_load = threading.Event()
    embedder = AppContext.embedder

    def slowly(self: AppContext) -> Any:
        may_load.wait(30)
        return embedder(self)

    monkeypatch.setattr(AppContext, "embedder", slowly)
    with TestClient(create_app(copy_of()), base_url=HOST) as client:
        try:
            early = client.get("/readyz")
            assert early.status_code == 503
            assert "loaded" in early.json()["detail"]
            assert client.get("/healthz").json()["status"] == "ok"
        finally:
            may_load.set()
        assert eventually(lambda: client.get("/readyz").status_code == 200)


def test_readiness_says_what_is_missing(copy_of: Callable[..., Settings]) -> None:
    with TestClient(create_app(copy_of(embedder="/nowhere/at/all")), base_url=HOST) as client:
        assert eventually(lambda: "nowhere" in client.get("/readyz").json()["detail"])
        assert client.get("/readyz").status_code == 503
        answer = client.post("/v1/verdicts", json={"text": "never seen"})
        assert answer.status_code == 503
        assert "nowhere" in answer.json()["detail"]


@pytest.mark.filterwarnings("ignore:astream_log is deprecated")
@pytest.mark.parametrize("method", ["stream_log", "stream_events"])
def test_the_log_of_a_run_has_answers_and_no_inner_state(client: TestClient, method: str) -> None:
    """Nor the language model's output before it is checked."""
    chat = client.post(f"/chain/{method}", json={"input": {"messages": [{"type": "human", "content": ANOMALOUS}]}})
    verdict = client.post(f"/verdict/{method}", json={"input": {"text": ANOMALOUS}})
    for watched, answer in ((chat.text, ": Anomalous, "), (verdict.text, "anomalous (probability of an anomaly")):
        assert "event: end" in watched
        assert answer in watched
        for inner in ("fitted_on", "content_hash", "EmbeddedChatModel", "on_chat_model_start", "half_width"):
            assert inner not in watched


def test_metrics_count_verdicts_of_every_entry_point(fresh: TestClient) -> None:
    def count(label: str) -> float:
        prefix = f'precedent_verdicts_total{{label="{label}",source="shop"}} '
        lines = fresh.get("/metrics").text.splitlines()
        return sum(float(line.removeprefix(prefix)) for line in lines if line.startswith(prefix))

    before = count("normal")
    judge(fresh, {"text": NORMAL})
    judge(fresh, {"records": [NORMAL, ANOMALOUS]})
    fresh.post("/v1/verdicts", content=json.dumps(NORMAL), headers=NDJSON)
    fresh.post("/verdict/invoke", json={"input": {"text": NORMAL}})
    fresh.post("/chain/invoke", json={"input": {"messages": [{"type": "human", "content": NORMAL}]}})
    assert count("normal") - before == 5
    assert count("anomalous") == 1


def test_the_console_leads_everywhere(client: TestClient) -> None:
    page = client.get("/").text
    for path in ("/chain/playground/", "/verdict/playground/", "/docs", "/metrics"):
        assert f'"href":"{path}"' in page
        assert eventually(lambda path=path: client.get(path).status_code == 200), path  # type: ignore[misc]


def test_no_page_loads_from_another_host(client: TestClient) -> None:
    for path in ("/", "/docs", "/redoc", "/chain/playground/", "/verdict/playground/"):
        loaded = re.findall(r"(?:src|href)=[\"']?(https?:)?//([^/\"'\s>]+)", client.get(path).text)
        assert loaded == [], path


def test_the_documentation_lists_the_routes(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    paths = schema["paths"]
    for method, path in (
        ("post", "/v1/verdicts"),
        ("get", "/v1/verdicts/{verdict_id}"),
        ("post", "/v1/verdicts/{verdict_id}/feedback"),
        ("post", "/v1/cases"),
        ("get", "/v1/sources"),
        ("get", "/v1/sources/{name}"),
        ("put", "/v1/sources/{name}"),
        ("post", "/v1/sources/{name}/rollback"),
        ("get", "/healthz"),
        ("get", "/readyz"),
        ("post", "/verdict/invoke"),
        ("post", "/verdict/batch"),
        ("post", "/verdict/stream"),
        ("post", "/chain/invoke"),
        ("post", "/chain/stream"),
    ):
        assert method in paths[path], path
    assert "swagger" in client.get("/docs").text.lower()
    body = paths["/v1/verdicts"]["post"]["requestBody"]["content"]
    assert set(body) == {"application/json", "application/x-ndjson"}
    for reference in set(re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(schema))):
        target = schema
        for step in reference.split("/"):
            target = target[step]
    assert set(paths["/v1/verdicts"]["post"]["responses"]["200"]["content"]) == set(body)
    assert set(paths["/v1/cases"]["post"]["responses"]) == {"201", "4XX", "503", "507"}
