"""The Model Context Protocol on standard input and output.

The package's own transport leaves a line that it cannot read without an answer, so that the client waits for ever.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import BinaryIO

import anyio
import mcp.types as types
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage

from agent.api.mcp_messages import UnreadableMessage, read_message

Streams = tuple[MemoryObjectReceiveStream[SessionMessage | Exception], MemoryObjectSendStream[SessionMessage]]


@asynccontextmanager
async def stdio_streams(limit: int) -> AsyncIterator[Streams]:
    """The streams of messages that are read and written; lines are at most ``limit`` bytes long."""
    output, lock = _private_stdout(), anyio.Lock()
    received, read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    write, to_send = anyio.create_memory_object_stream[SessionMessage](0)

    async def send(line: str) -> None:
        async with lock:
            await output.write(f"{line}\n")
            await output.flush()

    async def read_lines() -> None:
        async with received:
            async for line in _lines(sys.stdin.buffer, limit):
                try:
                    if line is None:
                        raise UnreadableMessage(types.INVALID_REQUEST, f"the line is longer than {limit} bytes")
                    message = read_message(line)
                except UnreadableMessage as error:
                    await send(json.dumps(error.answer))
                    continue
                await received.send(SessionMessage(message))

    async def write_lines() -> None:
        async with to_send:
            async for answer in to_send:
                await send(answer.message.model_dump_json(by_alias=True, exclude_none=True))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read_lines)
        tasks.start_soon(write_lines)
        yield read, write


async def _lines(stream: BinaryIO, limit: int) -> AsyncIterator[bytes | None]:
    """The lines that are not blank; None for one that is too long."""
    while line := await anyio.to_thread.run_sync(stream.readline, limit + 1):
        is_whole = len(line) <= limit or line.endswith(b"\n")
        while len(line) > limit and not line.endswith(b"\n"):
            line = await anyio.to_thread.run_sync(stream.readline, limit + 1)
        if not is_whole:
            yield None
        elif line.strip():
            yield line


def _private_stdout() -> anyio.AsyncFile[str]:
    """Standard output for the protocol alone: what else is written there goes to standard error from now on."""
    protocol = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return anyio.wrap_file(protocol)
