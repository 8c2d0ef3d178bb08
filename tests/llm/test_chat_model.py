from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessageChunk, BaseMessage, HumanMessage, SystemMessage

from llm.errors import EngineBusy, ModelFailure
from llm.llamacpp import generation
from llm.llamacpp.chat_model import EmbeddedChatModel
from llm.llamacpp.engine import Engine
from llm.weights.resolver import ResolvedModel

MakeChat = Callable[..., EmbeddedChatModel]


def conversation(record: str, system: str = "You judge log lines.") -> list[BaseMessage]:
    return [SystemMessage(system), HumanMessage(record)]


def verdict(chat: EmbeddedChatModel, record: str, system: str = "You judge log lines.") -> list[dict[str, Any]]:
    bound = chat.bind(logprobs=True, max_tokens=1)
    return bound.invoke(conversation(record, system)).response_metadata["logprobs"]


def test_making_one_loads_nothing(tmp_path: Path) -> None:
    chat = EmbeddedChatModel(model_path=tmp_path / "absent.gguf", model_sha256="0" * 64)
    with pytest.raises(ModelFailure, match=r"absent\.gguf"):
        chat.invoke("hello")


def test_metadata_counts_and_names(make_chat: MakeChat, smollm: ResolvedModel) -> None:
    chat = make_chat(model="tiny")
    first, second = (chat.invoke(conversation(text), max_tokens=3) for text in ("one", "two"))
    chat.close()
    prompt = chat.prompt(conversation("two"))
    meta = second.response_metadata
    assert first.response_metadata["prompt_eval_count"] == len(chat.prompt(conversation("one")))
    assert first.response_metadata["prompt_cached_count"] == 0
    assert meta["prompt_eval_count"] == len(prompt.suffix)
    assert meta["prompt_cached_count"] == len(prompt.prefix)
    assert (meta["eval_count"], meta["done_reason"]) == (3, "length")
    assert (meta["model"], meta["model_sha256"]) == ("tiny", smollm.sha256)
    assert second.usage_metadata == {
        "input_tokens": len(prompt),
        "output_tokens": 3,
        "total_tokens": len(prompt) + 3,
    }
    assert "logprobs" not in meta


def test_logprobs_have_the_shape_of_ollama(chat: EmbeddedChatModel) -> None:
    message = chat.invoke(conversation("disk failed"), logprobs=True, max_tokens=3)
    entries = message.response_metadata["logprobs"]
    assert len(entries) == 3
    for entry in entries:
        assert set(entry) == {"token", "logprob", "top_logprobs"}
        values = [other["logprob"] for other in entry["top_logprobs"]]
        assert len(values) == 20
        assert values == sorted(values, reverse=True)
        assert all(value < 0 for value in values)
        assert {key: entry[key] for key in ("token", "logprob")} == entry["top_logprobs"][0]
    assert "".join(entry["token"] for entry in entries) == message.content
    assert (
        len(
            chat.invoke("x", logprobs=True, top_logprobs=3, max_tokens=1).response_metadata["logprobs"][0][
                "top_logprobs"
            ]
        )
        == 3
    )


def test_one_token_costs_the_prompt_and_nothing_more(chat: EmbeddedChatModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "append", lambda self, token: pytest.fail("decoded the last token"))
    assert len(verdict(chat, "fan stopped")) == 1


def test_numbers_do_not_depend_on_order_threads_or_cache(make_chat: MakeChat, chat: EmbeddedChatModel) -> None:
    prompts = [(f"node {n} lost link {n * 7}", f"You judge source {n % 3}. " * (n % 3 + 1)) for n in range(8)]
    expected = []
    for record, system in prompts:
        alone = make_chat()
        expected.append(verdict(alone, record, system))
        alone.close()
    assert len({entry[0]["logprob"] for entry in expected}) == len(prompts)
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda pair: verdict(chat, *pair), prompts))
    backwards = [verdict(chat, record, system) for record, system in reversed(prompts)]
    assert together == expected
    assert backwards[::-1] == expected


def test_streamed_text_is_the_generated_text(chat: EmbeddedChatModel) -> None:
    messages = conversation("Write three emojis and a line about Zürich.")
    whole = chat.invoke(messages, logprobs=True)
    chunks = list(chat.stream(messages, logprobs=True))
    total = chunks[0]
    for chunk in chunks[1:]:
        total += chunk
    assert isinstance(total, AIMessageChunk)
    assert total.content == whole.content
    assert sum(bool(chunk.content) for chunk in chunks) > 3
    assert total.response_metadata["logprobs"] == whole.response_metadata["logprobs"]
    assert total.response_metadata["eval_count"] == whole.response_metadata["eval_count"]
    assert total.usage_metadata == whole.usage_metadata


def test_async_gives_the_same(chat: EmbeddedChatModel) -> None:
    messages = conversation("write a line")

    async def both() -> tuple[str, str]:
        streamed = [chunk.content async for chunk in chat.astream(messages)]
        return str((await chat.ainvoke(messages)).content), "".join(map(str, streamed))

    expected = chat.invoke(messages).content
    assert asyncio.run(both()) == (expected, expected)


def test_stop_texts_end_generated_and_streamed_answers(chat: EmbeddedChatModel) -> None:
    messages = conversation("count: one two three")
    whole = str(chat.invoke(messages).content)
    stop = whole[len(whole) // 2 :][:4]
    expected = whole[: whole.index(stop)]
    message = chat.invoke(messages, stop=[stop])
    assert message.content == expected
    assert message.response_metadata["done_reason"] == "stop"
    assert "".join(str(chunk.content) for chunk in chat.stream(messages, stop=[stop])) == expected


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with each token that the engine decodes after a prompt."""
    decoded: list[int] = []
    genuine = Engine.append

    def append(self: Engine, token: int) -> None:
        decoded.append(token)
        genuine(self, token)

    monkeypatch.setattr(Engine, "append", append)
    # An answer that never ends by itself.
    monkeypatch.setattr("llm.llamacpp.gguf.Weights.ends_generation", lambda self, token: False)
    return decoded


def test_a_stream_that_is_closed_frees_the_engine(chat: EmbeddedChatModel, steps: list[int]) -> None:
    stream = chat.stream(conversation("write a long story"), max_tokens=900)
    next(stream)
    stream.close()
    verdict(chat, "next please")
    assert len(steps) < 450


def test_an_async_stream_that_is_cancelled_frees_the_engine(chat: EmbeddedChatModel, steps: list[int]) -> None:
    async def some(first: asyncio.Event) -> None:
        async for _ in chat.astream(conversation("write a long story"), max_tokens=900):
            first.set()

    async def cancel(wait_for: str) -> None:
        first = asyncio.Event()
        task = asyncio.create_task(
            some(first) if wait_for == "stream" else chat.ainvoke(conversation("story"), max_tokens=900)
        )
        await (first.wait() if wait_for == "stream" else asyncio.sleep(0.3))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await chat.ainvoke(conversation("next please"), max_tokens=1)

    for kind in ("stream", "invoke"):
        asyncio.run(cancel(kind))
    assert len(steps) < 900


def test_a_full_queue_raises_engine_busy(make_chat: MakeChat, steps: list[int]) -> None:
    chat = make_chat(queue_size=1, queue_timeout=0.01)
    running, waiting = (chat.stream(conversation("story"), max_tokens=900) for _ in range(2))
    next(running)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(next, waiting)
        while chat._worker._places._value:
            time.sleep(0.01)
        with pytest.raises(EngineBusy):
            chat.invoke("one more", max_tokens=1)
        running.close()
    waiting.close()
    assert chat.invoke("now there is room", max_tokens=1)
    chat.close()


def test_one_crash_does_not_stop_the_next_call(chat: EmbeddedChatModel, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = verdict(chat, "before")
    with monkeypatch.context() as patch:
        patch.setattr(generation, "greedy", lambda logits: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            chat.invoke("boom")
    assert verdict(chat, "before") == expected


def test_a_prompt_that_does_not_fit_is_an_error_with_the_counts(make_chat: MakeChat) -> None:
    chat = make_chat(context_tokens=128)
    long = "word " * 200
    count = len(chat.prompt(conversation(long)))
    with pytest.raises(ModelFailure, match=rf"{count} tokens.*128 less 5 for the answer"):
        chat.invoke(conversation(long), max_tokens=5)
    room = 128 - len(chat.prompt(conversation("")))
    fits, _ = chat.clip(long, room - 1)
    assert chat.invoke(conversation(fits), max_tokens=1)
    chat.close()


def test_an_unknown_keyword_is_an_error(chat: EmbeddedChatModel) -> None:
    with pytest.raises(TypeError, match="temprature"):
        chat.invoke("x", temprature=1)


def test_a_closed_model_is_an_error(make_chat: MakeChat) -> None:
    chat = make_chat()
    stream = chat.stream("tell me a story", max_tokens=900)
    next(stream)
    chat.close()
    with pytest.raises(ModelFailure, match="closed before its answer was complete"):
        list(stream)
    with pytest.raises(ModelFailure, match="was closed"):
        chat.invoke("x")


def test_a_model_that_is_forgotten_ends_its_thread(make_chat: MakeChat) -> None:
    chat = make_chat()
    chat.invoke("x", max_tokens=1)
    thread = chat._worker._thread
    assert thread is not None
    del chat
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize("ending", ["", "raise SystemExit(7)"])
def test_a_process_ends_cleanly_in_the_middle_of_an_answer(smollm: ResolvedModel, ending: str) -> None:
    script = (
        "from pathlib import Path; from llm.llamacpp.chat_model import EmbeddedChatModel\n"
        f"chat = EmbeddedChatModel(model_path=Path({str(smollm.path)!r}), model_sha256='')\n"
        "stream = chat.stream('tell me a long story', max_tokens=3000)\nnext(stream)\n" + ending
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    # llama_cpp leaves its own handles of the null device open.
    warnings = ["-W", "error", "-W", "ignore:unclosed file <_io.TextIOWrapper name='/dev/null'"]
    command = [sys.executable, *warnings, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (7 if ending else 0, "", "")


def test_importing_the_room_loads_no_engine() -> None:
    script = "import sys, llm.llamacpp.chat_model, llm.factory; sys.exit('llama_cpp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2]).returncode == 0
