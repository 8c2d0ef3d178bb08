"""Slow, stalled, vanishing and excessive clients: the server's memory is bounded, and others are served."""

from __future__ import annotations

import asyncio
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import httpx
import pytest

from agent.core.settings import Settings
from tests.served import Served
from tests.shop import NORMAL
from tests.torture.conftest import Figures
from tests.torture.hostile_clients import MIB, Ended, oversized, slow, slowly, stream_of_lines, talk, vanish

pytestmark = [pytest.mark.network, pytest.mark.enable_socket, pytest.mark.timeout(600)]
_HEADERS, _REQUEST, _BODY = 5.0, 8.0, 4 * MIB
# what a loaded machine may add to a limit; bytes by which memory may grow
_GRACE, _GROWTH = 30.0, 400 * MIB
_PAUSE = 0.2
_ASK = """
import sys, time, httpx
with httpx.Client(timeout=60) as client:
    while True:
        started = time.monotonic()
        answer = client.post(sys.argv[1], json={"text": sys.argv[2]})
        print(time.monotonic() - started, answer.status_code, flush=True)
        time.sleep(0.02)
"""


@pytest.fixture
def served(copy_of: Callable[..., Settings]) -> Iterator[Served]:
    limits = {"header_timeout": _HEADERS, "request_timeout": _REQUEST, "max_body_bytes": _BODY}
    made = Served(copy_of(model="none"), log_level="error", **limits)
    try:
        made.wait()
        yield made
    finally:
        errors = made.stop()
    assert "Traceback" not in errors, errors[-3_000:]


@contextmanager
def asking(url: str) -> Iterator[list[tuple[float, int]]]:
    """Another client, in a process of its own, asks all the while: the seconds and the status of each request."""
    requests = list[tuple[float, int]]()
    with tempfile.TemporaryFile("w+") as log:
        command = [sys.executable, "-c", _ASK, f"{url}/v1/verdicts", NORMAL]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield requests
        finally:
            process.terminate()
            process.wait(60)
        log.seek(0)
        lines = log.read().splitlines()
    assert process.returncode == -signal.SIGTERM, lines[-20:]
    requests += ((float(seconds), int(status)) for seconds, status in map(str.split, lines))


def p95(requests: list[tuple[float, int]]) -> float:
    return statistics.quantiles((seconds for seconds, _ in requests), n=20)[-1]


def test_clients_cannot_hold_or_fill_the_server(served: Served, is_long: bool, figures: Figures) -> None:
    asyncio.run(_attack(served, figures, 20 if is_long else 1, is_long=is_long))


async def _attack(served: Served, figures: Figures, repeats: int, *, is_long: bool) -> None:
    patience = _HEADERS + _REQUEST + _GRACE
    with asking(served.url) as calm:
        await asyncio.sleep(20 if is_long else 3)
    before = served.resident_bytes()
    outcomes = dict[str, list[Ended]]()
    with asking(served.url) as attacked:
        for made in (partial(slow, _PAUSE), partial(oversized, _BODY)):
            # a kind at a time, of as many clients as there are repeats
            for kind in made():
                clients = [client for _ in range(repeats) for client in made()[kind]]
                outcomes[kind] = await asyncio.gather(*(talk(served.port, client, patience) for client in clients))
        stalled = (talk(served.port, slowly(stream_of_lines(4_000), 0), patience, reads=False) for _ in range(repeats))
        outcomes["does not read its answer"] = await asyncio.gather(*stalled)
        vanishing = (vanish(served.port, stream_of_lines(500)) for _ in range(5 * repeats))
        outcomes["disappears"] = await asyncio.gather(*vanishing)
        outcomes["is one of 500"] = await _crowd(served, 500)
    growth = served.resident_bytes(peak=True) - before
    for kind, ended in outcomes.items():
        assert all(each.seconds is not None for each in ended), f"a client that {kind} was not cut off: {ended}"
        assert not [each for each in ended if each.status is not None and each.status >= 500], (kind, ended)
    assert {each.status for each in outcomes["announces a terabyte"]} == {413}
    assert {each.status for each in outcomes["sends a part of its body"]} == {408}
    assert growth < _GROWTH, f"{growth / MIB:.0f} MiB more"
    assert {status for _, status in calm + attacked} == {200}, "others were served"
    ratio = p95(attacked) / p95(calm)
    if is_long:
        assert ratio < 2, (p95(attacked), p95(calm))
    figures(
        "clients",
        hostile=sum(map(len, outcomes.values())),
        kinds=len(outcomes),
        memory_grew_by_mb=growth // MIB,
        others_p95_ratio=ratio,
        answers_5xx=0,
        not_cut_off=0,
    )


async def _crowd(served: Served, count: int) -> list[Ended]:
    """As many connections at once, each of which is answered."""
    limits = httpx.Limits(max_connections=count, max_keepalive_connections=count)
    started = time.monotonic()
    async with httpx.AsyncClient(timeout=120, limits=limits) as client:
        asked = (client.post(f"{served.url}/v1/verdicts", json={"text": NORMAL}) for _ in range(count))
        answers = await asyncio.gather(*asked)
    return [Ended(answer.status_code, time.monotonic() - started, 0) for answer in answers]
