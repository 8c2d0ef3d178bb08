from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from llm.errors import EngineBusy, ModelFailure
from llm.llamacpp.worker import InferenceThread, Job

Work = Callable[["Resource", Callable[[], bool]], Iterator[int]]


class Resource:
    closed = False

    def close(self) -> None:
        self.closed = True


def submitted(worker: InferenceThread, work: Work) -> Job[int]:
    job = Job[int]()
    worker.submit(job, work)
    return job


def until(event: threading.Event) -> Work:
    def work(resource: Resource, cancelled: Callable[[], bool]) -> Iterator[int]:
        yield 7
        event.wait(10)

    return work


def numbers(resource: Resource, cancelled: Callable[[], bool]) -> Iterator[int]:
    yield from (1, 2)


def test_a_full_queue_is_an_error_after_the_timeout() -> None:
    worker = InferenceThread(Resource, queue_size=1, queue_timeout=0.05)
    release = threading.Event()
    assert submitted(worker, until(release)).get() == 7
    waiting = submitted(worker, numbers)
    with pytest.raises(EngineBusy, match="1 calls are waiting"):
        submitted(worker, numbers)
    release.set()
    assert [waiting.get() for _ in range(3)] == [1, 2, None]
    worker.close()


def test_a_place_that_becomes_free_in_time_is_taken() -> None:
    worker = InferenceThread(Resource, queue_size=1, queue_timeout=10)
    release = threading.Event()
    assert submitted(worker, until(release)).get() == 7
    submitted(worker, numbers)
    threading.Timer(0.05, release.set).start()
    assert submitted(worker, numbers).get() == 1
    worker.close()


def test_an_error_of_one_job_is_raised_to_its_reader_only() -> None:
    worker = InferenceThread(Resource, queue_size=4, queue_timeout=1)

    def fails(resource: Resource, cancelled: Callable[[], bool]) -> Iterator[int]:
        yield 1
        raise ZeroDivisionError("boom")

    job = submitted(worker, fails)
    assert job.get() == 1
    with pytest.raises(ZeroDivisionError):
        job.get()
    assert submitted(worker, numbers).get() == 1
    worker.close()


def test_a_resource_that_could_not_be_made_is_tried_again() -> None:
    answers = iter([MemoryError("full"), Resource()])

    def make() -> Resource:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    worker = InferenceThread(make, queue_size=4, queue_timeout=1)
    with pytest.raises(MemoryError):
        submitted(worker, numbers).get()
    assert submitted(worker, numbers).get() == 1
    worker.close()


def test_a_job_cancelled_while_it_waits_never_runs_and_frees_its_place() -> None:
    worker = InferenceThread(Resource, queue_size=1, queue_timeout=5)
    release, ran = threading.Event(), list[int]()

    def records(resource: Resource, cancelled: Callable[[], bool]) -> Iterator[int]:
        ran.append(1)
        yield 1

    assert submitted(worker, until(release)).get() == 7
    waiting = submitted(worker, records)
    waiting.cancel()
    with pytest.raises(ModelFailure):
        waiting.get()
    following = submitted(worker, numbers)
    release.set()
    assert following.get() == 1
    assert ran == []
    worker.close()


def test_closing_fails_what_waits_and_closes_the_resource() -> None:
    resource = Resource()
    worker = InferenceThread(lambda: resource, queue_size=4, queue_timeout=1)
    release = threading.Event()
    assert submitted(worker, until(release)).get() == 7
    waiting = submitted(worker, numbers)
    threading.Timer(0.05, release.set).start()
    worker.close()
    with pytest.raises(ModelFailure, match="closed"):
        waiting.get()
    assert resource.closed
    worker.close()


def test_submitting_to_a_closed_thread_fails_at_once_however_full_it_was() -> None:
    worker = InferenceThread(Resource, queue_size=1, queue_timeout=60)
    release = threading.Event()
    assert submitted(worker, until(release)).get() == 7
    submitted(worker, numbers)
    errors: list[ModelFailure] = []

    def submit() -> None:
        try:
            submitted(worker, numbers)
        except ModelFailure as error:
            errors.append(error)

    blocked = [threading.Thread(target=submit) for _ in range(3)]
    for thread in blocked:
        thread.start()
    time.sleep(0.05)
    threading.Timer(0.1, release.set).start()
    worker.close()
    for thread in blocked:
        thread.join(5)
    started = time.monotonic()
    submit()
    assert time.monotonic() - started < 1
    assert len(errors) == 4


def test_a_thread_closed_by_its_own_job_closes_the_resource() -> None:
    resource = Resource()
    worker = InferenceThread(lambda: resource, queue_size=1, queue_timeout=1)

    def closes(resource: Resource, cancelled: Callable[[], bool]) -> Iterator[int]:
        worker.close()
        assert not resource.closed
        yield int(cancelled())

    job = submitted(worker, closes)
    assert [job.get(), job.get()] == [1, None]
    assert resource.closed
