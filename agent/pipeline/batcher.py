"""Where the records of many callers are judged: what waits at the same time is judged together.

Three stages, each with threads of its own: what was judged before is given again; the rest goes to the witnesses that
take milliseconds; what these leave undecided waits for the language model, and nothing else waits behind it.
"""

from __future__ import annotations

import asyncio
import gc
import json
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from agent.core.cancellable_stream import stop_model_when
from agent.core.errors import EXPECTED, Busy
from agent.core.records import Deferred, JudgeError, Verdict, as_result, content_hash
from agent.core.requests import AnyRequest, JudgeRequest, TextRequest, needs_segments
from agent.pipeline.batch_job import Answer, BatchItem, BatchJob
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import Pipeline
from agent.pipeline.verdict_cache import VerdictCache
from agent.pipeline.verdict_json import VerdictTemplate
from agent.pipeline.worker_pool import WorkerPool
from retrieval.lru_cache import LRUCache

CountVerdicts = Callable[[Mapping[tuple[str, str], int]], None]

# how many are given again, and how many judged together; threads that ask the language model
_AGAIN, _TOGETHER, _ASKING = 1_024, 16, 4
# lines of streams that are known when they come again, and how long such a line may be
_LINES, _LINE = 65_536, 2_000
_LATER = "to be asked"
# sources whose fitted models are kept at a time
_WARMED = 8


class _KnownLine(NamedTuple):
    """What was said of a line that named ``source``, or none."""

    source: str | None
    shelf: VerdictCache
    verdict: Verdict
    pieces: tuple[bytes, ...]


class MicroBatcher:
    """Answers questions for as many callers as come; up to ``most`` records may wait.

    ``given`` is told how many verdicts were given, by source and label.
    """

    def __init__(self, context: AppContext, pipeline: Pipeline, given: CountVerdicts, most: int) -> None:
        self._context, self._pipeline, self._given, self._most = context, pipeline, given, most
        self._shelves: dict[str, VerdictCache] = {}
        self._lines: LRUCache[_KnownLine] = LRUCache(_LINES)
        self._waiting, self._lock = 0, threading.Lock()
        # there is no language model to wait for
        self._silent = context.settings.model == "none"
        self._again = WorkerPool("again", self._give_again, at_once=_AGAIN)
        self._quick = WorkerPool("quick", self._judge, at_once=_TOGETHER)
        self._asking = WorkerPool("asking", self._ask, at_once=1, threads=_ASKING)

    async def order(self, questions: Sequence[AnyRequest], *, patient: bool = False) -> BatchJob:
        """The questions, being answered. ``patient``: wait for room.

        Raises:
            Busy: too many records wait already.
        """
        while not self._admitted(len(questions)):
            if not patient:
                raise Busy(f"{self._waiting} records wait to be judged already: try again later")
            await asyncio.sleep(0.01)
        order = BatchJob(questions, patient=patient or len(questions) > 1)
        self._again.put(order.tickets)
        return order

    def again(self, lines: Sequence[bytes | None]) -> list[bytes | None]:
        """For each line of a stream that came before, the verdict given then, as JSON, where it still holds."""
        said = [self._lines.get(line) for line in lines]
        holds = {one: self._holds(*one) for one in {(one.source, one.shelf) for one in said if one}}
        there = [one if one and holds[one.source, one.shelf] else None for one in said]
        self._given(Counter((one.verdict.source, one.verdict.label) for one in there if one))
        return [b"".join(one.pieces) if one else None for one in there]

    def _holds(self, source: str | None, shelf: VerdictCache) -> bool:
        try:
            return self._shelf(source) is shelf
        except EXPECTED:
            # the next request gets the error
            return False

    def warm(self) -> None:
        """Load what the first verdicts of each source would have to wait for."""
        for name in self._context.casebook.names()[:_WARMED]:
            list(self._pipeline.judge([JudgeRequest(text="warm", source=name)], _LATER))
        # what is there by now stays: looking through it for garbage would hold up every caller
        gc.collect()
        gc.freeze()

    def close(self) -> None:
        for stage in (self._again, self._quick, self._asking):
            stage.close()
        gc.unfreeze()

    def _admitted(self, count: int) -> bool:
        with self._lock:
            # more records than there is ever room for come in when nobody is before them
            if self._waiting and self._waiting + count > self._most:
                return False
            self._waiting += count
            return True

    # the stages

    def _give_again(self, tickets: list[BatchItem]) -> None:
        for source, mine in self._by_source(tickets):
            with self._failing(mine):
                shelf = self._shelf(source)
                found, rest = self._on_shelf(shelf, mine)
                self._give(shelf, found)
                self._quick.put(one for one in rest if not _is_slow(one.question))
                self._wait_for_the_model([one for one in rest if _is_slow(one.question)])

    def _judge(self, tickets: list[BatchItem]) -> None:
        for source, mine in self._by_source(tickets):
            with self._failing(mine):
                shelf, later = self._shelf(source), list[BatchItem]()
                outcomes = self._pipeline.judge(_about(shelf, mine), None if self._silent else _LATER)
                settled = list[tuple[BatchItem, Verdict | JudgeError]]()
                for ticket, outcome in zip(mine, outcomes, strict=True):
                    if isinstance(outcome, Deferred):
                        later.append(ticket)
                    else:
                        settled.append((ticket, as_result(ticket.question.record, outcome)))
                self._settle(shelf, settled)
                self._wait_for_the_model(later)

    def _ask(self, tickets: list[BatchItem]) -> None:
        for source, mine in self._by_source(tickets):
            with self._failing(mine), stop_model_when(partial(_nobody_waits, mine)):
                shelf = self._shelf(source)
                # somebody may have asked the same meanwhile
                found, rest = self._on_shelf(shelf, mine)
                self._give(shelf, found)
                for ticket, outcome in zip(rest, self._pipeline.judge(_about(shelf, rest)), strict=True):
                    assert not isinstance(outcome, Deferred)
                    self._settle(shelf, [(ticket, as_result(ticket.question.record, outcome))])

    def _wait_for_the_model(self, tickets: Sequence[BatchItem]) -> None:
        room = self._context.settings.queue_size - len(self._asking)
        refused = [one for one in tickets[max(room, 0) :] if not one.order.patient]
        busy = Busy(f"{len(self._asking)} records wait for the language model already: try again later")
        self._deliver((one, busy) for one in refused)
        self._asking.put(one for one in tickets if one not in refused)

    # their work

    def _on_shelf(
        self, shelf: VerdictCache, tickets: Iterable[BatchItem]
    ) -> tuple[list[tuple[BatchItem, VerdictTemplate]], list[BatchItem]]:
        """The tickets for which there is a verdict, with it, and the others."""
        found, rest = list[tuple[BatchItem, VerdictTemplate]](), list[BatchItem]()
        likely = list[tuple[BatchItem, TextRequest, VerdictTemplate]]()
        for ticket in tickets:
            question = ticket.question
            if not isinstance(question, TextRequest):
                rest.append(ticket)
            elif whole := shelf.of_text(question):
                found.append((ticket, whole))
            elif whole := shelf.of_template(question):
                likely.append((ticket, question, whole))
            else:
                rest.append(ticket)
        held = self._held(shelf, [question.text for _, question, _ in likely])
        for ticket, question, whole in likely:
            if question.text in held:
                rest.append(ticket)
            else:
                shelf.keep_text(question, whole)
                found.append((ticket, whole))
        return found, rest

    def _held(self, shelf: VerdictCache, texts: Sequence[str]) -> set[str]:
        """Those of the texts that a case has."""
        hashes = {content_hash(text, {}, ()): text for text in texts}
        return {hashes[one] for one in self._context.casebook.held(shelf.row.name, hashes)}

    def _give(self, shelf: VerdictCache, found: Sequence[tuple[BatchItem, VerdictTemplate]]) -> None:
        """Give verdicts of other records of the same text or template."""
        answers, given = list[tuple[BatchItem, Answer]](), Counter[tuple[str, str]]()
        lines = list[tuple[bytes, _KnownLine]]()
        same, alike = dict[str, Verdict](), dict[str, tuple[Verdict, str]]()
        for ticket, whole in found:
            question = ticket.question
            pieces = whole.about(question.text, question.file, question.line, question.time)
            answers.append((ticket, b"".join(pieces)))
            if isinstance(question, TextRequest) and question.said and len(question.said) <= _LINE:
                lines.append((question.said, _KnownLine(question.source, shelf, whole.verdict, pieces)))
            given[whole.verdict.source, whole.verdict.label] += 1
            if (name := pieces[1].decode()) == whole.verdict.id:
                same[name] = whole.verdict
            else:
                alike[name] = whole.verdict, f"{whole.alike}{pieces[3].decode()}}}"
        self._context.history.put({**one.to_stored(), "elapsed_ms": 0.0} for one in same.values())
        self._context.history.put_alike(alike)
        self._given(given)
        self._deliver(answers)
        for said, one in lines:
            self._lines.put(said, one)

    def _settle(self, shelf: VerdictCache, settled: Sequence[tuple[BatchItem, Verdict | JudgeError]]) -> None:
        """Give fresh verdicts, and keep them to be given again."""
        verdicts = [(ticket, one) for ticket, one in settled if isinstance(one, Verdict)]
        bodies = [one.model_dump(mode="json") for _, one in verdicts]
        stored = ({**body, "facts": one.facts} for body, (_, one) in zip(bodies, verdicts, strict=True))
        self._context.history.put(stored)
        again = [
            (question, one)
            for question, one in ((ticket.question, one) for ticket, one in verdicts)
            if isinstance(question, TextRequest) and question.explain != "llm" and (self._silent or not one.degraded)
        ]
        held = self._held(shelf, [question.text for question, _ in again])
        for question, one in again:
            shelf.keep(question, one, held=question.text in held)
        self._given(Counter((one.source, one.label) for _, one in verdicts))
        said = [json.dumps(body, ensure_ascii=False).encode() for body in bodies]
        self._deliver((ticket, body) for (ticket, _), body in zip(verdicts, said, strict=True))
        self._deliver((ticket, one) for ticket, one in settled if isinstance(one, JudgeError))

    def _shelf(self, source: str | None) -> VerdictCache:
        row = self._context.source(source)
        shelf = self._shelves.get(row.name)
        if shelf is None or shelf.row.revision != row.revision:
            # what was judged with another casebook, brief or judge is judged anew
            shelf = self._shelves[row.name] = VerdictCache(row)
        return shelf

    def _deliver(self, answers: Iterable[tuple[BatchItem, Answer]]) -> None:
        orders, count = set[BatchJob](), 0
        for ticket, answer in answers:
            ticket.order.put(ticket.place, answer)
            orders.add(ticket.order)
            count += 1
        with self._lock:
            self._waiting -= count
        for order in orders:
            order.tell()

    @contextmanager
    def _failing(self, tickets: Sequence[BatchItem]) -> Iterator[None]:
        """What goes wrong is the answer to those that have none."""
        try:
            yield
        except Exception as error:  # whoever waits must hear of it, whatever it is
            self._deliver((one, error) for one in tickets if not one.order.has(one.place))

    def _by_source(self, tickets: Sequence[BatchItem]) -> Iterator[tuple[str | None, list[BatchItem]]]:
        """Tickets whose callers are still there."""
        by_source: defaultdict[str | None, list[BatchItem]] = defaultdict(list)
        for ticket in tickets:
            if not ticket.order.dropped:
                by_source[ticket.question.source].append(ticket)
        with self._lock:
            self._waiting -= len(tickets) - sum(map(len, by_source.values()))
        yield from by_source.items()


def _nobody_waits(tickets: Sequence[BatchItem]) -> bool:
    return all(ticket.order.dropped for ticket in tickets)


def _is_slow(question: AnyRequest) -> bool:
    """Whether the language model may be asked about it wherever it is judged."""
    return question.explain == "llm" or needs_segments(question)


def _about(shelf: VerdictCache, tickets: Sequence[BatchItem]) -> list[JudgeRequest]:
    return [JudgeRequest.about(one.question.record, shelf.row.name, one.question.explain) for one in tickets]
