"""The requests of one caller, and their answers, which other threads put in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.core.records import JudgeError
from agent.core.requests import AnyRequest
from agent.pipeline.redacted_requests import redacted_request

if TYPE_CHECKING:
    from retrieval.text.redaction import Redactor

# a verdict as JSON, or the reason why there is none
Answer = bytes | JudgeError | Exception


class BatchJob:
    """Created in the event loop of the caller, who iterates over the answers.

    Parameters
    ----------
    requests
        What to judge.
    may_wait
        Whether the requests wait for the language model however many others do.
    """

    def __init__(self, requests: Sequence[AnyRequest], *, may_wait: bool) -> None:
        self.requests, self.may_wait = list(requests), may_wait
        self.cancelled = False
        self._answers: list[Answer | None] = [None] * len(requests)
        self._loop, self._changed = asyncio.get_running_loop(), asyncio.Event()

    @property
    def items(self) -> list[BatchItem]:
        """One item for each request, in order."""
        return [BatchItem(self, place) for place in range(len(self.requests))]

    def has_answer(self, place: int) -> bool:
        """Whether the request at ``place`` has an answer."""
        return self._answers[place] is not None

    def put(self, place: int, answer: Answer) -> None:
        """Set the answer to the request at ``place``."""
        self._answers[place] = answer

    def notify(self) -> None:
        """Wake the caller, from any thread; a loop that has ended has no caller."""
        if not self.cancelled:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._changed.set)

    def cancel(self) -> None:
        """Mark the job as abandoned: requests without an answer need none."""
        self.cancelled = True

    async def __aiter__(self) -> AsyncIterator[list[Answer]]:
        """The answers in order, as many at a time as there are; a caller that leaves early cancels the rest."""
        position = 0
        try:
            while position < len(self.requests):
                await self._changed.wait()
                self._changed.clear()
                ready = list[Answer]()
                while position < len(self.requests) and (answer := self._answers[position]) is not None:
                    ready.append(answer)
                    position += 1
                if ready:
                    yield ready
        finally:
            self.cancel()


@dataclass(frozen=True, slots=True)
class BatchItem:
    """One request of a job."""

    job: BatchJob
    place: int

    @property
    def request(self) -> AnyRequest:
        """The request of this item."""
        return self.job.requests[self.place]

    def redact(self, redactor: Redactor | None) -> None:
        """Put placeholders into the request."""
        self.job.requests[self.place] = redacted_request(self.request, redactor)

    @property
    def is_answered(self) -> bool:
        """Whether the request has an answer."""
        return self.job.has_answer(self.place)
