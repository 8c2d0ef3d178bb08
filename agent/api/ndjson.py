"""A stream of NDJSON both ways: a line for each line, in order, while more of them arrive."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence

from fastapi import Request
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from agent.api.middleware import lines
from agent.api.shutdown import Shutdown
from agent.core.errors import InputError, PrecedentError, Stopped
from agent.core.records import JudgeError
from agent.core.requests import AnyRequest, format_validation_error, parse_request_fast
from agent.core.settings import Settings
from agent.pipeline.batch_job import Answer
from agent.pipeline.batcher import MicroBatcher

# its number, from 1, and what it says; None where it is too long
Line = tuple[int, bytes | None]
# lines judged together
_AT_ONCE = 1_024


async def stream_verdicts(
    request: Request, desk: MicroBatcher, chosen: Settings, stopping: Shutdown
) -> AsyncIterator[bytes]:
    """Answers as the lines arrive, in memory that does not grow with their number.

    When the server stops, the last line says which lines were not judged.
    """
    next_line = 1
    try:
        async for some in _parts(lines(request, chosen.max_body_bytes), stopping):
            async for ready in _answers(desk, some, chosen):
                yield b"\n".join([*ready, b""])
            next_line = some[-1][0] + 1
    except Stopped:
        yield wrong(f"the server stops: lines from {next_line} on were not judged") + b"\n"
    except ClientDisconnect:
        return


async def _parts(arriving: AsyncIterator[list[Line]], stopping: Shutdown) -> AsyncIterator[list[Line]]:
    """The lines, as many at a time as have arrived and are judged together.

    Raises:
        Stopped: the process was told to stop before the last of them.
    """
    while arrived := await stopping.cancel_on_shutdown(anext(arriving, [])):
        for start in range(0, len(arrived), _AT_ONCE):
            if stopping.told:
                raise Stopped
            yield arrived[start : start + _AT_ONCE]


async def _answers(desk: MicroBatcher, arrived: Sequence[Line], chosen: Settings) -> AsyncIterator[list[bytes]]:
    read = await run_in_threadpool(_read_all, desk, arrived, chosen)
    # what is answered already stands before the answer that comes next
    rest, questions = iter(read), [(number, one) for number, one in read if not isinstance(one, bytes)]
    numbers = iter(number for number, _ in questions)
    async for answers in await desk.order([one for _, one in questions], patient=True):
        ready = list[bytes]()
        for answer in answers:
            ready += _answered(rest)
            ready.append(to_json_bytes(answer, next(numbers)))
        yield ready
    if ready := list(_answered(rest)):
        yield ready


def _read_all(desk: MicroBatcher, arrived: Sequence[Line], chosen: Settings) -> list[tuple[int, AnyRequest | bytes]]:
    """Of each line that is not blank its number and the question, or the answer: it came before, or is wrong."""
    there = [(number, line) for number, line in arrived if line is None or line.strip()]
    known = desk.again([line for _, line in there])
    return [(line[0], one or _read(*line, chosen)) for one, line in zip(known, there, strict=True)]


def _answered(read: Iterator[tuple[int, AnyRequest | bytes]]) -> Iterator[bytes]:
    """The answers up to the next question, which is taken as well."""
    for _, one in read:
        if not isinstance(one, bytes):
            return
        yield one


def _read(number: int, line: bytes | None, chosen: Settings) -> AnyRequest | bytes:
    if line is None:
        return wrong(f"line {number}: longer than {chosen.max_body_bytes} bytes")
    try:
        return parse_request_fast(json.loads(line), chosen.max_record_chars, line)
    except ValidationError as error:
        return wrong(f"line {number}: {format_validation_error(error)}")
    except (ValueError, RecursionError, InputError) as error:
        return wrong(f"line {number}: {error}")


def to_json_bytes(answer: Answer, line: int | None = None) -> bytes:
    """An answer as JSON; what is wrong with its ``line`` of a stream; raises what nobody expected to go wrong."""
    if isinstance(answer, bytes):
        return answer
    place = "" if line is None else f"line {line}: "
    if isinstance(answer, JudgeError):
        return wrong(place + answer.reason)
    if isinstance(answer, PrecedentError):
        return wrong(f"{place}{answer}")
    raise answer


def wrong(reason: str) -> bytes:
    return json.dumps({"error": reason}, ensure_ascii=False).encode()
