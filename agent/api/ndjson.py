"""A stream of NDJSON both ways: an answer for each line, in order, while more lines arrive."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence

from fastapi import Request
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from agent.api.bodies import describe_json_error, lines
from agent.api.shutdown import Shutdown
from agent.api.state import ServerState
from agent.core.errors import InputError, Stopped, translate
from agent.core.records import JudgeError
from agent.core.requests import AnyRequest, format_validation_error, parse_request_fast, parse_text_line
from agent.core.settings import Settings
from agent.pipeline.batch_job import Answer

# number from 1, and content; None if it is too long
Line = tuple[int, bytes | None]
_LINES_PER_BATCH = 1_024
# bytes of answers that are sent at once: the time limit is for each piece, and a client may be slow
_BYTES_PER_PIECE = 64 * 1024


async def stream_verdicts(request: Request, state: ServerState) -> AsyncIterator[bytes]:
    """Answer lines as they arrive, in memory that does not grow with their number.

    When the server stops, the last line names the lines that were not judged.
    """
    next_line = 1
    try:
        async for batch in _batches(lines(request, state.settings.max_body_bytes), state.shutdown):
            async for ready in _answer(state, batch):
                for piece in _pieces(ready):
                    yield piece
            next_line = batch[-1][0] + 1
            request.state.logged = {"lines": next_line - 1}
    except Stopped:
        yield error_bytes(f"the server stops: lines from {next_line} on were not judged") + b"\n"
    except ClientDisconnect:
        return


async def _batches(arriving: AsyncIterator[list[Line]], shutdown: Shutdown) -> AsyncIterator[list[Line]]:
    """The lines, as many at a time as have arrived and are judged together.

    Raises
    ------
    Stopped
        The process received a signal to stop before the last of them.
    """
    while arrived := await shutdown.cancel_on_shutdown(anext(arriving, [])):
        for start in range(0, len(arrived), _LINES_PER_BATCH):
            if shutdown.requested:
                raise Stopped
            yield arrived[start : start + _LINES_PER_BATCH]


async def _answer(state: ServerState, batch: Sequence[Line]) -> AsyncIterator[list[bytes]]:
    parsed = await run_in_threadpool(_parse_all, state, batch)
    # answers that are known are sent before the next verdict
    rest, requests = iter(parsed), [(number, item) for number, item in parsed if not isinstance(item, bytes)]
    numbers = iter(number for number, _ in requests)
    async for answers in await state.batcher.submit([request for _, request in requests], may_wait=True):
        ready = list[bytes]()
        for answer in answers:
            ready += _answered(rest)
            ready.append(to_json_bytes(answer, next(numbers)))
        yield ready
    if ready := list(_answered(rest)):
        yield ready


def _pieces(answers: Sequence[bytes]) -> Iterator[bytes]:
    """The answers as lines, as many at a time as are not too long together; a longer one is sent alone."""
    first = length = 0
    for place, answer in enumerate(answers):
        if place > first and length + len(answer) >= _BYTES_PER_PIECE:
            yield b"\n".join([*answers[first:place], b""])
            first, length = place, 0
        length += len(answer) + 1
    if answers:
        yield b"\n".join([*answers[first:], b""])


def _parse_all(state: ServerState, batch: Sequence[Line]) -> list[tuple[int, AnyRequest | bytes]]:
    """For each line that is not blank its number and its request, or its answer: a cached one, or an error."""
    reused = state.batcher.reused
    filled = [(number, line) for number, line in batch if line is None or line.strip()]
    of_lines = reused.of_lines([line for _, line in filled])
    parsed: list[tuple[int, AnyRequest | bytes]] = [
        (number, answer or _parse(number, line, state.settings))
        for answer, (number, line) in zip(of_lines, filled, strict=True)
    ]
    requests = [(place, item) for place, (_, item) in enumerate(parsed) if not isinstance(item, bytes)]
    answers = reused.of_requests([request for _, request in requests])
    for (place, _), answer in zip(requests, answers, strict=True):
        if answer is not None:
            parsed[place] = parsed[place][0], answer
    return parsed


def _answered(parsed: Iterator[tuple[int, AnyRequest | bytes]]) -> Iterator[bytes]:
    """The answers up to the next request, which is consumed as well."""
    for _, item in parsed:
        if not isinstance(item, bytes):
            return
        yield item


def _parse(number: int, line: bytes | None, settings: Settings) -> AnyRequest | bytes:
    if line is None:
        return error_bytes(f"line {number}: longer than {settings.max_body_bytes} bytes")
    if (request := parse_text_line(line, settings.max_record_chars)) is not None:
        return request
    try:
        body = json.loads(line)
    except (ValueError, RecursionError) as error:
        return error_bytes(f"line {number}: {describe_json_error(error, of_line=True)}")
    try:
        return parse_request_fast(body, settings.max_record_chars, line)
    except ValidationError as error:
        return error_bytes(f"line {number}: {format_validation_error(error)}")
    except (ValueError, RecursionError, InputError) as error:
        return error_bytes(f"line {number}: {error}")


def to_json_bytes(answer: Answer, line: int | None = None) -> bytes:
    """An answer as JSON.

    Parameters
    ----------
    answer : bytes or JudgeError or Exception
        A verdict as JSON, or why there is none.
    line : int, optional
        The line of a stream that it answers; an error names it.

    Raises
    ------
    Exception
        The answer itself, where it is an unexpected error.
    """
    if isinstance(answer, bytes):
        return answer
    place = "" if line is None else f"line {line}: "
    if isinstance(answer, JudgeError):
        return error_bytes(place + answer.reason)
    if expected := translate(answer):
        return error_bytes(f"{place}{expected}")
    raise answer


def error_bytes(reason: str) -> bytes:
    """The answer to a record that cannot be judged, as JSON."""
    return json.dumps({"error": reason}, ensure_ascii=False).encode()
