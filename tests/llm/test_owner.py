from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator

import pytest

from llm.errors import EngineBusy, ModelFailure
from llm.llamacpp.worker import Call, Finished, InferenceThread


class Tool:
    closed = False

    def close(self) -> None:
        self.closed = True


def collect(
    owner: InferenceThread[Tool], work: Callable[[Tool, Callable[[], bool]], Iterator[int]]
) -> queue.SimpleQueue:
    out: queue.SimpleQueue[int | Finished] = queue.SimpleQueue()
    owner.submit(Call(work, out.put))
    return out


def until(event: threading.Event) -> Callable[..., Iterator[int]]:
    def work(tool: Tool, cancelled: Callable[[], bool]) -> Iterator[int]:
        yield 0
        event.wait(10)

    return work


def numbers(tool: Tool, cancelled: Callable[[], bool]) -> Iterator[int]:
    yield from (1, 2)


def test_a_full_queue_is_an_error_after_the_timeout() -> None:
    owner = InferenceThread(Tool, queue_size=1, queue_timeout=0.05)
    release = threading.Event()
    running = collect(owner, until(release))
    assert running.get(timeout=5) == 0
    waiting = collect(owner, numbers)
    with pytest.raises(EngineBusy, match="1 calls wait"):
        collect(owner, numbers)
    release.set()
    assert [waiting.get(timeout=5) for _ in range(3)] == [1, 2, Finished()]
    owner.close()


def test_a_place_that_comes_free_in_time_is_taken() -> None:
    owner = InferenceThread(Tool, queue_size=1, queue_timeout=10)
    release = threading.Event()
    assert collect(owner, until(release)).get(timeout=5) == 0
    collect(owner, numbers)
    threading.Timer(0.05, release.set).start()
    assert collect(owner, numbers).get(timeout=5) == 1
    owner.close()


def test_the_owner_survives_what_a_call_dies_of() -> None:
    owner = InferenceThread(Tool, queue_size=4, queue_timeout=1)

    def dies(tool: Tool, cancelled: Callable[[], bool]) -> Iterator[int]:
        yield 1
        raise ZeroDivisionError("boom")

    out = collect(owner, dies)
    assert out.get(timeout=5) == 1
    assert isinstance(out.get(timeout=5).error, ZeroDivisionError)
    assert collect(owner, numbers).get(timeout=5) == 1
    owner.close()


def test_a_tool_that_could_not_be_made_is_tried_again() -> None:
    answers = iter([MemoryError("full"), Tool()])

    def make() -> Tool:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    owner = InferenceThread(make, queue_size=4, queue_timeout=1)
    assert isinstance(collect(owner, numbers).get(timeout=5).error, MemoryError)
    assert collect(owner, numbers).get(timeout=5) == 1
    owner.close()


def test_closing_fails_what_waits_and_closes_the_tool() -> None:
    tool = Tool()
    owner = InferenceThread(lambda: tool, queue_size=4, queue_timeout=1)
    release = threading.Event()
    assert collect(owner, until(release)).get(timeout=5) == 0
    waiting = collect(owner, numbers)
    threading.Timer(0.05, release.set).start()
    owner.close()
    assert isinstance(waiting.get(timeout=5).error, ModelFailure)
    assert tool.closed
    with pytest.raises(ModelFailure, match="closed"):
        collect(owner, numbers)
    owner.close()
