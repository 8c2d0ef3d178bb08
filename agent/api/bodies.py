"""Bodies of requests: JSON that is checked, lines of a stream, and clients that disconnect."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, ClassVar, TypeVar

from fastapi import HTTPException, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from agent.core.records import clean_text

NDJSON = "application/x-ndjson"
STREAMED_PATH = "/v1/verdicts"
"""The only path that takes NDJSON."""
UPLOAD_PATH, UPLOAD_BYTES = "/console/uploads", 100 * 1024 * 1024
"""Where the console sends files, and their largest size."""
_JSON = re.compile(r"application/(?:[\w.-]+\+)?json")
# seconds before a disconnect is looked for; most answers are ready by then
_DISCONNECT_GRACE = 1.0
T = TypeVar("T")


def media_type(headers: Headers) -> str:
    """The content type without its parameters, in lower case."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def describe_json_error(error: ValueError | RecursionError, *, of_line: bool = False) -> str:
    """What is wrong with a JSON text that Python's parser rejects, without Python's terms.

    ``of_line``: whether the text is a line whose number is named already.
    """
    if isinstance(error, json.JSONDecodeError):
        if not error.doc.strip():
            return "it is empty; JSON is expected"
        place = "" if of_line else f"line {error.lineno}, "
        return f"it is not valid JSON (see {place}column {error.colno})"
    if isinstance(error, UnicodeDecodeError):
        return f"it is not valid JSON: byte {error.start + 1} is not UTF-8"
    if isinstance(error, RecursionError):
        return "it is not valid JSON here: it is nested too deeply"
    return "it is not valid JSON here: a number has too many digits"


def storable_json(value: Any) -> str:
    """A JSON value as text without what neither a store nor UTF-8 takes, such as lone surrogates."""
    return clean_text(json.dumps(value, ensure_ascii=False))


class JsonRequest(Request):
    """A request that refuses a body that is not JSON with a sentence; FastAPI and LangServe both read through it."""

    async def json(self) -> Any:
        """The body parsed as JSON; raises `HTTPException` 422 if it is not JSON."""
        try:
            return await super().json()
        except (ValueError, RecursionError) as error:
            raise HTTPException(422, f"the body cannot be read: {describe_json_error(error)}") from error


class JsonRoute(APIRoute):
    """A route that reads `JsonRequest`, and takes only bodies that are declared as JSON.

    A web page of another origin cannot send that content type without permission, so it can neither judge nor correct.
    A route without a body takes requests without one from what is no web page.
    """

    request_class: ClassVar[type[JsonRequest]] = JsonRequest

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's handler, which refuses other content types with 415."""
        handler, takes_body = super().get_route_handler(), self.body_field is not None or self.path == STREAMED_PATH

        async def checked(request: Request) -> Response:
            if request.method in ("POST", "PUT") and (takes_body or not _has_no_body(request.headers)):
                declared, streamed = media_type(request.headers), request.url.path == STREAMED_PATH
                if not (_JSON.fullmatch(declared) or (declared == NDJSON and streamed)):
                    expected = f"application/json{f' or {NDJSON}' if streamed else ''}"
                    raise HTTPException(415, f"the content type is {declared or 'missing'!r}; send {expected}")
            return await handler(self.request_class(request.scope, request.receive))

        return checked


def _has_no_body(headers: Headers) -> bool:
    """Whether a request has no body and comes from no web page, which would send its origin."""
    return headers.get("content-length", "0") == "0" and not {"content-type", "transfer-encoding", "origin"} & {
        *headers
    }


class DuplexResponse(StreamingResponse):
    """A response that is sent while the request's body is still read, so nothing else may receive its messages."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response without listening for a disconnect."""
        await self.stream_response(send)


async def cancel_on_disconnect(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Do the work for a request whose body has been read; cancel it when the client disconnects.

    Raises
    ------
    ClientDisconnect
        The client has disconnected.
    """
    task = asyncio.ensure_future(work)
    try:
        if not (await asyncio.wait({task}, timeout=_DISCONNECT_GRACE))[0]:
            disconnect = asyncio.ensure_future(request.receive())
            try:
                await asyncio.wait({task, disconnect}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                disconnect.cancel()
            if not task.done():
                raise ClientDisconnect
        return await task
    finally:
        task.cancel()


async def lines(request: Request, limit: int) -> AsyncIterator[list[tuple[int, bytes | None]]]:
    """The lines of the body with their numbers from 1, as many at a time as have arrived.

    Parameters
    ----------
    request : Request
    limit : int
        Longest line in bytes; of a longer one the content is None.
    """
    number, line, too_long = 1, bytearray(), False
    async for chunk in request.stream():
        complete: list[tuple[int, bytes | None]] = []
        *ends, start = chunk.split(b"\n")
        for end in ends:
            line += end
            complete.append((number, None if too_long or len(line) > limit else bytes(line)))
            number, too_long = number + 1, False
            line.clear()
        line += start
        if too_long or len(line) > limit:
            too_long = True
            line.clear()
        if complete:
            yield complete
    if line or too_long:
        yield [(number, None if too_long else bytes(line))]
