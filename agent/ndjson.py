"""A stream of NDJSON both ways: a line for each line, in order, while more of them arrive."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence

from fastapi import Request
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from agent.answers import Unjudged
from agent.asking import asked_quickly, told
from agent.desk import Desk
from agent.errors import InputError, PrecedentError
from agent.guard import lines
from agent.order import Answer
from agent.question import Asked
from agent.settings import Settings

# lines judged together
_AT_ONCE = 1_024


async def streamed(request: Request, desk: Desk, chosen: Settings) -> AsyncIterator[bytes]:
    """Answers as the lines arrive, in memory that does not grow with their number."""
    try:
        async for arrived in lines(request, chosen.max_body_bytes):
            for start in range(0, len(arrived), _AT_ONCE):
                read = await run_in_threadpool(_read_all, desk, arrived[start : start + _AT_ONCE], chosen)
                # what is answered already stands before the answer that comes next
                rest = iter(read)
                questions = [one for one in read if not isinstance(one, bytes)]
                async for answers in await desk.order(questions, patient=True):
                    ready = list[bytes]()
                    for answer in answers:
                        ready += _answered(rest)
                        ready.append(shown(answer))
                    yield b"\n".join([*ready, b""])
                if ready := list(_answered(rest)):
                    yield b"\n".join([*ready, b""])
    except ClientDisconnect:
        return


def _read_all(desk: Desk, arrived: Sequence[tuple[int, bytes | None]], chosen: Settings) -> list[Asked | bytes]:
    """Of each line that is not blank the question, or the answer if there is one: it came before, or is wrong."""
    there = [(number, line) for number, line in arrived if line is None or line.strip()]
    known = desk.again([line for _, line in there])
    return [one or _read(*place, chosen) for one, place in zip(known, there, strict=True)]


def _answered(read: Iterator[Asked | bytes]) -> Iterator[bytes]:
    """The answers up to the next question, which is taken as well."""
    for one in read:
        if not isinstance(one, bytes):
            return
        yield one


def _read(number: int, line: bytes | None, chosen: Settings) -> Asked | bytes:
    if line is None:
        return wrong(f"line {number}: longer than {chosen.max_body_bytes} bytes")
    try:
        return asked_quickly(json.loads(line), chosen.max_record_chars, line)
    except ValidationError as error:
        return wrong(f"line {number}: {told(error)}")
    except (ValueError, RecursionError, InputError) as error:
        return wrong(f"line {number}: {error}")


def shown(answer: Answer) -> bytes:
    """An answer as JSON; raises what nobody expected to go wrong."""
    if isinstance(answer, bytes):
        return answer
    if isinstance(answer, Unjudged):
        return wrong(answer.reason)
    if isinstance(answer, PrecedentError):
        return wrong(str(answer))
    raise answer


def wrong(reason: str) -> bytes:
    return json.dumps({"error": reason}, ensure_ascii=False).encode()
