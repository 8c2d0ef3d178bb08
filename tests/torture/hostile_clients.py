"""Clients that are slow, that stall, that disappear, or that send more than they should; each says how it ended."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import struct
import time
import zlib
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

import zstandard

from tests.shop import NORMAL

MIB = 1 << 20
_JSON, _NDJSON, _OTLP = "application/json", "application/x-ndjson", "application/x-protobuf"
_JSON_PATHS = ("/v1/verdicts", "/v1/cases", "/v1/chat/completions", "/chain/invoke", "/verdict/stream", "/otlp/v1/logs")


class Ended(NamedTuple):
    """The status that a client was answered with, if any, and the seconds until the server closed, if it did.

    ``sent``: bytes that the server took.
    """

    status: int | None
    seconds: float | None
    sent: int


def head(path: str, *headers: str, method: str = "POST") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *headers, "", ""]).encode()


def whole(path: str, body: bytes, kind: str = _JSON, *headers: str, method: str = "POST") -> list[bytes]:
    """A request in one piece."""
    lines = (f"Content-Type: {kind}", f"Content-Length: {len(body)}", "Connection: close", *headers)
    return [head(path, *lines, method=method), body]


async def slowly(pieces: Iterable[bytes], pause: float) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
        await asyncio.sleep(pause)


async def talk(port: int, pieces: AsyncIterator[bytes], patience: float, *, reads: bool = True) -> Ended:
    """Send the pieces while the server takes them, and wait until it closes the connection."""
    started, sent, received = time.monotonic(), 0, bytearray()
    connection = socket.socket()
    # the kernel keeps no more of an answer for a client that does not read
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, ("127.0.0.1", port))

    async def send() -> None:
        nonlocal sent
        with suppress(OSError):
            async for piece in pieces:
                await loop.sock_sendall(connection, piece)
                sent += len(piece)

    async def until_closed() -> None:
        with suppress(ConnectionResetError):
            while data := await loop.sock_recv(connection, 65_536):
                received.extend(data[: 64 - len(received)])

    async def until_given_up() -> None:
        # a client that reads nothing of what the kernel still has for it does not learn that the server has closed
        own = connection.getsockname()[1]
        for is_held in (True, False):
            while _holds(port, own) != is_held:
                await asyncio.sleep(0.1)

    sending = asyncio.create_task(send())
    try:
        await asyncio.wait_for(until_closed() if reads else until_given_up(), patience)
        seconds: float | None = time.monotonic() - started
    except TimeoutError:
        seconds = None
    finally:
        sending.cancel()
        connection.close()
    status = int(received[9:12]) if received.startswith(b"HTTP/1.1 ") else None
    return Ended(status, seconds, sent)


def _holds(port: int, client: int) -> bool:
    """Whether a process holds the end of a connection at ``port``; what only the kernel has is of inode 0."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, _, _, _, _, _, inode, *_ = line.split()
        if local.endswith(f":{port:04X}") and remote.endswith(f":{client:04X}"):
            return inode != "0"
    return False


async def vanish(port: int, request: Iterable[bytes]) -> Ended:
    """Send a request and reset the connection when the answer begins."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.writelines(request)
    with suppress(OSError):
        await writer.drain()
        await reader.read(1)
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    return Ended(None, 0.0, 0)


def slow(pause: float) -> dict[str, list[AsyncIterator[bytes]]]:
    """Clients that take their time, by what they do."""
    drip = ("POST", "/v1/verdicts", f"Content-Type: {_JSON}")
    return {
        "sends nothing": [slowly([b""], 0)],
        "sends its headers byte by byte": [
            slowly([head("/healthz", method="GET")[:-2], *([b"a"] * 10_000)], pause),
            slowly([b"G"], 0),
        ],
        "sends headers without end": [slowly([b"GET / HTTP/1.1\r\n", *([b"X: y\r\n" * 1_000] * 10_000)], 0)],
        "sends its body byte by byte": [
            slowly([head(drip[1], drip[2], "Content-Length: 5000"), *([b" "] * 5_000)], pause),
            slowly([head(drip[1], drip[2], "Transfer-Encoding: chunked"), *([b"1\r\n \r\n"] * 5_000)], pause),
        ],
        "sends a part of its body": [
            slowly([head(path, drip[2], "Content-Length: 99"), b"{"], 0) for path in _JSON_PATHS
        ],
    }


@cache
def _bombs() -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Zeros, by content encoding, and as files by name."""
    zeros = bytes(256 * MIB)
    packed = gzip.compress(zeros)
    return {"gzip": packed, "deflate": zlib.compress(zeros)}, {
        "a.log.gz": packed,
        "a.log.zst": zstandard.compress(zeros),
    }


def oversized(limit: int) -> dict[str, list[AsyncIterator[bytes]]]:
    """Clients that send too much, by what they do."""
    chunk = f"{MIB:x}\r\n".encode() + b" " * MIB + b"\r\n"
    text = json.dumps({"text": "x" * (10 * MIB)}).encode()
    deep = b"[" * (limit // 2)
    bombs, packed = _bombs()
    json_head = f"Content-Type: {_JSON}"
    return {
        "announces a terabyte": [
            slowly([head(path, json_head, f"Content-Length: {10**12}"), *([b" " * MIB] * 100)], 0)
            for path in _JSON_PATHS
        ],
        "sends chunks without end": [
            slowly([head(path, json_head, "Transfer-Encoding: chunked"), *([chunk] * 1_000)], 0) for path in _JSON_PATHS
        ],
        "sends more than announced": [
            slowly([head("/v1/verdicts", json_head, "Content-Length: 2"), b"{}", *([b"x" * MIB] * 100)], 0)
        ],
        "sends deep JSON": [slowly(whole(path, deep), 0) for path in _JSON_PATHS],
        "sends a line of 10 MB": [
            slowly(whole("/v1/verdicts", text), 0),
            slowly(whole("/v1/verdicts", text + b"\n", _NDJSON), 0),
        ],
        "sends a bomb": [
            *(
                slowly(whole("/otlp/v1/logs", bomb, _OTLP, f"Content-Encoding: {name}"), 0)
                for name, bomb in bombs.items()
            ),
            *(slowly(whole(path, bombs["gzip"], _JSON, "Content-Encoding: gzip"), 0) for path in _JSON_PATHS),
            *(
                slowly(whole(f"/console/uploads?name={name}", body, "application/octet-stream", method="PUT"), 0)
                for name, body in packed.items()
            ),
        ],
    }


def stream_of_lines(count: int) -> list[bytes]:
    """A stream of NDJSON, whose answer is longer than what the kernel keeps."""
    lines = b"".join(json.dumps({"text": f"{NORMAL} {number}"}).encode() + b"\n" for number in range(count))
    return whole("/v1/verdicts", lines, _NDJSON)
