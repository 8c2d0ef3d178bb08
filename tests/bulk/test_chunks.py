"""What a thread makes ahead comes in order, whole, with its errors; and the thread ends with who takes it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from agent.bulk.chunks import map_ahead, prefetch


def makers() -> int:
    return sum(thread.name == "prefetch" for thread in threading.enumerate())


def test_some_are_made_before_they_are_taken_and_no_more() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(20):
            made.append(number)
            yield number

    prefetched = prefetch(items(), 3)
    assert next(prefetched) == 0
    deadline = time.monotonic() + 10
    while len(made) < 3 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.05)
    # the one that is in use counts
    assert made == [0, 1, 2]
    assert list(prefetched) == list(range(1, 20))
    assert not makers()


def test_an_error_comes_after_what_was_made_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    taken: list[int] = []
    with pytest.raises(OSError, match="gone"):
        taken.extend(prefetch(items(), 5))
    assert taken == [1]


@pytest.mark.parametrize("taken", [0, 1])
def test_who_leaves_ends_it(taken: int) -> None:
    prefetched = prefetch(iter(range(100)), 2)
    for _ in range(taken):
        next(prefetched)
    del prefetched
    assert not makers()


def test_an_idle_pipe_does_not_delay_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.bulk.chunks._JOIN_SECONDS", 0.05)
    silent = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        silent.wait()

    prefetched = prefetch(items(), 2)
    assert next(prefetched) == 1
    started = time.monotonic()
    prefetched.close()
    assert time.monotonic() - started < 5
    assert makers() == 1
    silent.set()


def test_threads_make_the_next_ones_in_order() -> None:
    release, made = threading.Event(), list[int]()

    def slow_at_first(item: int) -> int:
        if item == 0:
            release.wait()
        made.append(item)
        if item == 2:
            release.set()
        return 10 * item

    assert list(map_ahead(slow_at_first, range(20), 3)) == [10 * item for item in range(20)]
    assert made.index(0) > made.index(2), "several at a time"


def test_no_more_are_made_than_threads_need_and_an_error_is_raised_in_its_place() -> None:
    taken = list[int]()

    def items() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            yield item

    def failing(item: int) -> int:
        if item == 3:
            raise ValueError("three")
        return item

    found = map_ahead(failing, items(), 2)
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(found)
    assert len(taken) <= 6
