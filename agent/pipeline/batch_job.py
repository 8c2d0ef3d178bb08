"""The questions of one caller, and their answers as they come from other threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from agent.core.records import JudgeError
from agent.core.requests import AnyRequest

# a verdict as JSON, or why there is none
Answer = bytes | JudgeError | Exception


class BatchJob:
    """Made in the event loop of the caller, who iterates; ``patient``: may wait long for the language model."""

    def __init__(self, questions: Sequence[AnyRequest], *, patient: bool) -> None:
        self.questions, self.patient = questions, patient
        self.dropped = False
        self._answers: list[Answer | None] = [None] * len(questions)
        self._loop, self._changed = asyncio.get_running_loop(), asyncio.Event()

    @property
    def tickets(self) -> list[BatchItem]:
        return [BatchItem(self, place) for place in range(len(self.questions))]

    def has(self, place: int) -> bool:
        """Whether the question at ``place`` has its answer."""
        return self._answers[place] is not None

    def put(self, place: int, answer: Answer) -> None:
        self._answers[place] = answer

    def tell(self) -> None:
        """Wake the caller, from any thread; a loop that has ended has no caller."""
        if not self.dropped:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._changed.set)

    def drop(self) -> None:
        """Nobody waits any more: what has no answer yet needs none."""
        self.dropped = True

    async def __aiter__(self) -> AsyncIterator[list[Answer]]:
        """The answers in order, as many at a time as there are; who leaves early drops the rest."""
        done = 0
        try:
            while done < len(self.questions):
                await self._changed.wait()
                self._changed.clear()
                ready = list[Answer]()
                while done < len(self.questions) and (answer := self._answers[done]) is not None:
                    ready.append(answer)
                    done += 1
                if ready:
                    yield ready
        finally:
            self.drop()


@dataclass(frozen=True, slots=True)
class BatchItem:
    """One question of an order."""

    order: BatchJob
    place: int

    @property
    def question(self) -> AnyRequest:
        return self.order.questions[self.place]
