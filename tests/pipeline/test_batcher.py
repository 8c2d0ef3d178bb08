"""Many callers at once: nobody's verdict is lost, given to another, stale, or waits behind the language model."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from agent.core.requests import JudgeRequest
from agent.core.settings import Settings
from agent.detectors.language import LanguageDetector
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.pipeline.steps import Steps
from retrieval.store.verdicts import History
from server import create_app
from tests.api.test_rest import NDJSON, judge, same
from tests.served import HOST
from tests.shop import ANOMALOUS, NEW, NORMAL


@pytest.fixture
def quick(copy_of: Callable[..., Settings]) -> Iterator[TestClient]:
    with TestClient(create_app(copy_of(model="none")), base_url=HOST) as made:
        yield made


def others(text: str, count: int) -> list[str]:
    """So many other lines of the text's template."""
    return [re.sub(r"\d\b", str(number % 10), text) for number in range(count)]


TEXTS = [text for line in (NORMAL, ANOMALOUS, NEW) for text in [line, *others(line, 20), line]] + [
    f"unheard of: gripper {word} does not close" for word in "abcdefghij"
]


def test_cached_verdicts_equal_those_of_the_chain(quick: TestClient) -> None:
    context = AppContext(quick.app.state.server.settings)  # type: ignore[attr-defined]
    chain = [build(context).invoke(JudgeRequest(text=text)).model_dump(mode="json") for text in TEXTS]
    context.close()
    # by itself, in an array, in a stream; the second time from the shelf
    for _ in range(2):
        assert [same(judge(quick, {"text": text})) for text in TEXTS] == [same(verdict) for verdict in chain]
    assert [same(verdict) for verdict in judge(quick, [{"text": text} for text in TEXTS])] == [
        same(verdict) for verdict in chain
    ]
    assert [same(verdict) for verdict in streamed(quick, [{"text": text} for text in TEXTS])] == [
        same(verdict) for verdict in chain
    ]


def test_many_callers_get_their_own_verdicts_and_each_is_kept(quick: TestClient) -> None:
    def ask(number: int) -> tuple[int, dict[str, Any]]:
        text = TEXTS[number % len(TEXTS)]
        return number, judge(quick, {"text": text, "file": "load.log", "line": number + 1})

    with ThreadPoolExecutor(24) as pool:
        verdicts = list(pool.map(ask, range(600)))
    for number, verdict in verdicts:
        record = verdict["record"]
        assert (record["text"], record["line"]) == (TEXTS[number % len(TEXTS)], number + 1)
    assert len({verdict["id"] for _, verdict in verdicts}) == len(verdicts)
    for _, verdict in verdicts[::17]:
        assert quick.get(f"/v1/verdicts/{verdict['id']}").json() == verdict
    assert given_of(quick.get("/metrics").text) == len(verdicts)


def test_the_model_is_queried_once_for_equal_records(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts: list[str] = []
    original = LanguageDetector._query

    def watched(self: LanguageDetector, messages: Any) -> float:
        prompts.append("".join(str(message.content) for message in messages))
        return original(self, messages)

    monkeypatch.setattr(LanguageDetector, "_query", watched)
    with ThreadPoolExecutor(12) as pool:
        verdicts = list(pool.map(lambda line: judge(client, {"text": f"{NEW} at dawn", "line": line}), range(1, 25)))
    assert sum("at dawn" in prompt for prompt in prompts) == 1
    assert len(set(prompts)) == len(prompts)
    assert {verdict["probability"] for verdict in verdicts} == {verdicts[0]["probability"]}
    assert [verdict["record"]["line"] for verdict in verdicts] == list(range(1, 25))


@pytest.mark.parametrize("corrected", [0, 1], ids=["the first of its template", "one that was given again"])
def test_a_correction_is_heeded_at_once(quick: TestClient, corrected: int) -> None:
    texts = [NORMAL, *others(NORMAL, 3)]
    before = [judge(quick, {"text": text, "line": number + 1}) for number, text in enumerate(texts)]
    assert {verdict["label"] for verdict in before} == {"normal"}
    wrong = before[corrected]
    assert quick.post(f"/v1/verdicts/{wrong['id']}/feedback", json={"label": "anomalous"}).status_code == 200
    after = [judge(quick, {"text": text, "line": number + 1}) for number, text in enumerate(texts)]
    assert after[corrected]["label"] == "anomalous"
    assert all(verdict["provenance"]["casebook_version"] > wrong["provenance"]["casebook_version"] for verdict in after)


def test_a_labelled_line_that_is_a_case_says_nothing_of_other_labelled_lines(quick: TestClient) -> None:
    case, other = others(NORMAL, 2)
    verdict = judge(quick, {"text": case})
    quick.post(f"/v1/verdicts/{verdict['id']}/feedback", json={"label": "anomalous"})
    alone = judge(quick, {"text": other})
    lines: list[dict[str, Any] | str] = [{"text": f"- {text}"} for text in (case, other)]
    for _ in range(2):
        # the first time one after the other, so that the second line could be given the first one's verdict
        of_case, of_other = (streamed(quick, [line])[0] for line in lines)
        assert (of_case["label"], of_case["record"]["text"]) == ("anomalous", case)
        assert same(of_other) == same(alone)


def test_workers_that_met_records_in_another_order_keep_every_verdict(copy_of: Callable[..., Settings]) -> None:
    chosen = copy_of(model="none")
    request, other = ({"text": text, "file": "w.log", "line": line} for line, text in enumerate(others(NORMAL, 2), 1))
    with (
        TestClient(create_app(chosen), base_url=HOST) as first,
        TestClient(create_app(chosen), base_url=HOST) as second,
    ):
        verdicts = [judge(first, request), judge(second, other), judge(first, other), judge(second, request)]
        for verdict in verdicts:
            for client in (first, second):
                assert same(client.get(f"/v1/verdicts/{verdict['id']}").json()) == same(verdict)
        assert first.get("/metrics").status_code == 200


def streamed(client: TestClient, lines: list[dict[str, Any] | str]) -> list[dict[str, Any]]:
    body = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines).encode()
    return [json.loads(line) for line in client.post("/v1/verdicts", content=body, headers=NDJSON).text.splitlines()]


def test_lines_that_come_again_get_what_they_got_before(quick: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[dict[str, Any] | str] = [{"text": text, "line": place} for place, text in enumerate(TEXTS, 1)]
    lines[3:3] = ["{", '{"text": ""}']
    lines.append("no JSON")
    streamed(quick, lines)
    before = streamed(quick, lines)
    total = quick.get("/metrics").text
    judged: list[str] = []
    monkeypatch.setattr(History, "put_alike", lambda self, rows: judged.extend(row.id for row in rows))
    new = {"text": others(NORMAL, 25)[-1], "line": 77}
    *again, last = streamed(quick, [*lines, new])
    assert again == before
    assert ["error" in verdict for verdict in before] == [
        place in (3, 4, len(lines) - 1) for place in range(len(lines))
    ]
    assert (last["record"]["line"], [last["id"]]) == (77, judged)
    assert given_of(quick.get("/metrics").text) - given_of(total) == len(TEXTS) + 1


def given_of(metrics: str) -> int:
    return sum(map(int, re.findall(r"^precedent_verdicts_total\{[^}]*\} (\d+)", metrics, re.M)))


def test_lines_that_come_again_are_judged_anew_where_something_changed(quick: TestClient) -> None:
    lines: list[dict[str, Any] | str] = [{"text": text} for text in (NORMAL, ANOMALOUS)]
    for _ in range(3):
        first, second = streamed(quick, lines)
    quick.post(f"/v1/verdicts/{first['id']}/feedback", json={"label": "anomalous"})
    corrected, other = streamed(quick, lines)
    assert corrected["label"] == "anomalous"
    assert other["provenance"]["casebook_version"] > second["provenance"]["casebook_version"]
    # which source a line without one means is no longer clear
    quick.put("/v1/sources/another", json={"brief": "something else"})
    assert ["name the source" in answer.get("error", "") for answer in streamed(quick, lines)] == [True, True]


def test_explained_at_length_the_history_of_others_stays_as_it_was(client: TestClient) -> None:
    text, *rest = (re.sub("9 sectors", f"{number} sectors", ANOMALOUS) for number in range(30, 33))
    judge(client, {"text": text})
    like = judge(client, {"text": rest[0]})
    judge(client, {"text": text, "explain": "llm"})
    assert client.get(f"/v1/verdicts/{like['id']}").json() == like


@pytest.fixture
def held_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], threading.Event]]:
    """Makes a step of judging wait; the event that lets it go on."""
    going = threading.Event()

    def hold(step: str) -> threading.Event:
        original = getattr(Steps, step)

        def waits(self: Steps, *arguments: Any) -> Any:
            going.wait(60)
            return original(self, *arguments)

        monkeypatch.setattr(Steps, step, waits)
        return going

    yield hold
    going.set()


def in_background(client: TestClient, sent: Any) -> Callable[[], httpx.Response]:
    """Asks until there is room; what is returned gives the answer."""
    out: list[httpx.Response] = []

    def ask() -> None:
        while not out or out[-1].status_code == 429:
            out.append(client.post("/v1/verdicts", json=sent))

    asking = threading.Thread(target=ask)
    asking.start()

    def answer() -> httpx.Response:
        asking.join(60)
        return out[-1]

    return answer


def test_a_full_queue_is_429_with_retry_after(
    copy_of: Callable[..., Settings], held_up: Callable[[str], threading.Event]
) -> None:
    with TestClient(create_app(copy_of(model="none", waiting_records=2)), base_url=HOST) as client:
        judge(client, {"text": NORMAL})
        going = held_up("retrieve")
        waiting = [in_background(client, {"text": f"{word} is new here"}) for word in ("this", "that")]
        deadline = time.monotonic() + 30
        while (refused := client.post("/v1/verdicts", json={"text": NORMAL})).status_code == 200:
            assert time.monotonic() < deadline
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert "wait" in refused.json()["detail"]
        going.set()
        assert [answer().status_code for answer in waiting] == [200, 200]
        assert client.post("/v1/verdicts", json={"text": NORMAL}).status_code == 200


def test_other_records_do_not_wait_for_the_language_model(
    copy_of: Callable[..., Settings], held_up: Callable[[str], threading.Event]
) -> None:
    with TestClient(create_app(copy_of(queue_size=1)), base_url=HOST) as client:
        judge(client, {"text": NORMAL})
        going = held_up("query_language_model")
        slow = [in_background(client, {"text": f"{NEW}, {word}"}) for word in ("again", "still", "as ever", "too")]
        assert judge(client, {"text": NORMAL})["label"] == "normal"
        assert judge(client, {"text": others(ANOMALOUS, 1)[0]})["label"] == "anomalous"
        going.set()
        assert {answer().status_code for answer in slow} == {200}


def test_abandoned_records_are_not_judged(
    copy_of: Callable[..., Settings], held_up: Callable[[str], threading.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio

    from agent.core.requests import TextRequest
    from agent.pipeline.batcher import MicroBatcher
    from agent.pipeline.context import AppContext
    from agent.pipeline.pipeline import Pipeline

    context = AppContext(copy_of(model="none"))
    judged: list[str] = []
    original = Pipeline.judge

    def watched(self: Pipeline, requests: Any, skip_llm: str | None = None) -> Any:
        judged.extend(request.text for request in requests)
        return original(self, requests, skip_llm)

    monkeypatch.setattr(Pipeline, "judge", watched)
    going = held_up("retrieve")
    batcher = MicroBatcher(context, Pipeline(context), lambda counts: None, max_waiting=2)

    async def leave() -> list[Any]:
        first = await batcher.submit([TextRequest("the first new one", "shop")])
        while not judged:
            await asyncio.sleep(0.01)
        second = await batcher.submit([TextRequest("the second new one", "shop")])
        second.cancel()
        going.set()
        # there is room again for those that were dropped
        third = await batcher.submit([TextRequest("the third new one", "shop")] * 2, may_wait=True)
        return [answer for order in (first, third) async for answers in order for answer in answers]

    answers = asyncio.run(asyncio.wait_for(leave(), 60))
    batcher.close()
    context.close()
    assert [json.loads(answer)["record"]["text"] for answer in answers] == [
        "the first new one",
        *["the third new one"] * 2,
    ]
    assert "the second new one" not in judged


def test_langserve_and_chat_go_through_the_same_admission_cache_and_count(
    copy_of: Callable[..., Settings], held_up: Callable[[str], threading.Event]
) -> None:
    def human(text: str) -> dict[str, Any]:
        return {"input": {"messages": [{"type": "human", "content": text}]}}

    with TestClient(create_app(copy_of(model="none", waiting_records=1)), base_url=HOST) as client:
        first = judge(client, {"text": NORMAL})
        again = client.post("/verdict/invoke", json={"input": {"text": NORMAL}}).json()["output"]
        assert (again["id"], again["elapsed_ms"]) == (first["id"], 0.0)
        assert first["id"] in client.post("/chain/invoke", json=human(NORMAL)).json()["output"]
        assert given_of(client.get("/metrics").text) == 3

        going = held_up("retrieve")
        waiting = in_background(client, {"text": "this is new here"})
        deadline = time.monotonic() + 30
        while client.post("/v1/verdicts", json={"text": NORMAL}).status_code == 200:
            assert time.monotonic() < deadline
        for path, sent in (("/verdict", {"input": {"text": NORMAL}}), ("/chain", human(NORMAL))):
            for method in ("invoke", "stream"):
                refused = client.post(f"{path}/{method}", json=sent)
                assert refused.status_code == 429, (path, method, refused.text)
                assert int(refused.headers["retry-after"]) >= 1
        going.set()
        assert waiting().status_code == 200


def test_a_closed_batcher_refuses_instead_of_waiting_for_ever(copy_of: Callable[..., Settings]) -> None:
    import asyncio

    from agent.core.errors import Stopped
    from agent.core.requests import TextRequest
    from agent.pipeline.batcher import MicroBatcher
    from agent.pipeline.context import AppContext
    from agent.pipeline.pipeline import Pipeline

    context = AppContext(copy_of(model="none"))
    batcher = MicroBatcher(context, Pipeline(context), lambda counts: None, max_waiting=1)
    batcher.close()

    async def ask() -> list[Any]:
        return [answers async for answers in await batcher.submit([TextRequest("a record", "shop")])]

    for _ in range(2):
        with pytest.raises(Stopped, match="stopping"):
            asyncio.run(asyncio.wait_for(ask(), 20))
    context.close()
