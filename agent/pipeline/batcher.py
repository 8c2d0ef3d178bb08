"""Judges the records of many callers: those that are queued at the same time are judged together.

Three stages, each with its own threads: cached verdicts answer what they can; other records go to the detectors that
take milliseconds; what these leave undecided is queued for the language model, and nothing else waits behind it.
"""

from __future__ import annotations

import asyncio
import gc
import json
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from agent.core.cancellable_stream import stop_model_when
from agent.core.errors import Busy, InputError, Stopped
from agent.core.records import Deferred, JudgeError, Verdict, as_result
from agent.core.requests import AnyRequest, JudgeRequest, TextRequest, needs_segments, plain_request
from agent.core.tracing import span
from agent.pipeline.batch_job import Answer, BatchItem, BatchJob
from agent.pipeline.context import AppContext
from agent.pipeline.history_writing import try_to_keep, with_note
from agent.pipeline.pipeline import Pipeline
from agent.pipeline.reused_verdicts import CountVerdicts, ReusedVerdicts
from agent.pipeline.verdict_cache import VerdictCache
from agent.pipeline.worker_pool import WorkerPool

# records that are answered from the cache, and that are judged, at a time; threads that query the language model
_CACHED_BATCH, _JUDGED_BATCH, _LLM_THREADS = 1_024, 16, 4
_WARM_SOURCES = 8
# of the records that may wait those of streams
_STREAMED = 0.75
_NOT_QUERIED = "not queried yet"


class MicroBatcher:
    """Answers the requests of any number of callers.

    Parameters
    ----------
    context, pipeline
        What the records are judged with.
    count
        Called with the number of verdicts given, by source and label.
    max_waiting
        How many records may be queued.

    Attributes
    ----------
    reused : ReusedVerdicts
        What is answered without a queue.
    """

    def __init__(self, context: AppContext, pipeline: Pipeline, count: CountVerdicts, max_waiting: int) -> None:
        self._context, self._pipeline, self._count, self._max_waiting = context, pipeline, count, max_waiting
        self.reused = ReusedVerdicts(context, count)
        self._waiting, self._lock = 0, threading.Lock()
        self._no_llm = context.settings.model == "none"
        self._cache_pool = WorkerPool("cached", self._answer_from_cache, batch_size=_CACHED_BATCH)
        self._detector_pool = WorkerPool("detectors", self._judge, batch_size=_JUDGED_BATCH)
        self._llm_pool = WorkerPool("language model", self._judge_with_llm, batch_size=1, threads=_LLM_THREADS)

    async def submit(self, requests: Sequence[AnyRequest], *, may_wait: bool = False) -> BatchJob:
        """Queue requests.

        Parameters
        ----------
        requests
            The records, of any sources.
        may_wait
            Whether to wait for room.

        Raises
        ------
        Busy
            Too many records are queued.
        Stopped
            The batcher is closed.
        """
        while not self._admit(len(requests), may_wait=may_wait):
            if not may_wait:
                raise self._busy()
            await asyncio.sleep(0.01)
        job = BatchJob(requests, may_wait=may_wait or len(requests) > 1)
        try:
            self._cache_pool.put(job.items)
        except RuntimeError as error:
            self._release(len(requests))
            raise Stopped("the server is stopping: nothing is judged any more") from error
        return job

    async def judge(self, requests: Sequence[JudgeRequest]) -> list[Verdict]:
        """Verdicts on all records.

        Raises
        ------
        PrecedentError
            The first record that cannot be judged, or `Busy` as `submit` raises it.
        """
        verdicts = list[Verdict]()
        async for answers in await self.submit([plain_request(request) for request in requests]):
            for answer in answers:
                if isinstance(answer, JudgeError):
                    raise InputError(answer.reason)
                if isinstance(answer, Exception):
                    raise answer
                verdicts.append(Verdict.model_validate_json(answer))
        return verdicts

    def check_room(self, count: int = 1) -> None:
        """Raise `Busy` if so many records would not be admitted now."""
        if not self._has_room(count):
            raise self._busy()

    def warm(self) -> None:
        """Load what the first verdict of each source needs."""
        for name in self._context.casebook.names()[:_WARM_SOURCES]:
            list(self._pipeline.judge([JudgeRequest(text="warm", source=name)], _NOT_QUERIED))
        # what is loaded by now stays: collecting garbage there would hold up every caller
        gc.collect()
        gc.freeze()

    def close(self) -> None:
        """Answer what is queued, and end the threads."""
        for pool in (self._cache_pool, self._detector_pool, self._llm_pool):
            pool.close()
        gc.unfreeze()

    def _admit(self, count: int, *, may_wait: bool) -> bool:
        with self._lock:
            # streams leave room for those that would be refused
            if not self._has_room(count, _STREAMED if may_wait else 1):
                return False
            self._waiting += count
            return True

    def _has_room(self, count: int, share: float = 1) -> bool:
        """Whether so many records may wait, in a share of the room; more than the limit may when nothing else waits."""
        return not self._waiting or self._waiting + count <= share * self._max_waiting

    def _release(self, count: int) -> None:
        with self._lock:
            self._waiting -= count

    def _busy(self) -> Busy:
        return Busy(f"{self._waiting} records wait to be judged already: try again later")

    # the stages

    def _answer_from_cache(self, items: list[BatchItem]) -> None:
        for source, of_source in self._by_source(items):
            with self._errors_as_answers(of_source):
                cache = self.reused.cache(source)
                for item in of_source:
                    item.redact(cache.redactor)
                rest = self._deliver_cached(cache, of_source)
                self._detector_pool.put(item for item in rest if not _may_need_llm(item.request))
                self._queue_for_llm([item for item in rest if _may_need_llm(item.request)])

    def _judge(self, items: list[BatchItem]) -> None:
        for source, of_source in self._by_source(items):
            with span("judge", records=len(of_source)), self._errors_as_answers(of_source):
                cache, deferred = self.reused.cache(source), list[BatchItem]()
                judged = list[tuple[BatchItem, Verdict | JudgeError]]()
                outcomes = self._pipeline.judge(
                    _judge_requests(cache, of_source), None if self._no_llm else _NOT_QUERIED
                )
                for item, outcome in zip(of_source, outcomes, strict=True):
                    if isinstance(outcome, Deferred):
                        deferred.append(item)
                    else:
                        judged.append((item, as_result(item.request.record, outcome)))
                self._deliver_new(cache, judged)
                self._queue_for_llm(deferred)

    def _judge_with_llm(self, items: list[BatchItem]) -> None:
        for source, of_source in self._by_source(items):
            traced = span("judge_with_language_model", records=len(of_source))
            with traced, self._errors_as_answers(of_source), stop_model_when(partial(_all_cancelled, of_source)):
                cache = self.reused.cache(source)
                # another caller may have sent the same meanwhile
                rest = self._deliver_cached(cache, of_source)
                for item, outcome in zip(rest, self._pipeline.judge(_judge_requests(cache, rest)), strict=True):
                    assert not isinstance(outcome, Deferred)
                    self._deliver_new(cache, [(item, as_result(item.request.record, outcome))])

    def _queue_for_llm(self, items: Sequence[BatchItem]) -> None:
        room = max(self._context.settings.queue_size - len(self._llm_pool), 0)
        refused = [item for item in items[room:] if not item.job.may_wait]
        busy = Busy(f"{len(self._llm_pool)} records wait for the language model already: try again later")
        self._deliver((item, busy) for item in refused)
        self._llm_pool.put([*items[:room], *(item for item in items[room:] if item.job.may_wait)])

    # the answers

    def _deliver_cached(self, cache: VerdictCache, items: Sequence[BatchItem]) -> list[BatchItem]:
        """Answer the items for which there is a verdict; returns the others."""
        answers = self.reused.of_source(cache, [item.request for item in items])
        answered = list(zip(items, answers, strict=True))
        self._deliver((item, answer) for item, answer in answered if answer is not None)
        return [item for item, answer in answered if answer is None]

    def _deliver_new(self, cache: VerdictCache, judged: Sequence[tuple[BatchItem, Verdict | JudgeError]]) -> None:
        """Answer with new verdicts, and cache them."""
        verdicts = [(item, verdict) for item, verdict in judged if isinstance(verdict, Verdict)]
        bodies = [verdict.model_dump(mode="json") for _, verdict in verdicts]
        stored = ({**body, "facts": verdict.facts} for body, (_, verdict) in zip(bodies, verdicts, strict=True))
        if note := try_to_keep(partial(self._context.history.put, stored)):
            bodies = [with_note(verdict, note).model_dump(mode="json") for _, verdict in verdicts]
        cacheable = [
            (request, verdict)
            for request, verdict in ((item.request, verdict) for item, verdict in verdicts)
            # of a record with fields, another text has other fields
            if isinstance(request, TextRequest)
            and not verdict.record.fields
            # of a line from which its label was cut, another text may not be labelled, and a case has another text
            and verdict.record.text == request.text
            and request.explain != "llm"
            and (self._no_llm or not verdict.degraded)
        ]
        self.reused.put(cache, cacheable)
        self._count(Counter((verdict.source, verdict.label) for _, verdict in verdicts))
        as_json = [json.dumps(body, ensure_ascii=False).encode() for body in bodies]
        self._deliver((item, body) for (item, _), body in zip(verdicts, as_json, strict=True))
        self._deliver((item, error) for item, error in judged if isinstance(error, JudgeError))

    def _deliver(self, answers: Iterable[tuple[BatchItem, Answer]]) -> None:
        jobs, count = set[BatchJob](), 0
        for item, answer in answers:
            item.job.put(item.place, answer)
            jobs.add(item.job)
            count += 1
        self._release(count)
        for job in jobs:
            job.notify()

    @contextmanager
    def _errors_as_answers(self, items: Sequence[BatchItem]) -> Iterator[None]:
        """An error, whatever it is, is the answer to the items that have none."""
        try:
            yield
        except Exception as error:
            self._deliver((item, error) for item in items if not item.is_answered)

    def _by_source(self, items: Sequence[BatchItem]) -> Iterator[tuple[str | None, list[BatchItem]]]:
        """The items whose callers still wait, by source."""
        by_source: defaultdict[str | None, list[BatchItem]] = defaultdict(list)
        for item in items:
            if not item.job.cancelled:
                by_source[item.request.source].append(item)
        self._release(len(items) - sum(map(len, by_source.values())))
        yield from by_source.items()


def _all_cancelled(items: Sequence[BatchItem]) -> bool:
    return all(item.job.cancelled for item in items)


def _may_need_llm(request: AnyRequest) -> bool:
    """Whether the language model may be queried wherever the record is judged."""
    return request.explain == "llm" or needs_segments(request)


def _judge_requests(cache: VerdictCache, items: Sequence[BatchItem]) -> list[JudgeRequest]:
    return [JudgeRequest.about(item.request.record, cache.row.name, item.request.explain) for item in items]
