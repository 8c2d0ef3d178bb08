"""A slow, wrong or dead Ollama never makes a verdict silently worse; when it comes back, so do whole verdicts."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from agent.core.records import Record, Verdict
from agent.core.requests import JudgeRequest
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.pipeline.service import judge_many
from benchmarks.private_ollama import PrivateOllama
from llm.errors import ModelFailure
from llm.host_pool import OPEN_SECONDS

pytestmark = [pytest.mark.ollama, pytest.mark.enable_socket]
NOBODY = "127.0.0.1:9"
ANIMALS = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "ibis", "jay")
PLACES = ("attic", "barn")
ACTS = ("started", "stopped", "queued", "failed", "crashed", "paused", "resumed", "vanished", "stalled", "doubled")
TEXTS = [f"job {animal} {act} in the {place}" for animal in ANIMALS for act in ACTS for place in PLACES]
RECORDS = [Record(text=text, line=line) for line, text in enumerate(TEXTS, start=1)]


def judge(context: AppContext, text: str) -> Verdict:
    return build(context).invoke(JudgeRequest(text=text, source="jobs"))


def whole(verdict: Verdict) -> bool:
    return verdict.signals["language"] is not None and not verdict.degraded


def says_so(verdict: Verdict) -> bool:
    return verdict.signals["language"] is None and any(reason.startswith("language: ") for reason in verdict.degraded)


def test_killed_in_the_middle_of_a_batch_and_started_again(
    mortal: PrivateOllama, parts_on: Callable[..., AppContext]
) -> None:
    context = parts_on(mortal.host)
    chain = build(context)
    verdicts: list[Verdict] = []
    chain.invoke(JudgeRequest(text="job zero warms the model", source="jobs"))
    for answer in judge_many(context, chain, RECORDS, "jobs"):
        assert isinstance(answer, Verdict)
        if not verdicts:
            mortal.kill()
        verdicts.append(answer)
    assert len(verdicts) == len(RECORDS) == 200
    assert [verdict.record.line for verdict in verdicts] == [record.line for record in RECORDS]
    assert all(whole(verdict) or says_so(verdict) for verdict in verdicts)
    assert 0 < sum(map(whole, verdicts)) < 200
    mortal.start()
    time.sleep(OPEN_SECONDS)
    again = [answer for answer in judge_many(context, chain, RECORDS[-5:], "jobs") if isinstance(answer, Verdict)]
    assert all(map(whole, again))


def test_dead_before_and_alive_later(mortal: PrivateOllama, parts_on: Callable[..., AppContext]) -> None:
    mortal.kill()
    context = parts_on(mortal.host)
    first = judge(context, "job ant crashed")
    assert says_so(first)
    assert "no Ollama server at" in " ".join(first.degraded)
    mortal.start()
    time.sleep(OPEN_SECONDS)
    assert whole(judge(context, "job ant crashed"))


def test_a_stopped_server_costs_its_timeout_only_until_the_breaker_opens(
    mortal: PrivateOllama, parts_on: Callable[..., AppContext]
) -> None:
    context = parts_on(mortal.host, request_timeout=2)
    assert whole(_eventually(context, "job ant crashed"))
    mortal.signal(signal.SIGSTOP)
    started = time.monotonic()
    verdicts = [judge(context, record.text) for record in RECORDS[:20]]
    assert all(map(says_so, verdicts))
    assert "no answer in time" in " ".join(verdicts[0].degraded)
    assert time.monotonic() - started < 20 * 2 / 2
    mortal.signal(signal.SIGCONT)
    time.sleep(OPEN_SECONDS)
    assert whole(_eventually(context, "job bee crashed"))


def _eventually(context: AppContext, text: str) -> Verdict:
    """The verdict once the model is loaded, which may take longer than a short timeout."""
    for _ in range(15):
        verdict = judge(context, text)
        if whole(verdict):
            break
        time.sleep(1)
    return verdict


@pytest.mark.parametrize(
    ("name", "command"),
    [("nothing-here", "ollama pull nothing-here"), ("precedent-jobs", "precedent ollama create --name precedent-jobs")],
)
def test_a_wrong_name_is_degraded_and_the_error_has_the_command_that_helps(
    server: PrivateOllama, parts_on: Callable[..., AppContext], name: str, command: str
) -> None:
    context = parts_on(server.host, f"ollama:{name}")
    (reason,) = judge(context, "job ant crashed").degraded
    assert f"has no model {name!r}" in reason
    assert "`" not in reason
    with pytest.raises(ModelFailure) as failure:
        context.language_detector()
    assert command in str(failure.value.hint)


def test_a_model_removed_meanwhile_is_named(mortal: PrivateOllama, parts_on: Callable[..., AppContext]) -> None:
    mortal.client.copy("smollm2:base", "passing")
    context = parts_on(mortal.host, "ollama:passing")
    assert whole(judge(context, "job ant crashed"))
    mortal.client.delete("passing")
    (reason,) = judge(context, "job bee crashed").degraded
    assert "has no model 'passing'" in reason


def test_a_closed_port_is_degraded_at_once(parts_on: Callable[..., AppContext]) -> None:
    started = time.monotonic()
    assert says_so(judge(parts_on(NOBODY), "job ant crashed"))
    assert time.monotonic() - started < 5


def test_the_command_that_asks_for_a_dead_server_by_name_stops(
    monkeypatch: pytest.MonkeyPatch, parts_on: Callable[..., AppContext]
) -> None:
    with pytest.raises(ModelFailure, match="no Ollama server at") as failure:
        parts_on(NOBODY).language_detector()
    assert failure.value.hint == "`ollama serve` starts it"


def test_of_two_servers_one_dies(
    server: PrivateOllama, mortal: PrivateOllama, parts_on: Callable[..., AppContext]
) -> None:
    context = parts_on(f"{mortal.host}, {server.host}")
    assert whole(judge(context, "job ant crashed"))
    mortal.kill()
    verdicts = [judge(context, record.text) for record in RECORDS[:20]]
    assert all(map(whole, verdicts))


def test_the_least_busy_server_is_asked(
    server: PrivateOllama, mortal: PrivateOllama, parts_on: Callable[..., AppContext]
) -> None:
    """Two long answers at a time go to two servers."""
    context = parts_on(f"{mortal.host},{server.host}")
    chain = build(context)
    chain.batch(
        [JudgeRequest(text=record.text, source="jobs") for record in RECORDS[:40]], config={"max_concurrency": 4}
    )
    asked = [one.log.read_text(encoding="utf-8", errors="replace").count('"/api/chat"') for one in (server, mortal)]
    assert min(asked) >= 10
