"""The server under load: many clients that each wait for their verdict, and streams of NDJSON (`benchmarks.speed`)."""

from __future__ import annotations

import asyncio
import json
import random
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
    """Responses by status, latencies of those with status 200, verdicts about another record than was sent."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    wrong: int = 0
    ids: list[str] = field(default_factory=list)
    duration: float = 0.0
    count: int = 0

    def percentile(self, share: float) -> float:
        return sorted(self.seconds)[int(share * (len(self.seconds) - 1))]


def wait_until_ready(port: int) -> None:
    """Raises TimeoutError after two minutes."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz"):
            return
        time.sleep(0.2)
    raise TimeoutError("the server did not start in two minutes")


async def clients(url: str, source: str, texts: Sequence[str], count: int, seconds: float, pause: float) -> Load:
    """``count`` clients that send one record at a time for ``seconds``, each waiting ``pause`` seconds in between."""
    load, deadline = Load(), time.monotonic() + seconds
    number = iter(range(1, 1 << 31))

    async def client(session: aiohttp.ClientSession, seed: int) -> None:
        rng = random.Random(seed)
        await asyncio.sleep(rng.random() * pause)
        while time.monotonic() < deadline:
            text, line = rng.choice(texts), next(number)
            body = json.dumps({"source": source, "text": text, "file": "load.log", "line": line})
            started = time.monotonic()
            async with session.post(url, data=body, headers=_JSON) as response:
                verdict = await response.json()
            load.statuses[response.status] += 1
            if response.status == 200:
                load.seconds.append(time.monotonic() - started)
                record = verdict["record"]
                load.wrong += (record["text"], record["line"]) != (text, line)
                load.ids.append(verdict["id"])
            await asyncio.sleep(float(response.headers.get("retry-after", 0)) if response.status == 429 else pause)

    started = time.monotonic()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(client(session, seed) for seed in range(count)))
    load.duration = time.monotonic() - started
    return load


async def streamed(url: str, source: str, texts: Sequence[str], batch_size: int) -> Load:
    """All records in one stream of NDJSON, sent in batches of ``batch_size`` lines."""
    load = Load()
    lines = [
        json.dumps({"source": source, "text": text, "file": "load.log", "line": number}) + "\n"
        for number, text in enumerate(texts, 1)
    ]
    batches = ["".join(lines[start : start + batch_size]).encode() for start in range(0, len(lines), batch_size)]

    async def body() -> AsyncIterator[bytes]:
        for batch in batches:
            yield batch

    started = time.monotonic()
    received = bytearray()
    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.post(url, data=body(), headers=_NDJSON) as response,
    ):
        async for chunk in response.content.iter_any():
            received += chunk
    load.duration = time.monotonic() - started
    load.statuses[response.status], load.count = 1, len(texts)
    for number, (text, line) in enumerate(zip(texts, received.splitlines(), strict=True), 1):
        record = json.loads(line)["record"]
        load.wrong += (record["text"], record["line"]) != (text, number)
    return load
