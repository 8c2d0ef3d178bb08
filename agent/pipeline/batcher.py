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
from typing import NamedTuple

from agent.core.errors import Busy, PrecedentError, mapped
from agent.core.records import Unjudged, Verdict, checked, content_hash
from agent.core.requests import Asked, Question, TextQuestion, needs_pieces
from agent.pipeline.batch_job import Answer, Order, Ticket
from agent.pipeline.context import Parts, of_source
from agent.pipeline.pipeline import InBulk
from agent.pipeline.verdict_cache import Shelf
from agent.pipeline.verdict_json import Whole
from agent.pipeline.worker_pool import Stage
from retrieval.lru_cache import Memo

Given = Callable[[Mapping[tuple[str, str], int]], None]

# how many are given again, and how many judged together; threads that ask the language model
_AGAIN, _TOGETHER, _ASKING = 1_024, 16, 4
# lines of streams that are known when they come again, and how long such a line may be
_LINES, _LINE = 65_536, 2_000
_LATER = "to be asked"
# sources whose fitted models are kept at a time
_WARMED = 8


class _Said(NamedTuple):
    """What was said of a line that named ``source``, or none."""

    source: str | None
    shelf: Shelf
    verdict: Verdict
    pieces: tuple[bytes, ...]


class Desk:
    """Answers questions for as many callers as come; up to ``most`` records may wait.

    ``given`` is told how many verdicts were given, by source and label.
    """

    def __init__(self, parts: Parts, chain: InBulk, given: Given, most: int) -> None:
        self._parts, self._chain, self._given, self._most = parts, chain, given, most
        self._shelves: dict[str, Shelf] = {}
        self._lines: Memo[_Said] = Memo(_LINES)
        self._waiting, self._lock = 0, threading.Lock()
        # there is no language model to wait for
        self._silent = parts.settings.model == "none"
        self._again = Stage("again", self._give_again, at_once=_AGAIN)
        self._quick = Stage("quick", self._judge, at_once=_TOGETHER)
        self._asking = Stage("asking", self._ask, at_once=1, threads=_ASKING)

    async def order(self, questions: Sequence[Asked], *, patient: bool = False) -> Order:
        """The questions, being answered. ``patient``: wait for room.

        Raises:
            Busy: too many records wait already.
        """
        while not self._admitted(len(questions)):
            if not patient:
                raise Busy(f"{self._waiting} records wait to be judged already: try again later")
            await asyncio.sleep(0.01)
        order = Order(questions, patient=patient or len(questions) > 1)
        self._again.put(order.tickets)
        return order

    def again(self, lines: Sequence[bytes | None]) -> list[bytes | None]:
        """For each line of a stream that came before, the verdict given then, as JSON, where it still holds."""
        said = [self._lines.get(line) for line in lines]
        holds = {one: self._holds(*one) for one in {(one.source, one.shelf) for one in said if one}}
        there = [one if one and holds[one.source, one.shelf] else None for one in said]
        self._given(Counter((one.verdict.source, one.verdict.label) for one in there if one))
        return [b"".join(one.pieces) if one else None for one in there]

    def _holds(self, source: str | None, shelf: Shelf) -> bool:
        try:
            return self._shelf(source) is shelf
        except PrecedentError:
            # whoever asks anew hears of it
            return False

    def warm(self) -> None:
        """Load what the first verdicts of each source would have to wait for."""
        for name in self._parts.casebook.names()[:_WARMED]:
            self._chain.batch([Question(text="warm", source=name)], unasked=_LATER, return_exceptions=True)
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

    def _give_again(self, tickets: list[Ticket]) -> None:
        for source, mine in self._by_source(tickets):
            with self._failing(mine):
                shelf = self._shelf(source)
                found, rest = self._on_shelf(shelf, mine)
                self._give(shelf, found)
                self._quick.put(one for one in rest if not _is_slow(one.question))
                self._wait_for_the_model([one for one in rest if _is_slow(one.question)])

    def _judge(self, tickets: list[Ticket]) -> None:
        for source, mine in self._by_source(tickets):
            with self._failing(mine):
                shelf, later = self._shelf(source), list[Ticket]()
                answers = self._chain.batch_as_completed(
                    _about(shelf, mine), return_exceptions=True, unasked=None if self._silent else _LATER
                )
                settled = list[tuple[Ticket, Verdict | Unjudged]]()
                for ticket, (_, answer) in zip(mine, answers, strict=True):
                    if isinstance(answer, Verdict) and any(one.endswith(_LATER) for one in answer.degraded):
                        later.append(ticket)
                    else:
                        settled.append((ticket, checked(ticket.question.record, answer)))
                self._settle(shelf, settled)
                self._wait_for_the_model(later)

    def _ask(self, tickets: list[Ticket]) -> None:
        for source, mine in self._by_source(tickets):
            with self._failing(mine):
                shelf = self._shelf(source)
                # somebody may have asked the same meanwhile
                found, rest = self._on_shelf(shelf, mine)
                self._give(shelf, found)
                answers = self._chain.batch_as_completed(_about(shelf, rest), return_exceptions=True)
                for ticket, (_, answer) in zip(rest, answers, strict=True):
                    self._settle(shelf, [(ticket, checked(ticket.question.record, answer))])

    def _wait_for_the_model(self, tickets: Sequence[Ticket]) -> None:
        room = self._parts.settings.queue_size - len(self._asking)
        refused = [one for one in tickets[max(room, 0) :] if not one.order.patient]
        busy = Busy(f"{len(self._asking)} records wait for the language model already: try again later")
        self._deliver((one, busy) for one in refused)
        self._asking.put(one for one in tickets if one not in refused)

    # their work

    def _on_shelf(self, shelf: Shelf, tickets: Iterable[Ticket]) -> tuple[list[tuple[Ticket, Whole]], list[Ticket]]:
        """The tickets for which there is a verdict, with it, and the others."""
        found, rest = list[tuple[Ticket, Whole]](), list[Ticket]()
        likely = list[tuple[Ticket, TextQuestion, Whole]]()
        for ticket in tickets:
            question = ticket.question
            if not isinstance(question, TextQuestion):
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

    def _held(self, shelf: Shelf, texts: Sequence[str]) -> set[str]:
        """Those of the texts that a case has."""
        hashes = {content_hash(text, {}, ()): text for text in texts}
        return {hashes[one] for one in self._parts.casebook.held(shelf.row.name, hashes)}

    def _give(self, shelf: Shelf, found: Sequence[tuple[Ticket, Whole]]) -> None:
        """Give verdicts of other records of the same text or template."""
        answers, given = list[tuple[Ticket, Answer]](), Counter[tuple[str, str]]()
        lines = list[tuple[bytes, _Said]]()
        same, alike = dict[str, Verdict](), dict[str, tuple[Verdict, str]]()
        for ticket, whole in found:
            question = ticket.question
            pieces = whole.about(question.text, question.file, question.line, question.time)
            answers.append((ticket, b"".join(pieces)))
            if isinstance(question, TextQuestion) and question.said and len(question.said) <= _LINE:
                lines.append((question.said, _Said(question.source, shelf, whole.verdict, pieces)))
            given[whole.verdict.source, whole.verdict.label] += 1
            if (name := pieces[1].decode()) == whole.verdict.id:
                same[name] = whole.verdict
            else:
                alike[name] = whole.verdict, f"{whole.alike}{pieces[3].decode()}}}"
        self._parts.history.put({**one.model_dump(mode="json"), "elapsed_ms": 0.0} for one in same.values())
        self._parts.history.put_alike(alike)
        self._given(given)
        self._deliver(answers)
        for said, one in lines:
            self._lines.put(said, one)

    def _settle(self, shelf: Shelf, settled: Sequence[tuple[Ticket, Verdict | Unjudged]]) -> None:
        """Give fresh verdicts, and keep them to be given again."""
        verdicts = [(ticket, one) for ticket, one in settled if isinstance(one, Verdict)]
        bodies = [one.model_dump(mode="json") for _, one in verdicts]
        self._parts.history.put(bodies)
        again = [
            (question, one)
            for question, one in ((ticket.question, one) for ticket, one in verdicts)
            if isinstance(question, TextQuestion) and question.explain != "llm" and (self._silent or not one.degraded)
        ]
        held = self._held(shelf, [question.text for question, _ in again])
        for question, one in again:
            shelf.keep(question, one, held=question.text in held)
        self._given(Counter((one.source, one.label) for _, one in verdicts))
        said = [json.dumps(body, ensure_ascii=False).encode() for body in bodies]
        self._deliver((ticket, body) for (ticket, _), body in zip(verdicts, said, strict=True))
        self._deliver((ticket, one) for ticket, one in settled if isinstance(one, Unjudged))

    def _shelf(self, source: str | None) -> Shelf:
        name = source if source in self._shelves else of_source(self._parts, source)
        row = self._parts.source(name)
        shelf = self._shelves.get(name)
        if shelf is None or shelf.row is not row:
            # what was judged with another casebook, brief or judge is judged anew
            shelf = self._shelves[name] = Shelf(row)
        return shelf

    def _deliver(self, answers: Iterable[tuple[Ticket, Answer]]) -> None:
        orders, count = set[Order](), 0
        for ticket, answer in answers:
            ticket.order.put(ticket.place, answer)
            orders.add(ticket.order)
            count += 1
        with self._lock:
            self._waiting -= count
        for order in orders:
            order.tell()

    @contextmanager
    def _failing(self, tickets: Sequence[Ticket]) -> Iterator[None]:
        """What goes wrong is the answer to those that have none."""
        try:
            with mapped():
                yield
        except Exception as error:  # whoever waits must hear of it, whatever it is
            self._deliver((one, error) for one in tickets if not one.order.has(one.place))

    def _by_source(self, tickets: Sequence[Ticket]) -> Iterator[tuple[str | None, list[Ticket]]]:
        """Tickets whose callers are still there."""
        by_source: defaultdict[str | None, list[Ticket]] = defaultdict(list)
        for ticket in tickets:
            if not ticket.order.dropped:
                by_source[ticket.question.source].append(ticket)
        with self._lock:
            self._waiting -= len(tickets) - sum(map(len, by_source.values()))
        yield from by_source.items()


def _is_slow(question: Asked) -> bool:
    """Whether the language model may be asked about it wherever it is judged."""
    return question.explain == "llm" or needs_pieces(question)


def _about(shelf: Shelf, tickets: Sequence[Ticket]) -> list[Question]:
    return [Question.about(one.question.record, shelf.row.name, one.question.explain) for one in tickets]
