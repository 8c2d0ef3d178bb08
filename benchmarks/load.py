"""The server under load: many clients that each wait for their verdict, and streams of NDJSON (`benchmarks.speed`)."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import aiohttp

_JSON = {"content-type": "application/json"}
_NDJSON = {"content-type": "application/x-ndjson"}


@dataclass
class Load:
    """What came of the requests: answers by status, seconds of the good ones, verdicts that were not the right one."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    wrong: int = 0
    ids: list[str] = field(default_factory=list)
    took: float = 0.0
    count: int = 0

    def percentile(self, share: float) -> float:
        return sorted(self.seconds)[int(share * (len(self.seconds) - 1))]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def wait_until_ready(port: int) -> None:
    """Raises TimeoutError after two minutes."""
    ends = time.monotonic() + 120
    while time.monotonic() < ends:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz"):
            return
        time.sleep(0.2)
    raise TimeoutError("the server did not come up in two minutes")


async def clients(url: str, source: str, texts: Sequence[str], count: int, seconds: float, pause: float) -> Load:
    """``count`` clients that ask about one record at a time for so long, each waiting ``pause`` seconds in between."""
    load, ends = Load(), time.monotonic() + seconds
    number = iter(range(1, 1 << 31))

    async def client(session: aiohttp.ClientSession, seed: int) -> None:
        rng = random.Random(seed)
        await asyncio.sleep(rng.random() * pause)
        while time.monotonic() < ends:
            text, line = rng.choice(texts), next(number)
            body = json.dumps({"source": source, "text": text, "file": "load.log", "line": line})
            started = time.monotonic()
            async with session.post(url, data=body, headers=_JSON) as answer:
                said = await answer.json()
            load.statuses[answer.status] += 1
            if answer.status == 200:
                load.seconds.append(time.monotonic() - started)
                record = said["record"]
                load.wrong += (record["text"], record["line"]) != (text, line)
                load.ids.append(said["id"])
            await asyncio.sleep(float(answer.headers.get("retry-after", 0)) if answer.status == 429 else pause)

    began = time.monotonic()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(client(session, seed) for seed in range(count)))
    load.took = time.monotonic() - began
    return load


async def streamed(url: str, source: str, texts: Sequence[str], at_once: int) -> Load:
    """All records in one stream of NDJSON, sent in batches of so many lines."""
    load = Load()
    lines = [
        json.dumps({"source": source, "text": text, "file": "load.log", "line": number}) + "\n"
        for number, text in enumerate(texts, 1)
    ]
    batches = ["".join(lines[start : start + at_once]).encode() for start in range(0, len(lines), at_once)]

    async def body() -> AsyncIterator[bytes]:
        for batch in batches:
            yield batch

    began = time.monotonic()
    whole = bytearray()
    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.post(url, data=body(), headers=_NDJSON) as answer,
    ):
        async for chunk in answer.content.iter_any():
            whole += chunk
    load.took = time.monotonic() - began
    load.statuses[answer.status], load.count = 1, len(texts)
    for number, (text, line) in enumerate(zip(texts, whole.splitlines(), strict=True), 1):
        said = json.loads(line)
        load.wrong += (said["record"]["text"], said["record"]["line"]) != (text, number)
    return load
